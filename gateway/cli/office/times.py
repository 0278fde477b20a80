"""The commands `times show|settle`: captures whose time is not trusted, and an operator's word on them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import Right
from gateway.central.times.judging import DoubtedCapture
from gateway.cli.office.acting import acting
from gateway.cli.office.allocation import open_ledger
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_table
from gateway.contract.messages import TimeVerdict
from gateway.errors import UsageError

times_group = typer.Typer(help="Captures whose time is not trusted.", no_args_is_help=True)


@times_group.command("show")
def show(
    meter: Annotated[str | None, typer.Argument(help="One meter, as MANUFACTURER:SERIAL.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """List what waits for a verdict by meter and journal; for one meter, each capture with what speaks of its time.

    Example: meter-gateway times show GEN:10000101 --data DIR
    """
    with open_ledger(find_files(data, config), read_only=True) as ledger:
        rows = _groups(ledger) if meter is None else _captures(ledger, meter)
    nothing = (
        "no capture waits for a verdict" if meter is None else f"no capture of {meter} waits for a verdict"
    )
    print_table(rows, as_json=as_json, title=meter or "waiting for a verdict", empty=nothing)


@times_group.command("settle")
def settle(
    meter: Annotated[str, typer.Argument(help="The meter, as MANUFACTURER:SERIAL.")],
    journal: Annotated[str, typer.Option("--journal", help="The journal (`times show`).")],
    first: Annotated[int, typer.Option("--first", min=1, help="Number of the first capture.")],
    last: Annotated[int, typer.Option("--last", min=1, help="Number of the last capture.")],
    note: Annotated[str, typer.Option("--note", help="How you know: it goes with the verdict.")],
    profile: Annotated[str | None, typer.Option("--profile", help="Only captures of this profile.")] = None,
    shift: Annotated[
        int, typer.Option("--shift", help="Seconds to add, so that the times are right: -19800.")
    ] = 0,
    distrust: Annotated[
        bool,
        typer.Option(
            "--distrust", help="Put them under no account instead; a later verdict may settle them."
        ),
    ] = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Give a verdict on times that central could not settle: trusted as they stand, or moved by --shift.

    Example: meter-gateway times settle GEN:10000101 --journal UUID --first 17 --last 40 --shift 1500 --note WHY
    """
    if last < first:
        raise UsageError(f"--last {last} lies before --first {first}")
    if distrust and shift:
        raise UsageError("times that are not trusted are not moved: give --shift or --distrust")
    files = find_files(data, config)
    with open_ledger(files, read_only=False) as ledger, acting(files, Right.FLEET) as who:
        covered = [
            one
            for one in ledger.times.doubted(meter, journal)
            if first <= one.seq <= last and profile in (None, one.profile)
        ]
        if not covered:
            raise UsageError(
                f"no capture of {meter} in journal {journal} between {first} and {last} is in doubt:"
                f" look at `times show {meter}`"
            )
        verdict = TimeVerdict(
            verdict_id="not kept yet",
            meter=meter,
            journal=journal,
            first_seq=first,
            last_seq=last,
            profile=profile,
            trust="untrusted" if distrust else "trusted",
            shift=str(shift) if shift else None,
            evidence=f"{who.name}: {note}"[:500],
            version=1,
            at=datetime.now(UTC),
        )
        (kept,) = ledger.times.give([verdict])
        who.note("times.settled", f"meter:{meter}", {"version": kept.version, "captures": len(covered)})
    print_fields({"version": kept.version, "trust": kept.trust, "captures": len(covered)}, as_json=as_json)


def _groups(ledger: Ledger) -> list[dict[str, Any]]:
    return [
        {
            "meter": one.meter,
            "gateway": one.gateway,
            "journal": one.journal,
            "waiting": one.waiting,
            "dated_ahead": one.ahead,
        }
        for one in ledger.times.groups()
        if one.waiting or one.ahead
    ]


def _captures(ledger: Ledger, meter: str) -> list[dict[str, Any]]:
    journals = [one.journal for one in ledger.times.groups() if one.meter == meter]
    return [_row(one) for journal in journals for one in ledger.times.doubted(meter, journal)]


def _row(one: DoubtedCapture) -> dict[str, Any]:
    return {
        "seq": one.seq,
        "journal": one.journal,
        "profile": one.profile,
        "at": one.at,
        "received_at": one.received_at,
        "run": one.boot,
        "drift": one.drift,
        "held": one.held,
        "former": one.former,
        "settled": None if one.shift is None else f"{one.shift.total_seconds():+.0f} s",
    }
