"""The machine's clock."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from protocols.clock import SystemClock
from tests.support.waiting import PATIENCE


async def test_a_sleeper_wakes_when_the_machines_clock_is_set_back() -> None:
    class SetBack(SystemClock):
        away = timedelta(days=3650)

        def now(self) -> datetime:
            return super().now() + self.away

    clock = SetBack()
    sleeper = asyncio.create_task(clock.sleep_until(clock.now() + timedelta(seconds=0.2)))
    await asyncio.sleep(0)
    clock.away = timedelta(0)
    await asyncio.wait_for(sleeper, PATIENCE)
