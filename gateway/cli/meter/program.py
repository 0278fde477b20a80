"""The command `program`: named acts that change a meter, shown before, confirmed, read back and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.acts.audit import ActRecord
from gateway.acts.doing import Actor, Doing, Looked, dlms_act
from gateway.acts.modbus import CREDITS, credit_act
from gateway.acts.program_files import load_calendar, load_push, load_special_days
from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.meant import SerialOption, YesOption, ask, refuse_yes_alone
from gateway.cli.options import JsonOption, nearest, user
from gateway.cli.output import print_fields, print_json, print_line, print_problem, print_table
from gateway.config import file as configuration
from gateway.errors import UsageError
from protocols.dlms.acts import load_limit, programming
from protocols.dlms.acts.calendar import activity_calendar, special_days, switch_time
from protocols.dlms.acts.programming import ACTS, Act, places_of, standing
from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import Companion, companion
from protocols.dlms.data.cosem_dates import LAST_DAY
from protocols.dlms.session import DlmsSession
from protocols.errors import LocalError
from protocols.session import MeterSession


@meter_command
def program(
    meter: MeterArgument,
    act: Annotated[str, typer.Argument(help="demand-period, load-limit, recharge, …: `list` shows all.")],
    options: AddressOptions,
    value: Annotated[str | None, typer.Argument(help="The value, or the file that has it.")] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Show what stands in the meter, and what would; no more.")
    ] = False,
    yes: YesOption = False,
    meter_serial: SerialOption = None,
    as_json: JsonOption = False,
) -> None:
    """Program a meter by a named act: shown before and after, confirmed, read back, recorded.

    Acts: demand-period, capture-period, load-limit, billing-date, payment-mode, metering-mode, esw-filter, push-setup,
    activity-calendar, special-days; of a Modbus meter whose model declares a register for it: recharge, balance.
    `list` in place of the act says what each takes.

    Example: meter-gateway program GEN:12345678 demand-period 1800 --config gateway.toml
    """
    if act == "list":
        print_table(
            [{"act": name, "takes": text} for name, text in {**ACTS, **CREDITS}.items()], as_json=as_json
        )
        return
    access = find_meter(meter, options)
    if access.spec.dlms is None:
        made = _credit(meter, act, value)
        says = f"{act} {value}"
        carry_out(access, options, made, says, show=show, yes=yes, serial=meter_serial, as_json=as_json)
        return
    if act in CREDITS:
        raise UsageError(f"{act} is for Modbus meters: {meter} is a DLMS meter")
    known = companion(access.spec.dlms.companion)
    if show and value is None and act in ACTS:
        stands = asyncio.run(_in_session(access, lambda s: _standing(s, places_of(known, act))))
        print_fields(dict(stands), as_json=as_json)
        return
    made = dlms_act(make_act(known, act, value))
    says = f"{act} {value}"
    carry_out(access, options, made, says, show=show, yes=yes, serial=meter_serial, as_json=as_json)


def carry_out(
    access: MeterAccess,
    options: AddressOptions,
    act: Doing,
    says: str,
    *,
    show: bool,
    yes: bool,
    serial: str | None,
    as_json: bool,
) -> None:
    """Look, ask with `says`, do and print; UsageError where --yes has no serial, or another meter answers."""
    refuse_yes_alone(yes=yes, serial=serial)
    found = asyncio.run(_in_session(access, act.look))
    if serial is not None and serial != found.plate.serial:
        raise UsageError(
            f"the meter that answers has serial {found.plate.serial}, not {serial}: nothing is changed"
        )
    if show or not found.needed:
        _print(found, act, as_json=as_json, outcome="shown" if show else "stands already")
        return
    if not yes:
        _print_preview(found, act)
        ask(f"{found.plate.meter_id}: {says}?")
    actor = Actor(by=user(), record=ActRecord(record_folder(access, options)), now=access.clock.now)

    async def act_on(session: MeterSession) -> Looked:
        plate = await session.identify()
        if plate.meter_id != found.plate.meter_id:
            raise UsageError(f"another meter answers now: {plate.meter_id}; nothing is changed")
        return await act.do(session, actor)

    done = asyncio.run(_in_session(access, act_on, changes=True))
    _print(done, act, as_json=as_json, outcome="done, and read back")


def record_folder(access: MeterAccess, options: AddressOptions) -> Path:
    """Return where acts are recorded: the gateway's data folder, or beside the counters of an address."""
    if options.config is not None:
        return configuration.load(options.config).gateway.data
    return access.counters.parent


def _credit(meter: str, act: str, value: str | None) -> Doing:
    if act not in CREDITS:
        hint = nearest(act, CREDITS) or f" Acts on a Modbus meter are {', '.join(CREDITS)}."
        raise UsageError(f"{meter} is a Modbus meter, which takes no act `{act}`.{hint}")
    if value is None:
        raise UsageError(f"{act} takes: {CREDITS[act]}")
    return credit_act(act, value)


async def _standing(session: MeterSession, places: list[tuple[Target, ...]]) -> list[tuple[str, str]]:
    if not isinstance(session, DlmsSession):
        raise UsageError("only DLMS meters are programmed so")
    return await standing(session.exchange, places)


async def _in_session(
    access: MeterAccess, work: Callable[[MeterSession], Any], *, changes: bool = False
) -> Any:
    async with open_meter(access, changes=changes) as session:
        try:
            return await work(session)
        except LocalError as error:  # what was asked for does not fit what the meter has
            raise UsageError(str(error)) from error


def make_act(known: Companion, name: str, value: str | None) -> Act:
    """Return the act of a name with its value as a user writes it; UsageError says what is wrong."""
    if name not in ACTS:
        raise UsageError(f"there is no act `{name}`: {', '.join(ACTS)}.{nearest(name, ACTS)}")
    if value is None:
        raise UsageError(f"{name} takes: {ACTS[name]}")
    try:
        return _MAKERS[name](known, value)
    except (LocalError, ValueError) as error:
        raise UsageError(f"{name}: {error}") from error


def _seconds(value: str) -> int:
    if not value.isdecimal():
        raise UsageError(f"`{value}` is no number of seconds")
    return int(value)


def _load_limit(known: Companion, value: str) -> Act:
    if value in ("on", "off"):
        return load_limit.load_limit_function(known, on=value == "on")
    if not value.isdecimal() or int(value) == 0:
        raise UsageError(f"`{value}` is no limit: watts, or on, off")
    return load_limit.load_limit(known, int(value))


def _billing_date(known: Companion, value: str) -> Act:
    day, _, time = value.partition("T")
    if day != "last" and not (day.isdecimal() and 1 <= int(day) <= 28):
        raise UsageError(f"`{day}` is no day that each month has: 1 to 28, or last")
    return programming.billing_date(
        known, LAST_DAY if day == "last" else int(day), switch_time(time or "00:00")
    )


def _bits(known: Companion, value: str) -> Act:
    bits: set[int] = set()
    for part in [] if value == "none" else value.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"`{part}` is no bit: write 0-5,51,81-87, or none")
        bits |= set(range(int(first), min(int(last or first), 4095) + 1))
    return programming.esw_filter(known, frozenset(bits))


_MAKERS: dict[str, Callable[[Companion, str], Act]] = {
    "demand-period": lambda known, value: programming.demand_period(known, _seconds(value)),
    "capture-period": lambda known, value: programming.capture_period(known, _seconds(value)),
    "load-limit": _load_limit,
    "billing-date": _billing_date,
    "payment-mode": lambda known, value: programming.mode(known, "payment_mode", value),
    "metering-mode": lambda known, value: programming.mode(known, "metering_mode", value),
    "esw-filter": _bits,
    "push-setup": lambda _known, value: programming.push_setup(*load_push(Path(value))),
    "activity-calendar": lambda known, value: activity_calendar(known, *load_calendar(Path(value))),
    "special-days": lambda known, value: special_days(known, load_special_days(Path(value))),
}


def _print_preview(found: Looked, act: Doing) -> None:
    for one in found.changes:
        print_problem(f"{one.label}\n  before: {one.before}\n  after:  {one.after}")
    if act.warning:
        print_problem(f"note: {act.warning}")


def _print(found: Looked, act: Doing, *, as_json: bool, outcome: str) -> None:
    changes = [asdict(one) for one in found.changes]
    if as_json:
        print_json({"meter": found.plate.meter_id, "act": act.name, "outcome": outcome, "changes": changes})
        return
    for one in found.changes:
        print_line(one.label)
        print_line(f"  before: {one.before}")
        print_line(f"  after:  {one.after}")
    print_line(f"{act.name} of {found.plate.meter_id}: {outcome}")
