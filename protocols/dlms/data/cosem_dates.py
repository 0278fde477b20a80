"""COSEM date, time and date-time (Blue Book 4.1.6.1) as typed values that keep every wildcard.

`decode` and `octets` are a pair: `X.decode(o).octets == o` for all octets that decode. Impossible values (month
13, hour 24, hundredths 100) are errors; three departures are kept as sent, since meters send them: 0 as month,
day or day of week ("nothing yet"), any deviation, and the reserved bits of the status. Whether a day exists in
its month is not checked here: `CosemDateTime.stamp` gives no instant then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntFlag
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_time import INDIA, INDIA_DEVIATION, UNSPECIFIED_DEVIATION, Stamp
from protocols.errors import LocalError, MeterProtocolError

DATE_OCTETS = 5
TIME_OCTETS = 4
UNSPECIFIED = 0xFF
UNSPECIFIED_YEAR = 0xFFFF
DST_END = 0xFD
"""Month: the one in which daylight saving ends."""
DST_BEGIN = 0xFE
"""Month: the one in which daylight saving begins."""
SECOND_LAST_DAY = 0xFD
"""Day: the last but one of the month (with a day of week: the last but one of these)."""
LAST_DAY = 0xFE
"""Day: the last of the month (with a day of week: the last of these)."""

_MONTHS = {DST_END: "month of DST end", DST_BEGIN: "month of DST begin"}
_DAYS = {SECOND_LAST_DAY: "second-last day", LAST_DAY: "last day"}
_WEEKDAYS = ("", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class ClockStatus(IntFlag):
    """Clock status bits; reserved bits are kept as they came."""

    INVALID = 0x01
    DOUBTFUL = 0x02
    DIFFERENT_BASE = 0x04
    INVALID_STATUS = 0x08
    DST = 0x80

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bits that are set, lowest first; reserved ones as `bit N`."""
        return tuple(_STATUS_NAMES.get(1 << n, f"bit {n}") for n in range(8) if self & 1 << n)


_STATUS_NAMES = {
    0x01: "invalid value",
    0x02: "doubtful value",
    0x04: "different clock base",
    0x08: "invalid clock status",
    0x80: "daylight saving active",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CosemDate:
    """A date; None is unspecified, which in a schedule means every.

    `year` 0..65534; `month` 0..12, DST_END or DST_BEGIN; `day` 0..31, SECOND_LAST_DAY or LAST_DAY; `weekday`
    1 = Monday .. 7 (0 is kept). LocalError for anything else.
    """

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: int | None = None

    def __post_init__(self) -> None:
        _check("year", self.year, 0, UNSPECIFIED_YEAR - 1)
        _check("month", None if self.month in _MONTHS else self.month, 0, 12)
        _check("day", None if self.day in _DAYS else self.day, 0, 31)
        _check("day of week", self.weekday, 0, 7)

    @classmethod
    def decode(cls, octets: bytes) -> CosemDate:
        """Read five octets; MeterProtocolError for another number or an impossible value."""
        _count("a date", octets, DATE_OCTETS)
        year = int.from_bytes(octets[:2], "big")
        try:
            return cls(
                year=None if year == UNSPECIFIED_YEAR else year,
                month=_known(octets[2]),
                day=_known(octets[3]),
                weekday=_known(octets[4]),
            )
        except LocalError as error:
            raise MeterProtocolError(str(error)) from error

    @property
    def octets(self) -> bytes:
        """The five octets."""
        year = UNSPECIFIED_YEAR if self.year is None else self.year
        return year.to_bytes(2, "big") + bytes((_raw(self.month), _raw(self.day), _raw(self.weekday)))

    def __str__(self) -> str:
        year = "*" if self.year is None else f"{self.year:04d}"
        text = f"{year}-{_part(self.month, _MONTHS)}-{_part(self.day, _DAYS)}"
        return f"{text} {_WEEKDAYS[self.weekday]}" if self.weekday else text


@dataclass(frozen=True, slots=True, kw_only=True)
class CosemTime:
    """A time of day; None is unspecified. Hours to 23, minutes and seconds to 59, hundredths to 99."""

    hour: int | None = None
    minute: int | None = None
    second: int | None = None
    hundredths: int | None = None

    def __post_init__(self) -> None:
        _check("hour", self.hour, 0, 23)
        _check("minute", self.minute, 0, 59)
        _check("second", self.second, 0, 59)
        _check("hundredths", self.hundredths, 0, 99)

    @classmethod
    def decode(cls, octets: bytes) -> CosemTime:
        """Read four octets; MeterProtocolError for another number or an impossible value."""
        _count("a time", octets, TIME_OCTETS)
        hour, minute, second, hundredths = map(_known, octets)
        try:
            return cls(hour=hour, minute=minute, second=second, hundredths=hundredths)
        except LocalError as error:
            raise MeterProtocolError(str(error)) from error

    @property
    def octets(self) -> bytes:
        """The four octets."""
        return bytes(map(_raw, (self.hour, self.minute, self.second, self.hundredths)))

    def __str__(self) -> str:
        text = ":".join(_part(part, {}) for part in (self.hour, self.minute, self.second))
        return f"{text}.{self.hundredths:02d}" if self.hundredths else text


@dataclass(frozen=True, slots=True, kw_only=True)
class CosemDateTime:
    """A date-time: `deviation` in minutes as sent, None unspecified; `status` None unspecified (FF)."""

    date: CosemDate = field(default_factory=CosemDate)
    time: CosemTime = field(default_factory=CosemTime)
    deviation: int | None = None
    status: ClockStatus | None = None

    def __post_init__(self) -> None:
        _check("deviation", self.deviation, UNSPECIFIED_DEVIATION + 1, 0x7FFF)
        _check("clock status", self.status, 0, UNSPECIFIED - 1)

    @classmethod
    def decode(cls, octets: bytes) -> CosemDateTime:
        """Read twelve octets; MeterProtocolError for another number or an impossible value."""
        _count("a date-time", octets, cosem_time.OCTETS)
        deviation = int.from_bytes(octets[9:11], "big", signed=True)
        return cls(
            date=CosemDate.decode(octets[:5]),
            time=CosemTime.decode(octets[5:9]),
            deviation=None if deviation == UNSPECIFIED_DEVIATION else deviation,
            status=None if octets[11] == UNSPECIFIED else ClockStatus(octets[11]),
        )

    @classmethod
    def of(
        cls, at: datetime, zone: ZoneInfo = INDIA, *, deviation: int | None = INDIA_DEVIATION
    ) -> CosemDateTime:
        """Return the wall clock of `zone` at an instant."""
        return cls.decode(cosem_time.encode(at, zone, deviation=deviation))

    @property
    def octets(self) -> bytes:
        """The twelve octets."""
        deviation = UNSPECIFIED_DEVIATION if self.deviation is None else self.deviation
        status = UNSPECIFIED if self.status is None else int(self.status)
        tail = deviation.to_bytes(2, "big", signed=True) + bytes((status,))
        return self.date.octets + self.time.octets + tail

    def stamp(self, zone: ZoneInfo = INDIA) -> Stamp:
        """Return the instant it stands for, as `cosem_time.decode` does."""
        return cosem_time.decode(self.octets, zone)

    def __str__(self) -> str:
        text = f"{self.date} {self.time}"
        if self.deviation is not None:
            text += f" deviation {self.deviation:+d} min"
        return f"{text} ({', '.join(self.status.names)})" if self.status else text


def _check(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise LocalError(f"{name} {value} is outside {low}..{high}")


def _count(what: str, octets: bytes, wanted: int) -> None:
    if len(octets) != wanted:
        raise MeterProtocolError(f"{what} has {wanted} octets, not {len(octets)}")


def _known(octet: int) -> int | None:
    return None if octet == UNSPECIFIED else octet


def _raw(value: int | None) -> int:
    return UNSPECIFIED if value is None else value


def _part(value: int | None, names: dict[int, str]) -> str:
    return "*" if value is None else names.get(value, f"{value:02d}")
