"""A long memory is read newest first; whatever breaks off, nothing is lost, and what is missing is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.contract.messages import Gap
from gateway.edge.journal.entry import EntryKind
from gateway.edge.journal.journal import Journal
from protocols.errors import MeterProtocolError
from protocols.reading import Number, ProfileName, ReadingSet
from tests.support.edge.poller_bench import BLOCK, ENERGY, HALF, T0, Bench, block
from tests.support.fakes import JumpClock

DAILY = ProfileName.DAILY
DAYS = 13
MIDNIGHT = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)
"""The last one in India before T0."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "journal.db", clock=clock)
    yield Bench(journal, clock)
    await journal.close()


def daily(n: int) -> ReadingSet:
    at = MIDNIGHT - n * timedelta(days=1)
    return ReadingSet(profile=DAILY, at=at, values=((ENERGY, Number(1, 0, "Wh")),), received_at=at)


async def test_the_newest_days_of_a_long_outage_come_first_and_what_is_new_with_them(bench: Bench) -> None:
    meter, others = bench.add("1"), [bench.add(str(n)) for n in (2, 3)]
    clock = bench.clock
    meter.rows = [block(T0 - n * HALF) for n in range(60 * 48, 59 * 48, -1)]
    clock.at = T0 - timedelta(days=59)
    poller = bench.poller(BLOCK)
    await poller.poll_meter("GEN:1")
    old = await bench.journal.watermark("GEN:1", "block_load")
    clock.at = T0 + timedelta(seconds=40)
    meter.rows = [block(T0 - n * HALF) for n in range(60 * 48, -1, -1)]
    more = iter([False])
    report = await poller._meters["GEN:1"].attempt([BLOCK], more=lambda: next(more, True))
    await poller._meters["GEN:1"].settled()
    assert report.error is None
    newest = [one.at for one in (await bench.captures())[48:]]
    assert newest == [T0 - n * HALF for n in range(5 * 48 - 1, -1, -1)]
    assert await bench.journal.watermark("GEN:1", "block_load") == old
    clock.at += HALF
    meter.rows.append(block(T0 + HALF))
    meter.reads.clear()
    await poller.poll_meter("GEN:1")
    spans = [(since, until) for _, since, until in meter.reads]
    assert spans[0][0] is not None
    assert abs(spans[0][0] - (T0 - timedelta(hours=2))) < timedelta(minutes=1)
    assert spans[0][1] == clock.at
    assert all(later[0] == earlier[1] for later, earlier in pairwise(spans[1:]))
    held = [one.at for one in await bench.captures()]
    assert sorted(held) == [row.at for row in meter.rows]
    assert await bench.journal.watermark("GEN:1", "block_load") == T0 + HALF
    assert await bench.gaps() == []
    assert all(other.reads == [] for other in others)


@st.composite
def courses(draw: st.DrawFn) -> dict[str, Any]:
    holes = draw(st.lists(st.tuples(st.integers(0, DAYS * 48), st.integers(1, 200)), max_size=4))
    return {
        "lost": {n for start, size in holes for n in range(start, start + size)},
        "days_lost": draw(st.sets(st.integers(1, DAYS - 2), max_size=5)),
        "known_days": draw(st.none() | st.integers(1, 3)),
        # At each visit: after how many rows it breaks (None: never), how many parts it may read, whether what is known
        # of meters is lost before it, and how many half hours pass after it.
        "visits": draw(
            st.lists(
                st.tuples(
                    st.none() | st.integers(0, 400),
                    st.integers(0, 3),
                    st.booleans(),
                    st.integers(0, 60),
                ),
                max_size=7,
            )
        ),
    }


# Two holes told while it was away: settling the first by reading it again left the second one told as missing.
TWO_HOLES = {
    "lost": {*range(48, 103), *range(255, 570)},
    "days_lost": {1, 4, 10},
    "known_days": 3,
    "visits": [(123, 3, False, 22)],
}


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@example(TWO_HOLES)
@given(courses())
def test_whatever_breaks_off_each_row_is_there_once_and_each_hole_is_told(course: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(_run(Path(folder), course))


async def _run(folder: Path, course: dict[str, Any]) -> None:
    clock = JumpClock(T0 - timedelta(days=DAYS))
    journal = await Journal.open(folder / "journal.db", clock=clock)
    try:
        bench = Bench(journal, clock)
        meter = bench.add("1")
        # The first interval is there in any case: what was before a meter's first row is no gap.
        first, known = DAYS * 48, course["known_days"]
        all_rows = [
            block(T0 - n * HALF) for n in range(first, -600, -1) if n == first or n not in course["lost"]
        ]
        all_days = [daily(n) for n in range(DAYS - 1, -13, -1) if n not in course["days_lost"]]

        def pass_to(at: datetime) -> None:
            clock.at = at
            meter.rows = [row for row in (*all_rows, *all_days) if row.at <= at]

        poller = bench.poller(BLOCK, DAILY)
        if known is not None:
            pass_to(T0 - timedelta(days=DAYS - known))
            await poller.poll_once()
        pass_to(T0 + timedelta(minutes=1))
        for breaks, parts, forgets, halves in course["visits"]:
            if forgets:
                poller = bench.poller(BLOCK, DAILY)
            meter.break_after = breaks
            left = [parts]

            def more(left: list[int] = left) -> bool:
                left[0] -= 1
                return left[0] >= 0

            poll = poller._meters["GEN:1"]
            report = await poll.attempt([BLOCK, DAILY], more=more)
            await poll.settled()
            assert report.error is None or isinstance(poll.error, MeterProtocolError)
            await _nothing_is_hidden(bench, meter.rows)
            pass_to(clock.at + halves * HALF)
        meter.break_after = None
        pass_to(clock.at + timedelta(hours=30))
        await poller.poll_once()
        await _all_is_there(bench, meter.rows)
    finally:
        await journal.close()


async def _nothing_is_hidden(bench: Bench, rows: list[ReadingSet]) -> None:
    """No row lies at the watermark or before it that is not journaled."""
    held = {(one.profile, one.at) for one in await bench.captures()}
    for profile in (BLOCK, DAILY):
        mark = await bench.journal.watermark("GEN:1", profile.value)
        for row in rows:
            if mark is not None and row.profile is profile and row.at <= mark:
                assert (profile.value, row.at) in held


async def _all_is_there(bench: Bench, rows: list[ReadingSet]) -> None:
    held = sorted((one.profile, one.at) for one in await bench.captures())
    assert held == sorted((row.profile.value, row.at) for row in rows)
    said = [Gap.model_validate_json(e.body) for e in await bench.entries() if e.kind is EntryKind.GAP]
    told = list({(gap.profile, gap.after, gap.until): gap for gap in said}.values())  # each as it stands now
    blocks = [row.at for row in rows if row.profile is BLOCK]
    days = [row.at for row in rows if row.profile is DAILY]
    settled = bench.clock.at - timedelta(hours=2)
    ends = [blocks[0] + n * HALF for n in range((settled - blocks[0]) // HALF)]
    assert _missing(told, "block_load", ends) == [at for at in ends if at not in set(blocks)]
    nights = [days[0] + n * timedelta(days=1) for n in range((bench.clock.at - days[0]) // timedelta(days=1))]
    assert _missing(told, "daily", nights) == [at for at in nights if at not in set(days)]


def _missing(told: list[Gap], profile: str, ends: list[datetime]) -> list[datetime]:
    spans = [(gap.after, gap.until) for gap in told if gap.profile == profile and gap.state != "filled"]
    return [at for at in ends if any(after < at <= until for after, until in spans)]
