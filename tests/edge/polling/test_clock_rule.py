"""Corrections of meters' clocks: what a rule allows, tried on clocks that drift, over weeks of their own time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.edge.polling.clock_rule import QUARTER, ClockRule, is_doubted, may_again

INDIA = ZoneInfo("Asia/Kolkata")
RULE = ClockRule(least=10, most=120, step=60, margin=120)
NOON = datetime(2026, 11, 23, 6, 37, tzinfo=UTC)
PERIODS = st.sampled_from([timedelta(minutes=m) for m in (5, 10, 15, 30, 60)])
ZONES = st.sampled_from(["Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"])
TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1))


@st.composite
def rules(draw: st.DrawFn) -> ClockRule:
    least = draw(st.integers(2, 60))
    margin, step = draw(st.integers(20, 400)), draw(st.integers(1, 300))
    assume(2 * margin + step < QUARTER.total_seconds())
    return ClockRule(least=least, most=draw(st.integers(least + 1, 900)), step=step, margin=margin)


def interval_of(shown: datetime, zone: ZoneInfo, period: timedelta) -> int:
    return int((shown.astimezone(zone).replace(tzinfo=None) - datetime(2000, 1, 1)) // period)


@given(rules(), st.floats(-2000, 2000), st.floats(0, 30))
def test_a_clock_is_moved_towards_the_time_and_never_past_it(
    rule: ClockRule, drift: float, doubt: float
) -> None:
    by = rule.shift(drift, doubt).total_seconds()
    assert abs(by) <= rule.step
    assert abs(drift + by) <= abs(drift)
    assert by * drift <= 0
    if abs(drift) - doubt < rule.least or abs(drift) + doubt > rule.most:
        assert by == 0
    else:
        assert by != 0


@given(rules(), TIMES, st.integers(-300, 300), ZONES, PERIODS)
def test_no_correction_leaves_its_interval(
    rule: ClockRule, naive: datetime, seconds: int, zone_name: str, period: timedelta
) -> None:
    zone, shown, by = ZoneInfo(zone_name), naive.replace(tzinfo=UTC), timedelta(seconds=seconds)
    assume(abs(seconds) <= rule.step)
    clear = rule.clear_at(shown, by, zone, period)
    if clear is None:
        return
    assert shown <= clear < shown + 2 * QUARTER
    margin = timedelta(seconds=rule.margin, milliseconds=-1)
    for grid in (period, QUARTER):
        here = [interval_of(one, zone, grid) for one in (clear - margin, clear, clear + by, clear + margin)]
        assert len(set(here)) == 1
        assert interval_of(clear + by - margin, zone, grid) == interval_of(clear + by + margin, zone, grid)


def test_short_intervals_leave_no_moment() -> None:
    assert RULE.clear_at(NOON, timedelta(seconds=-30), INDIA, timedelta(minutes=4)) is None


@given(
    ppm=st.integers(-400, 400),
    begin=st.integers(-110, 110),
    period=st.sampled_from([timedelta(minutes=m) for m in (15, 30, 60)]),
)
def test_a_drifting_clock_stays_near_and_closes_each_interval_once(
    ppm: int, begin: int, period: timedelta
) -> None:
    """Weeks of a clock that runs wrong evenly: it is looked at each half hour, and corrected as the rule says."""
    now, ahead, last = NOON, float(begin), None
    ends: list[int] = []
    marks: list[datetime] = []
    shown_before = now + timedelta(seconds=ahead)

    def run_to(at: datetime) -> None:
        nonlocal now, ahead, shown_before
        ahead += (at - now).total_seconds() * ppm / 1e6
        now = at
        close(now + timedelta(seconds=ahead))

    def close(shown: datetime) -> None:
        nonlocal shown_before
        first, upto = (interval_of(one, INDIA, period) for one in (shown_before, shown))
        ends.extend(range(first + 1, upto + 1) if upto >= first else [-1])
        shown_before = shown

    for _ in range(48 * 21):
        run_to(now + timedelta(minutes=30))
        by = RULE.shift(ahead)
        shown = now + timedelta(seconds=ahead)
        clear = RULE.clear_at(shown, by, INDIA, period)
        if not by or clear is None or not may_again(last, now):
            continue
        run_to(now + (clear - shown))
        ahead += by.total_seconds()
        last = now
        marks.append(now)
        close(now + timedelta(seconds=ahead))
    assert -1 not in ends
    assert all(b == a + 1 for a, b in pairwise(ends))
    assert all(b - a >= timedelta(days=1) for a, b in pairwise(marks))
    # A day's drift, and what is left alone: 400 ppm are 35 s a day.
    assert abs(ahead) <= 35 + RULE.least + 2


def test_a_meter_that_doubts_its_clock_says_so_in_its_status() -> None:
    assert [is_doubted(status) for status in (None, 0, 0xFF, 1, 2, 0x81)] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]


def test_a_correction_of_the_future_holds_nobody_up() -> None:
    day = timedelta(days=1)
    assert may_again(None, NOON)
    assert may_again(NOON - day, NOON)
    assert may_again(NOON + 2 * day, NOON)
    assert not may_again(NOON - day / 2, NOON)
    assert not may_again(NOON + day / 2, NOON)
