"""COSEM date-time (Blue Book 4.1.6.1): twelve octets to an instant by the rule that Indian meters need.

The Blue Book's deviation is minutes from local time to UTC (IST = -330); Indian meters send +330 too, and
8000 for unspecified. For all three the wall clock is the meter's zone. Any other deviation is taken by the
Blue Book's sign and the stamp is not trusted, but for one that the meter is known to write although it means its
wall clock (`meter_zone`). In the hour that comes twice when daylight saving ends, the
deviation or else the status bit says which one it is.

`cosem_dates` has the same octets as typed values with their wildcards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from protocols.dlms.data.types import INTEGERS, Data, Tag
from protocols.errors import MeterProtocolError

OCTETS = 12
INDIA = ZoneInfo("Asia/Kolkata")
INDIA_DEVIATION = 330
UNSPECIFIED_DEVIATION = -0x8000
STATUS_INVALID = 0x01
STATUS_DST = 0x80
STATUS_UNSPECIFIED = 0xFF


class MeterZone(ZoneInfo):
    """A zone whose wall clock a meter shows whatever deviation of `local` it writes (minutes as sent)."""

    local: frozenset[int] = frozenset()


@lru_cache(maxsize=256)
def meter_zone(zone: ZoneInfo, local: frozenset[int]) -> ZoneInfo:
    """Return the zone for a meter that writes deviations of `local` and means local time: the same object each time."""
    if not local:
        return zone
    made = MeterZone.no_cache(zone.key)
    made.local = local
    return made


def local_deviations(zone: ZoneInfo) -> frozenset[int]:
    """Return the deviations that mean nothing in a zone made by `meter_zone`."""
    return zone.local if isinstance(zone, MeterZone) else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A decoded date-time: `at` in UTC, None when a needed part is unspecified or impossible.

    `wall` is the wall clock as text (`??` for unspecified parts), `deviation` in minutes as sent.
    """

    at: datetime | None
    wall: str
    deviation: int | None
    status: int | None
    trusted: bool


def decode(octets: bytes, zone: ZoneInfo = INDIA) -> Stamp:
    """Read the twelve octets; MeterProtocolError when there are not twelve."""
    if len(octets) != OCTETS:
        raise MeterProtocolError(f"a date-time has {OCTETS} octets, not {len(octets)}")
    raw_deviation = int.from_bytes(octets[9:11], "big", signed=True)
    deviation = None if raw_deviation == UNSPECIFIED_DEVIATION else raw_deviation
    status = None if octets[11] == STATUS_UNSPECIFIED else octets[11]
    wall = _wall(octets, zone)
    meant = None if deviation in local_deviations(zone) else deviation
    at, known = (None, False) if wall is None else _instant(_which(wall, meant, status), meant)
    valid = status is None or not status & STATUS_INVALID
    return Stamp(at=at, wall=_text(octets), deviation=deviation, status=status, trusted=known and valid)


def _wall(octets: bytes, zone: ZoneInfo) -> datetime | None:
    year = int.from_bytes(octets[:2], "big")
    month, day, _, hour, minute, second = octets[2:8]
    try:  # FF, FE, FD and 0 stand for "unspecified": out of range for each part but the second
        return datetime(year, month, day, hour, minute, 0 if second == 0xFF else second, tzinfo=zone)
    except ValueError:
        return None


def _which(local: datetime, deviation: int | None, status: int | None) -> datetime:
    """Choose between the two hours of one wall clock at the end of daylight saving."""
    later = local.replace(fold=1)
    offsets = local.utcoffset(), later.utcoffset()
    if offsets[0] == offsets[1] or None in offsets:
        return local
    if deviation is not None:
        first, second = (abs(o.total_seconds()) if o is not None else 0 for o in offsets)
        return later if abs(deviation) * 60 == second != first else local
    return later if status is not None and not status & STATUS_DST else local


def _instant(local: datetime, deviation: int | None) -> tuple[datetime | None, bool]:
    try:
        offset = local.utcoffset() or timedelta()
        if deviation is None or abs(deviation) * 60 == abs(offset.total_seconds()):
            return local.astimezone(UTC), True
        return local.replace(tzinfo=UTC) + timedelta(minutes=deviation), False
    except OverflowError:
        return None, False


def _text(octets: bytes) -> str:
    year = int.from_bytes(octets[:2], "big")
    month, day, _, hour, minute, second = (f"{n:02d}" if n < 0xFD else "??" for n in octets[2:8])
    years = "????" if year == 0xFFFF else f"{year:04d}"
    return f"{years}-{month}-{day} {hour}:{minute}:{second}"


def encode(
    at: datetime, zone: ZoneInfo = INDIA, *, deviation: int | None = INDIA_DEVIATION, status: int = 0
) -> bytes:
    """Return an instant as twelve octets: the wall clock of `zone`; `deviation` None writes "unspecified"."""
    local = at.astimezone(zone)
    minutes = UNSPECIFIED_DEVIATION if deviation is None else deviation
    head = local.year.to_bytes(2, "big") + bytes(
        (local.month, local.day, local.isoweekday(), local.hour, local.minute, local.second)
    )
    return (
        head
        + bytes((local.microsecond // 10_000,))
        + minutes.to_bytes(2, "big", signed=True)
        + bytes((status,))
    )


def octets_of(data: Data) -> bytes | None:
    """Return the twelve octets of a date-time in any form that meters use, None when it is none of them.

    An octet-string or date-time; or a structure whose parts, in order, are a date and a time (either order;
    octet-strings or their own types; deviation and status may follow) or one number per field.
    """
    if data.tag is not Tag.STRUCTURE:
        return data.octets if data.tag in _TIME_TAGS and len(data.octets or b"") == OCTETS else None
    parts = [_part(item) for item in data.items[:OCTETS]]
    if len(data.items) > OCTETS or None in parts:
        return None
    found = [part for part in parts if part is not None]
    if [len(part) for part in found[:2]] == [4, 5]:
        found[:2] = found[1::-1]
    joined = b"".join(found)
    if len(joined) == OCTETS - 3:
        joined += UNSPECIFIED_DEVIATION.to_bytes(2, "big", signed=True) + bytes((STATUS_UNSPECIFIED,))
    return joined if len(joined) == OCTETS else None


_TIME_TAGS = frozenset((Tag.OCTET_STRING, Tag.DATE_TIME))
_PART_TAGS = _TIME_TAGS | {Tag.DATE, Tag.TIME}


def _part(data: Data) -> bytes | None:
    if data.tag in _PART_TAGS:
        return data.octets
    if data.integer is None:
        return None
    size, signed = INTEGERS[data.tag]
    return data.integer.to_bytes(size, "big", signed=signed)
