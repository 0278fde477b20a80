"""What may be changed in a Modbus meter: its clock and its relay, only by the registers that the model names."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.clock import Moment
from protocols.errors import MeterConfigError, MeterProtocolError, NotSupported
from protocols.modbus.client.unit import MeterUnit
from protocols.modbus.decoding.codec import decode_instant, encode_instant, encode_raw
from protocols.modbus.format.model import CLOCK, MeterModel
from protocols.reading import Instant, MeterClock, RelayState
from protocols.session import Clock


class Controls:
    """Reads and sets the clock, moves the relay; `trusted` says that nobody else can talk on the line.

    Modbus has no authentication: whoever can talk on a line can move a relay, so an order goes out only where
    somebody answers for the line.
    """

    def __init__(
        self, unit: MeterUnit, model: MeterModel, *, zone: ZoneInfo, clock: Clock, trusted: bool
    ) -> None:
        self._unit = unit
        self._model = model
        self._zone = zone
        self._clock = clock
        self._trusted = trusted

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
        write = self._model.writes.relay
        if write is None:
            raise NotSupported(f"model {self._model.name} has no relay to switch")
        if not self._trusted:
            raise MeterConfigError(
                "the relay of a Modbus meter is moved only on a line that is declared trusted, as Modbus proves"
                " nothing: say `trusted = true` in its [[lines]] where nobody else can talk on it"
            )
        raw = write.raw(to)
        await self._unlock()
        await self._unit.write(write.function, write.address, encode_raw(self._model, write, raw))

    async def _unlock(self) -> None:
        unlock = self._model.writes.unlock
        if unlock is not None:
            words = encode_raw(self._model, unlock, unlock.value)
            await self._unit.write(unlock.function, unlock.address, words)
