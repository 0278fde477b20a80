"""Rate limits: over a sliding window, by a wait that grows, and by turns; all bounded in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from datetime import datetime, timedelta

MAX_KEYS = 50_000
"""Keys remembered: beyond it a flood of strangers pushes out the longest unused, not the memory."""
MAX_BOOKED = 24
"""Turns that one key of `FairTurns` has in its window and ahead of it."""


class SlidingLimit:
    """Allow `limit` hits per `window` and key; when `max_keys` are held, the longest unused is forgotten."""

    def __init__(self, limit: int, window: timedelta, *, max_keys: int = MAX_KEYS) -> None:
        self._limit = limit
        self._window = window
        self._max_keys = max_keys
        self._hits: OrderedDict[str, deque[datetime]] = OrderedDict()

    def left(self, key: str, now: datetime) -> timedelta | None:
        """Return how long this key has to wait, None when a hit is allowed. Counts nothing."""
        hits = self._hits.get(key)
        if hits is None:
            return None
        while hits and hits[0] <= now - self._window:
            hits.popleft()
        return hits[0] + self._window - now if len(hits) >= self._limit else None

    def hit(self, key: str, now: datetime) -> timedelta | None:
        """Count one hit: None when it is allowed, else how long to wait. A refused hit is not counted."""
        hits = self._hits.setdefault(key, deque(maxlen=self._limit))
        self._hits.move_to_end(key)
        if (left := self.left(key, now)) is not None:
            return left
        hits.append(now)
        if len(self._hits) > self._max_keys:
            self._hits.popitem(last=False)
        return None

    def __len__(self) -> int:
        return len(self._hits)


class GrowingDelay:
    """Allow `free` hits at once, then each after a wait that doubles from `first` up to `most`, by key.

    A key that is quiet for twice its wait, and at least for `first`, begins anew, unless it `remembers`.
    """

    def __init__(
        self,
        free: int,
        first: timedelta,
        most: timedelta,
        *,
        max_keys: int = MAX_KEYS,
        remembers: bool = False,
    ) -> None:
        self._free = free
        self._first = first
        self._most = most
        self._max_keys = max_keys
        self._remembers = remembers
        self._state: OrderedDict[str, tuple[int, datetime]] = OrderedDict()

    def left(self, key: str, now: datetime) -> timedelta | None:
        """Return how long this key has to wait, None when a hit is allowed. Counts nothing."""
        count, last = self._state.get(key, (0, now))
        over = last + self._wait(count) - now
        return over if over > timedelta(0) else None

    def hit(self, key: str, now: datetime) -> timedelta | None:
        """Count one hit: None when it is allowed, else how long to wait. A refused hit is not counted."""
        if (left := self.left(key, now)) is not None:
            return left
        count, last = self._state.get(key, (0, now))
        quiet = not self._remembers and now - last >= max(self._first, 2 * self._wait(count))
        self._state[key] = (1 if quiet else count + 1, now)
        self._state.move_to_end(key)
        if len(self._state) > self._max_keys:
            self._state.popitem(last=False)
        return None

    def forget(self, key: str) -> None:
        """Let this key begin anew."""
        self._state.pop(key, None)

    def _wait(self, count: int) -> timedelta:
        if count < self._free:
            return timedelta(0)
        doubled: timedelta = self._first * 2 ** min(count - self._free, 16)
        return min(doubled, self._most)

    def __len__(self) -> int:
        return len(self._state)


class FairTurns:
    """Allow `limit` turns per `window` and key, at most `each` of them to one asker; the others wait in order.

    Who comes when the turns are used up is told when the next one is, and it is kept for him for a quarter of
    the window: an asker who hammers a key delays the others, and never takes the turn of one who waits.
    """

    def __init__(self, limit: int, window: timedelta, *, each: int, max_keys: int = MAX_KEYS) -> None:
        self._limit = limit
        self._window = window
        self._each = each
        self._max_keys = max_keys
        self._turns: OrderedDict[str, list[tuple[datetime, str, bool]]] = OrderedDict()

    def left(self, key: str, asker: str, now: datetime) -> timedelta | None:
        """Return how long this asker has to wait, and keep that turn for him; None when it is his now."""
        turns = self._current(key, now)
        at = next((at for at, who, taken in turns if who == asker and not taken), None)
        if at is None:
            at = self._next(turns, asker, now)
            if at > now and len(turns) < MAX_BOOKED:
                turns.append((at, asker, False))
                turns.sort()
        elif len(used := [at for at, _, taken in turns if taken]) >= self._limit:
            # Others took their turns late: the window still holds no more than `limit`.
            at = max(at, used[-self._limit] + self._window)
        return at - now if at > now else None

    def take(self, key: str, asker: str, now: datetime) -> timedelta | None:
        """Take a turn: None when it is this asker's, else how long he has to wait for it."""
        if (left := self.left(key, asker, now)) is not None:
            return left
        turns = self._turns[key]
        kept = next((turn for turn in turns if turn[1] == asker and not turn[2]), None)
        if kept is not None:
            turns.remove(kept)
        turns.append((now, asker, True))
        turns.sort()
        return None

    def _current(self, key: str, now: datetime) -> list[tuple[datetime, str, bool]]:
        turns = self._turns.setdefault(key, [])
        self._turns.move_to_end(key)
        kept = self._window / 4
        turns[:] = [turn for turn in turns if turn[0] > now - (self._window if turn[2] else kept)]
        if len(self._turns) > self._max_keys:
            self._turns.popitem(last=False)
        return turns

    def _next(self, turns: list[tuple[datetime, str, bool]], asker: str, now: datetime) -> datetime:
        """Return the first time at which one more turn leaves no window with too many."""
        everybody = [at for at, _, _ in turns]
        mine = [at for at, who, _ in turns if who == asker]
        later = sorted(at + self._window for at in everybody if at + self._window > now)
        return next(
            at
            for at in (now, *later)
            if self._fits(at, everybody, self._limit) and self._fits(at, mine, self._each)
        )

    def _fits(self, at: datetime, times: list[datetime], limit: int) -> bool:
        """Say whether no window that holds `at` has more than `limit` turns with it."""
        place = bisect_right(times, at)
        times = [*times[:place], at, *times[place:]]
        first = range(max(0, place - limit), min(place, len(times) - limit - 1) + 1)
        return all(times[i + limit] - times[i] >= self._window for i in first)

    def __len__(self) -> int:
        return len(self._turns)
