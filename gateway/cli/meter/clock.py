"""The command `clock`."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

import typer

from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.deviation import clock_advice
from gateway.cli.meter.meant import ask
from gateway.cli.options import JsonOption, TrustHostOption
from gateway.cli.output import print_fields
from gateway.errors import UsageError
from gateway.timekeeping.clock import doubt
from protocols.dlms.data.cosem_dates import ClockStatus
from protocols.dlms.session import DlmsSession
from protocols.errors import MeterRefused
from protocols.reading import MeterClock
from protocols.session import MeterSession


@meter_command
def clock(
    meter: MeterArgument,
    options: AddressOptions,
    set_it: Annotated[
        bool, typer.Option("--set", help="Set the meter's clock to this computer's (utility client).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before setting.")] = False,
    trust_host: TrustHostOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the meter's clock beside this computer's; with --set, set it.

    Setting moves the boundaries of the meter's intervals, so it is asked for once more. What was set is read back:
    a meter that takes the deviation the other way round is met in its own way; where the clock shows another time
    all the same, what was is put back, and the command fails and says what the meter shows.

    Example: meter-gateway clock tcp://10.0.0.7:4059 --client 48 --key-file keys.toml --set
    """
    access = find_meter(meter, options)
    if not set_it or not as_json:
        print_fields(asyncio.run(_clock(access, set_it=False)), as_json=as_json)
    if not set_it:
        return
    if not trust_host and (why := doubt(access.clock)):
        raise UsageError(
            f"this computer's own clock may be wrong ({why}): start NTP on it, or say --trust-host after"
            " comparing it with a clock that you believe"
        )
    if not yes:
        ask(f"Set the clock of {meter}?")
    print_fields(asyncio.run(_clock(access, set_it=True)), as_json=as_json)


async def _clock(access: MeterAccess, *, set_it: bool) -> dict[str, Any]:
    async with open_meter(access, changes=set_it) as session:
        fields = {}
        if set_it:
            try:
                fields["set"] = await _set(session, access.clock.now())
            except MeterRefused as error:
                raise MeterRefused(
                    f"{error}; only a client with the right may set it, in India the utility (--client 48)",
                    reason_code=error.reason_code,
                ) from error
        found = await session.clock()
    if advice := clock_advice(access, found):
        fields["advice"] = advice
    return _fields(found) | fields


async def _set(session: MeterSession, at: datetime) -> str:
    """Set the clock, and say in words what the meter made of it."""
    if isinstance(session, DlmsSession):
        return str(await session.judged_clock(at))
    await session.set_clock(at)
    return "done"


def _fields(found: MeterClock) -> dict[str, Any]:
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
