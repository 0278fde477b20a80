"""The commands `allocation show|move|confirm` and `quarantine show|discard`: whose word counts for a meter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import Allocation
from gateway.central.office.actors import Right
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption, nearest, parse_time
from gateway.cli.output import print_fields, print_problem, print_table
from gateway.errors import UsageError
from gateway.roles.central_files import CentralFiles
from mapping.account import is_canonical_meter

allocation_group = typer.Typer(help="Which gateway reads which meter.", no_args_is_help=True)
quarantine_group = typer.Typer(help="Entries that are kept but not believed.", no_args_is_help=True)

MetersArgument = Annotated[list[str] | None, typer.Argument(help="Meters, as MANUFACTURER:SERIAL.")]
NoteOption = Annotated[str, typer.Option("--note", help="Why, for the record.")]


@contextmanager
def open_ledger(files: CentralFiles, *, read_only: bool) -> Iterator[Ledger]:
    """Open central's ledger for the time of a block; UsageError where there is none."""
    if not files.has_ledger:
        raise UsageError(f"there is no ledger in {files.folder}: is this central's data folder?")
    ledger = Ledger(files.ledger, read_only=read_only)
    try:
        yield ledger
    finally:
        ledger.close()


@allocation_group.command("show")
def show(
    meters: MetersArgument = None,
    gateway: Annotated[str | None, typer.Option("--gateway", help="Only the meters of this gateway.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """List which gateway reads which meter; for meters that are named, all that ever did.

    Example: meter-gateway allocation show GEN:10000101 --data DIR
    """
    with open_ledger(find_files(data, config), read_only=True) as ledger:
        if meters:
            found = [one for meter in meters for one in ledger.allocations.history(meter)]
        else:
            found = ledger.allocations.current(gateway)
    named = ", ".join(meters or ())
    nothing = (
        f"no gateway reads {named}"
        if named
        else f"{gateway} has no meters"
        if gateway
        else "no meter is allocated"
    )
    _print(found, as_json=as_json, empty=nothing)


@allocation_group.command("move")
def move(
    to: Annotated[str, typer.Option("--to", help="The gateway that reads them from now on.")],
    meters: MetersArgument = None,
    origin: Annotated[
        str | None, typer.Option("--from", help="Move every meter of this gateway, in place of naming them.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="From this time on (ISO 8601; now by default). The former gateway's word ends here."
        ),
    ] = None,
    note: NoteOption = "",
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Allocate meters to a gateway: new ones, or those of another; what of theirs waits in quarantine is released.

    Example: meter-gateway allocation move GEN:10000101 --to edge-2 --data DIR
    """
    if bool(meters) == bool(origin):
        raise UsageError("name the meters, or the gateway that has them now (--from), and not both")
    if strange := [one for one in meters or () if not is_canonical_meter(one)]:
        raise UsageError(
            f"`{strange[0]}` is not a meter: write MANUFACTURER:SERIAL, for example GEN:10000101"
        )
    now = datetime.now(UTC)
    begin = now if since is None else parse_time(since, option="--since")
    if begin > now:
        raise UsageError(f"--since {since} is in the future: give the command when it is time")
    files = find_files(data, config)
    with open_ledger(files, read_only=False) as ledger, acting(files, Right.FLEET) as who:
        wanted = meters or [one.meter for one in ledger.allocations.current(origin)]
        if not wanted:
            raise UsageError(f"{origin} has no meters (`allocation show` lists all)")
        heard = {one.gateway for one in ledger.statuses.all()}
        moved = ledger.allocations.give(wanted, to, by=who.name, note=note, since=begin, at=now)
        who.note("allocation.moved", f"gateway:{to[:64]}", {"meters": len(moved), "since": begin.isoformat()})
    _print(moved, as_json=as_json, empty="")
    if to not in heard:
        print_problem(
            f"{to} was never heard: until it is, these meters are read by nobody, and what others deliver of them"
            f" waits in quarantine.{nearest(to, heard)}"
        )


@allocation_group.command("confirm")
def confirm(
    gateway: Annotated[str, typer.Argument(help="The gateway whose claims are right.")],
    note: NoteOption = "",
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Confirm the meters that a gateway has by being the first to deliver them.

    Example: meter-gateway allocation confirm edge-1 --data DIR
    """
    now, files = datetime.now(UTC), find_files(data, config)
    with open_ledger(files, read_only=False) as ledger, acting(files, Right.FLEET) as who:
        claimed = [one.meter for one in ledger.allocations.current(gateway) if one.origin == "claimed"]
        given = ledger.allocations.give(claimed, gateway, by=who.name, note=note, since=now, at=now)
        who.note("allocation.confirmed", f"gateway:{gateway[:64]}", {"meters": len(given)})
    _print(given, as_json=as_json, empty=f"{gateway} has no unconfirmed meters")


@allocation_group.command("replace-box")
def replace_box(
    gateway: Annotated[str, typer.Argument(help="The gateway whose box died, before the new one starts.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Give up the journals of a box that died: should it wake, nothing that it says is believed.

    Example: meter-gateway allocation replace-box edge-1 --data DIR
    """
    files = find_files(data, config)
    with open_ledger(files, read_only=False) as ledger, acting(files, Right.FLEET) as who:
        retired = ledger.journals.retire(gateway, datetime.now(UTC))
        if not retired:
            raise UsageError(
                f"no journal of {gateway} is in use: it never delivered, or was given up before, or is called"
                " otherwise (`allocation show` lists gateways)"
            )
        who.note("journals.retired", f"gateway:{gateway[:64]}", {"journals": len(retired)})
        counters = len(ledger.carried.counters(gateway))
        meters = len(ledger.allocations.current(gateway))
    told = {"gateway": gateway, "journals retired": len(retired), "meters": meters, "counters kept": counters}
    print_fields(told, as_json=as_json)


@quarantine_group.command("show")
def quarantined(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List what is kept but not believed, by gateway, meter and reason.

    Example: meter-gateway quarantine show --data DIR
    """
    with open_ledger(find_files(data, config), read_only=True) as ledger:
        rows = [asdict(group) for group in ledger.quarantine.groups()]
    print_table(rows, as_json=as_json, empty="quarantine is empty")


@quarantine_group.command("discard")
def discard(
    gateway: Annotated[str, typer.Argument(help="The gateway that sent them.")],
    meter: Annotated[str | None, typer.Option("--meter", help="Only the entries of this meter.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Throw away what a gateway sent and central does not believe, for ever: the ledger stays as it is.

    Example: meter-gateway quarantine discard edge-2 --meter GEN:10000101 --data DIR
    """
    gone, files = 0, find_files(data, config)
    with open_ledger(files, read_only=False) as ledger, acting(files, Right.FLEET) as who:
        while waiting := ledger.quarantine.entries(gateway, meter=meter):
            gone += ledger.quarantine.remove(waiting)
        who.note("quarantine.discarded", f"gateway:{gateway[:64]}", {"meter": meter or "", "entries": gone})
    print_fields({"discarded": gone}, as_json=as_json)


def _print(found: Sequence[Allocation], *, as_json: bool, empty: str) -> None:
    print_table([asdict(one) for one in found], as_json=as_json, empty=empty)
