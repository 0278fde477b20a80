"""The commands `slips …`: new numbers on paper for the meter readers, and what they tick off."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.campaign.making import Order, make
from gateway.central.campaign.places import is_printed, read_book
from gateway.central.campaign.printing import Form, Look
from gateway.central.campaign.slips import Slips
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.ticks import Ticked, Ticks
from gateway.central.office.actors import Right
from gateway.cli.exits import Exit
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_line, print_table
from gateway.config import file as configuration
from gateway.config.slips import SlipsSection
from gateway.config.web import origin
from gateway.errors import UsageError
from mapping.row_verdicts import RowVerdict, Verdict
from mapping.store import DirectoryStore

TableFile = Annotated[Path, typer.Argument(help="CSV file or workbook (.xlsx).")]
MAX_SHOWN = 20
"""Rows that were not taken, shown one by one."""

slips_group = typer.Typer(help="New account numbers on paper, for meter readers.", no_args_is_help=True)


@slips_group.command("routes")
def routes(
    file: TableFile, data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False
) -> None:
    """Take in the route book: columns usage_point,route and perhaps stop,name.

    Names are kept only where [slips] `names` allows them.

    Example: meter-gateway slips routes book.csv --data DIR
    """
    files = find_files(data, config).made()
    with acting(files, Right.CONSUMERS) as who, CampaignStore(files.campaign) as store:
        read = read_book(store, file, names=_section(config).names)
        who.note("slips.routes", "slips", {"applied": read.applied, "rejected": read.rejected})
    counts = {"applied": read.applied, "rejected": read.rejected, "names_left_out": read.names_left_out}
    _report(counts, read.told, as_json=as_json)


@slips_group.command("make")
def make_slips(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made where there is none.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    route: Annotated[
        list[str] | None, typer.Option("--route", help="Only this route; may be repeated.")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="hi or en; else as [slips] says.")
    ] = None,
    stickers: Annotated[
        bool, typer.Option("--stickers", help="A sticker of 70 × 40 mm for each meter, in place of slips.")
    ] = False,
    as_html: Annotated[
        bool, typer.Option("--html", help="HTML for a browser to print, in place of PDF.")
    ] = False,
    campaign: Annotated[
        str | None, typer.Option("--campaign", help="Only for those whom this campaign tells by slip.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were made before.")] = False,
    portal: Annotated[
        str | None,
        typer.Option("--portal", help="Address that QR codes lead to; else `public_url` of [web]."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=64, help="Files made at once; each takes 250 MiB.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Print the slips that are not made yet: for each route files of up to 300, and lists to tick off.

    Three slips on a sheet of A4, in the reader's order, each with the new number, its check digit, a QR code that
    names nobody, and boxes to tick.

    Example: meter-gateway slips make slips --portal https://portal.example --data DIR
    """
    files = find_files(data, config).made()
    section = _section(config)
    if stickers and as_html:
        raise UsageError("--html: stickers are made as PDF only")
    look = Look(
        portal=_portal(portal, config),
        language=_language(language or section.language),
        helpline=section.helpline,
        utility=section.utility,
        names=section.names,
    )
    if not is_printed(look.utility):
        raise UsageError("[slips] utility: slips are printed in Latin and Devanagari letters only")
    order = Order(
        folder=folder,
        form=Form.STICKERS if stickers else Form.SLIPS,
        as_html=as_html,
        routes=route,
        again=again,
        campaign=campaign,
        jobs=jobs,
    )
    now = datetime.now(UTC)
    with (
        DirectoryStore(files.directory) as directory,
        acting(files, Right.CONSUMERS) as who,
        CampaignStore(files.campaign) as store,
    ):
        slips = Slips(store)
        fresh = slips.refresh(directory.snapshot(), now)
        made = [
            {"route": one.route or None, "slips": one.slips, "file": one.file, "tick_list": one.ticks}
            for one in make(slips, look, order, now)
        ]
        who.note(
            "slips.made", "slips", {"files": len(made), "slips": sum(int(one["slips"] or 0) for one in made)}
        )
    if as_json:
        print_fields(
            {"new": fresh.new, "changed": fresh.changed, "ended": fresh.ended} | {"files": made}, as_json=True
        )
        return
    print_table(made, as_json=False, empty="no slip is to be made")
    if fresh.nowhere:
        print_line(f"{fresh.nowhere} accounts have a number and no meter: no slip can reach them")


@slips_group.command("ticks")
def ticks(
    file: TableFile,
    by: Annotated[str, typer.Option("--by", help="Whose ticks they are: the reader or the contractor.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Take in what readers ticked off: the lists that `make` wrote, with a verdict in each row.

    A verdict is delivered, at_meter, not_found, locked, meter_differs or refused; `at` may say when. A row without one
    was not visited. A file that is sent in again changes nothing.

    Example: meter-gateway slips ticks route-7.csv --by "R. Kumar" --data DIR
    """
    files = find_files(data, config).made()
    if not by.strip() or len(by) > 100:
        raise UsageError("--by: say whose ticks they are, in at most 100 characters")
    with acting(files, Right.CONSUMERS) as who, CampaignStore(files.campaign) as store:
        read = Ticks(store).read(file, by=by.strip(), now=datetime.now(UTC))
        counts = {verdict.value: read.counts[verdict] for verdict in _TICK_VERDICTS}
        who.note("slips.ticked", "slips", counts)
    _report(counts, read.told, as_json=as_json)


@slips_group.command("status")
def status(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """Show how far each route is: slips, made, and what the readers said.

    Example: meter-gateway slips status --data DIR
    """
    files = find_files(data, config).made()
    with acting(files, Right.SEE), CampaignStore(files.campaign) as store:
        counted = Slips(store).counts()
    rows: list[dict[str, Any]] = [
        {"route": one.route or None, "slips": one.slips, "made": one.made}
        | {verdict.value: one.verdicts.get(verdict.value, 0) for verdict in Ticked}
        for one in counted
    ]
    print_table(rows, as_json=as_json, empty="no slip is known: `slips make` makes them of the directory")


_TICK_VERDICTS = (Verdict.APPLIED, Verdict.UNCHANGED, Verdict.CONFLICT, Verdict.REJECTED)


def _report(counts: dict[str, int], told: tuple[RowVerdict, ...], *, as_json: bool) -> None:
    rows = [one._asdict() for one in told]
    print_fields(counts | ({"rows": rows} if as_json else {}), as_json=as_json)
    if rows and not as_json:
        shown = [
            {"line": one.line, "verdict": one.verdict.value, "code": one.code, "reason": one.reason}
            for one in told[:MAX_SHOWN]
        ]
        print_table(shown, as_json=False, title="look at these")
        if len(rows) > MAX_SHOWN:
            print_line(f"… and {len(rows) - MAX_SHOWN} more (--json shows them)")
    if rows:
        raise typer.Exit(Exit.FAILED)


def _section(config: Path | None) -> SlipsSection:
    return SlipsSection() if config is None else configuration.load(config).slips


def _portal(said: str | None, config: Path | None) -> str:
    public = None if config is None else configuration.load(config).web.public_url
    address = said or public
    if address is None:
        raise UsageError(
            "QR codes need an address: --portal https://…, or `public_url` in [web] of the configuration"
        )
    try:
        return origin(address)
    except ValueError as error:
        raise UsageError(f"--portal {address}: {error}") from error


def _language(text: str) -> Any:
    if text not in ("hi", "en"):
        raise UsageError(f"--language {text}: write hi or en")
    return text
