"""Turns of others on a polled line, and lines and meters that come and go while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.journal.journal import Journal
from gateway.edge.polling.admission import AdmissionLimits, Route, Urgency
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter
from gateway.errors import TurnMissed
from protocols.errors import MeterSilent
from protocols.line import LineStatistics
from protocols.session import MeterSpec
from tests.support.edge.poller_bench import LIVE, T0, Bench, FakeLine
from tests.support.fakes import JumpClock
from tests.support.waiting import until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    yield Bench(journal, clock)
    await journal.close()


@asynccontextmanager
async def running(poller: Poller) -> AsyncIterator[None]:
    task = asyncio.create_task(poller.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def polled(meter: str, line: str, route: Route | None = None) -> PolledMeter:
    return PolledMeter(meter=meter, line=line, spec=MeterSpec(meter=meter), profiles=(LIVE,), route=route)


@pytest.mark.parametrize("runs", [True, False])
async def test_whoever_has_the_turn_has_the_line_alone_and_orders_go_first(bench: Bench, runs: bool) -> None:
    for n in range(4):
        bench.add(str(n))
    poller = bench.poller(LIVE)
    order: list[str] = []
    inside = 0

    async def take(urgency: Urgency, name: str) -> None:
        nonlocal inside
        async with poller.turn("bus0", urgency, name) as turn:
            assert bench.open_now == inside == 0, "nobody else talks"
            assert turn.line.name == "bus0"
            inside += 1
            order.append(name)
            for _ in range(20):
                await asyncio.sleep(0)
                assert bench.open_now == 0
            inside -= 1

    async with running(poller) if runs else asyncio.Lock():
        async with poller.turn("bus0", Urgency.ORDERED, "holding"):
            assert poller.line("bus0").talk == "holding"
            waiting = [
                asyncio.create_task(take(urgency, name))
                for urgency, name in (
                    (Urgency.IDENTIFY, "scan"),
                    (Urgency.ORDERED, "relay"),
                    (Urgency.ORDERED, "read"),
                )
            ]
            await until(lambda: poller.line("bus0").waiting == 3)
        await asyncio.gather(*waiting)
    assert order == ["relay", "read", "scan"]
    assert (poller.line("bus0").waiting, poller.line("bus0").talk) == (0, None)


async def test_who_waits_too_long_is_told_what_the_line_is_busy_with(bench: Bench) -> None:
    bench.add("1")
    poller = bench.poller(LIVE)
    async with running(poller), poller.turn("bus0", Urgency.ORDERED, "a scan"):
        with pytest.raises(
            TurnMissed, match=r"bus0 was not free for a relay within 0\.01 s: it is busy with a scan"
        ):
            async with poller.turn("bus0", Urgency.ORDERED, "a relay", within=0.01):
                raise AssertionError("it has no turn")
        assert poller.line("bus0").waiting == 0
    with pytest.raises(TimeoutError, match="mine"):
        async with poller.turn("bus0", Urgency.ORDERED, "a relay", within=60):
            raise TimeoutError("mine")


async def test_a_turn_with_a_meter_leaves_it_alone_and_shows_that_it_is_there(bench: Bench) -> None:
    meter = bench.add("1")
    meter.error = lambda: MeterSilent("nothing")
    poller = bench.poller(LIVE)
    await poller.poll_once()
    assert poller.meter("GEN:1").state == "silent"
    meter.error = None
    async with poller.turn("bus0", Urgency.ORDERED, "its clock", meter="GEN:1") as turn:
        assert turn.meter is not None
        assert turn.meter.meter == "GEN:1"
        alone = asyncio.create_task(asyncio.wait_for(poller.left_alone("GEN:1").__aenter__(), 60))
        await asyncio.sleep(0)
        assert not alone.done()
    await alone
    await poller.left_alone("GEN:1").__aexit__(None, None, None)
    assert poller.meter("GEN:1").next_try == bench.clock.at, "it is tried at once"
    with pytest.raises(KeyError):
        async with poller.turn("bus0", Urgency.ORDERED, "nobody", meter="GEN:9"):
            raise AssertionError


async def test_a_waiting_probe_steps_aside_for_an_order_at_the_doors(bench: Bench) -> None:
    """One session at once in the whole edge: the line that waits for it gives its place to the order."""
    for n in range(2):
        bench.add(str(n))
    poller = bench.poller(
        LIVE, lines=2, limits=AdmissionLimits(sessions=1, per_segment=1, per_host=1, pace=1e9)
    )
    async with running(poller):
        await until(lambda: poller.statistics().polls >= 2)
        async with poller.turn("bus0", Urgency.ORDERED, "holding"):
            await until(lambda: poller.statistics().sessions_waiting == 1)
            ordered = asyncio.create_task(poller.poll_meter("GEN:1"))
            await until(lambda: poller.line("bus1").waiting == 1)
            assert poller.statistics().sessions_waiting == 1, "the line waits once, for the order now"
        assert (await ordered).ok


async def test_lines_and_meters_come_and_go_while_others_are_polled(bench: Bench) -> None:
    bench.add("1")
    poller = bench.poller(LIVE)
    for serial in "23":
        bench.add(serial)
    async with running(poller):
        await until(lambda: bench.meters["GEN:1"].opened)
        poller.add_line("bus9", FakeLine("bus9"))
        poller.add_meter(polled("GEN:2", "bus9"))
        poller.add_meter(polled("GEN:3", "bus0"))
        await until(lambda: bench.meters["GEN:2"].opened and bench.meters["GEN:3"].opened)
        assert set(poller.lines) == {"bus0", "bus9"}
        assert set(poller.meters) == {"GEN:1", "GEN:2", "GEN:3"}
        with pytest.raises(ValueError, match="GEN:3 is polled already, on line bus0"):
            poller.add_meter(polled("GEN:3", "bus9"))
        with pytest.raises(ValueError, match="there is a line bus9 already"):
            poller.add_line("bus9", FakeLine("bus9"))
        await poller.replace_meter(polled("GEN:3", "bus9"))
        assert poller.line_of("GEN:3") == "bus9"
        assert (await poller.remove_meter("GEN:2")).line == "bus9"
        count = len(bench.meters["GEN:2"].opened)
        async with poller.turn("bus9", Urgency.ORDERED, "in hand"):
            waits = asyncio.create_task(poller.poll_meter("GEN:3"))
            await until(lambda: poller.line("bus9").waiting == 1)
            going = asyncio.create_task(poller.remove_line("bus9"))
            with pytest.raises(TurnMissed, match="taken out of the configuration"):
                await waits
            assert not going.done(), "the conversation in hand is not cut off"
        assert (await going).name == "bus9"
        before, at = len(bench.meters["GEN:1"].opened), bench.clock.at
        await until(lambda: bench.clock.at > at + timedelta(hours=1))
        assert len(bench.meters["GEN:1"].opened) > before
        assert len(bench.meters["GEN:2"].opened) == count
        assert set(poller.statistics().meters) == {"GEN:1"}
        assert {change.name for change in poller.changes.all()} == {"GEN:1", "bus0"}


async def test_a_meter_that_is_removed_while_it_is_read_is_not_told_of_any_more(bench: Bench) -> None:
    meter = bench.add("1")
    poller = bench.poller(LIVE)
    started, go_on = asyncio.Event(), asyncio.Event()
    identify = meter.identify

    async def slow() -> object:
        started.set()
        await go_on.wait()
        return await identify()

    meter.identify = slow  # type: ignore[method-assign, assignment]
    async with running(poller):
        await started.wait()
        going = asyncio.create_task(poller.remove_meter("GEN:1"))
        await asyncio.sleep(0)
        assert not going.done()
        go_on.set()
        await going
        for _ in range(10):
            await asyncio.sleep(0)
        assert [change.name for change in poller.changes.all()] == ["bus0"]


async def test_seconds_that_pass_are_no_progress_of_a_conversation(bench: Bench) -> None:
    bench.add("1")
    poller = bench.poller(LIVE)
    line = FakeLine("bus9")
    poller.add_line("bus9", line)
    held = iter(range(100))
    sent = 0
    line.statistics = lambda: LineStatistics(busy_seconds=next(held), sent=sent)  # type: ignore[method-assign]
    assert poller.busy("bus9") is None
    async with poller.turn("bus9", Urgency.ORDERED, "a scan"):
        assert poller.busy("bus9") == (before := poller.busy("bus9"))
        sent = 8
        assert poller.busy("bus9") != before
