"""The command `relay`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from gateway.acts.modbus import CONTACT, relay_act
from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.meant import SerialOption, YesOption
from gateway.cli.meter.program import carry_out
from gateway.cli.options import JsonOption, TrustHostOption, nearest
from gateway.cli.output import print_fields
from gateway.errors import UsageError
from gateway.timekeeping.clock import doubt
from protocols.dlms.objects import DisconnectControl, describe
from protocols.dlms.session import DlmsSession
from protocols.errors import MeterRefused, NotSupported
from protocols.reading import RelayState

SUPPLY = {"connected": RelayState.CLOSED, "disconnected": RelayState.OPEN}


@meter_command
def relay(
    meter: MeterArgument,
    options: AddressOptions,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="Modbus, on a trusted line: connected or disconnected; orders the contact."
        ),
    ] = None,
    yes: YesOption = False,
    meter_serial: SerialOption = None,
    trust_host: TrustHostOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the meter's supply contact: what it is, what it was told, who may move it; with --to move it.

    With --to the contact of a Modbus meter is moved, by the register that its model declares, on a line that the
    configuration declares trusted: shown and confirmed before, ordered once, proved by its state, recorded. Orders to
    DLMS meters go through the gateway, where they are signed and proved.

    Example: meter-gateway relay tcp://10.0.0.7:4059 --client 32 --key-file keys.toml
    """
    access = find_meter(meter, options)
    if to is None:
        print_fields(asyncio.run(_relay(access)), as_json=as_json)
        return
    if to not in SUPPLY:
        raise UsageError(f"--to: `{to}` is not one of {', '.join(SUPPLY)}.{nearest(to, SUPPLY)}")
    if access.spec.modbus is None:
        raise UsageError(f"{meter} is a DLMS meter: its contact is ordered through the gateway, signed")
    if SUPPLY[to] is RelayState.OPEN and not trust_host and (why := doubt(access.clock)):
        raise UsageError(
            f"nothing is disconnected while this computer's own clock may be wrong ({why}): start NTP on it, or say"
            " --trust-host after comparing it with a clock that you believe"
        )
    act = relay_act(SUPPLY[to])
    carry_out(access, options, act, f"{to} supply", show=False, yes=yes, serial=meter_serial, as_json=as_json)


async def _relay(access: MeterAccess) -> dict[str, Any]:
    async with open_meter(access) as session:
        fields: dict[str, Any] = {"output_state": CONTACT[await session.relay()]}
        if not isinstance(session, DlmsSession):
            return fields
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
