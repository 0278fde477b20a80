"""What a session asks while it reads: which values to read again, what of them is suspect, what to remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

from protocols.modbus.belief.meter_memory import MeterMemory
from protocols.modbus.belief.plausible import (
    STEPS,
    Base,
    Doubts,
    Found,
    Settled,
    doubts,
    first_base,
    settle,
    step,
)
from protocols.modbus.belief.rules import Rule, interval_limits, largest_load, limits_of, rules_of
from protocols.modbus.decoding.codec import raw_value
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.reading import Missing, MissingReason, Number, Quantity, RemarkWord, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is doubted after a read. `again` are the quantities to read a second time before that counts.

    `base` is what the values were held against. `other_meter`: another meter at this address would show such values.
    """

    doubted: Doubts = field(default_factory=dict)
    again: frozenset[Quantity] = frozenset()
    base: Base = field(default_factory=dict)
    other_meter: bool = False
    fresh: bool = False


class Judge:
    """Judges the values of one meter by its model; `sanctioned_load` is in kW, None where it is not known."""

    def __init__(self, model: MeterModel, sanctioned_load: Decimal | None = None) -> None:
        self._model = model
        self._sanctioned_load = sanctioned_load

    @cached_property
    def _rules(self) -> dict[Quantity, Rule]:
        return rules_of(self._model, self._sanctioned_load)

    def grows(self, quantity: Quantity) -> bool:
        """Return whether a quantity is a register that only grows."""
        rule = self._rules.get(quantity)
        return rule is not None and rule.growing

    def cannot_be(
        self, quantity: Quantity, then: tuple[Number, datetime], now: tuple[Number, datetime]
    ) -> bool:
        """Return whether a meter that shows the one value now cannot have shown the other one then."""
        rule = self._rules.get(quantity)
        if rule is None or not rule.growing or then[0].unit != now[0].unit:
            return False
        return step(rule, *then, *now) is not None

    def interval(
        self, values: Iterable[tuple[Quantity, Value]], length: timedelta
    ) -> dict[Quantity, RemarkWord]:
        """Return what is doubtful of one interval of a load survey: energies beyond what can have flowed in it."""
        power = largest_load(self._model, self._sanctioned_load)
        named: dict[Quantity, RemarkWord] = {}
        for quantity, value in values:
            if value == Missing(MissingReason.OUT_OF_RANGE):
                named[quantity] = RemarkWord.UNREADABLE
            elif isinstance(value, Number):
                hours = Decimal(str(length.total_seconds())) / 3_600
                limits = interval_limits(quantity, power, hours) or limits_of(quantity, power)
                grain = Decimal(1).scaleb(value.scaler)
                if not limits[0] <= value.decimal() <= limits[1] + grain:
                    named[quantity] = RemarkWord.BEYOND_LIMITS
        return named

    def first(
        self,
        memory: MeterMemory | None,
        found: Mapping[Quantity, Found],
        at: datetime,
        *,
        fresh: bool = False,
    ) -> Verdict:
        """Judge a first read; a meter that is remembered and was never read before is read twice, too.

        `fresh`: the meter was not there before, so that it may be starting.
        """
        base: Base = {} if memory is None else memory.believed
        named = doubts(self._rules, base, found, at, fresh=fresh)
        begun = {} if memory is None else first_base(self._rules, base, found, at)
        strange = {Quantity.of(q) for q in begun.keys() - base.keys()}
        return Verdict(doubted=named, again=frozenset(named) | strange, base=begun, fresh=fresh)

    def second(
        self, memory: MeterMemory | None, found: Mapping[Quantity, Found], at: datetime, *, first: Verdict
    ) -> Verdict:
        """Judge what was read a second time; a new meter's values are held against the first read."""
        known: Base = {} if memory is None else memory.believed
        strange = {q for q in found if str(q) not in known}
        named = doubts(self._rules, first.base, found, at, strange=strange, fresh=first.fresh)
        other = any(word in STEPS and str(quantity) in known for quantity, word in named.items())
        return Verdict(doubted=named, base=first.base, other_meter=other)

    def settle(
        self, memory: MeterMemory | None, found: Mapping[Quantity, Found], verdict: Verdict, at: datetime
    ) -> Settled:
        """Return what is believed, what is suspect and what is new about it."""
        base: Base = {} if memory is None else memory.believed
        doubted: Mapping[str, str] = {} if memory is None else memory.doubted
        return settle(self._rules, base, doubted, found, verdict.doubted, at)


def all_bits_set(model: MeterModel, register: RegisterSpec, words: list[int] | None) -> bool:
    """Return whether a register shows the pattern of an unset one: all ones, or the greatest signed number."""
    kind = register.type
    status = not register.unit and Quantity.of(register.quantity).obis.a == 0  # bits, of which all may be set
    if words is None or status or kind[0] not in "us" or kind.startswith("sm") or register.bits is not None:
        return False
    highest = (1 << register.raw_bits) - 1
    return raw_value(model, register, words) == (highest if kind[0] == "u" else highest >> 1)
