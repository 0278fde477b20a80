"""Nothing is missing in silence: what was due and not read is told, filled from memory, or given up with the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.contract.messages import Gap
from gateway.edge.journal.entry import EntryKind
from gateway.edge.journal.journal import Journal
from protocols.errors import MeterSilent
from protocols.reading import Number, ProfileName, ReadingSet
from tests.support.edge.poller_bench import ENERGY, HALF, T0, Bench, block
from tests.support.fakes import JumpClock

pytestmark = pytest.mark.virtual_time

BLOCK, LIVE, DAILY, BILLING = (
    ProfileName.BLOCK_LOAD,
    ProfileName.INSTANTANEOUS,
    ProfileName.DAILY,
    ProfileName.BILLING,
)
IST = ZoneInfo("Asia/Kolkata")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "journal.db", clock=clock)
    yield Bench(journal, clock)
    await journal.close()


async def told(bench: Bench) -> list[Gap]:
    entries = await bench.journal.read(1, bench.journal.last_seq)
    return [Gap.model_validate_json(e.body) for e in entries if e.kind is EntryKind.GAP]


def silent() -> MeterSilent:
    return MeterSilent("no answer in 1 s")


async def test_an_outage_of_a_meter_without_memory_is_told_while_it_lasts_and_whole_at_its_end(
    bench: Bench,
) -> None:
    meter = bench.add("1")
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(hours=2))
    assert await told(bench) == []
    meter.error = silent
    await bench.run_until(poller, T0 + timedelta(hours=10))
    during = await told(bench)
    assert 3 <= len(during) <= 8, "few words on a long outage"
    assert during[0].noticed_at < T0 + timedelta(hours=2, minutes=35)
    meter.error = None
    await bench.run_until(poller, T0 + timedelta(hours=12))
    gaps = await told(bench)
    assert {(g.state, g.reason, g.profile) for g in gaps} == {("unfillable", "no_memory", "instantaneous")}
    stamps = sorted(capture.at for capture in await bench.captures())
    due = [T0 + n * timedelta(minutes=15) for n in range(48)]
    for slot in due[1:-1]:
        read = any(slot <= at < slot + timedelta(minutes=15) for at in stamps)
        missing = [g for g in gaps if g.after < slot + timedelta(seconds=30) <= g.until]
        assert (read, len(missing)) in ((True, 0), (False, 1)), slot


async def test_a_meter_with_memory_is_told_to_be_away_and_filled_when_it_is_back(bench: Bench) -> None:
    meter = bench.add("1")
    rows = [block(T0 + n * HALF) for n in range(-4, 60)]
    meter.rows = [row for row in rows if row.at <= T0]
    poller = bench.poller(BLOCK)
    await bench.run_until(poller, T0 + timedelta(minutes=20))
    meter.error = silent
    await bench.run_until(poller, T0 + timedelta(hours=12))
    opened = await told(bench)
    assert {(g.state, g.reason) for g in opened} == {("open", "not_read")}
    assert opened[0].after == T0
    assert all(a.until == b.after for a, b in pairwise(opened))
    meter.error, meter.rows = None, [row for row in rows if row.at != T0 + 9 * HALF]
    meter.reads.clear()
    await bench.run_until(poller, T0 + timedelta(hours=13))
    gaps = await told(bench)
    filled = {g.gap_id for g in gaps if g.state == "filled"}
    assert filled == {g.gap_id for g in opened}
    [lacking] = [g for g in gaps if g.reason == "not_in_meter"]
    assert (lacking.after, lacking.until) == (T0 + 8 * HALF, T0 + 9 * HALF)
    assert [g.gap_id for g in await bench.journal.open_gaps()] == [lacking.gap_id]


def stored(profile: ProfileName, at: datetime) -> ReadingSet:
    return ReadingSet(profile=profile, at=at, values=((ENERGY, Number(1, 0, "Wh")),), received_at=at)


def nights(*days: int) -> list[datetime]:
    return [datetime(2026, 11, day, tzinfo=IST).astimezone(UTC) for day in days]


async def test_a_day_that_the_meter_lacks_is_a_gap_and_filled_when_it_comes(bench: Bench) -> None:
    meter = bench.add("1")
    all_rows = [stored(DAILY, at) for at in nights(*range(10, 24))]
    meter.rows = [row for row in all_rows if row.at != nights(15)[0]]
    poller = bench.poller(DAILY)
    await poller.poll_once()
    [gap] = await told(bench)
    assert (gap.state, gap.profile, gap.after, gap.until) == ("open", "daily", *nights(14, 15))
    meter.rows = all_rows
    bench.clock.at += timedelta(hours=2)
    await poller.poll_once()
    assert [g.state for g in await told(bench)] == ["open", "filled"]
    assert len(await bench.captures()) == 14


async def test_a_day_that_is_due_and_absent_is_told_by_the_meter_that_answers(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [stored(DAILY, at) for at in nights(20, 21)]
    poller = bench.poller(DAILY)
    await poller.poll_once()  # 23 November, half past three in the afternoon
    assert [(g.after, g.until) for g in await told(bench)] == [tuple(nights(21, 23))]


async def test_a_missing_month_is_told_and_given_up(bench: Bench) -> None:
    meter = bench.add("1")
    first = [datetime(2026, month, 1, tzinfo=IST).astimezone(UTC) for month in (8, 9, 10, 11)]
    meter.rows = [stored(BILLING, at) for at in (first[0], first[1], first[3])]
    poller = bench.poller(BILLING)
    bench.clock.at = first[1] + timedelta(days=2)
    await poller.poll_once()
    assert await told(bench) == []
    bench.clock.at = T0
    await poller.poll_once()
    assert [(g.state, g.after, g.until) for g in await told(bench)] == [("open", first[1], first[2])]
    bench.clock.at += timedelta(hours=2)
    await poller.poll_once()
    assert [g.state for g in await told(bench)] == ["open", "unfillable"], "its day of patience is long over"


async def test_a_gateway_that_does_not_know_the_time_declares_nothing(bench: Bench) -> None:
    meter = bench.add("1")
    poller = bench.poller(LIVE)
    await poller.poll_once()
    bench.clock.good = False
    meter.error = silent
    bench.clock.at += timedelta(days=2)
    await poller.poll_once()
    assert await told(bench) == []


async def test_a_restart_in_an_outage_tells_nothing_twice(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0)]
    await bench.poller(BLOCK).poll_once()
    meter.error = silent
    for hours in (3, 4, 30):
        bench.clock.at = T0 + timedelta(hours=hours)
        await bench.poller(BLOCK).poll_once()
    gaps = await told(bench)
    assert [(g.after - T0, g.until - T0) for g in gaps] == [
        (timedelta(0), timedelta(hours=1)),
        (timedelta(hours=1), timedelta(hours=2)),
        (timedelta(hours=2), timedelta(hours=28)),
    ]


async def test_a_backfill_reads_a_span_again_fills_its_gap_and_moves_nothing_else(bench: Bench) -> None:
    meter = bench.add("1")
    rows = [block(T0 - n * HALF) for n in range(20, -1, -1)]
    meter.rows = rows[:5] + rows[8:]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    mark = await bench.journal.watermark("GEN:1", "block_load")
    [gap] = await bench.journal.open_gaps()
    meter.rows = rows
    report = await poller.backfill("GEN:1", BLOCK, gap.after, gap.until)
    assert (report.error, report.captures["block_load"]) == (None, 3)
    assert [g.state for g in await told(bench)] == ["open", "filled"]
    assert await bench.journal.watermark("GEN:1", "block_load") == mark
    again = await poller.backfill("GEN:1", BLOCK, rows[0].at, T0)
    assert again.captures["block_load"] == 0


async def test_a_meter_without_a_day_yet_is_not_asked_for_all_of_them_each_time(bench: Bench) -> None:
    meter = bench.add("1")
    poller = bench.poller(DAILY)
    await poller.poll_once()
    meter.reads.clear()
    bench.clock.at += timedelta(hours=6)
    meter.rows = [stored(DAILY, nights(24)[0])]
    bench.clock.at = nights(24)[0] + timedelta(hours=1)
    await poller.poll_once()
    since = meter.reads[0][1]
    assert since is not None
    assert since >= T0 - timedelta(days=2)
    assert len(await bench.captures()) == 1
    assert await told(bench) == []


async def test_a_stored_row_that_says_something_else_when_it_is_read_again_is_a_revision_and_an_alarm(
    bench: Bench,
) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - n * HALF) for n in range(4)]
    poller = bench.poller(BLOCK, LIVE)
    await poller.poll_meter("GEN:1")
    assert bench.journal.statistics().alarms == ()
    meter.rows[1] = block(T0 - HALF, wh=7)
    await poller.poll_meter("GEN:1")
    held = [one for one in await bench.captures() if one.at == T0 - HALF and one.profile == BLOCK]
    assert [(one.value_rev, one.values[0].value) for one in held] == [(1, "1"), (2, "7")]
    (alarm,) = bench.journal.statistics().alarms
    assert alarm.code == "captures_revised"
    assert "block_load of GEN:1 at 2026-11-23 09:30 UTC" in alarm.text
    # A repeat of it is none, and what a present value shows is never one.
    await poller.poll_meter("GEN:1")
    assert bench.journal.statistics().revisions == 1
