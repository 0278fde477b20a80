"""Reading the registers of one unit: blocks as planned, refused ones narrowed down to what is not answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from protocols.errors import MeterError, MeterProtocolError, MeterRefused, MeterSilent
from protocols.line import LinePace
from protocols.modbus.client.client import ModbusClient
from protocols.modbus.client.unit import MeterUnit
from protocols.modbus.format.model import MeterModel
from protocols.modbus.planning.known_meter import ModbusNotes
from protocols.modbus.planning.plan import (
    REGISTERS,
    ReadLimits,
    RegisterBlock,
    RegisterRange,
    RegisterSpan,
    aligned,
    halves,
    lengthened,
    plan,
    seam,
)
from protocols.modbus.planning.wire_time import (
    SUPPOSED_LATENCY,
    SUPPOSED_REGISTER,
    WireCost,
    turnaround,
    wire_cost,
)
from protocols.reading import Number, Text, Value

Words = dict[RegisterSpan, list[int] | None]
"""Words of each span; None where the meter refuses it."""
NARROWED = (1, 2, 3, 4)
"""Exceptions that a smaller or other request may avoid: function, address, count; and "device failure", which some
meters say of a hole."""
SAMPLES = 3
"""Values that are tried alone before a meter is said to refuse everything."""
MOST_SILENCES = 3
"""Requests in a row without an answer after which the meter is gone, whatever it was asked for."""


def limits_of(model: MeterModel) -> ReadLimits:
    """Return what requests to meters of a model keep to before anything is learned of one."""
    documented: list[RegisterRange] = []
    spans = (*(r.span for r in model.registers), *(scale.span for scale in model.scales))
    for span in sorted({s for s in spans if s.function in REGISTERS}, key=lambda s: (s.function, s.address)):
        last = documented[-1] if documented else None
        if last is not None and (last.function, last.end) >= (span.function, span.address):
            documented[-1] = RegisterRange(span.function, last.start, max(last.end, span.end))
        else:
            documented.append(RegisterRange(span.function, span.address, span.end))
    return ReadLimits(
        max_read=model.max_read,
        align=model.align,
        hole=model.hole,
        forbidden=tuple(RegisterRange(one.function, one.first, one.last + 1) for one in model.forbidden),
        documented=tuple(documented),
    )


class RegisterReader:
    """Reads spans of one unit by its model's limits and what `notes` know of this meter, and notes what it learns."""

    def __init__(
        self, client: ModbusClient, model: MeterModel, unit: int, notes: ModbusNotes, *, pace: LinePace | None
    ) -> None:
        self._client = client
        self._unit = MeterUnit(client, unit)
        self._number = unit
        self._notes = notes
        self._framing = client.framing
        self._pace = pace
        self._distinct = not client.sequenced
        self._limits = limits_of(model)
        self._heard = False
        self._silences = 0
        self._refused: list[RegisterRange] = []

    async def words(self, spans: Iterable[RegisterSpan], got: Words | None = None) -> Words:
        """Read all spans and return them; `got` is filled meanwhile, so that what came before an error is there.

        A block that is refused, or not answered while others are, is narrowed down: holes, values that the meter does
        not have and its longest read are learned for this meter. One that answers nothing at all teaches nothing.

        Raises what `ModbusClient.read_registers` raises, save for values that are refused.
        """
        got = {} if got is None else got
        wanted = frozenset(spans)
        failed: list[tuple[RegisterBlock, MeterError]] = []
        limits = self._notes.limited(self._limits)
        for planned in plan(wanted, limits, self._cost(), distinct=self._distinct):
            block = self._told_apart(planned)
            if (block.exact or len(block.spans) == 1) and self._notes.need_not_ask(block.range):
                got |= dict.fromkeys(block.spans)
            elif (error := await self._read(block, got)) is not None:
                failed.append((block, error))
        if failed and not _any(got) and len(wanted) > 1 and not await self._sample(failed, got):
            got |= dict.fromkeys(wanted)
            return got
        self._refused.clear()
        try:
            for block, error in failed:
                await self._narrow(block, error, got)
        finally:  # what was found before a fault need not be found again
            answered = sum(words is not None for words in got.values())
            for asked in dict.fromkeys(self._refused):
                self._notes.refused(asked, doubtful=2 * answered < len(wanted))
        return got

    def note_firmware(self, shown: Value | None) -> None:
        """Note the firmware that the meter shows: under another one, what was learned before counts for nothing."""
        if isinstance(shown, Number | Text):
            self._notes.firmware_is(shown.text() if isinstance(shown, Number) else shown.text)

    def sum_up(self) -> None:
        """Put what was measured into the notes."""
        self._notes.sum_up(by_register=self._pace is None)

    def _cost(self) -> WireCost:
        known = self._notes.known
        latency = SUPPOSED_LATENCY if known.latency is None else known.latency
        register = SUPPOSED_REGISTER if known.register is None else known.register
        return wire_cost(self._framing, self._pace, latency, register)

    async def _read(self, block: RegisterBlock, got: Words) -> MeterError | None:
        """Read one block into `got`; return the error of one that may be answered in parts."""
        try:
            words = await self._unit.words(block.function, block.address, block.count)
        except MeterRefused as refused:
            self._heard, self._silences = True, 0
            if refused.reason_code not in NARROWED:  # busy, broken: parts of it would be refused, too
                raise
            return refused
        except MeterSilent as silent:
            self._silences += 1
            if not await self._is_there(block, got) or self._silences >= MOST_SILENCES:
                raise
            return silent
        except MeterProtocolError:
            self._heard = True
            raise
        self._heard, self._silences = True, 0
        self._notes.answered(block.range)
        got |= {span: block.take(span, words) for span in block.spans}
        if block.function not in REGISTERS:  # how long it takes says nothing about registers
            return None
        seconds = self._client.round_trip
        if self._pace is not None:
            seconds = turnaround(self._framing, self._pace, block.count, seconds)
        self._notes.took(block.count, seconds)
        return None

    async def _is_there(self, block: RegisterBlock, got: Words) -> bool:
        """Say whether a meter that did not answer a block is there: only then its silence is about what it was asked.

        It is, when it was heard in this session. One that was never heard is asked for one value of the block alone.
        """
        if (
            not self._heard
            and self._notes.known.latency is None
            and len(block.spans) > 1
            and self._silences == 1
        ):
            await self._read(self._alone(block.spans[0]), got)
        return self._heard

    def _alone(self, span: RegisterSpan) -> RegisterBlock:
        return aligned((span,), self._limits.align if span.group is None else 1)

    async def _sample(self, failed: Sequence[tuple[RegisterBlock, MeterError]], got: Words) -> bool:
        """Ask for a few values alone; False when all are refused, as a meter does that is just starting.

        Raises MeterSilent when they are not answered.
        """
        spans = sorted({span for block, _ in failed for span in block.spans}, key=lambda s: s.address)
        error = failed[-1][1]
        for place in range(SAMPLES):
            alone = self._alone(spans[place * (len(spans) - 1) // (SAMPLES - 1)])
            if all(block.range != alone.range for block, _ in failed):
                error = await self._read(alone, got) or error
            if _any(got):
                return True
        if isinstance(error, MeterSilent):
            raise error
        return False

    async def _narrow(self, block: RegisterBlock, error: MeterError, got: Words) -> None:
        """Read a failed block in parts, the larger ones first, and note what it was that failed."""
        waiting = deque([(block, error)])
        while waiting:
            block, error = waiting.popleft()
            parts = self._parts(block)
            if not parts:
                if isinstance(error, MeterSilent) and not _any(got):
                    raise error
                got |= dict.fromkeys(span for span in block.spans if span not in got)
                if _any(got):
                    self._refused.append(block.range)
                continue
            errors = [await self._read(self._told_apart(part), got) for part in parts]
            waiting.extend((part, e) for part, e in zip(parts, errors, strict=True) if e is not None)
            if not any(errors):
                with suppress(MeterError):  # all that was wanted is there
                    await self._explain(block, parts, got, silent=isinstance(error, MeterSilent))

    def _told_apart(self, part: RegisterBlock) -> RegisterBlock:
        """Return a block, longer where an answer that is still to come could be taken for its own."""
        if not self._distinct or part.exact:
            return part
        barred = self._client.account.barred_shapes(self._number)
        owed = {(function, octets // 2) for function, octets in barred if octets is not None}
        if (part.function, part.count) not in owed:
            return part
        return lengthened(part, self._notes.limited(self._limits), owed) or part

    def _parts(self, block: RegisterBlock) -> tuple[RegisterBlock, ...]:
        """Return smaller requests for what a block asks for; none where there is no smaller one."""
        if block.exact:
            return ()
        least = aligned(block.spans, self._limits.align)
        if least.count < block.count:  # it was lengthened, perhaps over the end of what the meter has
            return (least,)
        return halves(block, self._limits.align) or ()

    async def _explain(
        self, block: RegisterBlock, parts: Sequence[RegisterBlock], got: Words, *, silent: bool
    ) -> None:
        """Note why a block failed all of whose parts were answered: what lies between them, or its length.

        The place where they meet is asked for alone: when that fails, too, it is why. What was refused counts when it
        is refused again, since a meter that is just starting refuses for no reason that lasts; what was not answered
        was asked for twice already.
        """
        if any(part.range == block.range for part in parts):
            return
        between = seam(parts[0], parts[1], self._limits.align) if len(parts) > 1 else block
        if (silent and between.range == block.range) or await self._read(
            self._told_apart(between), got
        ) is not None:
            self._refused.append(between.range)
        elif between.range != block.range and (silent or await self._read(block, got) is not None):
            self._notes.too_long(max(part.count for part in parts))


def _any(got: Words) -> bool:
    """Say whether any value was answered."""
    return any(words is not None for words in got.values())
