"""What may be changed in a Modbus meter: clock, relay, balance, only by the registers that the model names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.clock import Moment
from protocols.errors import MeterConfigError, MeterProtocolError, NotSupported, WriteUnproven
from protocols.modbus.client.unit import MeterUnit
from protocols.modbus.decoding.codec import decode_instant, encode_instant, encode_raw
from protocols.modbus.format.model import CLOCK, MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.format.writes import RelayWrite
from protocols.modbus.session.credit import Credit, Crediting, Purse, said
from protocols.modbus.session.proof import Shown, write_proved
from protocols.reading import Instant, MeterClock, Number, RelayState, Value
from protocols.session import Clock

ReadValues = Callable[[tuple[RegisterSpec, ...]], Awaitable[list[Value]]]
"""Reads registers of the meter, now."""


class Controls:
    """Reads and sets the clock, moves the relay, credits; `trusted` says that nobody else can talk on the line.

    Modbus has no authentication: whoever can talk on a line can move a relay or give away money, so such an order goes
    out only where somebody answers for the line.
    """

    def __init__(
        self,
        unit: MeterUnit,
        model: MeterModel,
        *,
        zone: ZoneInfo,
        clock: Clock,
        trusted: bool,
        values: ReadValues,
    ) -> None:
        self._unit = unit
        self._model = model
        self._zone = zone
        self._clock = clock
        self._trusted = trusted
        self.crediting = Crediting(model, zone, values)

    async def clock(self) -> MeterClock:
        """Return the meter's clock beside ours; NotSupported when the model has no register of it."""
        try:
            register = self._model.of_quantity(CLOCK)
        except KeyError:
            raise NotSupported(f"model {self._model.name} has no clock to read") from None
        asked = Moment.of(self._clock)
        words = await self._unit.words(register.function, register.address, register.size)
        middle, takes = asked.until(Moment.of(self._clock))
        value = decode_instant(self._model, register, words, self._zone)
        if not isinstance(value, Instant):
            raise MeterProtocolError(f"the meter's clock shows no time ({value})")
        return MeterClock(
            meter=value.at,
            gateway=middle.now,
            deviation=None,
            status=None,
            takes=takes,
            steady=middle.steady,
        )

    async def set_clock(self, at: datetime) -> None:
        """Set the clock to an instant; NotSupported when the model names no register for it.

        Proof is `clock()` afterwards. WriteUnproven when no sound answer came.
        """
        write = self._model.writes.clock
        if write is None:
            raise NotSupported(f"model {self._model.name} has no clock to set")
        await self._unlock()
        words = encode_instant(self._model, write, Instant(at), self._zone)
        await self._unit.write(write.function, write.address, words)

    async def shift_clock(self, by: timedelta) -> None:
        """Move the clock by `by` from where it stands; raises as `clock` and `set_clock` do."""
        stood = await self.clock()
        await self.set_clock(self._clock.now() + timedelta(seconds=stood.drift) + by)

    async def switch_relay(self, to: RelayState) -> None:
        """Order the contact to move, once; proof is its state afterwards.

        NotSupported when the model names no register for it, MeterConfigError on a line that is not trusted,
        WriteUnproven when no sound answer came.
        """
        write = self.relay_register()
        await self._unlock()
        await self._order(write, to)

    async def relay_proved(self, to: RelayState, state: Callable[[], Awaitable[RelayState]]) -> RelayState:
        """Order the contact to move, once, and look at its `state` until it has; raises as `write_proved` does."""

        def judge(found: RelayState) -> Shown:
            if found is to:
                return Shown.KEPT
            return Shown.NEITHER if found is RelayState.UNKNOWN else Shown.AS_BEFORE

        write = self.relay_register()
        await self._unlock()
        return await write_proved(
            lambda: self._order(write, to), state, judge, what=f"the order to the relay to be {to.value}"
        )

    async def credit(self, credit: Credit, amount: Number) -> Purse:
        """Write a recharge or a balance, once, and return what the meter shows of it.

        NotSupported when the model names no register for it, MeterConfigError on a line that is not trusted, LocalError
        for an amount that the register cannot hold exactly; else raises as `write_proved` does.
        """
        write, words = self.crediting.register(credit), self.crediting.words(credit, amount)
        self._refuse_untrusted(f"the {credit} of a Modbus meter is written")
        before = await self.crediting.purse()
        await self._unlock()
        return await write_proved(
            lambda: self._unit.write(write.function, write.address, words),
            self.crediting.purse,
            lambda now: self.crediting.judge(credit, amount, before, now),
            what=f"{credit} {said(amount)}",
        )

    def _refuse_untrusted(self, what: str) -> None:
        if not self._trusted:
            raise MeterConfigError(
                f"{what} only on a line that is declared trusted, as Modbus proves nothing: say `trusted = true` in its"
                " [[lines]] where nobody else can talk on it"
            )

    def relay_register(self) -> RelayWrite:
        """Return the register that takes orders; NotSupported without one, MeterConfigError on an untrusted line."""
        write = self._model.writes.relay
        if write is None:
            raise NotSupported(
                f"model {self._model.name} has no relay to switch: add [writes.relay], and [relay] that shows its"
                " state, from the meter's map where it has one"
            )
        self._refuse_untrusted("the relay of a Modbus meter is moved")
        return write

    async def _order(self, write: RelayWrite, to: RelayState) -> None:
        words = encode_raw(self._model, write, write.raw(to))
        await self._unit.write(write.function, write.address, words)

    async def _unlock(self) -> None:
        unlock = self._model.writes.unlock
        if unlock is None:
            return
        words = encode_raw(self._model, unlock, unlock.value)
        try:
            await self._unit.write(unlock.function, unlock.address, words)
        except WriteUnproven as error:
            raise WriteUnproven(f"nothing but the unlocking was written: {error}") from error
