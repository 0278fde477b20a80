"""The commands `get`, `set` and `action`: one attribute or method of any object, guarded."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from gateway.acts.audit import ActRecord
from gateway.acts.doing import dlms_act
from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.meant import SerialOption, YesOption, confirm, refuse_yes_alone
from gateway.cli.meter.program import carry_out, record_folder
from gateway.cli.options import JsonOption, user
from gateway.cli.output import print_fields
from gateway.config import file as configuration
from gateway.config.targets import parse_target
from gateway.errors import UsageError
from protocols.dlms.acts.programming import Act, Change, label_of, shown
from protocols.dlms.acts.values import parse_value
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data import axdr
from protocols.dlms.data.types import Data, Tag, integer
from protocols.dlms.explore.walk import is_secret
from protocols.dlms.objects import method_label
from protocols.dlms.session import DlmsSession
from protocols.errors import LocalError
from protocols.reading import Obis

TargetArgument = Annotated[str, typer.Argument(help="CLASS/OBIS/NUMBER, for example 1/1-0:0.8.0*255/2.")]
KEY_METHODS = {(15, 2), (64, 1), (64, 2), (64, 3), (64, 5), (64, 6), (12, 6)}
"""Methods that bring keys or secrets: no command takes these as arguments."""
RELAY_SCRIPTS = Obis(0, 0, 10, 0, 106)
"""The scripts that move the supply contact (Blue Book 6.2.7)."""


@meter_command
def get(
    meter: MeterArgument, target: TargetArgument, options: AddressOptions, as_json: JsonOption = False
) -> None:
    """Read one attribute of any object, typed and as its octets; keys and passwords are never shown.

    Example: meter-gateway get GEN:12345678 1/1-0:0.8.0*255/2 --config gateway.toml
    """
    wanted = _target(target)
    if is_secret(wanted.class_id, wanted.index):
        raise UsageError(f"{label_of(wanted)} holds a secret, which no command shows")
    data = asyncio.run(_read(find_meter(meter, options), wanted))
    print_fields(
        {
            "attribute": label_of(wanted),
            "type": data.tag.name.lower().replace("_", "-"),
            "value": shown(wanted, data),
            "raw": axdr.encode(data).hex(" ").upper(),
        },
        as_json=as_json,
    )


@meter_command
def set_(
    meter: MeterArgument,
    target: TargetArgument,
    value: Annotated[
        str, typer.Argument(help="In the type that the meter shows, or TYPE:VALUE, or axdr:HEX.")
    ],
    options: AddressOptions,
    yes: YesOption = False,
    meter_serial: SerialOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one attribute that the configuration allows ([acts] set): shown before, confirmed, read back, recorded.

    Example: meter-gateway set GEN:12345678 1/1-0:0.8.0*255/2 900 --config gateway.toml
    """
    wanted = _target(target)
    _allow(options, wanted, "set")
    if is_secret(wanted.class_id, wanted.index):
        raise UsageError(
            f"{label_of(wanted)} holds a secret: keys and passwords are changed by their own commands"
        )
    access = find_meter(meter, options)
    data = _value(value, asyncio.run(_read(access, wanted)).tag)
    act = dlms_act(Act(name="set", changes=(Change(places=(wanted,), value=data),)))
    says = f"set {label_of(wanted)} to {value}"
    carry_out(access, options, act, says, show=False, yes=yes, serial=meter_serial, as_json=as_json)


@meter_command
def action(
    meter: MeterArgument,
    target: TargetArgument,
    options: AddressOptions,
    value: Annotated[str, typer.Argument(help="The parameter as TYPE:VALUE or axdr:HEX.")] = "integer:0",
    yes: YesOption = False,
    meter_serial: SerialOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one method that the configuration allows ([acts] action): confirmed and recorded; never repeated.

    Example: meter-gateway action GEN:12345678 9/0-0:10.0.1*255/1 long-unsigned:1 --config gateway.toml
    """
    wanted = _target(target)
    _allow(options, wanted, "action")
    if (wanted.class_id, wanted.index) in KEY_METHODS:
        raise UsageError(f"{_method(wanted)} takes a secret: keys are changed by their own commands")
    if wanted.class_id == 70 or (wanted.class_id == 9 and wanted.obis == RELAY_SCRIPTS):
        raise UsageError(
            f"{_method(wanted)} moves the supply contact: that is ordered through the gateway, signed"
        )
    refuse_yes_alone(yes=yes, serial=meter_serial)
    parameter = _value(value, integer(0).tag)
    access = find_meter(meter, options)
    asked = asyncio.run(_identify(access))
    confirm(f"Run {_method(wanted)} of {asked} with {value}?", asked, yes=yes, serial=meter_serial)
    record = ActRecord(record_folder(access, options))
    answer = asyncio.run(_run(access, wanted, parameter, record, asked))
    print_fields(
        {
            "meter": asked,
            "method": _method(wanted),
            "outcome": "the meter answered with success",
            "returned": None if answer is None else shown(wanted, answer),
        },
        as_json=as_json,
    )


def _value(text: str, tag: Tag) -> Data:
    try:
        return parse_value(text, tag)
    except LocalError as error:
        raise UsageError(str(error)) from error


def _method(target: Target) -> str:
    return method_label(target.class_id, target.obis, target.index)


def _target(text: str) -> Target:
    try:
        return parse_target(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _allow(options: AddressOptions, target: Target, what: str) -> None:
    """Raise UsageError for what [acts] of the configuration does not allow; without one nothing is allowed."""
    allowed: tuple[str, ...] = ()
    if options.config is not None:
        acts = configuration.load(options.config).acts
        allowed = acts.set if what == "set" else acts.action
    if target not in map(parse_target, allowed):
        name = f"{target.class_id}/{target.obis}/{target.index}"
        raise UsageError(
            f'`{what}` of {name} is not allowed: the configuration (--config) lists what is, [acts] {what} = ["{name}"]'
        )


async def _read(access: MeterAccess, target: Target) -> Data:
    async with open_meter(access) as session:
        return await _dlms(session).exchange.get(target)


async def _identify(access: MeterAccess) -> str:
    async with open_meter(access) as session:
        return (await _dlms(session).identify()).meter_id


async def _run(
    access: MeterAccess, target: Target, parameter: Data, record: ActRecord, meter: str
) -> Data | None:
    async with open_meter(access, changes=True) as session:
        plate = await _dlms(session).identify()
        if plate.meter_id != meter:
            raise UsageError(f"another meter answers now: {plate.meter_id}; nothing is done")
        with record.recorded(
            now=access.clock.now,
            by=user(),
            meter=meter,
            act="action",
            before="",
            after=f"{_method(target)} {parameter}",
        ) as outcome:
            answer = await _dlms(session).exchange.action(target, parameter)
            outcome.text = "the meter answered with success"
        return answer


def _dlms(session: Any) -> DlmsSession:
    if not isinstance(session, DlmsSession):
        raise UsageError("only DLMS meters have these objects")
    return session
