"""A conversation with one Modbus meter: identity first, then profiles as exact values under OBIS codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from protocols.errors import (
    IdentityMismatch,
    MeterConfigError,
    MeterRefused,
    NotSupported,
    ProtocolError,
)
from protocols.known import Known
from protocols.line import HasPace, Line
from protocols.modbus.belief.judge import Judge, all_bits_set
from protocols.modbus.belief.memories import Memories
from protocols.modbus.belief.plausible import Found, remarks_of
from protocols.modbus.client.latency import LatencyFacts
from protocols.modbus.client.turn import client_for, frames_of
from protocols.modbus.client.unit import MeterUnit
from protocols.modbus.decoding.codec import raw_value, rollover
from protocols.modbus.decoding.values import scales_of, spans_of, values_of
from protocols.modbus.format.library import load_model
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.planning.known_meter import ModbusNotes, keep_modbus, known_modbus
from protocols.modbus.session.controls import Controls
from protocols.modbus.session.credit import Credit, Purse
from protocols.modbus.session.load_reader import LoadReader
from protocols.modbus.session.reader import RegisterReader, Words
from protocols.modbus.session.recognition import REFUSED, Recognition
from protocols.modbus.session.visit import VisitReader
from protocols.reading import (
    MeterClock,
    Nameplate,
    Number,
    ProfileName,
    Quality,
    Quantity,
    ReadingSet,
    RelayState,
    Remark,
    Text,
    Value,
)
from protocols.session import Clock, MeterSpec, SessionContext, Visit

FIRMWARE = Quantity.of("1-0:0.2.0*255")
IDENTITY = "identity"
"""The part of a visit that tells who the meter is."""
HARMLESS = (NotSupported, MeterConfigError)
"""Errors that say nothing about who answers."""


class ModbusSession:
    """`MeterSession` for a meter behind a held line; it writes only what the model names, when it is told to.

    Live register reads carry the gateway's time of the read in whole seconds and no meter time. A register
    that the meter refuses is Missing(METER_REFUSED), and the planner learns where not to join blocks.

    `judge` says what can be: a value that it doubts is read a second time, and is suspect when it is doubted again.
    `recognition` knows who the meter was, and when it has to be asked again.
    """

    def __init__(
        self,
        reader: RegisterReader,
        model: MeterModel,
        *,
        recognition: Recognition,
        judge: Judge,
        zone: ZoneInfo,
        clock: Clock,
        visit: Visit,
        unit: MeterUnit,
        trusted: bool,
    ) -> None:
        self._reader = reader
        self._unit = unit
        self._controls = Controls(
            unit, model, zone=zone, clock=clock, trusted=trusted, values=self._values_now
        )
        parts = {profile.value: spans_of(model, model.of_profile(profile)) for profile in visit.profiles}
        if recognition.expected is not None and recognition.due(clock.now()):
            parts[IDENTITY] = recognition.spans
        self._visit = VisitReader(reader, clock, parts)
        self._model = model
        self._recognition = recognition
        self._judge = judge
        self._zone = zone
        self._clock = clock
        self._fresh = recognition.fresh
        self._nameplate: Nameplate | None = None

    async def identify(self) -> Nameplate:
        """Return the serial, and the maker that the model stands for; the meter is asked where a proof is due.

        Raises IdentityMismatch when another meter answers than the one that is expected, NotSupported for a meter
        without a serial of which nobody said which one it is.
        """
        if not self._model.serial and self._recognition.expected is None:
            raise NotSupported(f"model {self._model.name} has no serial")
        if self._nameplate is None and not self._recognition.due(self._clock.now()):
            return self._recognition.taken_for_granted()
        return await self._proof()

    async def _prove(self) -> None:
        """Ask the meter who it is, where one is expected: nothing is changed in another, nor its history kept.

        Raises IdentityMismatch when it is another.
        """
        if self._recognition.expected is not None:
            await self._proof()

    async def _proof(self) -> Nameplate:
        """Return who the meter says it is, asked once in a session."""
        if self._nameplate is None:
            registers, words = self._recognition.registers, Words()
            if spans := self._recognition.spans:
                words = (await self._visit.take(IDENTITY, spans)).words
            values = dict(values_of(self._model, registers, words, self._zone))
            self._reader.note_firmware(values.get(FIRMWARE))
            self._nameplate = self._recognition.judge(
                values, scales_of(self._model, words), self._clock.now()
            )
        return self._nameplate

    async def read(
        self,
        profile: ProfileName,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[ReadingSet]:
        """Read a snapshot of the present: one set; `since` and `until` bind the load survey only (`block_load`).

        NotSupported for profiles of which the model has no register (stored profiles among them), MeterRefused when
        it refuses everything, IdentityMismatch when what it shows is another meter's: then nothing of it is yielded.
        """
        if profile is ProfileName.BLOCK_LOAD:
            async for row in self._loads(since, until):
                yield row
            return
        registers = self._model.of_profile(profile)
        if not registers:
            raise NotSupported(f"model {self._model.name} has no profile {profile}")
        read = await self._visit.take(profile.value, spans_of(self._model, registers))
        found = self._found(registers, read.words)
        if all(one.value == REFUSED for one in found.values()):
            raise MeterRefused(f"it refuses every value of {profile}")
        if FIRMWARE in found:
            self._reader.note_firmware(found[FIRMWARE].value)
        suspect, remarks = await self._judged(registers, found, read.begun)
        values = [(quantity, one.value) for quantity, one in found.items()]
        if profile is ProfileName.NAMEPLATE:
            values.append((Quantity.of("0-0:96.1.1*255"), Text(self._model.manufacturer)))
        yield ReadingSet(
            profile=profile,
            at=read.begun.replace(microsecond=0),
            values=tuple(values),
            received_at=read.ended,
            quality=_quality(suspect, trusted=read.trusted),
            suspect=suspect,
            remarks=remarks,
        )

    async def _judged(
        self, registers: Sequence[RegisterSpec], found: dict[Quantity, Found], at: datetime
    ) -> tuple[tuple[Quantity, ...], tuple[Remark, ...]]:
        """Read again what is doubtful of `found`, keep what is believed; return what is suspect, and the news."""
        recognition, memory = self._recognition, self._recognition.memory
        verdict = self._judge.first(memory, found, at, fresh=self._fresh)
        if verdict.again:
            again = tuple(r for r in registers if Quantity.of(r.quantity) in verdict.again)
            found |= self._found(again, await self._reader.words(spans_of(self._model, again)))
            verdict = self._judge.second(memory, found, at, first=verdict)
            if verdict.other_meter:
                await self._proof()  # nothing of another meter is stored under this one
                memory = recognition.memory
        settled = self._judge.settle(memory, found, verdict, at)
        if memory is None:
            return settled.suspect, settled.remarks
        if settled.rebased and not self._model.serial:
            raise recognition.changed(f"whose {settled.rebased[0]} does not go on, and stays so")
        values = {quantity: one.value for quantity, one in found.items()}
        news = recognition.energies(values, frozenset(verdict.doubted), at)
        memory = recognition.memory or memory
        recognition.keep(replace(memory, believed=settled.believed, doubted=settled.doubted))
        return settled.suspect, (*settled.remarks, *news)

    async def clock(self) -> MeterClock:
        """Return the meter's clock beside ours; NotSupported when the model has no register of it."""
        return await self._controls.clock()

    async def set_clock(self, at: datetime) -> None:
        """Set the clock by the register that the model names for it; NotSupported without one."""
        await self._prove()
        await self._controls.set_clock(at)

    async def shift_clock(self, by: timedelta) -> None:
        """Move the clock by a little (`protocols.session.ShiftsClock`)."""
        await self._prove()
        await self._controls.shift_clock(by)

    async def show_energies(self, error: IdentityMismatch) -> None:
        """Add to the error what the energy registers of the meter show that answered, where it tells."""
        energies = tuple(r for r in self._model.registers if self._judge.grows(Quantity.of(r.quantity)))
        with suppress(ProtocolError):
            words = await self._reader.words(spans_of(self._model, energies))
            values = values_of(self._model, energies, words, self._zone)
            error.shown = {quantity: value for quantity, value in values if isinstance(value, Number)}
            error.shown_at = self._clock.now()

    async def relay(self) -> RelayState:
        """Read the contact's state; UNKNOWN when the model does not say how, or the meter refuses."""
        relay = self._model.relay
        if relay is None:
            return RelayState.UNKNOWN
        register = self._model.of_quantity(relay.quantity)
        words = (await self._reader.words((register.span,)))[register.span]
        return RelayState.UNKNOWN if words is None else relay.state(raw_value(self._model, register, words))

    async def switch_relay(self, to: RelayState) -> None:
        """Order the contact to move, by the register that the model names for it; on trusted lines only."""
        await self._prove()
        await self._controls.switch_relay(to)

    async def relay_proved(self, to: RelayState) -> RelayState:
        """Order the contact to move, once, and return the state that proves it.

        Raises NotSupported, MeterConfigError as `switch_relay`, else what `write_proved` raises.
        """
        await self._prove()
        return await self._controls.relay_proved(to, self.relay)

    def check_order(self) -> None:
        """Raise what speaks against an order to the relay before it is given: NotSupported, MeterConfigError."""
        self._controls.relay_register()

    def amount(self, credit: Credit, text: str) -> Number:
        """Return an amount that a person wrote, in the base unit; LocalError or NotSupported says what is wrong."""
        return self._controls.crediting.amount(credit, text)

    async def purse(self) -> Purse:
        """Return what the meter shows of its money or energy; MeterRefused where it shows nothing."""
        return await self._controls.crediting.purse()

    async def credit(self, credit: Credit, amount: Number) -> Purse:
        """Write a recharge or balance, once, and return what the meter shows of it; see `Controls.credit`."""
        await self._prove()
        return await self._controls.credit(credit, amount)

    async def _values_now(self, registers: tuple[RegisterSpec, ...]) -> list[Value]:
        words = await self._reader.words(spans_of(self._model, registers))
        return [value for _, value in values_of(self._model, registers, words, self._zone)]

    async def _loads(self, since: datetime | None, until: datetime | None) -> AsyncIterator[ReadingSet]:
        """Yield the intervals of the meter's load survey, oldest first."""
        log = self._model.log
        if log is None:
            raise NotSupported(f"model {self._model.name} has no profile {ProfileName.BLOCK_LOAD}")
        await self._prove()
        trusted = self._clock.disciplined()
        scales = scales_of(self._model, await self._reader.words(spans_of(self._model, log.values)))
        reader = LoadReader(self._model, log, self._unit.words, self._zone)
        rows = await reader.rows(scales, since, until)
        if doubtful := [row.at for row in rows if self._judge.interval(row.values, log.length)]:
            again = await reader.rows(scales, min(doubtful) - log.length, max(doubtful))
            read = {(row.at, row.occurrence): row for row in again}
            rows = [read.get((row.at, row.occurrence), row) for row in rows]
        received = self._clock.now()
        for row in rows:
            named = self._judge.interval(row.values, log.length)
            yield ReadingSet(
                profile=ProfileName.BLOCK_LOAD,
                at=row.at,
                start=row.at - log.length,
                occurrence=row.occurrence,
                values=row.values,
                received_at=received,
                meter_time=row.stamp,
                quality=_quality(named, trusted=trusted),
                suspect=tuple(named),
                remarks=remarks_of(named, dict(row.values)),
            )

    def _found(self, registers: Iterable[RegisterSpec], words: Words) -> dict[Quantity, Found]:
        """Return what the words of registers come to."""
        wanted = tuple(registers)
        scales = scales_of(self._model, words)
        values = values_of(self._model, wanted, words, self._zone)
        return {
            quantity: Found(
                value, all_bits_set(self._model, register, words[register.span]), rollover(register, scales)
            )
            for register, (quantity, value) in zip(wanted, values, strict=True)
        }


def _quality(suspect: Collection[Quantity], *, trusted: bool) -> Quality:
    """Return the quality of a set: a doubt of its time goes before one of its values, which name themselves."""
    if not trusted:
        return Quality.CLOCK_ERROR
    return Quality.SUSPECT if suspect else Quality.VALID


@asynccontextmanager
async def open_modbus(
    line: Line,
    spec: MeterSpec,
    context: SessionContext,
    *,
    known: Known | None = None,
    visit: Visit | None = None,
    memories: Memories | None = None,
) -> AsyncIterator[ModbusSession]:
    """Hold the line for a session with the meter of `spec`, check who answers, and yield the session.

    `line` is any `protocols.line.Line`, taken for the block and opened when it is not. `spec` says which meter
    (`meter`, or None for any) and how to ask it (`modbus`). Of `context` only the clock is used: Modbus has
    neither keys nor counters. `known` keeps what was learned of each meter; the profiles of `visit` are read together,
    with the requests that cost the wire least. `memories` are what earlier sessions believed: values are held against
    it, and a meter that proved its identity lately is taken to be the one that it was (see `Memories`).

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
            if (latency := notes.known.latency) is not None:
                client.account.learn(settings.unit, LatencyFacts().heard(latency))
            if notes.known.closes_since is not None:
                client.account.connection.expect_closings()
            pace = line.pace if isinstance(line, HasPace) else None
            reader = RegisterReader(client, model, settings.unit, notes, pace=pace)
            load = settings.sanctioned_load
            session = ModbusSession(
                reader,
                model,
                recognition=Recognition(model, spec.meter, memories, settings.vouched_at),
                judge=Judge(model, None if load is None else Decimal(str(load))),
                zone=zone,
                clock=context.clock,
                visit=visit or Visit(),
                unit=MeterUnit(client, settings.unit),
                trusted=settings.trusted,
            )
            try:
                if spec.meter is not None:
                    await session.identify()
                yield session
            except IdentityMismatch as error:  # what another meter showed is not this one's
                await session.show_energies(error)
                client.account.forget_latency(settings.unit)
                raise
            except ProtocolError:
                keep_modbus(known, spec.meter, model.name, notes)
                raise
            else:
                reader.sum_up()
                if client.account.connection.one_request:
                    notes.closes()
                keep_modbus(known, spec.meter, model.name, notes)
    except (ProtocolError, TimeoutError, asyncio.CancelledError) as error:
        if memories is not None and spec.meter is not None and not isinstance(error, HARMLESS):
            memories.shake(spec.meter)
        if isinstance(error, ProtocolError):
            error.with_context(meter=spec.meter, line=line.name)
        raise
