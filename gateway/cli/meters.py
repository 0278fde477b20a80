"""Commands that look at one meter: its clock, its supply contact, its events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.cli.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.common import (
    CsvOption,
    JsonOption,
    only_one_form,
    parse_time,
    print_json,
    problems,
    show,
    show_one,
)
from gateway.cli.field import read_profile
from gateway.cli.printed import as_document, event_code, in_words, print_csv, values
from gateway.cli.target import Target, find, opened
from gateway.errors import UsageError
from protocols.dlms.companion import companion, event_name
from protocols.dlms.data.cosem_dates import ClockStatus
from protocols.dlms.objects import DisconnectControl, describe
from protocols.dlms.session import DlmsSession
from protocols.errors import MeterRefused, NotSupported
from protocols.reading import MeterClock, ProfileName, ReadingSet


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(clock)
    app.command()(relay)
    app.command()(events)


@meter_command
def clock(
    meter: MeterArgument,
    options: AddressOptions,
    set_it: Annotated[
        bool, typer.Option("--set", help="Set the meter's clock to this computer's (utility client).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before setting.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the meter's clock beside this computer's; with --set, set it.

    Setting moves the boundaries of the meter's intervals, so it is asked for once more.

    Example: meter-gateway clock tcp://10.0.0.7:4059 --client 48 --key-file keys.toml --set
    """
    target = find(meter, options)
    if not set_it or not as_json:
        show_one(_clock_fields(asyncio.run(_clock(target, set_it=False))), as_json=as_json)
    if not set_it:
        return
    if not target.clock.disciplined():
        raise UsageError("this computer's own clock is not set")
    if not yes:
        typer.confirm(f"Set the clock of {meter}?", abort=True, err=True)
    show_one(_clock_fields(asyncio.run(_clock(target, set_it=True))), as_json=as_json)


async def _clock(target: Target, *, set_it: bool) -> MeterClock:
    async with opened(target) as (session, _):
        if set_it:
            try:
                await session.set_clock(target.clock.now())
            except MeterRefused as error:
                raise MeterRefused(
                    f"{error}; only a client with the right may set it, in India the utility (--client 48)",
                    reason_code=error.reason_code,
                ) from error
        return await session.clock()


def _clock_fields(found: MeterClock) -> dict[str, Any]:
    deviation = "not specified" if found.deviation is None else f"{found.deviation} min"
    return {
        "meter": found.meter,
        "computer": found.gateway,
        "drift": f"{found.drift:+.0f} s",
        "deviation": deviation,
        "status": clock_status(found.status),
    }


def clock_status(status: int | None) -> str:
    """Name the bits of a clock status."""
    if status is None:
        return "not specified"
    return ", ".join(ClockStatus(status).names) or "ok"


@meter_command
def relay(meter: MeterArgument, options: AddressOptions, as_json: JsonOption = False) -> None:
    """Show the meter's supply contact: what it is, what it was told, who may move it. Nothing is moved.

    Orders go through the gateway, where they are signed and proved.

    Example: meter-gateway relay tcp://10.0.0.7:4059 --client 32 --key-file keys.toml
    """
    show_one(asyncio.run(_relay(find(meter, options))), as_json=as_json)


async def _relay(target: Target) -> dict[str, Any]:
    async with opened(target) as (session, _):
        if not isinstance(session, DlmsSession):
            return {"output_state": _contact((await session.relay()).value)}
        fields: dict[str, Any] = {"output_state": _contact((await session.relay()).value)}
        switch = await session.load_switch()
        contact = DisconnectControl(switch, session.exchange)
        for attribute in (contact.control_state, contact.control_mode):
            try:
                data = await attribute.data()
            except (MeterRefused, NotSupported) as error:
                fields[attribute.name] = f"not given: {error}"
            else:
                fields[attribute.name] = describe(attribute.class_id, 0, attribute.number, data)
        return fields


def _contact(state: str) -> str:
    return {"closed": "connected", "open": "disconnected"}.get(state, state)


@meter_command
def events(
    meter: MeterArgument,
    options: AddressOptions,
    since: Annotated[str | None, typer.Option(help="Events later than this time.")] = None,
    until: Annotated[str | None, typer.Option(help="Events up to this time.")] = None,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """List what the meter's event logs hold, each with its log and its IS 15959 name.

    Example: meter-gateway events tcp://10.0.0.7:4059 --since 2026-11-01 --client 32 --key-file keys.toml
    """
    low, high = parse_time(since, option="--since"), parse_time(until, option="--until")
    only_one_form(as_json=as_json, as_csv=as_csv)
    rows = asyncio.run(read_profile(find(meter, options), ProfileName.EVENTS, low, high))
    if as_json:
        print_json([_event(row) | {"values": as_document(row)["values"]} for row in rows])
    elif as_csv:
        print_csv(rows)
    else:
        named = [_event(row) | {"at": row.at, "values": in_words(_details(row))} for row in rows]
        show(named, as_json=False, empty="no events")
        if not rows and low is not None and low > datetime.now(UTC):
            problems.print("--since lies in the future", markup=False)


def _event(row: ReadingSet) -> dict[str, Any]:
    code = event_code(row)
    known = companion().event_codes.get(code) if code is not None else None
    return {
        "at": row.at.isoformat(),
        "log": _log(row),
        "code": code,
        "event": "" if code is None else known.name if known else event_name(code),
        "kind": known.kind if known else "",
    }


def _log(row: ReadingSet) -> str:
    group = next((q.obis.e for q, _ in row if (q.obis.a, q.obis.c, q.obis.d) == (0, 96, 11)), None)
    return next((log.name for log in companion().event_logs if log.index == group), "")


def _details(row: ReadingSet) -> dict[str, str]:
    named = values(row)
    return {name: text for name, text in named.items() if not name.endswith("_event_code")}
