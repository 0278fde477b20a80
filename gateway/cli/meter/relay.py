"""The command `relay`."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields
from protocols.dlms.objects import DisconnectControl, describe
from protocols.dlms.session import DlmsSession
from protocols.errors import MeterRefused, NotSupported


@meter_command
def relay(meter: MeterArgument, options: AddressOptions, as_json: JsonOption = False) -> None:
    """Show the meter's supply contact: what it is, what it was told, who may move it. Nothing is moved.

    Orders go through the gateway, where they are signed and proved.

    Example: meter-gateway relay tcp://10.0.0.7:4059 --client 32 --key-file keys.toml
    """
    print_fields(asyncio.run(_relay(find_meter(meter, options))), as_json=as_json)


async def _relay(access: MeterAccess) -> dict[str, Any]:
    async with open_meter(access) as session:
        fields: dict[str, Any] = {"output_state": _contact((await session.relay()).value)}
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


def _contact(state: str) -> str:
    return {"closed": "connected", "open": "disconnected"}.get(state, state)
