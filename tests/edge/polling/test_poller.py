"""The poller against scripted meters: turns, dead meters' budget, gaps, repeats, clocks, a full journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.contract.messages import rfc3339
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.polling.admission import AdmissionLimits, Urgency
from gateway.edge.polling.health import PollState
from gateway.edge.polling.schedule import DEFAULT_PERIODS, Schedule
from gateway.errors import JournalError
from protocols.errors import (
    AnswerOwed,
    IdentityMismatch,
    LineUnavailable,
    MeterSilent,
)
from protocols.reading import (
    ProfileName,
)
from tests.support.edge.poller_bench import (
    BLOCK,
    HALF,
    LIVE,
    T0,
    Bench,
    block,
)
from tests.support.fakes import JumpClock


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    yield Bench(journal, clock)
    await journal.close()


async def test_once_reads_every_meter_and_says_what_is_missing(bench: Bench) -> None:
    for serial in "123":
        bench.add(serial)
    bench.add("2").error = lambda: MeterSilent("no answer")
    bench.add("3").lacks = {BLOCK}
    bench.add("1").rows = [block(T0 - HALF)]
    poller = bench.poller(LIVE, BLOCK, lines=2)
    report = await poller.poll_once()
    one, three, two = (next(m for m in report.meters if m.meter == f"GEN:{s}") for s in "132")
    assert one.captures == {"instantaneous": 1, "block_load": 1}
    assert (two.error_code, two.ok, report.ok) == ("meter_silent", False, False)
    assert (three.captures, three.unsupported, three.ok) == ({"instantaneous": 1}, ("block_load",), True)
    health = poller.statistics().meters
    assert [health[f"GEN:{s}"].state for s in "123"] == [PollState.OK, PollState.SILENT, PollState.OK]
    bench.clock.at += timedelta(hours=1)
    before = len(bench.meters["GEN:3"].reads)
    await poller.poll_once()
    assert [p for p, _, _ in bench.meters["GEN:3"].reads[before:]] == [LIVE]


async def test_what_a_meter_lacks_is_asked_again_after_a_day(bench: Bench) -> None:
    meter = bench.add("1")
    meter.lacks = {BLOCK}
    poller = bench.poller(LIVE, BLOCK)
    assert (await poller.poll_once()).meters[0].unsupported == ("block_load",)
    meter.lacks = set()
    meter.rows = [block(T0 - HALF)]
    bench.clock.at += timedelta(days=1)
    report = (await poller.poll_once()).meters[0]
    assert (report.unsupported, report.captures["block_load"]) == ((), 1)


async def test_a_profile_that_was_read_before_is_not_given_up(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - HALF)]
    poller = bench.poller(LIVE, BLOCK)
    assert (await poller.poll_once()).ok
    meter.lacks = {BLOCK}
    bench.clock.at += timedelta(hours=1)
    report = (await poller.poll_once()).meters[0]
    assert (report.error_code, report.unsupported) == ("meter_refused", ())


async def test_backfill_then_only_from_the_watermark(bench: Bench) -> None:
    meter = bench.add("1")
    history = [T0 - k * HALF for k in range(48 * 30, -1, -1)]
    meter.rows = [block(at, wh=k) for k, at in enumerate(history)]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    assert bench.journal.last_seq == len(history)
    assert await bench.journal.watermark("GEN:1", "block_load") == T0
    assert await bench.gaps() == []
    bench.clock.at = T0 + HALF + timedelta(minutes=1)
    meter.rows.append(block(T0 + HALF))
    meter.reads.clear()
    await poller.poll_once()
    assert meter.reads[0][1] == T0 - timedelta(hours=2)
    assert bench.journal.last_seq == len(history) + 1


async def test_a_long_memory_is_read_in_parts_while_others_are_due_and_orders_come(bench: Bench) -> None:
    """A month of rows takes 12 minutes of the line here; nobody waits for more than five days of it."""
    long, other = bench.add("1"), bench.add("2")
    history = [T0 - k * HALF for k in range(48 * 30, -1, -1)]
    long.rows, long.row_takes = [block(at) for at in history], 0.5
    minute = timedelta(minutes=1)
    poller = bench.poller(LIVE, BLOCK, schedule=Schedule(periods={**DEFAULT_PERIODS, LIVE: minute}))
    waits = []

    async def orders() -> None:
        while bench.journal.last_seq < len(history):
            asked = bench.clock.at
            async with poller.turn("bus0", Urgency.ORDERED, "an order"):
                waits.append(bench.clock.at - asked)
            await asyncio.sleep(0)

    task = asyncio.create_task(orders())
    await bench.run_until(poller, T0 + timedelta(minutes=100))
    await task
    part = timedelta(seconds=0.5 * (48 * 5 + 10)) + minute  # this clock jumps on by what the line would rest
    assert max(waits) <= part
    assert max(b - a for a, b in pairwise(other.opened)) <= part + minute
    assert {c.at for c in await bench.captures() if "block_load" in c.capture_id} == {*history}
    assert await bench.gaps() == []
    assert poller.statistics().meters["GEN:1"].state == PollState.OK


async def test_broken_read_keeps_its_progress(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - k * HALF) for k in range(20, -1, -1)]
    meter.break_after = 7
    poller = bench.poller(BLOCK)
    assert not (await poller.poll_once()).ok
    assert bench.journal.last_seq == 7
    # It is read newest first: of the newest days half as many are asked for, down to what the line carries.
    for _ in range(8):
        await poller.poll_once()
    assert {one.at for one in await bench.captures()} == {row.at for row in meter.rows}
    meter.break_after = None
    assert (await poller.poll_once()).ok
    assert sorted(c.at for c in await bench.captures()) == [r.at for r in meter.rows]
    assert await bench.journal.watermark("GEN:1", "block_load") == T0


async def test_gap_opens_and_is_filled_when_rows_come_late(bench: Bench) -> None:
    meter = bench.add("1")
    rows = [block(T0 - k * HALF) for k in range(40, -1, -1)]
    meter.rows = rows[:10] + rows[14:]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    span = (rows[9].at, rows[13].at)
    assert await bench.gaps() == [("open", *span)]
    meter.rows = rows
    bench.clock.at += timedelta(minutes=61)
    await poller.poll_once()
    assert ("filled", *span) in await bench.gaps()
    assert span[0] not in [g.after for g in await bench.journal.open_gaps()]
    assert {c.at for c in await bench.captures()} == {r.at for r in rows}


async def test_gap_becomes_unfillable_and_missing_end_is_noticed(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - timedelta(hours=9)), block(T0 - timedelta(hours=8))]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    early, late = await bench.gaps()
    assert early == ("open", T0 - timedelta(hours=9), T0 - timedelta(hours=8, minutes=30))
    assert late == ("open", T0 - timedelta(hours=8), T0 - timedelta(hours=2))
    assert await bench.journal.watermark("GEN:1", "block_load") == T0 - timedelta(hours=2)
    bench.clock.at += timedelta(hours=25)
    await poller.poll_once()
    states = {(after, state) for state, after, _ in await bench.gaps()}
    assert (early[1], "unfillable") in states
    assert (late[1], "unfillable") in states


async def test_gap_is_read_again_ever_more_rarely(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - 5 * HALF), block(T0 - 3 * HALF)]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    wanted = (BLOCK, T0 - 5 * HALF, T0 - 4 * HALF)
    tries = []
    for minutes in range(0, 26 * 60, 20):
        bench.clock.at = T0 + timedelta(minutes=minutes)
        meter.reads.clear()
        await poller.poll_once()
        if wanted in meter.reads:
            tries.append(minutes)
    assert len(tries) == 6
    assert tries[0] <= 80
    assert ("unfillable", *wanted[1:]) in await bench.gaps()


async def test_repeats_cost_nothing_and_two_rows_with_one_stamp_are_two(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - 2 * HALF), block(T0 - HALF), block(T0)]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    await poller.poll_once()
    assert bench.journal.last_seq == 3
    meter.rows.append(block(T0 - HALF, wh=7, occurrence=1))
    await poller.poll_once()
    assert (await bench.captures())[-1].capture_id.endswith("09:30:00Z/1")
    meter.rows[1] = block(T0 - HALF, wh=9)
    await poller.poll_once()
    assert (await bench.captures())[-1].value_rev == 2


async def test_watermark_never_passes_trusted_now(bench: Bench) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - HALF), block(T0), block(T0 + HALF), block(T0 + 2 * HALF)]
    bench.clock.good = False
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    assert await bench.journal.watermark("GEN:1", "block_load") is None
    assert [c.reason for c in await bench.captures()] == ["untrusted_time"] * 4
    bench.clock.good = True
    await poller.poll_once()
    mark = await bench.journal.watermark("GEN:1", "block_load")
    assert mark == T0
    settled = (await bench.captures())[4:]
    assert [(c.at, c.value_rev, c.reason) for c in settled] == [(T0 - HALF, 2, None), (T0, 2, None)]


@pytest.mark.parametrize(
    ("drift", "status", "alarm", "reason"),
    [
        (timedelta(seconds=30), 0, False, None),
        (timedelta(seconds=-90), 0, True, None),
        (timedelta(hours=-3), 0, True, "untrusted_time"),
        (timedelta(0), 1, False, "untrusted_time"),
        (timedelta(0), 0xFF, False, None),
    ],
)
async def test_clock_of_the_meter(
    bench: Bench, drift: timedelta, status: int, alarm: bool, reason: str | None
) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - HALF)]
    meter.drift, meter.status = drift, status
    poller = bench.poller(BLOCK, LIVE)
    await poller.poll_once()
    stored, present = await bench.captures()
    assert (stored.reason, present.reason) == (reason, None)
    health = poller.statistics().meters["GEN:1"]
    assert (health.drift_alarm, health.clock_trusted) == (alarm, reason is None)
    if reason:
        assert await bench.journal.watermark("GEN:1", "block_load") is None


async def test_a_gateway_that_does_not_know_the_time_advises_nobody_to_set_a_meter_s_clock(
    bench: Bench,
) -> None:
    meter = bench.add("1")
    meter.rows = [block(T0 - HALF)]
    meter.drift = timedelta(hours=-3)
    bench.clock.good = False
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    health = poller.statistics().meters["GEN:1"]
    assert (health.drift_alarm, health.clock_trusted) == (False, None)
    bench.clock.good = True
    await poller.poll_once()
    health = poller.statistics().meters["GEN:1"]
    assert (health.drift_alarm, health.clock_trusted) == (True, False)


async def test_no_false_gaps_from_a_clock_that_is_not_trusted(bench: Bench) -> None:
    meter = bench.add("1")
    meter.drift = timedelta(hours=-3)
    meter.rows = [block(T0 - 9 * HALF), block(T0 - 3 * HALF)]
    await bench.poller(BLOCK).poll_once()
    assert len(await bench.captures()) == 2
    assert await bench.gaps() == []


async def test_of_a_wrong_meter_only_the_identity_is_asked_now_and_then(bench: Bench) -> None:
    meter = bench.add("1")
    meter.serial = "999"
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(hours=5))
    assert (meter.reads, bench.journal.last_seq) == ([], 0)
    assert 20 <= len(meter.opened) <= 22
    health = poller.statistics().meters["GEN:1"]
    assert (health.state, health.error_code) == ("mismatch", "identity_mismatch")
    assert health.next_try is not None
    meter.serial = "1"
    await bench.run_until(poller, bench.clock.at + timedelta(minutes=20))
    assert poller.statistics().meters["GEN:1"].state == "ok"
    meter.serial = "999"
    await bench.run_until(poller, bench.clock.at + timedelta(minutes=20))
    assert poller.statistics().meters["GEN:1"].state == "mismatch"
    meter.serial = "1"
    poller._meters["GEN:1"].resume(bench.clock.at)
    await bench.run_until(poller, bench.clock.at + timedelta(minutes=1))
    assert poller.statistics().meters["GEN:1"].state == "ok"
    meter.error = lambda: IdentityMismatch(expected="GEN:1", found="GEN:2")
    assert (await poller.poll_meter("GEN:1")).error_code == "identity_mismatch"


async def test_back_off_doubles_and_any_answer_resets_it(bench: Bench) -> None:
    meter = bench.add("1")
    meter.error, meter.silence_takes = (lambda: MeterSilent("nothing")), 0.0
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(hours=1))
    waits = [(b - a).total_seconds() for a, b in zip(meter.opened, meter.opened[1:], strict=False)]
    nominal = [1, 2, 4, 8, 16, 32, 40, 40, 40]
    assert all(0.9 * most <= wait <= most for wait, most in zip(waits[:9], nominal, strict=True)), waits
    meter.error = None
    await bench.run_until(poller, bench.clock.at + timedelta(minutes=1))
    health = poller.statistics().meters["GEN:1"]
    assert (health.state, health.failures, health.error) == ("ok", 0, None)


async def test_a_meter_that_must_not_be_asked_yet_stays_silent_until_then(bench: Bench) -> None:
    """Its earlier answer may still come: that is no sign of life, for which all silent meters would be tried."""
    owing, other = bench.add("1"), bench.add("2")
    other.error = lambda: MeterSilent("nothing")
    owing.error = lambda: AnswerOwed(9.0) if len(owing.opened) % 2 == 0 else MeterSilent("nothing")
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(minutes=20))
    assert poller.statistics().meters["GEN:1"].state == "silent"
    waits = [(b - a).total_seconds() for a, b in pairwise(owing.opened)]
    assert all(wait >= 9 for wait in waits[1::2])
    assert len(other.opened) <= 20 * 60 / 40 + 10


@pytest.mark.parametrize("dead", [1, 16, 31])
async def test_the_living_lose_two_percent_to_dead_meters_at_most(bench: Bench, dead: int) -> None:
    """What they lose is counted here from outside: the time of a probe in which somebody was due and not yet read."""
    minute = timedelta(seconds=60)
    for n in range(32):
        meter = bench.add(f"{n:02}")
        if n < dead:
            meter.error, meter.silence_takes = (lambda: MeterSilent("nothing")), 1.5
    poller = bench.poller(LIVE, schedule=Schedule(periods={**DEFAULT_PERIODS, LIVE: minute}))
    await bench.run_until(poller, T0 + timedelta(hours=2))
    elapsed = (bench.clock.at - T0).total_seconds()
    alive = [m for m in bench.meters.values() if m.error is None]
    silences = sorted(span for m in bench.meters.values() for span in m.silences)
    lost = 0.0
    due = served = T0
    while due < bench.clock.at - minute:
        waits_from = max(due, served)
        served = max(served, *(next(at for at in m.opened if at >= due) for m in alive))
        lost += sum(max(0.0, (min(b, served) - max(a, waits_from)).total_seconds()) for a, b in silences)
        due = T0 + timedelta(seconds=30) if due == T0 else due + minute
    assert lost <= 0.02 * elapsed
    assert all(len(m.reads) >= 119 for m in alive), "no minute is missing"
    told = poller.statistics().lines["bus0"]
    assert told.dead_seconds == pytest.approx(sum((b - a).total_seconds() for a, b in silences))
    assert told.dead_cost_seconds == pytest.approx(lost, abs=2.0)
    probes = [len(m.opened) for m in bench.meters.values() if m.error]
    assert max(probes) - min(probes) <= 3
    waits = [b - a for m in bench.meters.values() for a, b in pairwise(m.opened) if m.error]
    assert max(waits) <= minute, "so it is back within a minute of its power"


async def test_meters_come_back_soon_after_the_whole_bus_was_silent(bench: Bench) -> None:
    for n in range(8):
        bench.add(str(n)).error = lambda: MeterSilent("nothing")
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(hours=2))
    assert poller.statistics().silent == 8
    for meter in bench.meters.values():
        meter.error = None
    await bench.run_until(poller, bench.clock.at + timedelta(minutes=1))
    assert poller.statistics().silent == 0


async def test_line_down_backs_off_as_a_line(bench: Bench) -> None:
    for n in range(5):
        bench.add(str(n))
    bench.line_error = LineUnavailable("refused")
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(hours=1))
    statistics = poller.statistics()
    assert statistics.lines["bus0"].state == "down"
    assert statistics.lines["bus0"].error_code == "line_unavailable"
    assert statistics.polls < 100
    bench.line_error = None
    await bench.run_until(poller, bench.clock.at + timedelta(minutes=1))
    assert poller.statistics().lines["bus0"].state == "ok"
    assert poller.statistics().silent == 0


async def test_missed_runs_are_not_piled_up(bench: Bench) -> None:
    meter = bench.add("1")
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(hours=1))
    bench.clock.at += timedelta(days=2)
    before = len(meter.reads)
    await bench.run_until(poller, bench.clock.at + timedelta(minutes=14))
    assert len(meter.reads) - before <= 2


async def test_bug_in_one_driver_does_not_stop_the_others(bench: Bench) -> None:
    bench.add("1").error = lambda: ZeroDivisionError("oops")
    bench.add("2")
    poller = bench.poller(LIVE)
    await bench.run_until(poller, T0 + timedelta(hours=1))
    health = poller.statistics().meters
    assert (health["GEN:1"].error_code, health["GEN:2"].state) == ("internal", "ok")


async def test_full_journal_pauses_reading_and_goes_on_by_itself(tmp_path: Path) -> None:
    clock = JumpClock(T0)
    limits = JournalLimits(max_bytes=120_000, retention=timedelta(hours=1), sinks=("mqtt",))
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    bench = Bench(journal, clock)
    meter = bench.add("1")
    meter.rows = [block(T0 + k * HALF) for k in range(-48 * 30, 48)]
    poller = bench.poller(BLOCK)
    await bench.run_until(poller, T0 + timedelta(hours=3))
    held = journal.last_seq
    assert journal.statistics().full
    assert "max_bytes" in (poller.statistics().paused or "")
    assert len(meter.opened) < 250
    await journal.ack("mqtt", held)
    for _ in range(40):
        await bench.run_until(poller, clock.at + timedelta(minutes=40))
        if journal.last_seq >= len([r for r in meter.rows if r.at <= clock.at]):
            break
        await journal.ack("mqtt", journal.last_seq)
    assert poller.statistics().paused is None
    assert journal.last_seq == len([r for r in meter.rows if r.at <= clock.at])
    await journal.close()


async def test_poll_once_tells_the_journals_failure(bench: Bench) -> None:
    bench.add("1")
    await bench.journal.close()
    with pytest.raises(JournalError, match="closed"):
        await bench.poller(LIVE).poll_once()


@pytest.mark.parametrize(
    ("profile", "after", "due"),
    [
        (LIVE, "10:00:00", "10:00:30"),
        (LIVE, "10:00:30", "10:15:30"),
        (BLOCK, "10:10:00", "10:30:30"),
        (ProfileName.DAILY, "10:10:00", "12:30:30"),
        (ProfileName.BILLING, "10:10:00", "18:30:30"),
    ],
)
def test_due_times_follow_local_boundaries(profile: ProfileName, after: str, due: str) -> None:
    at = datetime.fromisoformat(f"2026-11-23T{after}+00:00")
    assert Schedule().next_due(profile, at).strftime("%H:%M:%S") == due


def test_meters_come_due_spread_over_the_first_twenty_minutes() -> None:
    schedule = Schedule(spread=timedelta(minutes=20))
    at = datetime.fromisoformat("2026-11-23T10:00:00+00:00")
    meters = [f"GEN:{n}" for n in range(2_000)]

    def minutes(profile: ProfileName, meter: str, after: datetime = at) -> float:
        return (schedule.next_due(profile, after, meter=meter) - at).total_seconds() / 60

    blocks = [minutes(BLOCK, meter) for meter in meters]
    assert min(blocks) >= 0.5
    assert max(blocks) < 20.5
    for start in range(20):
        together = sum(start + 0.5 <= due < start + 1.5 for due in blocks)
        assert 60 <= together <= 140, "about a twentieth in each minute"
    lives = [minutes(LIVE, meter) for meter in meters]
    assert max(sum(n + 0.5 <= due < n + 1.5 for due in lives) for n in range(15)) <= 260, (
        "no more than in ten minutes"
    )
    one = schedule.next_due(BLOCK, at, meter="GEN:7")
    assert rfc3339(one) == "2026-11-23T10:02:48.296235Z", "the same in every run of the program"
    assert schedule.next_due(BLOCK, one, meter="GEN:7") == one + HALF, "always at its own place"
    assert schedule.next_due(BLOCK, one - timedelta(seconds=1), meter="GEN:7") == one


def test_what_is_due_at_the_half_hour_is_read_in_one_visit() -> None:
    """Three visits in each half hour were an association more than the documented round trips."""
    schedule, at = Schedule(spread=timedelta(minutes=20)), T0
    for meter in (f"GEN:{n}" for n in range(500)):
        dues = set[datetime]()
        for profile in (LIVE, ProfileName.PREPAYMENT, BLOCK, ProfileName.EVENTS, ProfileName.DAILY):
            due = schedule.next_due(profile, at, meter=meter)
            while due <= at + HALF:
                dues.add(due)
                due = schedule.next_due(profile, due, meter=meter)
        assert len(dues) == 2, meter


async def test_meters_started_together_are_read_a_few_at_a_time(bench: Bench) -> None:
    """615 sessions at once were 6,922 failed polls in 400 s: nobody was answered in time."""
    for n in range(300):
        bench.add(str(n))
    limits = AdmissionLimits(sessions=24, per_segment=24, per_host=1, pace=1e9)
    poller = bench.poller(LIVE, lines=300, limits=limits)
    report = await poller.poll_once()
    assert report.ok
    assert bench.most_open == 24
    assert (poller.statistics().sessions, poller.statistics().sessions_waiting) == (0, 0)


async def test_a_crowd_of_silent_meters_leaves_the_others_their_turns(bench: Bench) -> None:
    for n in range(100):
        bench.add(str(n)).error = (lambda: MeterSilent("no answer")) if n % 2 else None
    limits = AdmissionLimits(sessions=8, per_segment=8, per_host=8, pace=1e9)
    poller = bench.poller(LIVE, lines=100, limits=limits)
    await poller.poll_once()
    bench.most_open = 0
    silent = [name for name, meter in bench.meters.items() if meter.error is not None]
    for name in silent:
        bench.meters[name].opened.clear()
    await asyncio.gather(*(poller.poll_once() for _ in range(2)))
    assert bench.most_open <= 8
    assert all(bench.meters[name].opened for name in silent), "they are still asked"


async def test_a_cancelled_poll_gives_its_place_back(bench: Bench) -> None:
    for n in range(3):
        bench.add(str(n))
    limits = AdmissionLimits(sessions=1, per_segment=1, per_host=1, pace=1e9)
    poller = bench.poller(LIVE, lines=3, limits=limits)
    tasks = [asyncio.create_task(poller.poll_meter(name)) for name in bench.meters]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert poller.statistics().sessions_waiting == 2
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[2].result().ok
    assert (poller.statistics().sessions, poller.statistics().sessions_waiting) == (0, 0)
