"""A household's days, worked out in order: what a day ends with is kept, the days themselves only a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from protocols.simulator.household.daybook import DayBook, DayStart, Demand, TimeSpan, Zone
from protocols.simulator.household.demand import DAY_S, Sag, local_date, midnight

BOOKS = 6
"""Days kept whole: as many as a reader's chunk of block load touches. Further ones are worked out again."""


@dataclass(frozen=True, slots=True)
class DayNote:
    """What is always kept of a day: its cuts and sag, and what it begins and ends with."""

    start: int
    cuts: tuple[TimeSpan, ...]
    sag: Sag | None
    opening: DayStart
    closing: DayStart


class History:
    """Days from `start` on; `run` works one out from its opening. ValueError before the beginning."""

    def __init__(
        self, start: int, first: DayStart, run: Callable[[int, DayStart], DayBook], name: str
    ) -> None:
        self._start = start
        self._first = first
        self._run = run
        self._name = name
        self._notes: list[DayNote] = []
        self._books: OrderedDict[int, DayBook] = OrderedDict()

    @property
    def first(self) -> DayStart:
        """What the history begins with."""
        return self._first

    def day(self, second: int) -> DayBook:
        """Return the day of a second."""
        index = self._index(second)
        self._reach(index)
        book = self._books.get(index)
        if book is None:
            return self._build(index)
        self._books.move_to_end(index)
        return book

    def note(self, second: int) -> DayNote:
        """Return what is kept of the day of a second."""
        index = self._index(second)
        self._reach(index)
        return self._notes[index]

    def days(self, low: int, high: int) -> Iterator[DayBook]:
        """Yield the days that touch low..high."""
        for second in self._midnights(low, high):
            yield self.day(second)

    def notes(self, low: int, high: int) -> Iterator[DayNote]:
        """Yield the notes of the days that touch low..high."""
        for second in self._midnights(low, high):
            yield self.note(second)

    def forget_from(self, second: int) -> None:
        """Work the days from `second` on out anew: something was done to the meter."""
        index = max(0, (second - self._start) // DAY_S)
        del self._notes[index:]
        for known in [i for i in self._books if i >= index]:
            del self._books[known]

    def _midnights(self, low: int, high: int) -> Iterator[int]:
        second = midnight(max(low, self._start))
        while second <= high:
            yield second
            second += DAY_S

    def _index(self, second: int) -> int:
        if second < self._start:
            raise ValueError(f"the history of {self._name} begins at second {self._start}, after {second}")
        return (second - self._start) // DAY_S

    def _reach(self, index: int) -> None:
        while len(self._notes) <= index:
            self._build(len(self._notes))

    def _build(self, index: int) -> DayBook:
        start = self._start + index * DAY_S
        opening = self._notes[index - 1].closing if index else self._first
        if local_date(start).day == 1:
            opening = new_month(opening, start)
        book = self._run(start, opening)
        if index == len(self._notes):
            plan = book.plan
            self._notes.append(DayNote(plan.start, plan.cuts, plan.sag, opening, book.closing()))
        self._books[index] = book
        while len(self._books) > BOOKS:
            self._books.popitem(last=False)
        return book


def new_month(opening: DayStart, start: int) -> DayStart:
    """Reset the maximum demands, as billing does at the month's first midnight."""
    none = Demand(0, start)
    return DayStart(
        ws=opening.ws,
        vas=opening.vas,
        powered_s=opening.powered_s,
        recharged=opening.recharged,
        last_recharge=opening.last_recharge,
        demand=none,
        events=opening.events,
        zones=tuple(Zone(zone.ws, zone.vas, none) for zone in opening.zones),
        reactive=opening.reactive,
    )
