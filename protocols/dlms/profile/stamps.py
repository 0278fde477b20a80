"""Columns of COSEM date-times to instants and meter times at speed, by the rules of `cosem_time` alone.

Of a date with its deviation and status, `cosem_time` is asked for the first and the last second. Where these are
a whole day apart, the zone did not change that day, and every second between is the first plus the time of
day. All else (wildcards, impossible parts, the days on which a zone changes) is asked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_time import OCTETS, Stamp
from protocols.dlms.profile.columnwise import from_columns
from protocols.reading import MeterTime

_PARTS = Struct("4sx3sx3s")
"""Year, month and day · hour, minute and second · deviation and status: all that an instant depends on."""
_FIRST = b"\x00\x00\x00"
_LAST = b"\x17\x3b\x3b"
_DAY = timedelta(hours=23, minutes=59, seconds=59)
_PLAIN_DAY = b"\x07\xd1\x01\x01"
_NO_OFFSET = b"\x00\x00\x00"
EARLIEST_YEAR = 2
LATEST_YEAR = 9998
"""Years in which every capture period and zone stays inside what a datetime can hold."""


@dataclass(frozen=True, slots=True)
class _PlainDay:
    """A day without a change of the zone: its first second in UTC, and what its stamps share."""

    at: datetime
    wall: str
    deviation: int | None
    status: int | None
    trusted: bool


@lru_cache(maxsize=4096)  # the same days come from every meter
def _day(date: bytes, tail: bytes, zone: ZoneInfo) -> _PlainDay | None:
    first = cosem_time.decode(_octets(date, _FIRST, tail), zone)
    last = cosem_time.decode(_octets(date, _LAST, tail), zone)
    even = first.at is not None and last.at is not None and last.at - first.at == _DAY
    if first.at is None or not even or first.trusted != last.trusted:
        return None
    return _PlainDay(first.at, first.wall[: -len("00:00:00")], first.deviation, first.status, first.trusted)


@lru_cache(maxsize=2048)  # asked for twice, as an instant and as what the meter said
def _stamp(octets: bytes, zone: ZoneInfo) -> Stamp:
    return cosem_time.decode(octets, zone)


@lru_cache(maxsize=4096)
def _time(time: bytes) -> tuple[timedelta, str] | None:
    stamp = cosem_time.decode(_octets(_PLAIN_DAY, time, _NO_OFFSET), ZoneInfo("UTC"))
    if stamp.at is None:
        return None
    return stamp.at - datetime(2001, 1, 1, tzinfo=UTC), stamp.wall[-len("00:00:00") :]


def forget() -> None:
    """Forget the days and times that are known, so that a measurement begins from nothing."""
    for known in (_day, _stamp, _time):
        known.cache_clear()


def _octets(date: bytes, time: bytes, tail: bytes) -> bytes:
    return date + b"\xff" + time + b"\xff" + tail


class _Days(dict[tuple[bytes, bytes], _PlainDay]):
    """Days by date and tail. KeyError for one that is not plain, or when there are too many to be worth it."""

    def __init__(self, zone: ZoneInfo, rows: int) -> None:
        super().__init__()
        self._zone = zone
        self._most = 4 + rows // 16

    def __missing__(self, key: tuple[bytes, bytes]) -> _PlainDay:
        day = _day(*key, self._zone) if len(self) < self._most else None
        if day is None:
            raise KeyError(key)
        self[key] = day
        return day


class _Times(dict[bytes, tuple[timedelta, str]]):
    """Times of day by their three octets; KeyError for one that is not plain."""

    def __missing__(self, key: bytes) -> tuple[timedelta, str]:
        time = _time(key)
        if time is None:
            raise KeyError(key)
        self[key] = time
        return time


def _each(octets: bytes | bytearray, zone: ZoneInfo) -> Iterator[Stamp]:
    """Decode date-times one by one."""
    for start in range(0, len(octets), OCTETS):
        yield _stamp(bytes(octets[start : start + OCTETS]), zone)


def instants(octets: bytes | bytearray, zone: ZoneInfo) -> list[datetime | None]:
    """Resolve date-times of twelve octets, one after the other; None where no instant is meant."""
    days, times = _Days(zone, len(octets) // OCTETS), _Times()
    try:
        return [days[date, tail].at + times[time][0] for date, time, tail in _PARTS.iter_unpack(octets)]
    except KeyError:
        return [stamp.at for stamp in _each(octets, zone)]


def meter_times(octets: bytes | bytearray, zone: ZoneInfo) -> list[MeterTime]:
    """Return what the meter said in each of these date-times of twelve octets."""
    count = len(octets) // OCTETS
    days, times = _Days(zone, count), _Times()
    found: Sequence[_PlainDay | Stamp]
    try:
        parts = list(_PARTS.iter_unpack(octets))
        found = [days[date, tail] for date, _, tail in parts]
        walls = [day.wall + times[part[1]][1] for day, part in zip(found, parts, strict=True)]
    except KeyError:
        found = list(_each(octets, zone))
        walls = [stamp.wall for stamp in found]
    return from_columns(
        MeterTime,
        count,
        wall=walls,
        deviation=[one.deviation for one in found],
        status=[one.status for one in found],
        trusted=[one.trusted for one in found],
    )


def meter_time(stamp: Stamp) -> MeterTime:
    """Return what the meter said, as a reading set carries it."""
    return MeterTime(wall=stamp.wall, deviation=stamp.deviation, status=stamp.status, trusted=stamp.trusted)


def carried(at: datetime, octets: bytes, zone: ZoneInfo) -> Stamp:
    """Return the stamp of a row whose stamp was left out: counted on to `at` from `octets`, the last one sent."""
    last = _stamp(octets, zone)
    return Stamp(
        at=at, wall=_wall(at, zone), deviation=last.deviation, status=last.status, trusted=last.trusted
    )


def carried_times(ats: Sequence[datetime], octets: Sequence[bytes], zone: ZoneInfo) -> list[MeterTime]:
    """Return the same as meter times, for many rows."""
    last = [_stamp(one, zone) for one in octets]
    return from_columns(
        MeterTime,
        len(ats),
        wall=[_wall(at, zone) for at in ats],
        deviation=[stamp.deviation for stamp in last],
        status=[stamp.status for stamp in last],
        trusted=[stamp.trusted for stamp in last],
    )


def _wall(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).isoformat(" ", "seconds")[: len("0000-00-00 00:00:00")]


def following(at: datetime | None, step: timedelta) -> datetime | None:
    """Count on by one period; None where there is no instant to count from, or the calendar ends."""
    if at is None:
        return None
    try:
        at += step
    except OverflowError:
        return None
    return at if usable(at) else None


def counted(at: datetime | None, step: timedelta, times: int) -> list[datetime | None]:
    """Count on from `at`, as often as said."""
    return [at := following(at, step) for _ in range(times)]


def usable(at: datetime) -> bool:
    """Say whether an interval or a zone cannot lead from `at` out of the calendar."""
    return EARLIEST_YEAR <= at.year <= LATEST_YEAR
