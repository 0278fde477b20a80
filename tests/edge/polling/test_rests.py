"""Lines rest on one timer: who is due is woken, nobody else, and a thousand that wait cost what one costs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.polling.rests import SPARE, Rests
from tests.support.fakes import JumpClock, ManualClock

T0 = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class CountingClock(JumpClock):
    """Counts who sleeps on it."""

    sleeps = 0

    async def sleep_until(self, at: datetime) -> None:
        self.sleeps += 1
        await super().sleep_until(at)


async def test_a_thousand_that_rest_for_an_hour_look_up_as_often_as_one() -> None:
    clock = CountingClock(T0)
    async with asyncio.TaskGroup() as group:
        rests = Rests(clock, group)
        rested = [rests.until(T0 + HOUR) for _ in range(1000)]
        assert not any(await asyncio.gather(*rested))
    assert (clock.sleeps, clock.at, len(rests)) == (60, T0 + HOUR, 0)


async def test_everybody_is_woken_when_the_clock_was_set_back() -> None:
    clock = ManualClock(T0)
    async with asyncio.TaskGroup() as group:
        rests = Rests(clock, group)
        rested = [rests.until(T0 + HOUR), rests.until(T0 + 2 * HOUR)]
        await settle()
        clock.advance(-HOUR)
        assert await rests.until(T0 - HOUR / 2) is True
        assert [rest.result() for rest in rested] == [True, True]


async def test_those_that_were_woken_early_are_let_go_of() -> None:
    clock = ManualClock(T0)
    async with asyncio.TaskGroup() as group:
        rests = Rests(clock, group)
        for _ in range(10_000):
            rests.until(T0 + HOUR).set_result(False)
            assert len(rests) <= 2 * SPARE
        clock.advance(HOUR)


@given(st.lists(st.tuples(st.sampled_from(["rest", "wake", "pass"]), st.integers(0, 300)), max_size=40))
async def test_whoever_is_due_is_woken_and_nobody_else(steps: list[tuple[str, int]]) -> None:
    clock, resting = ManualClock(T0), list[tuple[datetime, asyncio.Future[bool]]]()
    async with asyncio.TaskGroup() as group:
        rests = Rests(clock, group)
        for step, number in steps:
            if step == "rest":
                at = clock.now() + timedelta(seconds=number)
                resting.append((at, rests.until(at)))
            elif step == "wake" and resting:
                at, rest = resting.pop(number % len(resting))
                if not rest.done():
                    rest.set_result(False)
            elif step == "pass":
                clock.advance(timedelta(seconds=number))
            await settle()
            assert [rest.done() for _, rest in resting] == [at <= clock.now() for at, _ in resting]
        clock.advance(timedelta(days=1))
