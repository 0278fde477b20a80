"""Who held a meter from when, as a small series of its own: the points that make it say what the directory says. Pure.

InfluxDB keeps one value for a time, so a point is overwritten: at its time it says who held the meter then, and a
reader takes the last point before. VictoriaMetrics keeps whichever of two values of one time, so nothing is ever
written over: who held the meter is told in statements (`span` 1, 2, …), each with 1 from its beginning and 0 at its
end, and one that no longer holds has `gone` beside each of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from gateway.edge.influx.points import UNASSIGNED, nanoseconds
from mapping.directory import Holder, NumberKind
from mapping.snapshot import DirectorySnapshot

HOLDING: Final = "holding"
"""The measurement."""
HORIZON: Final = timedelta(days=400)
"""How far back points follow the directory; what is older stays as it is (billing never reads it here)."""
RENEW: Final = timedelta(days=500)
"""After so long it is told again who still holds the meter, so that no query must look back much further."""
LOOK_AGAIN: Final = timedelta(days=1)
"""How long what stands goes unseen: then it is renewed, and mended where somebody took it away."""
CALM: Final = timedelta(minutes=1)
"""Least time between two looks for changes that were known beforehand."""
MILLISECOND: Final = 1_000_000
"""Nanoseconds of the times that VictoriaMetrics keeps."""


class Step(NamedTuple):
    """From `at` (nanoseconds since 1970) on, until the next step, a meter stands under `account` or `unassigned`."""

    at: int
    account: str


class Sample(NamedTuple):
    """One point of a statement: field `held` with 1 or 0, or `gone` with 1."""

    account: str
    span: int
    field: str
    value: int
    at: int


@dataclass(slots=True)
class Statement:
    """What VictoriaMetrics has of one statement: its times of 1, of 0, and those at which it is gone."""

    account: str
    span: int
    ones: set[int] = field(default_factory=set)
    zeros: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)

    def retired(self) -> Iterator[Sample]:
        """Yield what takes it back; nothing of what is taken back already."""
        for at in sorted((self.ones | self.zeros) - self.gone):
            yield Sample(self.account, self.span, "gone", 1, at)


def steps_of(snapshot: DirectorySnapshot, meter: str) -> list[Step]:
    """Return under whose number a meter stands over all time, by the directory; `unassigned` before the first step."""
    found: list[Step] = []
    for start, who in snapshot.standing(meter):
        number = snapshot.name(who.account_id, NumberKind.ACCOUNT) if isinstance(who, Holder) else None
        account = number or UNASSIGNED
        if account != (found[-1].account if found else UNASSIGNED):
            found.append(Step(nanoseconds(start), account))
    return found


def rest(snapshot: DirectorySnapshot, meters: Iterable[str], now: datetime) -> timedelta:
    """Return how long until the next change that is known beforehand comes true: a minute at least, a day at most."""
    following = min((s.start for m in meters for s in snapshot.standing(m) if s.start > now), default=None)
    return LOOK_AGAIN if following is None else max(CALM, min(LOOK_AGAIN, following - now))


def stands_under(steps: Sequence[Step], at: int) -> str:
    """Return the account that a meter stands under at a time (nanoseconds)."""
    place = bisect_right(steps, at, key=lambda step: step.at)
    return steps[place - 1].account if place else UNASSIGNED


def overwritten(steps: Sequence[Step], held: Mapping[int, str], now: datetime) -> list[Step]:
    """Return the points to write into an InfluxDB that has `held` of a meter: account by time.

    What comes after `now` is left out: the last point says who holds the meter now.
    """
    present, floor = nanoseconds(now), nanoseconds(now - HORIZON)
    wanted = {at: stands_under(steps, at) for at in held}
    wanted |= {step.at: step.account for step in steps if floor < step.at <= present}
    before = max((at for at in held if at <= floor), default=None)
    said = UNASSIGNED if before is None else stands_under(steps, before)
    if said != stands_under(steps, floor):
        wanted[floor] = stands_under(steps, floor)
    if wanted:
        wanted |= {at: stands_under(steps, at) for at in _renewals(max(wanted), present + 1)}
    return [Step(at, account) for at, account in sorted(wanted.items()) if held.get(at) != account]


class _Span(NamedTuple):
    """What one statement should say; `start` may lie before the horizon."""

    account: str
    start: int
    end: int | None


def restated(steps: Sequence[Step], held: Iterable[Statement], now: datetime) -> list[Sample]:
    """Return the samples to write into a VictoriaMetrics that has the statements `held` of a meter."""
    present, floor = _in_ms(nanoseconds(now)), _in_ms(nanoseconds(now - HORIZON))
    held = sorted(held, key=lambda statement: statement.span)
    standing = {one.span: one for one in held if not one.gone}
    samples = [
        sample for one in held if one.gone for sample in one.retired()
    ]  # a crash may have cut it short
    last = max((one.span for one in held), default=0)
    for span in _spans(steps, floor, present):
        if (match := _match(span, standing.values(), floor)) is not None:
            del standing[match.span]
            number, ones, zeros = match.span, match.ones, match.zeros
        else:
            last += 1
            number, ones, zeros = last, set[int](), set[int]()
            samples.append(Sample(span.account, number, "held", 1, max(span.start, floor)))
        if span.end is not None and not zeros:
            samples.append(Sample(span.account, number, "held", 0, span.end))
        if ones:
            end = present + MILLISECOND if span.end is None else span.end
            samples += [Sample(span.account, number, "held", 1, at) for at in _renewals(max(ones), end)]
    for one in standing.values():
        if not one.zeros or min(one.zeros) > floor:
            samples += one.retired()
    return samples


def _spans(steps: Sequence[Step], floor: int, present: int) -> Iterator[_Span]:
    told = [Step(_in_ms(step.at), step.account) for step in steps if step.at <= present]
    for step, following in pairwise([*told, None]):
        end = None if following is None else following.at
        if step is None or step.account == UNASSIGNED or (end is not None and end <= max(floor, step.at)):
            continue
        yield _Span(step.account, step.at, end)


def _match(span: _Span, among: Iterable[Statement], floor: int) -> Statement | None:
    """Return the statement that says this, or will when its end is added."""
    for one in among:
        if one.account != span.account or not one.ones:
            continue
        first = min(one.ones)
        begins = first == span.start or span.start < first <= floor
        ends = one.zeros <= {span.end} and (span.end is None or max(one.ones) < span.end)
        if begins and ends:
            return one
    return None


def _renewals(newest: int, end: int) -> Iterator[int]:
    """Yield the times before `end` at which what was told last is told again; after a long absence several."""
    step = RENEW // timedelta(microseconds=1) * 1_000
    yield from range(newest + step, end, step)


def _in_ms(at: int) -> int:
    return at - at % MILLISECOND
