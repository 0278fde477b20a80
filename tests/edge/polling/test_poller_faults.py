"""Polling goes on past faults: clocks that jump, one bad profile, rows too large, rows dated ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.edge.journal.journal import Journal
from protocols.errors import MeterRefused
from protocols.reading import ProfileName, Quantity, ReadingSet, Text
from tests.support.edge.poller_bench import BLOCK, HALF, LIVE, T0, Bench, Meter, block
from tests.support.fakes import JumpClock

DAILY = ProfileName.DAILY


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    yield Bench(journal, clock)
    await journal.close()


async def test_polling_goes_on_after_the_clock_was_set_back(bench: Bench) -> None:
    meter = bench.add("1")
    poller = bench.poller(LIVE)
    bench.clock.at = T0 + timedelta(days=3650)  # a real-time clock without its battery
    task = asyncio.create_task(poller.run())
    try:
        while not poller.statistics().captures:
            await asyncio.sleep(0)
        for _ in range(4):
            await asyncio.sleep(0)
        bench.clock.at = T0
        before = len(meter.reads)
        while bench.clock.at < T0 + timedelta(hours=1):
            await asyncio.sleep(0)
        assert len(meter.reads) >= before + 3
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_failing_meter_is_retried_after_the_clock_was_set_back(bench: Bench) -> None:
    meter = bench.add("1")
    meter.error = lambda: MeterRefused("no")
    poller = bench.poller(LIVE)
    bench.clock.at = T0 + timedelta(days=3650)
    task = asyncio.create_task(poller.run())
    try:
        while len(meter.opened) < 3:
            await asyncio.sleep(0)
        meter.error = None
        bench.clock.at = T0
        while bench.clock.at < T0 + timedelta(minutes=30):
            await asyncio.sleep(0)
        assert meter.reads
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class OneProfileRefuses(Meter):
    """Answers, but refuses its block load."""

    async def read(
        self, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[ReadingSet]:
        if profile is BLOCK:
            self.reads.append((profile, since, until))
            raise MeterRefused("object unavailable")
        async for row in super().read(profile, since, until):
            yield row


async def test_a_profile_that_fails_does_not_starve_those_after_it(bench: Bench) -> None:
    meter = bench.meters["GEN:1"] = OneProfileRefuses(bench.clock)
    poller = bench.poller(BLOCK, DAILY, LIVE)
    await bench.run_until(poller, T0 + timedelta(minutes=20))
    assert {profile for profile, _, _ in meter.reads} == {BLOCK, DAILY, LIVE}
    assert poller.statistics().meters["GEN:1"].error_code == "meter_refused"


async def test_an_unset_clock_of_the_gateway_puts_no_lasting_doubt_on_good_rows(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - HALF), block(T0)]
    bench.clock.good = False
    bench.clock.at = T0 - timedelta(days=400)  # booted without the network: the time of the last shutdown
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    bench.clock.good, bench.clock.at = True, T0
    await poller.poll_once()
    found = await bench.captures()
    assert [c.reason for c in found] == ["untrusted_time", "untrusted_time", None, None]
    assert [(c.at, c.value_rev) for c in found[2:]] == [(T0 - HALF, 2), (T0, 2)]
    await poller.poll_once()
    assert len(await bench.captures()) == 4  # settled once
    bench.clock.good = False
    await poller.poll_once()
    assert len(await bench.captures()) == 4  # and never put in doubt again


@pytest.mark.parametrize("slow", [timedelta(days=3), T0 - datetime(1970, 1, 1, tzinfo=UTC)])
async def test_a_gateway_whose_clock_is_slow_asks_up_to_the_meter_s_present(
    bench: Bench, slow: timedelta
) -> None:
    """Sessions end an open range by our own clock, which withheld all that a meter stored since."""
    meter = bench.add("1")
    meter.rows = [block(T0 - HALF), block(T0)]
    bench.clock.good, bench.clock.at, meter.drift = False, T0 - slow, slow
    await bench.poller(BLOCK).poll_once()
    ((_, since, until),) = meter.reads
    assert since is not None
    assert until is not None
    # As far back as any first read, not the whole memory at each poll: a serial line takes minutes for that.
    assert T0 - timedelta(days=36) < since < T0 < until
    assert len(await bench.captures()) == 2


@pytest.mark.parametrize("shown", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC) + HALF])
async def test_a_meter_of_any_year_is_read_by_a_gateway_that_does_not_know_the_time(
    bench: Bench, shown: datetime
) -> None:
    meter = bench.add("1")
    bench.clock.good = False
    meter.drift = shown - bench.clock.at - timedelta(seconds=1)
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    assert len(meter.reads) == 1
    assert poller.statistics().meters["GEN:1"].error_code is None


async def test_a_meter_that_was_set_right_settles_no_row_from_before(bench: Bench) -> None:
    """It recorded them with a wrong clock: reading them again by a right one proves nothing."""
    meter = bench.add("1")
    ahead = timedelta(hours=5, minutes=30)
    meter.rows = [replace(block(at + ahead), received_at=T0) for at in (T0 - HALF, T0)]
    meter.drift = ahead
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    assert [c.reason for c in await bench.captures()] == ["untrusted_time"] * 2  # read though dated ahead
    bench.clock.at += HALF
    meter.drift = timedelta(0)
    meter.rows.append(block(T0 + HALF))
    await poller.poll_once()
    bench.clock.at += timedelta(hours=6)
    meter.rows.append(block(T0 + 13 * HALF))
    await poller.poll_once()
    found = await bench.captures()
    assert [(c.at, c.value_rev, c.reason) for c in found[2:]] == [
        (T0 + HALF, 1, "untrusted_time"),  # of the half hour in which the clock was set: nobody knows
        (T0 + 13 * HALF, 1, None),
    ]
    told = [c.clock for c in found[:3] if c.clock is not None]
    assert [(one.drift, one.former) for one in told] == [
        ("19800.000", None),
        ("19800.000", None),
        ("0.000", "19800.000"),
    ]


async def test_a_row_too_large_for_the_journal_is_its_meters_fault_alone(bench: Bench) -> None:
    meter, other = bench.add("1"), bench.add("2")
    huge = tuple((Quantity.of(f"0-0:96.1.{n}*255"), Text("\x01" * 4000)) for n in range(60))
    meter.rows = [replace(block(T0), values=huge)]
    poller = bench.poller(BLOCK)
    await bench.run_until(poller, T0 + timedelta(hours=2))
    assert len(other.reads) >= 3
    health = poller.statistics()
    assert health.meters["GEN:1"].error_code == "meter_protocol_error"
    assert health.paused is None


class UnfilteredMeter(Meter):
    """Gives every row whatever span was asked for."""

    async def read(
        self, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[ReadingSet]:
        async for row in super().read(profile):
            yield row


async def test_a_row_dated_ahead_opens_no_gap_and_moves_no_watermark(bench: Bench) -> None:
    meter = bench.meters["GEN:1"] = UnfilteredMeter(bench.clock)
    meter.rows = [block(T0 - HALF), block(T0), block(T0 + timedelta(days=900))]
    await bench.poller(BLOCK).poll_once()
    assert await bench.gaps() == []
    assert await bench.journal.watermark("GEN:1", "block_load") == T0
