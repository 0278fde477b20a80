"""What a visit took on its way into the journal: one commit, beside the line, and nothing passes what was refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.journal.entry import JournalBatch, SeqRange
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.admission import AdmissionLimits
from gateway.edge.polling.takings import MOST_AGE, MOST_ROWS, Takings
from gateway.errors import JournalError, JournalFull
from protocols.errors import MeterSilent
from protocols.reading import ProfileName
from tests.support.edge.poller_bench import BLOCK, HALF, LIVE, T0, Bench, block
from tests.support.fakes import JumpClock
from tests.support.journal_records import record
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.waiting import until

DAILY, EVENTS = ProfileName.DAILY, ProfileName.EVENTS


class SlowDisk:
    """The journal's commits wait while `held`, and fail as often as `failures` says."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self._free = threading.Event()
        self._free.set()
        self.begun = self.failures = 0
        store = journal._writer.store
        apply = store.apply

        def slow(batches: Sequence[JournalBatch], *rest: Any) -> Any:
            if batches:
                self.begun += 1
                self._free.wait()
                if self.failures:
                    self.failures -= 1
                    raise JournalFull("no space")
            return apply(batches, *rest)

        monkeypatch.setattr(store, "apply", slow)
        monkeypatch.setattr(journal._writer._house, "heal", lambda _: False)

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    yield Bench(journal, clock)
    await journal.close()


@pytest.fixture
def disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    found = SlowDisk(bench.journal, monkeypatch)
    yield found
    found.let_go()


async def turns(count: int = 200) -> None:
    """Let the event loop do all that it can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_visit_is_one_commit(bench: Bench) -> None:
    bench.add("1").rows = [block(T0 - k * HALF) for k in range(20)]
    poller = bench.poller(LIVE, BLOCK, DAILY, EVENTS)
    before = bench.journal.statistics().commits
    report = await poller.poll_meter("GEN:1")
    assert report.captures == {"instantaneous": 1, "block_load": 20, "daily": 0, "events": 0}
    assert poller.statistics().captures == 21
    assert bench.journal.statistics().commits == before + 1
    assert await bench.journal.watermark("GEN:1", BLOCK) is not None


async def test_what_was_read_before_a_meter_fell_silent_is_journaled(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - k * HALF) for k in range(20, 0, -1)]
    meter.break_after = 7
    report = await bench.poller(LIVE, BLOCK, DAILY).poll_meter("GEN:1")
    assert (report.error_code, report.captures) == (
        "meter_protocol_error",
        {"instantaneous": 1, "block_load": 7},
    )
    assert len(await bench.captures()) == 8


async def test_the_line_and_the_meter_are_free_while_a_commit_runs(bench: Bench, disk: SlowDisk) -> None:
    meters = [bench.add(serial) for serial in "1234"]
    poller = bench.poller(LIVE)
    disk.hold()
    running = asyncio.create_task(poller.run())
    try:
        await until(lambda: disk.begun == 1 and meters[1].opened and poller.busy("bus0") is None)
        async with poller.left_alone("GEN:1"):
            pass
        await turns()
        assert [len(meter.opened) for meter in meters] == [1, 1, 0, 0], (
            "one visit ahead of the disk, not more"
        )
        disk.let_go()
        await until(lambda: poller.statistics().captures >= 4)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_meters_next_visit_waits_for_its_commit_and_holds_no_door(
    bench: Bench, disk: SlowDisk
) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - k * HALF) for k in range(20, 0, -1)]
    poller = bench.poller(BLOCK, limits=AdmissionLimits())
    disk.hold()
    first, second = (asyncio.create_task(poller.poll_meter("GEN:1")) for _ in range(2))
    await until(lambda: disk.begun == 1)
    await turns()
    assert (len(meter.opened), poller.statistics().sessions) == (1, 0)
    read = len(meter.reads)
    disk.let_go()
    assert (await first).captures == {"block_load": 20}
    assert (await second).captures == {"block_load": 0}
    (again,) = meter.reads[read:]
    assert again[1] == T0 - HALF - timedelta(hours=2), "from the new watermark on"


async def test_whoever_visits_a_meter_finds_its_watermarks_durable(bench: Bench, disk: SlowDisk) -> None:
    bench.add("1").rows = [block(T0 - k * HALF) for k in range(20, 0, -1)]
    meter = bench.poller(BLOCK)._meters["GEN:1"]
    disk.hold()
    await meter.attempt([BLOCK])
    again = asyncio.create_task(meter.attempt([BLOCK]))
    await turns()
    assert len(bench.meters["GEN:1"].opened) == 1
    disk.let_go()
    await again
    await meter.durable()
    assert meter.captures == 20


async def test_an_order_to_read_again_comes_after_the_commit_under_way(bench: Bench, disk: SlowDisk) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - k * HALF) for k in range(20, 0, -1)]
    poller = bench.poller(BLOCK)
    await poller.poll_meter("GEN:1")
    bench.clock.at += HALF
    meter.rows.append(block(T0))
    disk.hold()
    visit = asyncio.create_task(poller.poll_meter("GEN:1"))
    await until(lambda: disk.begun == 2)

    async def order() -> None:
        async with poller.left_alone("GEN:1"):
            await bench.journal.read_again("GEN:1", BLOCK, T0 - 10 * HALF, T0 - 9 * HALF, "order")

    ordered = asyncio.create_task(order())
    await turns()
    disk.let_go()
    await asyncio.gather(visit, ordered)
    mark = await bench.journal.watermark("GEN:1", BLOCK)
    assert mark is not None
    assert mark < T0 - 10 * HALF


async def test_what_the_journal_refused_is_read_again(bench: Bench, disk: SlowDisk) -> None:
    for serial in "123":
        bench.add(serial).rows = [block(T0 - k * HALF) for k in range(20, 0, -1)]
    poller = bench.poller(BLOCK)
    disk.failures = 1_000_000
    running = asyncio.create_task(poller.run())
    try:
        await until(lambda: "no space" in (poller.statistics().paused or ""))
        disk.failures = 0
        await until(lambda: poller.statistics().captures == 60)
        assert poller.statistics().paused is None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len({one.capture_id for one in await bench.captures()}) == 60


async def test_what_a_cancelled_visit_had_read_is_journaled(bench: Bench) -> None:
    meter, there = bench.add("1"), asyncio.Event()
    read = meter.read

    async def stuck(profile: ProfileName, *span: Any) -> AsyncIterator[Any]:
        if profile is not LIVE:
            there.set()
            await asyncio.Event().wait()
        async for row in read(profile, *span):
            yield row

    meter.read = stuck  # type: ignore[assignment,method-assign]
    running = asyncio.create_task(bench.poller(LIVE, BLOCK).run())
    await there.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    path, clock = bench.journal._writer._path, bench.clock
    await bench.journal.close()
    bench.journal = await Journal.open(path, clock=clock)
    assert [one.profile for one in await bench.captures()] == ["instantaneous"]


async def test_a_visit_is_durable_as_a_whole_or_not_at_all(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watermark of the first batch without the rows of the second would hide them."""
    store = journal._writer.store
    set_mark, failing = store.captures.set_mark, [True]

    def fails(*mark: Any) -> None:
        if mark[1] == DAILY and failing:
            failing.clear()
            raise OSError(28, "No space left on device")
        set_mark(*mark)

    monkeypatch.setattr(store.captures, "set_mark", fails)
    monkeypatch.setattr(journal._writer._house, "heal", lambda _: False)
    batches = [
        JournalBatch(blocks=(record(1),), watermarks=(("GEN:1", "block_load", T0),)),
        JournalBatch(watermarks=(("GEN:1", "daily", T0),)),
    ]
    with pytest.raises(JournalError):
        await journal.submit(batches)
    assert journal.last_seq == 0
    assert await journal.watermark("GEN:1", "block_load") is None
    assert await journal.submit(batches) == [SeqRange(1, 1), SeqRange(2, 1)]
    assert await journal.watermark("GEN:1", "daily") == T0


class Hands:
    """A journal that answers when the test says so."""

    def __init__(self) -> None:
        self.open: list[tuple[Sequence[JournalBatch], asyncio.Future[list[SeqRange]]]] = []
        self.durable: list[JournalBatch] = []

    def submit(self, batches: Sequence[JournalBatch]) -> asyncio.Future[list[SeqRange]]:
        future: asyncio.Future[list[SeqRange]] = asyncio.get_running_loop().create_future()
        self.open.append((batches, future))
        assert len(self.open) == 1, "what comes later waits for what came before"
        return future

    def answer(self, error: JournalError | None = None) -> None:
        batches, future = self.open.pop()
        if error is not None:
            future.set_exception(error)
            return
        self.durable += batches
        future.set_result([SeqRange(1, sum(len(b.rows) for b in batch.blocks)) for batch in batches])


@lru_cache
def rows(number: int, count: int) -> JournalBatch:
    marks = (("GEN:1", "block_load", T0 + number * HALF),)
    return JournalBatch(blocks=tuple(record(1000 * number + n) for n in range(count)), watermarks=marks)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([0, 1, 60, MOST_ROWS])),
        st.sampled_from([("time", 0), ("take", 0), ("take", 0), ("refuse", 0)]),
    ),
    max_size=12,
)


@given(story=steps)
def test_what_is_durable_is_always_the_beginning_of_what_was_read(story: list[tuple[str, int]]) -> None:
    async def run() -> None:
        journal, settled = Hands(), list[tuple[int, JournalError | None]]()
        takings = Takings(journal, lambda new, error: settled.append((new, error)))
        added: list[JournalBatch] = []
        news: list[int] = []
        ended: list[bool] = []
        takings.finally_do(lambda: ended.append(True))
        rooms: list[asyncio.Task[None]] = []
        for number, (what, count) in enumerate([*story, ("end", 0), *[("take", 0)] * 3]):
            match what:
                case "add" if all(room.done() for room in rooms):
                    added.append(rows(number, count))
                    takings.add(added[-1], news.append)
                    rooms.append(asyncio.create_task(takings.make_room()))
                case "time":
                    await asyncio.sleep(MOST_AGE)
                case "take" | "refuse" if journal.open:
                    journal.answer(JournalFull("no space") if what == "refuse" else None)
                case "end":
                    takings.hand_over()
            await turns(5)
            assert journal.durable == added[: len(journal.durable)]
            assert takings._rows <= MOST_ROWS + (0 if all(room.done() for room in rooms) else MOST_ROWS)
        await asyncio.gather(*rooms, return_exceptions=True)
        assert news == [sum(len(b.rows) for b in batch.blocks) for batch in journal.durable]
        ((_, refused),) = settled
        assert takings.ended
        if refused:
            assert not ended
            with pytest.raises(JournalFull):
                await takings.durable()
        else:
            await takings.durable()
            assert journal.durable == added
            assert ended == [True]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


async def test_the_meter_is_the_one_to_blame_for_its_own_failure_only(bench: Bench, disk: SlowDisk) -> None:
    """A refused commit says nothing against the meter, whose state is that of its session."""
    bench.add("1")
    bench.add("2").error = lambda: MeterSilent("no answer")
    poller = bench.poller(LIVE, lines=2)
    disk.failures = 1
    with pytest.raises(JournalFull):
        await poller.poll_meter("GEN:1")
    health = poller.statistics().meters["GEN:1"]
    assert (health.state, health.error, health.captures) == ("ok", None, 0)
    report = await poller.poll_meter("GEN:2")
    assert report.error_code == "meter_silent"
