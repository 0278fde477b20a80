"""What a profile's rhythm leaves out, against a model that lists every interval, day, month and snapshot."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.polling.rhythm import Days, Intervals, Months, Rhythm, Snapshots, month_later
from gateway.edge.polling.schedule import Schedule
from protocols.reading import ProfileName

IST = ZoneInfo("Asia/Kolkata")
T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)
HALF = timedelta(minutes=30)
LIVE = ProfileName.INSTANTANEOUS


def midnight(day: int, month: int = 11) -> datetime:
    return datetime(2026, month, day, tzinfo=IST).astimezone(UTC)


def told(rhythm: Rhythm, points: list[datetime]) -> set[datetime]:
    """Which of these points the spans that were found hold."""
    return {point for after, until in rhythm.take() for point in points if after < point <= until}


@given(st.sets(st.integers(1, 60)), st.integers(0, 60))
def test_each_interval_is_there_or_told(there: set[int], settled: int) -> None:
    ends = [T0 + n * HALF for n in range(61)]
    rhythm = Intervals(T0)
    for n in sorted(there):
        rhythm.row(ends[n] - HALF, ends[n])
    rhythm.settled(ends[settled])
    last = max([*there, settled])
    assert told(rhythm, ends) == {ends[n] for n in range(1, last + 1) if n not in there}
    assert rhythm.upto == ends[last]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Europe/Berlin", "America/Sao_Paulo"])
@given(data=st.data())
def test_each_day_is_there_or_told(zone: str, data: st.DataObject) -> None:
    there = data.draw(st.sets(st.integers(1, 40)))
    settled = data.draw(st.integers(0, 40))
    place = ZoneInfo(zone)
    days = [date(2026, 10, 1) + timedelta(days=n) for n in range(41)]
    nights = [datetime(d.year, d.month, d.day, tzinfo=place).astimezone(UTC) for d in days]
    rhythm = Days(nights[0], place)
    for n in sorted(there):
        rhythm.row(None, nights[n] + timedelta(seconds=data.draw(st.integers(-600, 600))))
    rhythm.settled(nights[settled] + timedelta(hours=1))
    last = max([*there, settled])
    assert told(rhythm, nights) == {nights[n] for n in range(1, last + 1) if n not in there}


def test_a_watermark_in_the_middle_of_a_day_waits_for_the_next_midnight() -> None:
    rhythm = Days(midnight(3) + timedelta(hours=15), IST)
    rhythm.row(None, midnight(5))
    assert rhythm.take() == [(midnight(3) + timedelta(hours=15), midnight(4))]


def test_a_month_without_a_row_is_told_and_a_moved_date_is_not() -> None:
    rhythm = Months(midnight(1, 6), IST)
    rhythm.row(None, midnight(1, 7))
    rhythm.row(None, midnight(15, 8))  # the billing date was moved
    assert rhythm.take() == []
    rhythm.row(None, midnight(15, 10))
    assert rhythm.take() == [(midnight(15, 8), midnight(15, 9))]
    rhythm.settled(midnight(20, 11))
    assert rhythm.take() == [(midnight(15, 10), midnight(15, 11))]


def test_a_month_later_is_the_last_day_where_a_month_is_shorter() -> None:
    assert month_later(datetime(2026, 1, 31, tzinfo=UTC)) == datetime(2026, 2, 28, tzinfo=UTC)
    assert month_later(datetime(2026, 12, 31, tzinfo=UTC)) == datetime(2027, 1, 31, tzinfo=UTC)


@given(st.sets(st.integers(1, 40)), st.integers(0, 40), st.data())
def test_each_snapshot_is_there_or_told_however_late_in_its_period(
    there: set[int], settled: int, data: st.DataObject
) -> None:
    schedule = Schedule(spread=timedelta(minutes=20))
    period = schedule.period(LIVE)

    def boundary(at: datetime) -> datetime:
        return schedule.boundary(LIVE, at, "Asia/Kolkata", "GEN:7")

    due = [boundary(T0) + n * period for n in range(41)]
    late = st.integers(0, int(period.total_seconds()) - 1)
    rhythm = Snapshots(due[0] + timedelta(seconds=data.draw(late)), boundary, period)
    for n in sorted(there):
        rhythm.row(None, due[n] + timedelta(seconds=data.draw(late)))
    rhythm.settled(due[settled])
    last = max([*there, settled - 1])
    assert told(rhythm, due) == {due[n] for n in range(1, last + 1) if n not in there}


def test_what_was_before_the_first_row_is_no_gap() -> None:
    for rhythm in (Intervals(None), Days(None, IST), Months(None, IST)):
        rhythm.settled(T0)
        rhythm.row(T0 - HALF, T0)
        assert (rhythm.take(), rhythm.upto) == ([], T0)
