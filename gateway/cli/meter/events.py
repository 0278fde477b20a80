"""The command `events`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.cli.meter.access import find_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.read import read_profile
from gateway.cli.meter.rows import as_document, event_code, in_words, print_csv, values
from gateway.cli.options import CsvOption, JsonOption, only_one_form, parse_span
from gateway.cli.output import print_json, print_problem, print_table
from protocols.dlms.companion import Companion
from protocols.reading import ProfileName, ReadingSet


@meter_command
def events(
    meter: MeterArgument,
    options: AddressOptions,
    since: Annotated[str | None, typer.Option(help="Events later than this time.")] = None,
    until: Annotated[str | None, typer.Option(help="Events up to this time.")] = None,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """List what the meter's event logs hold, each with its log and its name by the companion.

    Example: meter-gateway events tcp://10.0.0.7:4059 --since 2026-11-01 --client 32 --key-file keys.toml
    """
    low, high = parse_span(since, until)
    only_one_form(as_json=as_json, as_csv=as_csv)
    access = find_meter(meter, options)
    known = access.companion
    rows = asyncio.run(read_profile(access, ProfileName.EVENTS, low, high))
    if as_json:
        print_json([_event(row, known) | {"values": as_document(row, known)["values"]} for row in rows])
    elif as_csv:
        print_csv(rows, known)
    else:
        named = [
            _event(row, known) | {"at": row.at, "values": in_words(_details(row, known))} for row in rows
        ]
        print_table(named, as_json=False, empty="no events")
        if not rows and low is not None and low > datetime.now(UTC):
            print_problem("--since lies in the future")


def _event(row: ReadingSet, known: Companion) -> dict[str, Any]:
    code = event_code(row)
    meaning = known.event_codes.get(code) if code is not None else None
    return {
        "at": row.at.isoformat(),
        "log": next((name for q, _ in row if (name := known.log_name(q.obis))), ""),
        "code": code,
        "event": "" if code is None else meaning.name if meaning else known.event_name(code),
        "kind": meaning.kind if meaning else "",
    }


def _details(row: ReadingSet, known: Companion) -> dict[str, str]:
    named = values(row, known)
    return {name: text for name, text in named.items() if not name.endswith("_event_code")}
