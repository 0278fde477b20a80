"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta


class ManualClock:
    """A clock for tests: it moves only when told."""

    def __init__(self, at: datetime) -> None:
        self._at = at
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        """Return the set instant."""
        return self._at

    def disciplined(self) -> bool:
        """A test's clock is trusted."""
        return True

    def advance(self, by: timedelta) -> None:
        """Move forward and wake sleepers."""
        self._at += by
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def sleep_until(self, at: datetime) -> None:
        """Wait until `advance` reaches `at`."""
        while self._at < at:
            await self._moved.wait()
