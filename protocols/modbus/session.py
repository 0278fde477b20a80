"""A conversation with one Modbus meter: identity first, then profiles as exact values under OBIS codes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

from protocols.errors import (
    IdentityMismatch,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    NotSupported,
    ProtocolError,
)
from protocols.known import Known
from protocols.line import HasPace, Line
from protocols.modbus.codec import raw_value
from protocols.modbus.known_meter import ModbusNotes, keep_modbus, known_modbus
from protocols.modbus.library import load_model
from protocols.modbus.model import SERIAL, MeterModel
from protocols.modbus.reader import RegisterReader
from protocols.modbus.registers import RegisterSpec
from protocols.modbus.turn import client_for, frames_of
from protocols.modbus.values import spans_of, values_of
from protocols.modbus.visit import ReadAt, VisitReader
from protocols.reading import (
    MeterClock,
    Missing,
    MissingReason,
    Nameplate,
    Number,
    ProfileName,
    Quality,
    Quantity,
    ReadingSet,
    RelayState,
    Text,
    Value,
)
from protocols.session import Clock, MeterSpec, SessionContext, Visit

REFUSED = Missing(MissingReason.METER_REFUSED)
IDENTITY = "identity"
"""The part of a visit that tells who the meter is."""


class ModbusSession:
    """`MeterSession` for a meter behind a held line; it reads and never writes.

    Live register reads carry the gateway's time of the read in whole seconds and no meter time. A register
    that the meter refuses is Missing(METER_REFUSED), and the planner learns where not to join blocks.
    """

    def __init__(
        self,
        reader: RegisterReader,
        model: MeterModel,
        *,
        expected: str | None,
        zone: ZoneInfo,
        clock: Clock,
        visit: Visit,
    ) -> None:
        self._reader = reader
        parts = {profile.value: spans_of(model, model.of_profile(profile)) for profile in visit.profiles}
        if expected is not None:
            parts[IDENTITY] = (model.of_quantity(SERIAL).span,)
        self._visit = VisitReader(reader, clock, parts)
        self._model = model
        self._expected = expected
        self._zone = zone
        self._clock = clock

    async def identify(self) -> Nameplate:
        """Read the serial and name the maker that the model stands for."""
        register = self._model.of_quantity(SERIAL)
        value = (await self._values(IDENTITY, (register,)))[0][0][1]
        if value == REFUSED:
            raise MeterRefused("it refuses to tell its serial")
        if isinstance(value, Missing):
            raise MeterProtocolError(f"the meter does not tell its serial ({value.reason})")
        if not isinstance(value, Number | Text):
            raise MeterProtocolError(f"the serial is not a number or text: {value}")
        serial = value.text() if isinstance(value, Number) else value.text
        if register.type != "text":
            serial = _with_leading_zeros(serial, self._expected)
        found = Nameplate(
            manufacturer=self._model.manufacturer, serial=serial, model=self._model.title, firmware=""
        )
        if self._expected is not None and found.meter_id != self._expected:
            raise IdentityMismatch(expected=self._expected, found=found.meter_id)
        return found

    async def read(
        self,
        profile: ProfileName,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[ReadingSet]:
        """Read a snapshot of the present: one set; `since` and `until` do not bind the present.

        NotSupported for profiles of which the model has no register (stored profiles among them).
        """
        _ = since, until
        registers = self._model.of_profile(profile)
        if not registers:
            raise NotSupported(f"model {self._model.name} has no profile {profile}")
        values, read = await self._values(profile.value, registers)
        if all(value == REFUSED for _, value in values):
            raise MeterRefused(f"it refuses every value of {profile}")
        if profile is ProfileName.NAMEPLATE:
            values.append((Quantity.of("0-0:96.1.1*255"), Text(self._model.manufacturer)))
        yield ReadingSet(
            profile=profile,
            at=read.begun.replace(microsecond=0),
            values=tuple(values),
            received_at=read.ended,
            quality=Quality.VALID if read.trusted else Quality.CLOCK_ERROR,
        )

    async def clock(self) -> MeterClock:
        """Not supported: no shipped model has a clock register."""
        raise NotSupported(f"model {self._model.name} has no clock to read")

    async def set_clock(self, at: datetime) -> None:
        """Not supported: this session never writes."""
        _ = at
        raise NotSupported(f"model {self._model.name} has no clock to set")

    async def relay(self) -> RelayState:
        """Read the contact's state; UNKNOWN when the model does not say how, or the meter refuses."""
        relay = self._model.relay
        if relay is None:
            return RelayState.UNKNOWN
        register = self._model.of_quantity(relay.quantity)
        words = (await self._reader.words((register.span,)))[register.span]
        return RelayState.UNKNOWN if words is None else relay.state(raw_value(self._model, register, words))

    async def switch_relay(self, to: RelayState) -> None:
        """Not supported: Modbus has no authentication, and no shipped model lists a writable address."""
        _ = to
        raise NotSupported(f"model {self._model.name} has no relay to switch")

    async def _values(
        self, part: str, registers: Sequence[RegisterSpec]
    ) -> tuple[list[tuple[Quantity, Value]], ReadAt]:
        """Return the values of a part of the visit, and when they were read."""
        read = await self._visit.take(part, spans_of(self._model, registers))
        return values_of(self._model, registers, read.words, self._zone), read


@asynccontextmanager
async def open_modbus(
    line: Line,
    spec: MeterSpec,
    context: SessionContext,
    *,
    known: Known | None = None,
    visit: Visit | None = None,
) -> AsyncIterator[ModbusSession]:
    """Hold the line for a session with the meter of `spec`, check who answers, and yield the session.

    `line` is any `protocols.line.Line`, taken for the block and opened when it is not. `spec` says which meter
    (`meter`, or None for any) and how to ask it (`modbus`). Of `context` only the clock is used: Modbus has
    neither keys nor counters. `known` keeps what was learned of each meter; the profiles of `visit` are read together,
    with the requests that cost the wire least.

    Raises MeterConfigError for an unknown model, framing or zone, LineUnavailable and other LineErrors,
    MeterSilent, IdentityMismatch when another meter answers; afterwards the line is free.

    Example::

        async with open_modbus(line, spec, context) as session:
            async for reading in session.read(ProfileName.INSTANTANEOUS):
                print(reading.value("1-0:12.7.0*255"))
    """
    settings = spec.modbus
    if settings is None:
        raise MeterConfigError("the meter has no Modbus settings").with_context(meter=spec.meter)
    try:
        model, frames, zone = (
            load_model(settings.model, settings.models),
            frames_of(settings),
            spec.time_zone(),
        )
        async with line.exclusive() as io:
            client = client_for(line, io, frames, settings, model)
            notes = ModbusNotes(context.clock.now(), known_modbus(known, spec.meter, model.name))
            pace = line.pace if isinstance(line, HasPace) else None
            reader = RegisterReader(client, model, settings.unit, notes, pace=pace)
            session = ModbusSession(
                reader, model, expected=spec.meter, zone=zone, clock=context.clock, visit=visit or Visit()
            )
            try:
                if spec.meter is not None:
                    await session.identify()
                yield session
            except IdentityMismatch:
                raise  # what another meter showed is not this one's
            except ProtocolError:
                keep_modbus(known, spec.meter, model.name, notes)
                raise
            else:
                reader.sum_up()
                keep_modbus(known, spec.meter, model.name, notes)
    except ProtocolError as error:
        error.with_context(meter=spec.meter, line=line.name)
        raise


def _with_leading_zeros(serial: str, expected: str | None) -> str:
    """Return a serial with the leading zeros that the expected one has: a number register has lost them."""
    printed = (expected or "").partition(":")[2]
    if printed.isascii() and printed.isdecimal() and printed.lstrip("0") == serial.lstrip("0"):
        return printed
    return serial
