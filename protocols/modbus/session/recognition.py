"""Who a Modbus meter is: by its serial, or by what tells a meter without one from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from protocols.errors import IdentityMismatch, MeterProtocolError, MeterRefused
from protocols.modbus.belief.memories import Memories
from protocols.modbus.belief.meter_memory import MeterMemory
from protocols.modbus.decoding.codec import Scales
from protocols.modbus.decoding.values import spans_of
from protocols.modbus.format.encoding import NO_NUMBERS
from protocols.modbus.format.model import SERIAL, MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.planning.plan import RegisterSpan
from protocols.reading import (
    Bits,
    Instant,
    Missing,
    MissingReason,
    Nameplate,
    Number,
    Quantity,
    Remark,
    RemarkWord,
    Text,
    Value,
)

REFUSED = Missing(MissingReason.METER_REFUSED)


class Recognition:
    """Recognises one meter, `expected` or any, and keeps that in `memories` where there are such.

    A meter with a serial proves its identity by telling it. One without is known by its marks (firmware, ratios: the
    model's `fingerprint.same`) and by its energies: while they go on it is the same, though a mark may have changed
    (new firmware); when both are others, or an energy went back for good, it is another meter.
    """

    def __init__(
        self, model: MeterModel, expected: str | None, memories: Memories | None, vouched_at: datetime | None
    ) -> None:
        self.model = model
        self.expected = expected
        self._memories = memories
        self._vouched_at = vouched_at
        same = () if model.fingerprint is None else model.fingerprint.same
        scales = {scale.name for scale in model.scales}
        self._scales = () if model.serial else tuple(name for name in same if name in scales)
        quantities = (SERIAL,) if model.serial else tuple(name for name in same if name not in scales)
        self.registers: tuple[RegisterSpec, ...] = tuple(map(model.of_quantity, quantities))
        self.updated: tuple[str, ...] = ()

    @property
    def spans(self) -> tuple[RegisterSpan, ...]:
        """What has to be read of the meter."""
        return spans_of(self.model, self.registers, *(self.model.scale(name).span for name in self._scales))

    @property
    def memory(self) -> MeterMemory | None:
        """What is remembered of the meter; None where nothing is kept."""
        if self._memories is None or self.expected is None:
            return None
        return self._memories.of(self.expected, self.model.name, self._vouched_at)

    @property
    def fresh(self) -> bool:
        """Whether the meter is met for the first time, or after silence or a fault."""
        memory = self.memory
        if memory is None or self._memories is None or self.expected is None:
            return False
        return self._memories.is_fresh(self.expected, memory)

    def due(self, now: datetime) -> bool:
        """Return whether the meter has to be asked who it is."""
        memory = self.memory
        if memory is None or self._memories is None or self.expected is None:
            return True
        return self._memories.proof_due(self.expected, memory, now)

    def taken_for_granted(self) -> Nameplate:
        """Return who the meter was when it was asked last."""
        manufacturer, _, serial = (self.expected or "").partition(":")
        return Nameplate(manufacturer=manufacturer, serial=serial, model=self.model.title)

    def judge(self, values: Mapping[Quantity, Value], scales: Scales, now: datetime) -> Nameplate:
        """Return who answered; `values` are those of `registers`.

        Raises IdentityMismatch for another meter, MeterRefused and MeterProtocolError for one that does not tell.
        """
        if not self.model.serial:
            self._judge_marks(values, scales, now)
            return self.taken_for_granted()
        found = Nameplate(
            manufacturer=self.model.manufacturer, serial=self._serial(values), model=self.model.title
        )
        if self.expected is not None and found.meter_id != self.expected:
            raise IdentityMismatch(expected=self.expected, found=found.meter_id)
        memory = self.memory
        if memory is not None:
            self.keep(replace(memory, asked_at=now, proved_at=now), met=True)
        return found

    def keep(self, memory: MeterMemory, *, met: bool = False) -> None:
        """Keep the memory; `met`: the meter has told who it is."""
        if self._memories is None or self.expected is None:
            return
        if met:
            self._memories.met(self.expected, memory)
        else:
            self._memories.keep(self.expected, memory)

    def changed(self, what: str) -> IdentityMismatch:
        """Return the error that says that a meter without serial is another one."""
        return IdentityMismatch(
            expected=self.expected or "",
            found=f"a meter {what}",
            advice="; if it is the same one for all that, say since when: `vouched_at` in [meters.modbus]",
        )

    def _serial(self, values: Mapping[Quantity, Value]) -> str:
        (register,) = self.registers
        value = values[Quantity.of(SERIAL)]
        if value == REFUSED:
            raise MeterRefused("it refuses to tell its serial")
        if isinstance(value, Missing):
            raise MeterProtocolError(f"the meter does not tell its serial ({value.reason})")
        if not isinstance(value, Number | Text):
            raise MeterProtocolError(f"the serial is not a number or text: {value}")
        serial = value.text() if isinstance(value, Number) else value.text
        return serial if register.type in NO_NUMBERS else _with_leading_zeros(serial, self.expected)

    def _judge_marks(self, values: Mapping[Quantity, Value], scales: Scales, now: datetime) -> None:
        memory = self.memory
        if memory is None:
            return
        marks = {str(q): text for q, value in values.items() if (text := _text(value)) is not None}
        marks |= {n: str(scales[n]) for n in self._scales if not isinstance(scales[n], Missing)}
        others = [name for name, text in marks.items() if memory.marks.get(name, text) != text]
        # Whether the energies go on is seen when they are read: until then it is nobody's word against another.
        self.updated = tuple(f"{name} {marks[name]}, not {memory.marks[name]}" for name in others)
        kept = {**marks, **memory.marks}
        self.keep(replace(memory, asked_at=now, marks=kept), met=True)
        self._shown = marks

    def energies(
        self, found: Mapping[Quantity, Value], doubted: frozenset[Quantity], now: datetime
    ) -> list[Remark]:
        """Take note of the energies of a meter without serial, `doubted` those that do not follow what was believed.

        Returns the news: that its marks changed, and that it is the same. Raises IdentityMismatch when both marks and
        energies are another meter's.
        """
        memory = self.memory
        growing = () if self.model.fingerprint is None else map(Quantity.of, self.model.fingerprint.growing)
        told = [q for q in growing if isinstance(found.get(q), Number)]
        if self.model.serial or memory is None or not told:
            return []
        if any(q in doubted for q in told):
            if self.updated:
                raise self.changed(f"with {', '.join(self.updated)}, and an energy that does not go on")
            return []
        if not self.updated:
            self.keep(replace(memory, proved_at=now))
            return []
        detail, self.updated = ", ".join(self.updated), ()
        self.keep(replace(memory, proved_at=now, marks={**memory.marks, **self._shown}))
        return [Remark(word=RemarkWord.METER_UPDATED, detail=detail)]


def _text(value: Value) -> str | None:
    """Return a mark as text, None where there is none: what is missing speaks for nobody."""
    match value:
        case Number():
            return f"{value.text()} {value.unit}".strip()
        case Text(text):
            return text
        case Bits(bits):
            return bits
        case Instant(at):
            return at.isoformat()
    return None


def _with_leading_zeros(serial: str, expected: str | None) -> str:
    """Return a serial with the leading zeros that the expected one has: a number register has lost them."""
    printed = (expected or "").partition(":")[2]
    if printed.isascii() and printed.isdecimal() and printed.lstrip("0") == serial.lstrip("0"):
        return printed
    return serial
