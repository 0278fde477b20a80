"""Whether what a meter gave can be: by limits, by what was believed before, and by the model's probe; pure.

A value is doubted when it lies beyond what its kind can be, when a register that only grows fell, when more was
metered than can have flowed since, when all bits are set, or when the model's probe says that this is not what the
model stands for. Whoever reads asks a second time before a doubt counts (`session`). What stays doubtful is stored as
suspect, and becomes the new base only when it has proved to stay: see `Rival` and `_has_stayed`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from protocols.modbus.belief.meter_memory import Believed, Rival
from protocols.modbus.belief.rules import Rule
from protocols.reading import Missing, MissingReason, Number, Quantity, Remark, RemarkWord, Value

SLACK = timedelta(minutes=2)
"""Time added to every step: meters renew their registers in steps of up to a minute, and clocks are set."""
ENOUGH = 3
"""Reads that must agree before a value that contradicts the believed one is the new base, and to call a base firm."""
STAYS = timedelta(minutes=10)
"""How long it must have stayed: a meter that starts up gives wrong values for seconds, at most some minutes."""
STAYS_ODD = timedelta(days=1)
"""The same of a register that stands at zero without growing, and of one that is suddenly far higher.

A meter that was reset grows again, and no meter counts in a moment what takes years; but a wrong factor stays, too.
"""
_FLOAT_STEP = Decimal(2) ** -23
_HOUR = Decimal(3_600)
STEPS = frozenset({RemarkWord.FELL, RemarkWord.JUMPED, RemarkWord.ZEROED})
"""Doubts that another meter at this address would raise, too."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one read gave of a quantity; `unset`: all bits that can be are set in its registers.

    `turn` is the value in whose place it shows zero, where the model says so.
    """

    value: Value
    unset: bool = False
    turn: Decimal | None = None


Doubts = Mapping[Quantity, RemarkWord]
Base = Mapping[str, Believed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a read came to: the new base, what is suspect, and the news about it.

    `rebased` are the quantities whose base was given up for a value that stayed.
    """

    believed: Base
    doubted: Mapping[str, str]
    suspect: tuple[Quantity, ...]
    remarks: tuple[Remark, ...]
    rebased: tuple[Quantity, ...] = ()


def doubts(
    rules: Mapping[Quantity, Rule],
    base: Base,
    found: Mapping[Quantity, Found],
    at: datetime,
    *,
    strange: Collection[Quantity] = (),
    fresh: bool = False,
) -> dict[Quantity, RemarkWord]:
    """Return what is doubtful of the values read at an instant, and why.

    `strange` are those whose base is a first read a moment ago: to follow it says nothing for a value.
    `fresh`: the meter may have had its power back just now.
    """
    named: dict[Quantity, RemarkWord] = {}
    follows: set[Quantity] = set()
    numbers: dict[Quantity, Number] = {}
    for quantity, one in found.items():
        rule = rules.get(quantity)
        if rule is None:
            continue
        known = base.get(str(quantity))
        if isinstance(one.value, Missing):
            if _should_be_there(one.value, rule, known):
                named[quantity] = RemarkWord.UNREADABLE
        elif isinstance(one.value, Number):
            numbers[quantity] = one.value
            word = _alone(rule, known, one, one.value, at)
            if word is not None:
                named[quantity] = word
            elif _follows(rule, known, one.value) and quantity not in strange:
                follows.add(quantity)
            elif one.unset:
                named[quantity] = RemarkWord.UNSET
            elif fresh and rule.zero_at_first and not one.value.mantissa:
                named[quantity] = RemarkWord.ZEROED
    open_ = [q for q in numbers if q not in named and q not in follows]
    zeros = [q for q in numbers if not numbers[q].mantissa and (q in open_ or rules[q].probe is not None)]
    probed = {q: numbers[q].decimal() for q in numbers if rules[q].probe is not None}
    failed = _failed_probes(rules, numbers, probed)
    if RemarkWord.ZEROED in named.values() or any(not probed[q] for q in failed):
        named |= dict.fromkeys(zeros, RemarkWord.ZEROED)
    if failed:
        # The values that follow what was believed are what they were: whatever ails the probe does not touch them.
        named |= {q: RemarkWord.MODEL_DOUBTED for q in (*failed, *open_) if q not in named}
    return named


def _should_be_there(value: Missing, rule: Rule, known: Believed | None) -> bool:
    if value.reason is MissingReason.OUT_OF_RANGE:
        return True
    absent = value.reason in (MissingReason.SENTINEL, MissingReason.NOT_SPECIFIED)
    return absent and (known is not None or rule.probe is not None)


def _alone(
    rule: Rule, known: Believed | None, found: Found, value: Number, at: datetime
) -> RemarkWord | None:
    """Return what speaks against one value, by its limits and by what was believed of it before."""
    number = value.decimal()
    if not rule.low <= number <= rule.high:
        return RemarkWord.BEYOND_LIMITS
    if known is None or not _follows(rule, known, value):
        return None
    return step(rule, known.value, known.at, value, at, turn=found.turn)


def _follows(rule: Rule, known: Believed | None, value: Number) -> bool:
    """Return whether there is something before that a value has to follow."""
    return rule.continuous and known is not None and known.value.unit == value.unit


def step(
    rule: Rule, before: Number, since: datetime, value: Number, at: datetime, *, turn: Decimal | None = None
) -> RemarkWord | None:
    """Return what speaks against a register that stood at `before` showing `value` now; None: nothing.

    `turn` is the value in whose place it shows zero, where the model says so.
    """
    old, new = before.decimal(), value.decimal()
    wavers = grain(before, value, floating=rule.floating)
    hours = Decimal(str((abs(at - since) + SLACK).total_seconds())) / _HOUR
    most = rule.power * hours + 2 * wavers
    more = new - old
    if rule.money:
        return RemarkWord.ZEROED if not new and abs(old) > most else None
    if more < -wavers and rule.growing:
        turns = [Decimal(count).scaleb(value.scaler) for count in rule.turns]
        if any(0 <= more + one <= most for one in (*turns, *([] if turn is None else [turn]))):
            return None
        return RemarkWord.FELL if value.mantissa else RemarkWord.ZEROED
    return RemarkWord.JUMPED if abs(more) > most else None


def grain(*values: Number, floating: bool) -> Decimal:
    """Return by how much a register may waver: a digit, or the step of a 32-bit float of this size."""
    digit = max(Decimal(1).scaleb(value.scaler) for value in values)
    if not floating:
        return digit
    return digit + max(abs(value.decimal()) for value in values) * _FLOAT_STEP


def _failed_probes(
    rules: Mapping[Quantity, Rule], numbers: Mapping[Quantity, Number], probed: Mapping[Quantity, Decimal]
) -> list[Quantity]:
    """Return the probes that do not fit; a phase that fails where another one stands is dead, not misread."""
    failed = []
    for quantity, number in probed.items():
        low, high = rules[quantity].probe or (number, number)
        if low <= number <= high:
            continue
        others = [numbers[q].decimal() for q in rules[quantity].beside if q in numbers]
        if 0 <= number <= high and any(low <= one <= high for one in others):
            continue
        failed.append(quantity)
    return failed


def first_base(
    rules: Mapping[Quantity, Rule], base: Base, found: Mapping[Quantity, Found], at: datetime
) -> Base:
    """Return the base with what is not known yet taken from a first read, for the second read to be held against."""
    return {
        **{
            str(q): Believed(value=one.value, at=at)
            for q, one in found.items()
            if isinstance(one.value, Number) and q in rules and rules[q].continuous
        },
        **base,
    }


def settle(
    rules: Mapping[Quantity, Rule],
    base: Base,
    doubted: Mapping[str, str],
    found: Mapping[Quantity, Found],
    named: Doubts,
    at: datetime,
) -> Settled:
    """Return what is believed after a read; `named` are the doubts that a second read did not dispel."""
    believed = dict(base)
    rebased: list[Quantity] = []
    news: list[tuple[RemarkWord, Quantity]] = []
    for quantity, one in found.items():
        rule, value = rules.get(quantity), one.value
        if rule is None or not rule.continuous or not isinstance(value, Number):
            continue
        known, word = base.get(str(quantity)), named.get(quantity)
        if known is not None and known.value.unit != value.unit:
            known = None
        if word is None:
            believed[str(quantity)], rolled = _confirmed(rule, known, value, at)
            if rolled:
                news.append((RemarkWord.ROLLED_OVER, quantity))
        elif known is not None and word in STEPS:
            rival = _rival(rule, known.rival, value, at, one.turn)
            if _has_stayed(rule, known, rival):
                believed[str(quantity)] = Believed(value=value, at=at)
                rebased.append(quantity)
                ahead = value.decimal() > known.value.decimal()
                news.append((RemarkWord.WENT_AHEAD if ahead else RemarkWord.WENT_BACK, quantity))
            else:
                believed[str(quantity)] = replace(known, rival=rival)
    suspect = tuple(q for q in found if q in named and q not in rebased)
    news += [(named[q], q) for q in suspect if str(q) not in doubted]
    news += [
        (RemarkWord.RETURNED, q)
        for q, one in found.items()
        if str(q) in doubted and q not in named and isinstance(one.value, Number)
    ]
    still = {q: word for q, word in doubted.items() if Quantity.of(q) not in found}
    return Settled(
        believed=believed,
        doubted=still | {str(q): named[q].value for q in suspect},
        suspect=suspect,
        remarks=tuple(_remarks(news, rules, base, found)),
        rebased=tuple(rebased),
    )


def _confirmed(rule: Rule, known: Believed | None, value: Number, at: datetime) -> tuple[Believed, bool]:
    """Return the base after a value that fits, and whether the register began again at its end."""
    if known is None:
        return Believed(value=value, at=at), False
    if rule.growing and value.decimal() < known.value.decimal():
        if known.value.decimal() - value.decimal() > grain(known.value, value, floating=rule.floating):
            return Believed(value=value, at=at), True
        value = known.value  # it wavers by a digit: a fall of many such must not go unseen
    return Believed(value=value, at=at, reads=min(known.reads + 1, ENOUGH)), False


def _rival(rule: Rule, rival: Rival | None, value: Number, at: datetime, turn: Decimal | None) -> Rival:
    if rival is None or step(rule, rival.value, rival.at, value, at, turn=turn) is not None:
        return Rival(value=value, since=at, at=at)
    grows = not rival.value.mantissa and bool(
        value.mantissa
    )  # from here on it says more than a dead register
    since = at if grows else rival.since
    return Rival(value=value, since=since, at=at, reads=1 if grows else rival.reads + 1)


def _has_stayed(rule: Rule, known: Believed, rival: Rival) -> bool:
    ahead = rival.value.decimal() > known.value.decimal() and known.reads >= ENOUGH
    stays = STAYS_ODD if ahead or (not rival.value.mantissa and rule.growing) else STAYS
    return rival.reads >= ENOUGH and rival.at - rival.since >= stays


def remarks_of(named: Doubts, values: Mapping[Quantity, Value]) -> tuple[Remark, ...]:
    """Return the news of a row that is judged by itself."""
    found = {quantity: Found(value) for quantity, value in values.items()}
    return tuple(_remarks([(word, quantity) for quantity, word in named.items()], {}, {}, found))


def _remarks(
    news: Iterable[tuple[RemarkWord, Quantity]],
    rules: Mapping[Quantity, Rule],
    base: Base,
    found: Mapping[Quantity, Found],
) -> Iterable[Remark]:
    """Put the news about one word together: a meter that starts up gives many wrong values at once."""
    by_word: dict[RemarkWord, list[Quantity]] = {}
    for word, quantity in news:
        by_word.setdefault(word, []).append(quantity)
    for word, quantities in by_word.items():
        quantities.sort(key=lambda q: q not in rules or not rules[q].continuous)
        first = quantities[0]
        known, value = base.get(str(first)), found[first].value
        yield Remark(
            word=word,
            quantities=tuple(quantities),
            before=None if known is None else known.value,
            found=value if isinstance(value, Number) else None,
        )
