"""A span that is asked for again: what may be asked, newest days first, and what is said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.journal.journal import Journal
from gateway.roles.backfill import EdgeBackfill
from protocols.errors import MeterSilent
from protocols.reading import ProfileName
from tests.support.edge.poller_bench import HALF, T0, Bench, block
from tests.support.fakes import JumpClock

pytestmark = pytest.mark.virtual_time
BLOCK = ProfileName.BLOCK_LOAD


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "journal.db", clock=clock)
    yield Bench(journal, clock)
    await journal.close()


def days(count: float) -> str:
    return (T0 - timedelta(days=count)).isoformat()


async def test_a_long_span_is_read_by_turns_newest_first(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - n * HALF) for n in range(48 * 12, -1, -1)]
    called = await EdgeBackfill(bench.poller(BLOCK), bench.clock).backfill(
        "uid 7", ("GEN:1", "block_load", days(12), T0.isoformat())
    )
    assert called.done
    assert called.lines == ("block_load of GEN:1: 576 captures were new",)
    spans = [(since, until) for profile, since, until in meter.reads if profile is BLOCK]
    assert [(T0 - until).days for _, until in spans if until] == [0, 5, 10]
    assert spans[-1][0] == T0 - timedelta(days=12)


async def test_a_silent_meter_is_told_with_what_is_left(bench: Bench) -> None:
    bench.add("1").error = lambda: MeterSilent("no answer in 1 s")
    called = await EdgeBackfill(bench.poller(BLOCK), bench.clock).backfill(
        "uid 7", ("GEN:1", "block_load", days(2), T0.isoformat())
    )
    assert not called.done
    assert "no answer in 1 s" in called.lines[0]
    assert "give the command again" in called.lines[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say METER PROFILE SINCE UNTIL"),
        (("GEN:1", "block_load", "yesterday", days(0)), "yesterday"),
        (("GEN:1", "block_load", "2026-11-20T10:00:00", days(0)), "offset"),
        (("GEN:1", "block_load", days(0), days(1)), "ends after it begins"),
        (("GEN:1", "block_load", days(900), days(0)), "the last 400 days"),
        (("GEN:1", "instantaneous", days(2), days(0)), "no meter keeps `instantaneous`"),
        (("GEN:1", "daily", days(2), days(0)), "does not read daily of GEN:1"),
        (("GEN:2", "block_load", days(2), days(0)), "does not read block_load of GEN:2"),
    ],
)
async def test_what_cannot_be_read_again_is_refused(bench: Bench, words: tuple[str, ...], said: str) -> None:
    bench.add("1")
    called = await EdgeBackfill(bench.poller(BLOCK), bench.clock).backfill("uid 7", words)
    assert not called.done
    assert said in called.lines[0]
