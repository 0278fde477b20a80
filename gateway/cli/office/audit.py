"""The commands `audit …`: verify the hash chain of the audit trail, show it, and export its head."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.central.office.actors import Right
from gateway.central.office.audit_checks import content_faults, not_in_the_trail
from gateway.central.office.office import Office
from gateway.central.office.trail import Head
from gateway.cli.exits import Exit
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption, parse_span
from gateway.cli.output import print_fields, print_line, print_table
from mapping.store import DirectoryStore

MAX_TOLD = 20
audit_group = typer.Typer(help="The record of who did and saw what, as a hash chain.", no_args_is_help=True)


@audit_group.command("verify")
def verify(
    data: DataOption = None,
    config: ConfigChoice = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head", help="A head that was exported before, NUMBER:HASH; may be given several times."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the whole chain anew: any entry that was changed, removed, moved, put in or cut off is found.

    The head that it prints proves all entries up to it: keep it where nobody of this machine can change it.

    Example: meter-gateway audit verify --head 1204:9f2c… --data DIR
    """
    files = find_files(data, config)
    heads = [Head.parse(one) for one in head or []]
    with Office(files.office, files.folder) as office:
        found = office.trail.verify(*heads)
        contents = content_faults(office)
        with DirectoryStore(files.directory) as store:
            unknown = [
                f"directory version {one.version} ({one.source[:100]}, by {one.by[:100]})"
                for one in not_in_the_trail(office, store.snapshot().changes)
            ]
    faults = [*found.faults, *contents]
    shown = {
        "result": "whole" if not faults else f"{found.count + len(contents)} faults",
        "entries": found.entries,
        "head": str(found.head),
    }
    more = {"faults": faults, "not_in_the_trail": unknown}
    print_fields({**shown, **more} if as_json else shown, as_json=as_json)
    if not as_json:
        for fault in faults:
            print_line(f"  {fault}")
        for one in unknown[:MAX_TOLD]:
            print_line(f"  not in the trail: {one}: another program applied it, or a crash came between")
    if faults:
        raise typer.Exit(Exit.FAILED)


@audit_group.command("show")
def show(
    data: DataOption = None,
    config: ConfigChoice = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="What it was done to: account:acc-17, staff:meera.")
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Who did it: meera, machine:sap.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="From when on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Until before when.")] = None,
    limit: Annotated[
        int, typer.Option("--rows", min=1, max=100_000, help="How many, the newest first.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the trail, the newest first: who did what, when, to what and from where. Looking is noted, too.

    Example: meter-gateway audit show --subject account:acc-17 --data DIR
    """
    begin, end = parse_span(since, until)
    with acting(find_files(data, config), Right.AUDIT) as who:
        found = who.office.trail.entries(subject=subject, actor=actor, since=begin, until=end, limit=limit)
        who.note("trail.seen", subject or "trail", {"actor": actor or "", "rows": len(found)})
    rows = [
        {
            "number": one.number,
            "at": one.at,
            "actor": one.actor,
            "act": one.act,
            "subject": one.subject,
            "source": one.source,
            "detail": one.detail if as_json else json.dumps(dict(one.detail), ensure_ascii=False),
        }
        for one in found
    ]
    print_table(rows, as_json=as_json, empty="nothing is recorded")


@audit_group.command("head")
def show_head(data: DataOption = None, config: ConfigChoice = None) -> None:
    """Print the last entry's number and hash, to be kept elsewhere: `audit verify --head` compares with it.

    Example: meter-gateway audit head --data DIR
    """
    files = find_files(data, config)
    with Office(files.office, files.folder) as office:
        print_line(str(office.trail.head()))
