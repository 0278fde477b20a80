"""Central's judgement on times: the cases that stayed untrusted for ever, and what must go on waiting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.central.times.judging import DoubtedCapture, Finding, judge

BOOT = "aaaa0001"
BEGAN = datetime(2026, 11, 23, tzinfo=UTC)
HALF = timedelta(minutes=30)
H5_30 = timedelta(hours=5, minutes=30)
Z = timedelta(0)
ALL = 10**9


def row(
    seq: int,
    true: datetime,
    *,
    received: datetime,
    gateway: timedelta = Z,
    meter: timedelta = Z,
    held: timedelta = Z,
    proved: bool = False,
    profile: str = "block_load",
    **more: object,
) -> DoubtedCapture:
    """A stored row, recorded at `true` by a clock that is `meter` ahead, read at `received` (both true times).

    The gateway's clock is `gateway` ahead; it had evidence for it where `proved`.
    """
    at = true + meter
    return DoubtedCapture(
        capture_id=f"GEN:1/{profile}/{seq}",
        meter="GEN:1",
        profile=profile,
        journal="j",
        seq=seq,
        at=at,
        start=at - HALF if profile == "block_load" else None,
        received_at=received + gateway,
        boot=None if proved else BOOT,
        steady=None if proved else (received - BEGAN).total_seconds(),
        drift=(meter - gateway).total_seconds(),
        held=held.total_seconds(),
        **more,  # type: ignore[arg-type]
    )


def live(seq: int, true: datetime, *, gateway: timedelta) -> DoubtedCapture:
    """A reading of a meter without a clock: stamped by the gateway's."""
    one = row(seq, true, received=true, gateway=gateway, profile="instantaneous")
    return replace(one, at=true + gateway, drift=None, held=None)


def judged(
    rows: list[DoubtedCapture],
    *,
    known: bool = True,
    complete_to: int = ALL,
    now: datetime = BEGAN + timedelta(days=30),
) -> list[Finding]:
    return judge(rows, {BOOT: BEGAN} if known else {}, complete_to, now)


def settled(rows: list[DoubtedCapture], **more: object) -> dict[int, datetime]:
    """The instants that the findings give, by seq."""
    found = judged(rows, **more)  # type: ignore[arg-type]
    return {
        one.seq: one.at + f.shift
        for one in rows
        for f in found
        if f.first_seq <= one.seq <= f.last_seq and f.profile == one.profile
    }


T = BEGAN + timedelta(days=2)


def blocks(count: int, until: datetime, first_seq: int = 1, **more: object) -> list[DoubtedCapture]:
    return [
        row(first_seq + n, until - (count - 1 - n) * HALF, **more)  # type: ignore[arg-type]
        for n in range(count)
    ]


def test_592_rows_of_a_gateway_25_minutes_slow_are_right_as_they_stand() -> None:
    rows = blocks(592, T, received=T + HALF / 2, gateway=timedelta(minutes=-25))
    (finding,) = judged(rows)
    assert (finding.first_seq, finding.last_seq, finding.shift) == (1, 592, Z)
    assert "1500 s slow" in finding.evidence
    assert "clock was right" in finding.evidence


def test_107_live_readings_three_days_ahead_come_back() -> None:
    rows = [live(n, T + n * HALF, gateway=timedelta(days=3)) for n in range(1, 108)]
    (finding,) = judged(rows)
    assert finding.shift == timedelta(days=-3)
    assert settled(rows) == {n: T + n * HALF for n in range(1, 108)}


def test_clock_jumps_give_each_reading_its_own_shift() -> None:
    """90 rows and 18 live readings while the gateway's clock jumped to and fro: the meters were right."""
    jumps = [timedelta(hours=n % 7 - 3) for n in range(18)]
    lives = [live(100 + n, T + n * HALF, gateway=jump) for n, jump in enumerate(jumps)]
    rows = [
        row(n, T + n * HALF / 5, received=T + n * HALF / 5 + HALF / 3, gateway=jumps[n // 5], held=HALF * n)
        for n in range(90)
    ]
    found = settled(rows + lives)
    assert {n: found[n] for n in range(90)} == {n: T + n * HALF / 5 for n in range(90)}
    assert {n: found[100 + n] for n in range(18)} == {n: T + n * HALF for n in range(18)}


def test_nothing_is_settled_before_anybody_told_the_time() -> None:
    rows = blocks(5, T, received=T, gateway=timedelta(minutes=-25))
    assert judged([*rows, live(9, T, gateway=Z)], known=False) == []


def test_95_rows_of_a_meter_five_and_a_half_hours_ahead_are_put_right_by_the_chain() -> None:
    """First poll of a meter whose clock was set by the wrong zone: one unbroken chain up to the newest block."""
    rows = blocks(95, T, received=T + HALF / 3, meter=H5_30, proved=True)
    daily = row(200, T - timedelta(hours=6), received=T + HALF / 3, meter=H5_30, proved=True, profile="daily")
    old = row(201, T - timedelta(days=30), received=T + HALF / 3, meter=H5_30, proved=True, profile="daily")
    found = settled([*rows, daily, old])
    assert {seq: found[seq] for seq in range(1, 96)} == {n + 1: T - (94 - n) * HALF for n in range(95)}
    assert found[200] == T - timedelta(hours=6)  # within the chain
    assert 201 not in found  # from before it: the clock may have been right then
    assert "fast" in judged(rows)[0].evidence


def test_rows_lie_on_whole_blocks_again_though_the_clock_was_some_seconds_off_beside() -> None:
    rows = blocks(3, T, received=T + HALF / 3, meter=H5_30, proved=True)
    rough = [replace(one, drift=(one.drift or 0) + 17.0) for one in rows]
    assert settled(rough) == {n + 1: T - (2 - n) * HALF for n in range(3)}


def test_rows_from_before_the_clock_was_set_wrong_wait() -> None:
    """Right rows, then the clock is set 5:30 ahead: a gap of stamps, over which no chain goes."""
    right = blocks(10, T - 4 * HALF, received=T + HALF / 3, meter=Z, proved=True)
    right = [replace(one, drift=H5_30.total_seconds()) for one in right]  # read after it was set
    wrong = blocks(4, T, first_seq=50, received=T + HALF / 3, meter=H5_30, proved=True)
    assert sorted(settled([*right, *wrong])) == [50, 51, 52, 53]


def test_a_clock_set_back_makes_stamps_twice_and_no_chain_goes_through_them() -> None:
    right = blocks(20, T - 4 * HALF, received=T + HALF / 3, proved=True)
    right = [replace(one, drift=-H5_30.total_seconds()) for one in right]
    wrong = blocks(4, T, first_seq=50, received=T + HALF / 3, meter=-H5_30, proved=True)
    assert settled([*right, *wrong]) == {}  # which of two with one stamp is the right one nobody knows
    assert sorted(settled(wrong)) == [50, 51, 52, 53]


def test_what_the_polls_before_had_seen_needs_no_chain() -> None:
    events = [
        row(n, T - n * HALF, received=T, meter=H5_30, held=timedelta(days=1), proved=True, profile="events")
        for n in (1, 47, 49)
    ]
    assert sorted(settled(events)) == [1, 47]


def test_a_row_that_may_be_from_before_the_clock_was_set_right_waits() -> None:
    """At 10:00 the clock was put back by 5:30; a row dated 11:00, read at 12:00, may be of 5:30 or of 11:00."""
    read = T + timedelta(hours=2)
    at = T + timedelta(hours=1)
    one = row(1, at, received=read, held=timedelta(hours=2), proved=True, former=H5_30.total_seconds())
    assert settled([one]) == {}
    later = row(2, T + 14 * HALF, received=T + 14 * HALF, held=7 * timedelta(hours=1), proved=True,
                former=H5_30.total_seconds())  # fmt: skip
    assert settled([later]) == {2: T + 14 * HALF}  # 5:30 before it the clock was right already


def test_a_row_of_the_future_waits() -> None:
    one = row(1, T + timedelta(days=900), received=T, gateway=timedelta(minutes=-25))
    assert settled([one]) == {}


def test_a_flagged_time_waits_unless_the_clock_was_watched() -> None:
    one = row(1, T, received=T + HALF, gateway=timedelta(minutes=-25), flagged=True)
    assert settled([one]) == {}
    assert settled([replace(one, held=7200.0)]) == {1: T}


def test_a_meter_without_a_clock_is_believed_row_by_row() -> None:
    one = replace(row(1, T, received=T, gateway=timedelta(days=1)), drift=None, held=None)
    assert settled([one]) == {1: T}
    assert settled([replace(one, flagged=True)]) == {}


def test_ranges_stop_at_what_waits_and_at_what_has_not_come() -> None:
    rows = blocks(6, T, received=T, gateway=timedelta(minutes=-25))
    rows[2] = replace(rows[2], at=T + timedelta(days=9), start=T + timedelta(days=9) - HALF)
    assert [(f.first_seq, f.last_seq) for f in judged(rows)] == [(1, 2), (4, 6)]
    assert [(f.first_seq, f.last_seq) for f in judged(rows, complete_to=5)] == [(1, 2), (4, 5), (6, 6)]


def test_what_was_said_is_not_said_again_and_better_evidence_says_it_anew() -> None:
    rows = blocks(4, T, received=T, gateway=timedelta(minutes=-25))
    said = [replace(one, shift=Z, judged=True) for one in rows[:3]]
    assert [(f.first_seq, f.last_seq) for f in judged([*said, rows[3]])] == [(4, 4)]
    lives = [replace(live(9, T, gateway=timedelta(days=3)), shift=timedelta(days=-2), judged=True)]
    assert [f.shift for f in judged(lives)] == [timedelta(days=-3)]


@given(
    st.integers(-(10**7), 10**7),
    st.integers(-(10**6), 10**6),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=12, unique=True),
    st.booleans(),
    st.randoms(),
)
def test_whatever_is_settled_is_settled_at_the_true_instant(
    gateway: int, meter: int, ages: list[int], proved: bool, random: object
) -> None:
    """Any gateway's and meter's error, any ages and order: what is not sure waits, nothing is settled wrongly."""
    received = T + timedelta(days=12)
    off = timedelta(0) if proved else timedelta(seconds=gateway)
    rows = [
        row(
            n + 1,
            received - timedelta(seconds=age),
            received=received,
            gateway=off,
            meter=timedelta(seconds=meter),
            held=timedelta(seconds=500_000),
            proved=proved,
            profile="events",
        )
        for n, age in enumerate(ages)
    ]
    random.shuffle(rows)  # type: ignore[attr-defined]
    found = settled(rows)
    sound = timedelta(minutes=15)
    for one, at in ((one, found[one.seq]) for one in rows if one.seq in found):
        true = received - timedelta(seconds=ages[one.seq - 1])
        assert abs(at - true) <= (sound if abs(meter) <= 900 else timedelta(seconds=60))


@pytest.mark.parametrize("slow", [timedelta(minutes=-25), timedelta(days=3)])
def test_meters_own_error_and_gateways_are_told_apart(slow: timedelta) -> None:
    rows = blocks(5, T, received=T + HALF / 3, gateway=slow, meter=H5_30)
    assert settled(rows) == {n + 1: T - (4 - n) * HALF for n in range(5)}


def test_a_reading_of_2099_is_held_once_and_believed_when_its_time_has_come() -> None:
    ahead = replace(row(1, T + timedelta(days=26_000), received=T, proved=True), ahead=True)
    (held,) = judged([ahead], now=T)
    assert (held.trusted, held.first_seq, held.last_seq) == (False, 1, 1)
    assert "dated 26000.0 days ahead" in held.evidence
    assert judged([replace(ahead, judged=True)], now=T) == []
    (believed,) = judged([replace(ahead, judged=True)], now=ahead.at)
    assert (believed.trusted, believed.shift) == (True, Z)


@pytest.mark.parametrize("odd", [{"steady": 999_999_999_999.0}, {"drift": 9e12}, {"held": 9e12}])
def test_evidence_that_leads_out_of_all_years_proves_nothing(odd: dict[str, float]) -> None:
    """It ended central, at every start anew."""
    good = row(1, BEGAN + timedelta(hours=2), received=BEGAN + timedelta(hours=2, minutes=1))
    other = row(2, BEGAN + timedelta(hours=3), received=BEGAN + timedelta(hours=3, minutes=1))
    bad = replace(other, **odd)  # type: ignore[arg-type]
    assert settled([good, bad]) == settled([good]) != {}


def test_a_time_is_not_put_right_out_of_all_years() -> None:
    """The end of such a block stayed where it was, and its start moved behind it."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    odd = DoubtedCapture(
        capture_id="GEN:1/block_load/1",
        meter="GEN:1",
        profile="block_load",
        journal="j",
        seq=1,
        at=last - timedelta(minutes=29, seconds=50),
        start=last - timedelta(minutes=30, seconds=10),
        received_at=last - timedelta(seconds=65),
        drift=-timedelta(minutes=29, seconds=40).total_seconds(),
        held=3_600.0,
    )
    assert judged([odd], now=last) == []
