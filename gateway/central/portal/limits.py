"""Rate limits over a sliding window, bounded in memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime, timedelta

MAX_KEYS = 50_000
"""Keys remembered: beyond it a flood of strangers pushes out the longest unused, not the memory."""


class SlidingLimit:
    """Allow `limit` hits per `window` and key; when `max_keys` are held, the longest unused is forgotten."""

    def __init__(self, limit: int, window: timedelta, *, max_keys: int = MAX_KEYS) -> None:
        self._limit = limit
        self._window = window
        self._max_keys = max_keys
        self._hits: OrderedDict[str, deque[datetime]] = OrderedDict()

    def hit(self, key: str, now: datetime) -> timedelta | None:
        """Count one hit: None when it is allowed, else how long to wait. A refused hit is not counted."""
        hits = self._hits.setdefault(key, deque(maxlen=self._limit))
        self._hits.move_to_end(key)
        while hits and hits[0] <= now - self._window:
            hits.popleft()
        if len(hits) >= self._limit:
            return hits[0] + self._window - now
        hits.append(now)
        if len(self._hits) > self._max_keys:
            self._hits.popitem(last=False)
        return None

    def __len__(self) -> int:
        return len(self._hits)
