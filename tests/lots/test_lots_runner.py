"""The runner: it does what the core says, keeps each step, and hears what others tell the lot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.errors import UsageError
from gateway.lots import orders, report
from gateway.lots.core import Again, Done, Failed, Item, ItemState, Lot, LotState, Outcome
from gateway.lots.runner import LotRunner, Visit
from gateway.lots.store import LotStore
from gateway.lots.terms import Terms
from protocols.clock import SystemClock
from protocols.errors import MeterSilent

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
CLOCK = SystemClock()


def made(tmp_path: Path, terms: Terms, meters: int = 3, lines: tuple[str, ...] = ()) -> LotStore:
    items = [
        Item(position=n, meter=f"GEN:{n}", line=lines[n] if lines else f"l{n}", facts={"n": n})
        for n in range(meters)
    ]
    lot = Lot(name="x", kind="test", created=NOW, by="t", terms=terms, facts={"image": "a"})
    return LotStore.create(tmp_path / "x.lot", lot, items)


async def test_every_meter_is_visited_until_it_is_done(tmp_path: Path) -> None:
    visits: list[int] = []

    async def visit(at: Visit) -> Outcome:
        visits.append(at.item.position)
        assert at.facts == {"image": "a"}
        assert at.item.facts == {"n": at.item.position}
        seen = int(at.item.kept.get("seen", 0))
        await at.keep({"seen": seen + 1})
        return Done(note=f"{seen} before") if seen == 2 else Again()

    with made(tmp_path, Terms(at_once=2)) as store:
        assert (await LotRunner(store, visit, CLOCK).run()).state is LotState.FINISHED
        assert [item.note for item in store.items()] == ["2 before"] * 3
    assert sorted(visits) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_no_more_than_allowed_go_on_at_once_and_one_on_a_line(tmp_path: Path) -> None:
    going: set[str] = set()
    together = asyncio.Barrier(2)
    most = 0

    async def visit(at: Visit) -> Outcome:
        nonlocal most
        assert at.item.line not in going
        going.add(at.item.line)
        most = max(most, len(going))
        await together.wait()
        going.discard(at.item.line)
        return Done()

    with made(tmp_path, Terms(at_once=2), 4, ("a", "a", "b", "b")) as store:
        await LotRunner(store, visit, CLOCK).run()
    assert most == 2


async def test_a_meter_that_fails_is_tried_again_and_then_has_failed(tmp_path: Path) -> None:
    async def visit(at: Visit) -> Outcome:
        if at.item.position == 1:
            raise MeterSilent("no answer")
        return Done()

    with made(tmp_path, Terms(attempts=3, pause=0)) as store:
        lot = await LotRunner(store, visit, CLOCK).run()
        item = store.items()[1]
        assert (item.state, item.reason, item.tries) == (ItemState.FAILED, "meter_silent", 3)
        shown = report.summary(lot, store.items())
        assert (shown["done"], shown["failed"], shown["failures"]) == (2, 1, "meter_silent 1")


async def stopped(tmp_path: Path, terms: Terms, outcome: Callable[[Item], Outcome]) -> tuple[LotStore, int]:
    visits = 0

    async def visit(at: Visit) -> Outcome:
        nonlocal visits
        visits += 1
        return outcome(at.item)

    store = made(tmp_path, terms, 20)
    lot = await LotRunner(store, visit, CLOCK).run()
    assert lot.state is LotState.STOPPED, lot
    return store, visits


async def test_it_stops_when_too_many_fail(tmp_path: Path) -> None:
    terms = Terms(max_failed=2, attempts=1)
    store, visits = await stopped(tmp_path, terms, lambda _: Failed(reason="x", final=True))
    assert visits == 3
    assert store.lot().reason == "3 meters failed, more than 2"
    store.close()


async def test_it_stops_when_too_large_a_share_fails(tmp_path: Path) -> None:
    terms = Terms(max_failed_percent=20, share_after=5)
    store, visits = await stopped(
        tmp_path, terms, lambda i: Failed(reason="x", final=True) if i.position % 3 == 1 else Done()
    )
    assert visits == 5
    assert store.lot().reason == "2 of 5 meters failed, more than 20 %"
    store.close()


async def test_it_stops_at_the_first_failure_of_a_kind_and_goes_on_when_resumed(tmp_path: Path) -> None:
    terms = Terms(stop_on=frozenset({"rolled_back"}))
    store, visits = await stopped(
        tmp_path, terms, lambda i: Failed(reason="rolled_back", final=True) if i.position == 4 else Done()
    )
    assert visits == 5
    assert "GEN:4 failed with rolled_back" in store.lot().reason

    async def visit(_at: Visit) -> Outcome:
        return Done()

    orders.resume(store, at=NOW, by="ravi")
    assert (await LotRunner(store, visit, CLOCK).run()).state is LotState.FINISHED
    assert [(w.by, w.what.partition(":")[0]) for w in store.words()] == [
        ("t", "planned"),
        ("", "stopped"),
        ("ravi", "resumed"),
        ("", "finished"),
    ]
    assert [item.meter for item in orders.retry(store, at=NOW, by="ravi")] == ["GEN:4"]
    assert (await LotRunner(store, visit, CLOCK).run()).state is LotState.FINISHED
    assert {item.state for item in store.items()} == {ItemState.DONE}
    store.close()


async def test_the_pilot_is_looked_at_before_the_rest(tmp_path: Path) -> None:
    async def visit(at: Visit) -> Outcome:
        return Done() if at.item.kept else await again(at)

    async def again(at: Visit) -> Outcome:
        await at.keep({"half": True})
        return Again()

    with made(tmp_path, Terms(pilot=2, at_once=5), 5) as store:
        lot = await LotRunner(store, visit, CLOCK).run()
        assert (lot.state, lot.reason) == (
            LotState.PAUSED,
            "the first 2 meters have ended: look at the report, then resume",
        )
        assert [i.state for i in store.items()] == [ItemState.DONE] * 2 + [ItemState.FRESH] * 3
        orders.resume(store, at=NOW, by="ravi")
        assert (await LotRunner(store, visit, CLOCK).run()).state is LotState.FINISHED


async def test_a_pause_from_another_program_is_heard_by_a_visit(tmp_path: Path) -> None:
    steps = 0

    async def visit(at: Visit) -> Outcome:
        nonlocal steps
        with LotStore(store.path) as other:
            orders.pause(other, at=NOW, by="ravi")
        while at.may_go_on():
            steps += 1
            await asyncio.sleep(0.01)
        return Again(note="half")

    with made(tmp_path, Terms()) as store:
        lot = await LotRunner(store, visit, CLOCK).run()
        assert (lot.state, lot.reason) == (LotState.PAUSED, "paused by ravi")
        assert [i.state for i in store.items()] == [ItemState.BEGUN, ItemState.FRESH, ItemState.FRESH]
        with pytest.raises(UsageError, match="is paused"):
            orders.pause(store, at=NOW, by="ravi")


async def test_a_cancelled_lot_ends_what_no_visit_is_with_and_the_rest_after_its_visit(
    tmp_path: Path,
) -> None:
    async def visit(_at: Visit) -> Outcome:
        with LotStore(store.path) as other:
            orders.cancel(other, at=NOW, by="ravi")
            assert [i.state for i in other.items()] == [ItemState.VISITED] + [ItemState.CANCELLED] * 2
        return Again(note="half")

    with made(tmp_path, Terms()) as store:
        assert (await LotRunner(store, visit, CLOCK).run()).state is LotState.CANCELLED
        assert {i.state for i in store.items()} == {ItemState.CANCELLED}
        with pytest.raises(UsageError, match="is cancelled"):
            orders.resume(store, at=NOW, by="ravi")


async def test_a_run_that_is_cancelled_costs_no_try_and_one_that_fails_ends_the_run(tmp_path: Path) -> None:
    async def hangs(_at: Visit) -> Outcome:
        started.set()
        await asyncio.Event().wait()
        return Done()

    async def broken(_at: Visit) -> Outcome:
        raise ZeroDivisionError

    started = asyncio.Event()
    with made(tmp_path, Terms(attempts=1)) as store:
        task = asyncio.create_task(LotRunner(store, hangs, CLOCK).run())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (store.items()[0].state, store.items()[0].tries) == (ItemState.BEGUN, 0)
        with pytest.raises(ZeroDivisionError):
            await LotRunner(store, broken, CLOCK).run()
        assert store.items()[0].state is ItemState.VISITED


async def test_two_programs_do_not_run_one_lot(tmp_path: Path) -> None:
    async def visit(_at: Visit) -> Outcome:
        with LotStore(store.path) as other:
            assert other.in_use()
            with pytest.raises(UsageError, match="run by another program"):
                await LotRunner(other, visit, CLOCK).run()
            with pytest.raises(UsageError, match="run by another program"):
                orders.retry(other, at=NOW, by="ravi")
        return Done()

    with made(tmp_path, Terms(), 1) as store:
        await LotRunner(store, visit, CLOCK).run()
        assert not store.in_use()


async def test_a_clock_that_was_set_back_delays_the_next_visit_by_one_spacing_at_most(tmp_path: Path) -> None:
    with made(tmp_path, Terms(rate_per_hour=60)) as store:
        core = store.core()
        core.apply(core.begun(core.items[0], NOW + timedelta(days=400)), now=NOW + timedelta(days=400))
        core.apply(core.ended(core.items[0], Done(), NOW))
        waits = core.step(NOW)
        assert getattr(waits, "until", None) == NOW + timedelta(minutes=1)


def test_a_lot_is_made_once_of_meters_that_differ(tmp_path: Path) -> None:
    lot = Lot(name="x", kind="test", created=NOW, by="t", terms=Terms())
    twice = [Item(position=n, meter="GEN:1") for n in range(2)]
    with pytest.raises(UsageError, match="GEN:1 is in the lot twice"):
        LotStore.create(tmp_path / "x.lot", lot, twice)
    LotStore.create(tmp_path / "x.lot", lot, twice[:1]).close()
    with pytest.raises(UsageError, match="there is a lot"):
        LotStore.create(tmp_path / "x.lot", lot, twice[:1])
    with pytest.raises(UsageError, match="is a lot of test, not of firmware"):
        LotStore(tmp_path / "x.lot", "firmware")
    assert (tmp_path / "x.lot").stat().st_mode & 0o777 == 0o600
    (tmp_path / "y.lot").write_bytes(b"")
    with pytest.raises(UsageError, match="is no lot"):
        LotStore(tmp_path / "y.lot")


async def test_failures_that_are_not_counted_stop_no_lot_and_make_no_share(tmp_path: Path) -> None:
    async def visit(at: Visit) -> Outcome:
        if at.item.position < 8:
            return Failed(reason="wrong_image", final=True)
        return Failed(reason="meter_silent", final=True) if at.item.position == 8 else Done()

    not_counted = frozenset({"wrong_image"})
    terms = Terms(max_failed=0, max_failed_percent=0, share_after=1, not_counted=not_counted)
    with made(tmp_path, terms, 10) as store:
        lot = await LotRunner(store, visit, CLOCK).run()
        assert (lot.state, lot.reason) == (LotState.STOPPED, "1 meters failed, more than 0")
        assert sum(item.state is ItemState.FAILED for item in store.items()) == 9
        assert store.lot().terms == terms  # as it was written


@pytest.mark.virtual_time
async def test_nothing_begins_while_the_clock_is_in_doubt_and_a_visit_ends_at_its_next_step(
    tmp_path: Path,
) -> None:
    doubts = [""]
    told: list[str] = []
    visits: list[tuple[int, bool]] = []

    async def visit(at: Visit) -> Outcome:
        if at.item.position == 0:
            doubts[0] = "no source is heard"
        visits.append((at.item.position, at.may_go_on()))
        return Done()

    with made(tmp_path, Terms(at_once=1)) as store:
        runner = LotRunner(store, visit, CLOCK, doubt=lambda: doubts[0], tell=told.append)
        running = asyncio.create_task(runner.run())
        while not told:
            await asyncio.sleep(1)
        await asyncio.sleep(60)
        assert visits == [(0, False)]
        doubts[0] = ""
        await running
    assert visits == [(0, False), (1, True), (2, True)]
    assert told == ["no source is heard", ""]
