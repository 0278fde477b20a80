"""Layouts of profiles: captured columns from capture_objects, scales by OBIS, cells to values; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from protocols.dlms.data.types import Data, Tag
from protocols.dlms.data.units import unit_name
from protocols.dlms.data.values import Scale, is_number, is_time, to_value
from protocols.errors import MeterProtocolError
from protocols.reading import Missing, MissingReason, Obis, ProfileName, Quantity, Value

CLOCK = Obis(0, 0, 1, 0, 0)
BILLING_DATE = Obis(0, 0, 0, 1, 2)
SORT_LIFO = 2
EVENT_LOG_STEP = 100_000_000
"""Occurrences of event log e count from e times this, so that logs with one stamp stay apart; seven logs stay
below 10^9, so that a sink may add the occurrence to a time in nanoseconds."""
REGISTER_CLASSES = (3, 4, 5)
MAX_COLUMNS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedColumn:
    """One captured column; `scale` None means the meter gave none."""

    class_id: int
    quantity: Quantity
    scale: Scale | None = None

    @property
    def is_stamp(self) -> bool:
        """Say whether this column stamps the row."""
        return self.quantity.attribute == 2 and self.quantity.obis in (CLOCK, BILLING_DATE)

    @property
    def is_clock(self) -> bool:
        """Say whether this is the clock, which a set does not repeat as a value."""
        return self.quantity.attribute == 2 and self.quantity.obis == CLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to read one profile's rows: columns, capture period in seconds, newest first or not."""

    profile: ProfileName
    obis: Obis
    columns: tuple[CapturedColumn, ...]
    period: int = 0
    newest_first: bool = False

    @property
    def stamp(self) -> CapturedColumn | None:
        """The column that stamps a row, or None."""
        at = self.stamp_index
        return None if at is None else self.columns[at]

    @property
    def stamp_index(self) -> int | None:
        """Where the column is that stamps a row, or None."""
        return next((i for i, c in enumerate(self.columns) if c.is_stamp), None)


def parse_columns(data: Data) -> tuple[CapturedColumn, ...]:
    """Read capture_objects (Blue Book 4.3.6 #3); MeterProtocolError when it is no such list."""
    if len(data.items) > MAX_COLUMNS:
        raise MeterProtocolError(f"capture_objects names {len(data.items)} columns; {MAX_COLUMNS} are read")
    columns = []
    for entry in data.items:
        match entry.items:
            case (Data(_, int() as class_id), Data(_, bytes() as name), Data(_, int() as attribute), *rest):
                index = rest[0].integer or 0 if rest else 0
                if len(name) != 6:
                    raise MeterProtocolError(f"a capture object with a name of {len(name)} octets")
                quantity = Quantity(Obis.from_bytes(name), attribute, index)
                columns.append(CapturedColumn(class_id=class_id, quantity=quantity))
            case _:
                raise MeterProtocolError("capture_objects holds an entry that is no capture object")
    if not columns:
        raise MeterProtocolError("capture_objects is empty or no list")
    return tuple(columns)


def parse_scale(data: Data) -> Scale | None:
    """Read a scaler_unit structure, None when it is something else."""
    match data.items:
        case (Data(_, int() as scaler), Data(_, int() as unit)):
            return scaler, unit_name(unit)
    return None


def parse_scales(columns: Sequence[CapturedColumn], buffer: Data) -> dict[tuple[Obis, int], Scale]:
    """Join a scaler profile's columns (#3 of each object) and its one row by OBIS."""
    rows = buffer.items
    if not rows:  # not filled yet: a meter fresh from the factory
        return {}
    row = rows[0].items
    scales: dict[tuple[Obis, int], Scale] = {}
    for column, cell in zip(columns, row, strict=False):  # some give fewer cells than they name columns
        scale = parse_scale(cell)
        if scale is not None:
            scales[column.quantity.obis, 2] = scale
    return scales


def cell_value(column: CapturedColumn, cell: Data, zone: ZoneInfo) -> Value:
    """Convert one cell; a register's number without a known scale is Missing, not a guess."""
    quantity = column.quantity
    time = is_time(column.class_id, quantity.obis, quantity.attribute)
    numeric = not time and (cell.integer is not None or cell.tag in (Tag.FLOAT32, Tag.FLOAT64))
    if numeric and column.scale is None and column.class_id in REGISTER_CLASSES:
        return Missing(MissingReason.NOT_SUPPORTED)
    if quantity.attribute < 1:
        return Missing(MissingReason.NOT_SUPPORTED)
    number = is_number(quantity.obis, quantity.attribute)
    return to_value(cell, scale=column.scale, time=time, zone=zone, number=number)


def with_scales(
    columns: Sequence[CapturedColumn], scales: Mapping[tuple[Obis, int], Scale]
) -> tuple[CapturedColumn, ...]:
    """Return the columns, each with the scale of its object; only the value attributes have one."""
    return tuple(
        CapturedColumn(
            class_id=c.class_id,
            quantity=c.quantity,
            scale=scales.get((c.quantity.obis, 2)) if _scaled(c) else None,
        )
        for c in columns
    )


def _scaled(column: CapturedColumn) -> bool:
    attribute = column.quantity.attribute
    return attribute == 2 or (column.class_id, attribute) in ((5, 3), (71, 3), (71, 4))
