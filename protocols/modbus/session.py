"""A conversation with one Modbus meter: identity first, then profiles as exact values under OBIS codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import NoReturn
from zoneinfo import ZoneInfo

from protocols.errors import (
    IdentityMismatch,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    NotSupported,
    ProtocolError,
)
from protocols.line import Line
from protocols.modbus.client import ModbusClient, frames_for
from protocols.modbus.codec import decode, raw_value
from protocols.modbus.judge import Judge, all_bits_set
from protocols.modbus.memories import Memories
from protocols.modbus.model import SERIAL, MeterModel, RegisterSpec, load_model
from protocols.modbus.plausible import Found
from protocols.modbus.reader import RegisterReader
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
from protocols.session import Clock, MeterSpec, SessionContext

_REFUSED = Missing(MissingReason.METER_REFUSED)
_HARMLESS = (NotSupported, MeterConfigError)
"""Errors that say nothing about who answers."""


class ModbusSession:
    """`MeterSession` for a meter behind a held line; it reads and never writes.

    Live register reads carry the gateway's time of the read in whole seconds and no meter time. A register
    that the meter refuses is Missing(METER_REFUSED), and the planner learns where not to join blocks.

    `judge` says what can be: a value that it doubts is read a second time, and is suspect when it is doubted again.
    With `memories` it knows what was believed before, and a meter that has proved its identity lately is not asked
    for it again.
    """

    def __init__(
        self,
        client: ModbusClient,
        model: MeterModel,
        unit: int,
        *,
        expected: str | None,
        zone: ZoneInfo,
        clock: Clock,
        judge: Judge | None = None,
        memories: Memories | None = None,
    ) -> None:
        self._reader = RegisterReader(client, model, unit)
        self._model = model
        self._expected = expected
        self._zone = zone
        self._clock = clock
        self._judge = judge or Judge(model)
        self._memories = None if expected is None else memories
        self._nameplate: Nameplate | None = None

    async def identify(self) -> Nameplate:
        """Return the serial, and the maker that the model stands for; the meter is asked where a proof is due.

        Raises IdentityMismatch when another meter answers than the one that is expected.
        """
        if self._nameplate is None and self._memories is not None and self._expected is not None:
            memory = self._memories.of(self._expected, self._model.name)
            if not self._memories.proof_due(self._expected, memory, self._clock.now()):
                manufacturer, _, serial = self._expected.partition(":")
                return Nameplate(manufacturer=manufacturer, serial=serial, model=self._model.title)
        return await self._proof()

    async def _proof(self) -> Nameplate:
        """Return who the meter says it is, asked once in a session."""
        if self._nameplate is None:
            self._nameplate = await self._ask_identity()
            if self._memories is not None and self._expected is not None:
                memory = self._memories.of(self._expected, self._model.name)
                self._memories.proved(self._expected, memory, self._clock.now())
        return self._nameplate

    async def _ask_identity(self) -> Nameplate:
        register = self._model.of_quantity(SERIAL)
        value = (await self._values((register,)))[0][1]
        if value == _REFUSED:
            raise MeterRefused("the meter refuses to tell its serial")
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

        NotSupported for profiles of which the model has no register (stored profiles among them), or the meter has
        none though it has others. MeterRefused when it refuses all that it is asked for.
        """
        _ = since, until
        registers = self._model.of_profile(profile)
        if not registers:
            raise NotSupported(f"model {self._model.name} has no profile {profile}")
        now = self._clock.now()
        trusted = self._clock.disciplined()
        found = await self._found(registers)
        if all(one.value == _REFUSED for one in found.values()):
            await self._refuse(profile)
        memory = None
        if self._memories is not None and self._expected is not None:
            memory = self._memories.of(self._expected, self._model.name)
        verdict = self._judge.first(memory, found, now)
        if verdict.again:
            found |= await self._found(r for r in registers if Quantity.of(r.quantity) in verdict.again)
            verdict = self._judge.second(memory, found, now, first=verdict)
            if verdict.other_meter:
                await self._proof()  # nothing of another one is stored here
        settled = self._judge.settle(memory, found, verdict, now)
        if self._memories is not None and self._expected is not None:
            memory = self._memories.of(self._expected, self._model.name)
            self._memories.keep(self._expected, self._judge.remember(memory, settled))
        values = [(quantity, one.value) for quantity, one in found.items()]
        if profile is ProfileName.NAMEPLATE:
            values.append((Quantity.of("0-0:96.1.1*255"), Text(self._model.manufacturer)))
        quality = Quality.SUSPECT if settled.suspect else Quality.VALID
        yield ReadingSet(
            profile=profile,
            at=now.replace(microsecond=0),
            values=tuple(values),
            received_at=self._clock.now(),
            quality=quality if trusted else Quality.CLOCK_ERROR,
            suspect=settled.suspect,
            remarks=settled.remarks,
        )

    async def _refuse(self, profile: ProfileName) -> NoReturn:
        """Tell a meter that lacks a profile from one that refuses everything, which does not tell its serial either."""
        text = f"the meter refuses every register of {profile} that model {self._model.name} has"
        try:
            await self._proof()
        except MeterRefused as refused:
            raise MeterRefused(
                f"{text}, and its serial: it is starting up or out of order, or of another model",
                reason_code=refused.reason_code,
            ) from refused
        raise NotSupported(text)

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

    async def _values(self, registers: Iterable[RegisterSpec]) -> list[tuple[Quantity, Value]]:
        wanted = tuple(registers)
        words = await self._reader.words(tuple(r.span for r in wanted))
        return [(Quantity.of(r.quantity), self._value(r, words[r.span])) for r in wanted]

    async def _found(self, registers: Iterable[RegisterSpec]) -> dict[Quantity, Found]:
        wanted = tuple(registers)
        words = await self._reader.words(tuple(r.span for r in wanted))
        return {
            Quantity.of(r.quantity): Found(
                self._value(r, words[r.span]), all_bits_set(self._model, r, words[r.span])
            )
            for r in wanted
        }

    def _value(self, register: RegisterSpec, words: list[int] | None) -> Value:
        if words is None:
            return Missing(MissingReason.METER_REFUSED)
        return decode(self._model, register, words, self._zone)


@asynccontextmanager
async def open_modbus(
    line: Line, spec: MeterSpec, context: SessionContext, *, memories: Memories | None = None
) -> AsyncIterator[ModbusSession]:
    """Hold the line for a session with the meter of `spec`, check who answers, and yield the session.

    `line` is any `protocols.line.Line`, taken for the block and opened when it is not. `spec` says which meter
    (`meter`, or None for any) and how to ask it (`modbus`). Of `context` only the clock is used: Modbus has
    neither keys nor counters. `memories` are what earlier sessions believed: values are held against it, and a meter
    that proved its identity lately is taken to be the one that it was (see `Memories`).

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
        model, frames, zone = load_model(settings.model), frames_for(settings.framing), spec.time_zone()
        async with line.exclusive() as io:
            client = ModbusClient(io, frames, timeout=settings.timeout, worst_latency=settings.worst_latency)
            load = settings.sanctioned_load
            session = ModbusSession(
                client,
                model,
                settings.unit,
                expected=spec.meter,
                zone=zone,
                clock=context.clock,
                judge=Judge(model, None if load is None else Decimal(str(load))),
                memories=memories,
            )
            if spec.meter is not None:
                await session.identify()
            yield session
    except (ProtocolError, TimeoutError, asyncio.CancelledError) as error:
        if memories is not None and spec.meter is not None and not isinstance(error, _HARMLESS):
            memories.shake(spec.meter)
        if isinstance(error, ProtocolError):
            error.with_context(meter=spec.meter, line=line.name)
        raise


def _with_leading_zeros(serial: str, expected: str | None) -> str:
    """Return a serial with the leading zeros that the expected one has: a number register has lost them."""
    printed = (expected or "").partition(":")[2]
    if printed.isascii() and printed.isdecimal() and printed.lstrip("0") == serial.lstrip("0"):
        return printed
    return serial
