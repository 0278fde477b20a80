"""The intake of pushes: one meter's push does not end it, clocks and layouts are not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.edge.push.intake import PushIntake
from gateway.edge.push.layouts import LEARN_AGAIN, PushLayouts
from gateway.edge.stamping.clocks import MeterEvidence
from protocols.clock import SystemClock
from protocols.dlms.data import cosem_time
from protocols.dlms.push.body import ALERT_SETUP, Alert, PushBody, PushedCells
from protocols.dlms.push.receiver import Notification
from protocols.dlms.push.senders import PushPeer
from protocols.reading import Obis, ReadingSet
from tests.support.fakes import ManualClock
from tests.support.waiting import PATIENCE


class Broken(PushLayouts):
    def of(self, meter: str, setup: Obis) -> Any:
        raise ValueError("a bug")


class Parts:
    """Source, counters, collector and poller as far as this needs them."""

    def __init__(self, *found: Notification) -> None:
        self.found = list(found)
        self.woken = 0
        self.verdict: bool | None = None
        self.trusted: list[bool] = []

    async def batch(self, most: int = 100) -> list[Notification]:
        if not self.found:
            await asyncio.Event().wait()
        taken, self.found = self.found, []
        return taken

    async def save(self) -> None: ...

    def clock_trusted(self, meter: str) -> bool | None:
        return self.verdict

    async def append(
        self, meter: str, rows: Sequence[ReadingSet], *, clock: MeterEvidence, revise: bool
    ) -> int:
        assert not revise
        self.trusted.append(clock.trusted)
        return len(rows)

    def read_soon(self, meter: str, profile: object) -> bool:
        self.woken += 1
        return True


async def test_a_push_that_fails_in_an_unforeseen_way_is_counted_and_the_next_one_taken() -> None:
    body = PushBody(payload=PushedCells(()), device="1", setup=Obis(0, 0, 25, 9, 0))
    one = Notification(peer=PushPeer(name="GEN:1"), body=body)
    parts: Any = Parts(one, one)
    intake = PushIntake(
        parts,
        parts,
        Broken(SystemClock()),
        appender=parts,
        poller=parts,
        zones={"GEN:1": ZoneInfo("UTC")},
        clock=SystemClock(),
    )
    running = asyncio.create_task(intake.run())
    async with asyncio.timeout(PATIENCE):
        while intake.statistics().misfits < 2 and not running.done():
            await asyncio.sleep(0)
    assert not running.done()
    assert parts.woken == 2
    running.cancel()


@pytest.mark.parametrize(
    ("ahead", "verdict", "trusted"),
    [
        (timedelta(seconds=20), None, True),
        (timedelta(hours=3), None, False),
        (timedelta(hours=3), True, True),
        (timedelta(seconds=20), False, False),
    ],
)
async def test_before_the_poller_saw_the_meters_clock_the_push_shows_it(
    ahead: timedelta, verdict: bool | None, trusted: bool
) -> None:
    clock = cosem_time.encode(datetime.now(UTC) + ahead, ZoneInfo("Asia/Kolkata"))
    body = PushBody(payload=Alert("1" + "0" * 127), device="1", setup=ALERT_SETUP, clock=clock)
    parts: Any = Parts(Notification(peer=PushPeer(name="GEN:1"), body=body))
    parts.verdict = verdict
    layouts, zones = PushLayouts(SystemClock()), {"GEN:1": ZoneInfo("Asia/Kolkata")}
    intake = PushIntake(parts, parts, layouts, appender=parts, poller=parts, zones=zones, clock=SystemClock())
    running = asyncio.create_task(intake.run())
    async with asyncio.timeout(PATIENCE):
        while not parts.trusted:
            await asyncio.sleep(0)
    running.cancel()
    assert parts.trusted == [trusted]


async def test_layouts_of_pushes_are_learned_again_after_a_while() -> None:
    class Session:
        asked = 0

        async def push_layouts(self) -> dict[Obis, Any]:
            self.asked += 1
            return {}

    clock, session = ManualClock(datetime(2026, 6, 1, tzinfo=UTC)), Session()
    layouts = PushLayouts(clock)
    for _ in range(3):
        await layouts.learn("GEN:1", session)  # type: ignore[arg-type]
    assert session.asked == 1
    clock.advance(LEARN_AGAIN)
    await layouts.learn("GEN:1", session)  # type: ignore[arg-type]
    assert session.asked == 2
