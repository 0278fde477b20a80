"""One meter's push that the code is not ready for must not end the intake of all."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.clock import SystemClock
from gateway.edge.pushed import PushIntake, PushLayouts
from protocols.dlms.push import Notification, PushPeer
from protocols.dlms.push_body import Cells, PushBody
from protocols.reading import Obis


class Broken(PushLayouts):
    def of(self, meter: str, setup: Obis) -> Any:
        raise ValueError("a bug")


class Parts:
    """Source, counters, collector and poller as far as this needs them."""

    def __init__(self, *found: Notification) -> None:
        self.found = list(found)
        self.woken = 0

    async def batch(self, most: int = 100) -> list[Notification]:
        if not self.found:
            await asyncio.Event().wait()
        taken, self.found = self.found, []
        return taken

    async def save(self) -> None: ...

    def read_soon(self, meter: str, profile: object) -> bool:
        self.woken += 1
        return True


async def test_a_push_that_fails_in_an_unforeseen_way_is_counted_and_the_next_one_taken() -> None:
    body = PushBody(payload=Cells(()), device="1", setup=Obis(0, 0, 25, 9, 0))
    one = Notification(peer=PushPeer(name="GEN:1"), body=body)
    parts: Any = Parts(one, one)
    intake = PushIntake(
        parts, parts, Broken(), collector=parts, wakes=parts, zones={"GEN:1": "UTC"}, clock=SystemClock()
    )
    running = asyncio.create_task(intake.run())
    async with asyncio.timeout(5):
        while intake.statistics().misfits < 2 and not running.done():
            await asyncio.sleep(0)
    assert not running.done()
    assert parts.woken == 2
    running.cancel()
