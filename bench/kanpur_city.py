"""The script of bench/kanpur.py: a city as it truly is, what its office knows on which day, and what meters record.

Pure: no file, process or clock. Consumers, usage points and accounts are numbered; consumer n lives at usage point n.
The first `meters` of them have a smart meter. Times are days since the beginning; each meter uses the same energy in
every half hour, so that its register at any instant is known without going through the past.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

DAYS = 42
HALF = timedelta(minutes=30)
DAY = timedelta(days=1)
CROSSED_ON, CROSSING_FOUND_ON = 5, 25
"""From which day on pairs and rings of meters were crossed, and when the office learned it."""
REPLACED_FROM, REPLACED_UNTIL = 8, 14
"""Days at whose noon meters are replaced; the paper comes the same evening."""
MOVED_ON, MOVES_TOLD_ON = 15, 20
"""When tenants moved, and when their papers reached the office."""
CUT_OFF_FROM, CUT_OFF_UNTIL = 17, 27
"""Days in which one edge reads and cannot deliver."""
REKEY_DUE_ON, REKEY_CAME_ON, WRONG_FOUND_ON = 21, 24, 26
"""When the new numbers should have come, when they came, and when the wrong file was found out."""
REALLOCATED_ON = 30
"""When meters go over from one edge to the next."""
FILES = 3
WRONG_FILE = 1
"""The file of the three whose numbers slipped by a row."""
MONTH_ENDS = (0, 31, DAYS)
"""Days on which a bill ends: a month, and what is left of the six weeks."""
NEW_NUMBER = 1_000_000_007
SPREAD = 7_919
"""New numbers are this far from each other: none is the neighbour's with one wrong digit at its end."""


class Stay(NamedTuple):
    """A meter measures a usage point from one day until another (both may have a fraction)."""

    point: int
    since: float
    until: float


class Row(NamedTuple):
    """What a meter recorded: a register, or the energy of a half hour where `start` is given; whole Wh."""

    profile: str
    start: datetime | None
    at: datetime
    wh: int


@dataclass(frozen=True)
class City:
    """Sizes, and when it begins (midnight); everything else follows from these."""

    consumers: int
    meters: int
    edges: int
    interval_every: int
    begin: datetime
    cycles: tuple[int, ...] = (2, 3, 2, 5)

    # --- sizes ------------------------------------------------------------------------------------

    @property
    def replaced(self) -> range:
        """Usage points whose meter is replaced: one in fifty, behind those that are crossed."""
        return range(self._crossed_end, self._crossed_end + self.meters // 50)

    @property
    def moved(self) -> range:
        """Usage points whose tenant changes: one in fifty, behind those."""
        end = self.replaced.stop
        return range(end, end + self.meters // 50)

    @property
    def _crossed_end(self) -> int:
        per_round = sum(self.cycles)
        return max(1, self.meters // 100 // per_round) * per_round

    @cached_property
    def rings(self) -> tuple[tuple[int, ...], ...]:
        """Rings of crossed meters: each measures the next one's usage point."""
        found, first = [], 0
        while first < self._crossed_end:
            for length in self.cycles:
                found.append(tuple(range(first, first + length)))
                first += length
        return tuple(found)

    @property
    def all_meters(self) -> range:
        """Every smart meter that there ever is: those of the beginning, then their replacements."""
        return range(self.meters + len(self.replaced))

    # --- names ------------------------------------------------------------------------------------

    def meter(self, meter: int) -> str:
        """Return a smart meter's name."""
        return f"GEN:{10_000_000 + meter}"

    def point(self, point: int) -> str:
        """Return a usage point's name."""
        return f"UP-{point:06d}"

    def old_number(self, account: int) -> str:
        """Return an account's old number: of a consumer, or of a tenant who moved in."""
        return f"KE{account:07d}"

    def new_number(self, account: int) -> str:
        """Return the new number that an account shall have."""
        return f"{NEW_NUMBER + account * SPREAD:010d}"

    def at(self, day: float) -> datetime:
        """Return the instant of a day, counted from the beginning."""
        return self.begin + DAY * day

    def edge_of(self, meter: int, day: float) -> int:
        """Return which edge reads a meter on a day."""
        home = meter if meter < self.meters else self.replaced[meter - self.meters]
        edge = home * self.edges // self.meters
        return 1 if edge == 0 and home in self.reallocated and day >= REALLOCATED_ON else edge

    @property
    def reallocated(self) -> range:
        """Usage points whose meters go from edge 0 to edge 1."""
        last = (self.meters + self.edges - 1) // self.edges  # the first usage point of edge 1
        return range(last - max(1, last // 10), last)

    # --- what is true -----------------------------------------------------------------------------

    def replaced_at(self, point: int) -> float | None:
        """Return the noon at which the meter of a usage point is replaced; None for never."""
        if point not in self.replaced:
            return None
        days = REPLACED_UNTIL - REPLACED_FROM + 1
        return REPLACED_FROM + (point - self.replaced.start) % days + 0.5

    def stays(self, meter: int) -> list[Stay]:
        """Return what a meter truly measures, over time."""
        if meter >= self.meters:
            point = self.replaced[meter - self.meters]
            return [Stay(point, self.replaced_at(point) or 0.0, DAYS + 1)]
        if meter < self._crossed_end:
            ring = self._ring_of[meter]
            other = ring[(ring.index(meter) + 1) % len(ring)]
            return [Stay(meter, 0, CROSSED_ON), Stay(other, CROSSED_ON, DAYS + 1)]
        return [Stay(meter, 0, self.replaced_at(meter) or DAYS + 1)]

    @cached_property
    def _ring_of(self) -> dict[int, tuple[int, ...]]:
        return {meter: ring for ring in self.rings for meter in ring}

    def newcomer(self, point: int) -> int:
        """Return the account of the tenant who moves in."""
        return self.consumers + point - self.moved.start

    def holder(self, point: int, day: float) -> int:
        """Return the account that holds a usage point just after an instant."""
        return self.newcomer(point) if point in self.moved and day >= MOVED_ON else point

    def accounts(self, meter: int, start: float | None, at: float) -> frozenset[int]:
        """Return the accounts that a capture belongs to: the interval start..at, or the register at an instant."""
        found = set()
        for stay in self.stays(meter):
            if start is not None:
                if stay.since <= start and at <= stay.until:
                    found.add(self.holder(stay.point, start))
                continue
            if stay.since < at <= stay.until:
                found.add(self.holder(stay.point, at - 0.001))
            if stay.since <= at < stay.until:
                found.add(self.holder(stay.point, at))
        return frozenset(found)

    # --- what meters record -----------------------------------------------------------------------

    def rate(self, meter: int) -> int:
        """Return a meter's energy of half an hour, in Wh."""
        return 100 + meter % 50

    def register(self, meter: int, day: float) -> int:
        """Return a meter's register at an instant, in Wh: a new one begins at 3.2 kWh, as the factory left it."""
        first = self.stays(meter)[0].since
        opening = 3_200 if meter >= self.meters else 8_412_000 + meter
        return opening + round((day - first) * 48) * self.rate(meter)

    def rows(self, meter: int, day: int) -> Iterator[Row]:
        """Yield what a meter recorded after the midnight that begins a day, up to that which ends it."""
        stays = self.stays(meter)
        since, until = max(day, stays[0].since), min(day + 1, stays[-1].until)
        if since >= until:
            return
        if day == 0 or since > day:
            profile = "daily" if since == day else "instantaneous"
            yield Row(profile, None, self.at(since), self.register(meter, since))
        if until < day + 1:
            yield Row("instantaneous", None, self.at(until), self.register(meter, until))
        else:
            yield Row("daily", None, self.at(until), self.register(meter, until))
        if meter % self.interval_every == 0:
            for slot in range(round(since * 48), round(until * 48)):
                start = self.begin + HALF * slot
                yield Row("block_load", start, start + HALF, self.rate(meter))

    # --- what the office knows --------------------------------------------------------------------

    def looked_up(self, meter: int, day: int) -> int | None:
        """Return whose number a gateway finds that looks it up when a day's readings arrive, in the evening.

        It knows what papers say by then, and nothing of dates: the account that holds the meter at that moment by
        the office's book. None where nobody does.
        """
        arrived = CUT_OFF_UNTIL if self.is_cut_off(meter, day) else day
        if meter >= self.meters:
            point = self.replaced[meter - self.meters]
        else:
            replaced = self.replaced_at(meter)
            if replaced is not None and replaced < arrived + 1:
                return None
            point = meter
            if meter < self._crossed_end and arrived >= CROSSING_FOUND_ON:
                point = self.stays(meter)[-1].point
        account = self.newcomer(point) if point in self.moved and arrived >= MOVES_TOLD_ON else point
        if REKEY_CAME_ON <= arrived < WRONG_FOUND_ON and self.file_of(account) == WRONG_FILE:
            return self.slipped(account)
        return account

    def is_cut_off(self, meter: int, day: int) -> bool:
        """Say whether the edge of a meter cannot deliver on a day."""
        return CUT_OFF_FROM <= day < CUT_OFF_UNTIL and self.edge_of(meter, day) == self.edges - 1

    # --- the re-key -------------------------------------------------------------------------------

    @property
    def named(self) -> range:
        """Every account that shall get a new number."""
        return range(self.consumers + len(self.moved))

    def file_of(self, account: int) -> int:
        """Return in which of the files the account stands."""
        return account * FILES // len(self.named)

    @cached_property
    def files(self) -> dict[int, list[int]]:
        """The accounts of each file, in its order."""
        found: dict[int, list[int]] = defaultdict(list)
        for account in self.named:
            found[self.file_of(account)].append(account)
        return dict(found)

    def slipped(self, account: int) -> int:
        """Return whose number stands in the account's row of the wrong file: that of the row below."""
        accounts = self.files[WRONG_FILE]
        return accounts[(account - accounts[0] + 1) % len(accounts)]
