"""Acts on Modbus meters: relay, recharge, balance; by registers that the model declares, with their record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from gateway.acts.doing import Actor, Difference, Doing, Looked, recorded
from gateway.errors import UsageError
from protocols.errors import MeterRefused
from protocols.modbus.session.credit import Credit, said
from protocols.modbus.session.session import ModbusSession
from protocols.reading import RelayState
from protocols.session import MeterSession

CREDITS: Mapping[str, str] = MappingProxyType(
    {
        Credit.RECHARGE: "Modbus: the amount that is added to the balance, in the unit of its model: 500.00",
        Credit.BALANCE: "Modbus: the balance that is to stand in the meter: 250.00",
    }
)
"""The named acts on the money or energy of a prepaid Modbus meter, with what each takes."""
CONTACT = {RelayState.CLOSED: "connected", RelayState.OPEN: "disconnected", RelayState.UNKNOWN: "unknown"}
"""What the supply is in each state of its contact."""


def credit_act(name: str, amount: str) -> Doing:
    """Return the act that writes an amount (`CREDITS`); done, it tells what the meter then shows.

    LocalError where the amount does not fit the register, NotSupported where the model declares none.
    """
    credit = Credit(name)

    async def look(session: ModbusSession) -> Difference:
        number = session.amount(credit, amount)
        purse = await session.purse()
        return Difference(
            label=f"{credit} {said(number)}", before=str(purse), after=purse.after(credit, number)
        )

    async def do(session: ModbusSession) -> str:
        return str(await session.credit(credit, session.amount(credit, amount)))

    return _doing(name, look, do)


def relay_act(to: RelayState) -> Doing:
    """Return the order that moves the supply contact; done, its state was read back."""

    async def look(session: ModbusSession) -> Difference:
        session.check_order()
        state = await session.relay()
        if state is RelayState.UNKNOWN:
            raise MeterRefused("the meter does not show its contact now, by which an order is proved")
        return Difference(label="supply", before=CONTACT[state], after=CONTACT[to])

    async def do(session: ModbusSession) -> str:
        return CONTACT[await session.relay_proved(to)]

    return _doing("relay", look, do)


def _doing(
    name: str,
    look: Callable[[ModbusSession], Awaitable[Difference]],
    do: Callable[[ModbusSession], Awaitable[str]],
) -> Doing:
    async def look_at(session: MeterSession) -> Looked:
        modbus = _modbus(session)
        return Looked(plate=await modbus.identify(), changes=(await look(modbus),))

    async def carry_out(session: MeterSession, actor: Actor) -> Looked:
        found = await look_at(session)
        with recorded(actor, name, found) as outcome:
            (change,) = found.changes
            stands = replace(change, after=await do(_modbus(session)))
            outcome.after = f"{stands.label}: {stands.after}"
        return replace(found, changes=(stands,))

    return Doing(name=name, look=look_at, do=carry_out)


def _modbus(session: MeterSession) -> ModbusSession:
    if not isinstance(session, ModbusSession):
        raise UsageError("only Modbus meters are changed so")
    return session
