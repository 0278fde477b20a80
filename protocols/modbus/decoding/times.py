"""Times in registers: BCD digits, seconds since an epoch, packed words; there and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.modbus.format.encoding import PARTS, Encoding, Place
from protocols.reading import Instant, Missing, MissingReason, Value

_SECOND = timedelta(seconds=1)
_MILLISECONDS = 1000


def decode_time(cell: Encoding, octets: bytes, zone: ZoneInfo) -> Value:
    """Return the instant in octets, high word and octet first; what is none is Missing with the reason.

    `zone` is the meter's, for what counts local time.
    """
    if octets in (bytes(len(octets)), b"\xff" * len(octets)):
        return Missing(MissingReason.NOT_SPECIFIED)
    try:
        if cell.type == "time_bcd":
            wall = datetime.strptime(octets.hex(), "%y%m%d%H%M%S")  # noqa: DTZ007 - the zone follows
        elif cell.type == "time_seconds":
            wall = cell.counts_from + int.from_bytes(octets, "big") * _SECOND
        else:
            wall = _from_fields(cell.places, octets)
        if wall.tzinfo is None:
            wall = wall.replace(tzinfo=UTC if cell.is_utc else zone)
        return Instant(wall.astimezone(UTC))
    except (ValueError, OverflowError):
        return Missing(MissingReason.OUT_OF_RANGE)


def encode_time(cell: Encoding, at: datetime, zone: ZoneInfo) -> bytes:
    """Return the octets of an instant, to the second (or millisecond); ValueError when they cannot hold it."""
    wall = at.astimezone(UTC if cell.is_utc else zone)
    if cell.type == "time_bcd":
        return bytes.fromhex(wall.strftime("%y%m%d%H%M%S"))
    if cell.type == "time_seconds":
        start = cell.counts_from
        seconds = ((at if start.tzinfo else wall.replace(tzinfo=None)) - start) // _SECOND
        if not 0 <= seconds < 1 << (16 * cell.size):
            raise ValueError(f"{wall} does not fit {cell.size} registers of seconds from {cell.epoch}")
        return seconds.to_bytes(2 * cell.size, "big")
    words = [0] * cell.size
    parts = {name: getattr(wall, name) for name in ("year", "month", "day", "hour", "minute", "second")}
    milliseconds = wall.microsecond // _MILLISECONDS
    in_milliseconds = milliseconds if "second" in cell.places else wall.second * _MILLISECONDS + milliseconds
    for part, place in cell.places.items():
        number = in_milliseconds if part == "millisecond" else parts[part]
        words[place.word] |= _to_place(place, number - place.base) << place.low
    return b"".join(word.to_bytes(2, "big") for word in words)


def _from_fields(places: dict[str, Place], octets: bytes) -> datetime:
    numbers = {part: _at_place(place, octets) for part, place in places.items()}
    year, month, day, hour, minute = (numbers[part] for part in PARTS[:5])
    whole = datetime(year, month, day, hour, minute, numbers.get("second", 0))  # noqa: DTZ001 - the zone follows
    return whole + timedelta(milliseconds=numbers.get("millisecond", 0))


def _at_place(place: Place, octets: bytes) -> int:
    word = int.from_bytes(octets[2 * place.word : 2 * place.word + 2], "big")
    raw = word >> place.low & ((1 << (place.high - place.low + 1)) - 1)
    return (int(f"{raw:x}") if place.bcd else raw) + place.base


def _to_place(place: Place, number: int) -> int:
    raw = int(str(number), 16) if place.bcd and number >= 0 else number
    if not 0 <= raw < 1 << (place.high - place.low + 1):
        raise ValueError(f"{number} does not fit bits {place.low} to {place.high} of a time's word")
    return raw
