"""What a meter recorded: OBIS codes, quantities, exact values, reading sets and their quality."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from protocols.names import NAMES
from protocols.obis import Obis as Obis


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """What a value is of: OBIS code, attribute (2 = value, 5 = its time) and data index (0 = whole).

    Text form: `1-0:1.6.0*255`, `1-0:1.6.0*255#5`, `1-0:1.6.0*255#5[3]`.
    """

    obis: Obis
    attribute: int = 2
    index: int = 0

    @classmethod
    def of(cls, text: str) -> Quantity:
        """Parse the text form; ValueError names what is wrong. Cached."""
        return _quantity(text)

    def __str__(self) -> str:
        text = str(self.obis)
        if self.attribute != 2 or self.index:
            text += f"#{self.attribute}"
        return f"{text}[{self.index}]" if self.index else text


@lru_cache(maxsize=4096)
def _quantity(text: str) -> Quantity:
    match = re.fullmatch(r"([^#\[\]]+)(?:#(\d+))?(?:\[(\d+)\])?", text, re.ASCII)
    if match is None:
        raise ValueError(f"not a quantity: {text!r} (write OBIS, OBIS#attribute or OBIS#attribute[index])")
    return Quantity(Obis.parse(match[1]), int(match[2] or 2), int(match[3] or 0))


class MissingReason(StrEnum):
    """Why a value is absent; zero is never a default."""

    NOT_SUPPORTED = "not_supported"
    NOT_MEASURED = "not_measured"
    METER_REFUSED = "meter_refused"
    METER_SILENT = "meter_silent"
    SENTINEL = "sentinel"
    NOT_SPECIFIED = "not_specified"
    NO_DISPLAY = "no_display"
    OUT_OF_RANGE = "out_of_range"


@dataclass(frozen=True, slots=True)
class Number:
    """An exact decimal: mantissa × 10^scaler, in a unit (`Wh`, `V`, `INR`, or "" for none)."""

    mantissa: int
    scaler: int = 0
    unit: str = ""

    def decimal(self) -> Decimal:
        """Return the value without rounding, whatever the precision of the decimal context."""
        return Decimal(f"{self.mantissa}E{self.scaler}")

    def text(self) -> str:
        """Return plain digits that keep the meter's resolution: (1234, -2) is 12.34, (5, 1) is 50."""
        if self.scaler >= 0:
            return str(self.mantissa * 10**self.scaler)
        digits = str(abs(self.mantissa)).rjust(1 - self.scaler, "0")
        sign = "-" if self.mantissa < 0 else ""
        return f"{sign}{digits[: self.scaler]}.{digits[self.scaler :]}"

    @classmethod
    def from_text(cls, text: str, unit: str = "") -> Number:
        """Read plain decimal digits exactly; ValueError for anything else."""
        match = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?", text, re.ASCII)
        if match is None:
            raise ValueError(f"not a plain decimal number: {text!r}")
        fraction = match[3] or ""
        return cls(int(match[1] + match[2] + fraction), -len(fraction), unit)


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time as a value; UTC inside."""

    at: datetime

    def __post_init__(self) -> None:
        if self.at.utcoffset() is None:
            raise ValueError("an instant needs a zone")
        object.__setattr__(self, "at", self.at.astimezone(UTC))


@dataclass(frozen=True, slots=True)
class Text:
    """Characters as the meter gave them."""

    text: str


@dataclass(frozen=True, slots=True)
class Bits:
    """A bit string, first bit first, as `0` and `1` characters."""

    bits: str


@dataclass(frozen=True, slots=True)
class Missing:
    """No value, and why."""

    reason: MissingReason


Value = Number | Instant | Text | Bits | Missing


class ProfileName(StrEnum):
    """Quantities that are captured together."""

    INSTANTANEOUS = "instantaneous"
    BLOCK_LOAD = "block_load"
    DAILY = "daily"
    BILLING = "billing"
    NAMEPLATE = "nameplate"
    PREPAYMENT = "prepayment"
    EVENTS = "events"


class ProfileKind(StrEnum):
    """Interval profiles cover a span, snapshots an instant, events are rows with a code."""

    INTERVAL = "interval"
    SNAPSHOT = "snapshot"
    EVENTS = "events"


PROFILE_KIND: Mapping[ProfileName, ProfileKind] = {
    name: {
        ProfileName.BLOCK_LOAD: ProfileKind.INTERVAL,
        ProfileName.EVENTS: ProfileKind.EVENTS,
    }.get(name, ProfileKind.SNAPSHOT)
    for name in ProfileName
}


class Quality(StrEnum):
    """CIM reading quality codes `system.category.index` (IEC 61968-9) that this stack gives by itself."""

    VALID = "1.0.0"
    CLOCK_ERROR = "1.1.9"
    TEST_DATA = "2.4.5"
    CONFIGURATION_CHANGED = "2.4.6"
    MANUAL_READ = "2.4.131"
    SUSPECT = "2.5.258"
    KNOWN_MISSING = "2.5.259"


class RemarkWord(StrEnum):
    """What is odd about values or a clock, or is not any more. New words go to the end: events are numbered by it."""

    FELL = "value_fell"
    JUMPED = "value_jumped"
    ZEROED = "value_zeroed"
    BEYOND_LIMITS = "value_beyond_limits"
    UNSET = "value_unset"
    UNREADABLE = "value_unreadable"
    MODEL_DOUBTED = "model_doubted"
    RETURNED = "value_returned"
    ROLLED_OVER = "register_rolled_over"
    WENT_BACK = "register_went_back"
    WENT_AHEAD = "register_went_ahead"
    METER_CHANGED = "meter_changed"
    METER_UPDATED = "meter_updated"
    CLOCK_CORRECTED = "clock_corrected"
    CLOCK_NOT_CORRECTED = "clock_not_corrected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """News about values of a set, told once: `word` of `quantities`; `before` and `found` are those of the first.

    `before` is what was believed, `found` what was read, where there are such.
    """

    word: RemarkWord
    quantities: tuple[Quantity, ...] = ()
    before: Number | None = None
    found: Number | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterTime:
    """The meter's own stamp: wall clock text, deviation in minutes as sent (None = unspecified), status."""

    wall: str
    deviation: int | None = None
    status: int | None = None
    trusted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingSet:
    """What one meter gave for one profile at one instant; it knows no account.

    `at` is the capture instant in UTC (an interval's end); `start` is set for interval profiles only.
    `meter_time` is the meter's own stamp (None for live register reads, which the gateway stamps).
    `occurrence` tells rows with one stamp apart (after a clock set-back); events use their sequence.
    `raw` keeps the bytes of billing captures as evidence. `suspect` are the quantities whose values are not believed
    where the others are; the set is then SUSPECT, unless its time is in doubt, too. `remarks` say what is new about
    that: they are told once, the suspicion with every set.
    """

    profile: ProfileName
    at: datetime
    values: tuple[tuple[Quantity, Value], ...]
    received_at: datetime
    start: datetime | None = None
    meter_time: MeterTime | None = None
    occurrence: int = 0
    quality: Quality = Quality.VALID
    raw: bytes | None = field(default=None, repr=False)
    suspect: tuple[Quantity, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def __post_init__(self) -> None:
        if self.at.utcoffset() is None or self.received_at.utcoffset() is None:
            raise ValueError("times of a reading set need a zone")
        if (PROFILE_KIND[self.profile] is ProfileKind.INTERVAL) != (self.start is not None):
            raise ValueError(f"{self.profile} is {PROFILE_KIND[self.profile]}: start must match that")
        if self.start is not None and self.start >= self.at:
            raise ValueError(f"interval ends {self.at} before it starts {self.start}")

    def value(self, quantity: Quantity | str) -> Value | None:
        """Find one value, or None when the set has no such quantity."""
        wanted = Quantity.of(quantity) if isinstance(quantity, str) else quantity
        return next((v for q, v in self.values if q == wanted), None)

    def __iter__(self) -> Iterator[tuple[Quantity, Value]]:
        return iter(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """Who the meter says it is."""

    manufacturer: str
    serial: str
    firmware: str = ""
    model: str = ""
    year: int | None = None

    @property
    def meter_id(self) -> str:
        """`GEN:12345678`, the text form of a meter's identity."""
        return f"{self.manufacturer}:{self.serial}"


class RelayState(StrEnum):
    """What the supply contact is seen to be."""

    CLOSED = "closed"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterClock:
    """The meter's clock beside ours, read at the same moment.

    `deviation` is in minutes as the meter writes it (None = unspecified), `status` the clock's status octet. The
    question took `takes` seconds, with `gateway` in their middle: by half of them the drift may be wrong. The
    machine's steady seconds stood at `steady` then, where our clock has such.
    """

    meter: datetime
    gateway: datetime
    deviation: int | None
    status: int | None
    takes: float = 0.0
    steady: float | None = None

    @property
    def drift(self) -> float:
        """Seconds by which the meter is ahead of us."""
        return (self.meter - self.gateway).total_seconds()

    def is_off(self, seconds: float) -> bool:
        """Return whether the meter's clock is surely further from ours than that."""
        return abs(self.drift) - self.takes / 2 > seconds


def name_of(quantity: Quantity) -> str:
    """Return the readable name, or the text form of the quantity when it has none."""
    return NAMES.get(str(quantity), str(quantity))
