"""Odd ways to write the same rows: nulls, order, duplicates, types and signs of times."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta

from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import DELTAS, Data, Tag, long_unsigned, octets
from protocols.reading import Obis
from protocols.simulator.cosem.rows import instant

Columns = tuple[Data, ...]
"""Capture objects, as attribute 3 of a profile lists them."""

ZERO_DATE = bytes.fromhex("000000 00FF000000FF014A00".replace(" ", ""))
"""How some meters write the time of a demand that there was not: month and day 0."""
_STAMP_OCTETS = 12
_DEMAND_CLASS = 4


def is_time(octets: bytes) -> bool:
    """Tell twelve octets that are a date-time of our century from other texts of that length."""
    return len(octets) == _STAMP_OCTETS and octets[0] == 0x07 and octets[2] <= 12 and octets[5] < 24


def with_deviation(value: Data, minutes: int) -> Data:
    """Write another deviation into every date-time of a value."""
    if isinstance(value.value, tuple):
        return Data(value.tag, tuple(with_deviation(v, minutes) for v in value.value))
    if isinstance(value.value, bytes) and is_time(value.value):
        sign = minutes.to_bytes(2, "big", signed=True)
        return Data(value.tag, value.value[:9] + sign + value.value[11:])
    return value


def by_sign(value: Data, sign: int) -> Data:
    """Read a written time by its deviation: minutes from UTC (1) or to UTC (-1), and make Indian time of it."""
    octets_ = value.octets or b""
    minutes = int.from_bytes(octets_[9:11], "big", signed=True)
    if not is_time(octets_) or minutes == cosem_time.UNSPECIFIED_DEVIATION:
        return value
    return moved(value, 60 * (cosem_time.INDIA_DEVIATION - sign * minutes))


def moved(value: Data, seconds: int) -> Data:
    """Write a time that many seconds later."""
    at = instant(value.octets or b"")
    return value if at is None else octets(cosem_time.encode(at + timedelta(seconds=seconds)))


def nearer(value: Data, shown: Data, seconds: int) -> Data:
    """Go from the time shown towards the time written, by so many seconds at most."""
    wanted, now = instant(value.octets or b""), instant(shown.octets or b"")
    if wanted is None or now is None:
        return value
    step = min(abs(wanted - now), timedelta(seconds=seconds))
    return octets(cosem_time.encode(now + step if wanted > now else now - step))


def as_date_time(value: Data) -> Data:
    """Write every time as date-time instead of octet-string."""
    if isinstance(value.value, tuple):
        return Data(value.tag, tuple(as_date_time(v) for v in value.value))
    if value.tag is Tag.OCTET_STRING and isinstance(value.value, bytes) and is_time(value.value):
        return Data(Tag.DATE_TIME, value.value)
    return value


def wall(stamp: bytes) -> bytes:
    """Return the wall clock of a stamp without weekday, hundredths, deviation and status."""
    return stamp[:4] + stamp[5:8]


def stamp_of(row: Data) -> bytes:
    """Return the wall clock of a row's first time, or b""."""
    for cell in row.items:
        if cell.octets is not None and is_time(cell.octets):
            return wall(cell.octets)
    return b""


def strikes(row: Data, every: int) -> bool:
    """Say whether a fault of one row in about `every` hits this one: the same rows, whatever is asked for."""
    return shuffle_key(row)[0] % max(1, every) == 0


def shuffle_key(row: Data) -> bytes:
    """Return a key that puts rows in no order, the same each time."""
    return hashlib.sha256(stamp_of(row)).digest()


def doubled(rows: Sequence[Data], every: int, *, twin: bool) -> list[Data]:
    """Repeat some rows; a twin has the same stamp and another last number."""
    found: list[Data] = []
    for row in rows:
        found.append(row)
        if strikes(row, every):
            found.append(_twin(row) if twin else row)
    return found


def _twin(row: Data) -> Data:
    cells = list(row.items)
    for at in range(len(cells) - 1, -1, -1):
        number = cells[at].integer
        if number is not None:
            cells[at] = Data(cells[at].tag, number + 1)
            break
    return Data(row.tag, tuple(cells))


def null_columns(rows: Sequence[Data]) -> list[Data]:
    """Write null-data where a cell equals that of the row before (the stamp never does)."""
    found: list[Data] = []
    before: tuple[Data, ...] = ()
    for row in rows:
        cells = row.items
        same = [
            bool(before) and c == b and c.octets is None for c, b in zip(cells, before or cells, strict=True)
        ]
        found.append(
            Data(row.tag, tuple(Data(Tag.NULL, None) if s else c for c, s in zip(cells, same, strict=True)))
        )
        before = cells
    return found


def delta_columns(rows: Sequence[Data]) -> list[Data]:
    """Write the narrowest delta where a number follows one of its type (Blue Book 4.1.5); others in full."""
    found: list[Data] = []
    before: tuple[Data, ...] = ()
    for row in rows:
        cells = tuple(_delta(cell, last) for cell, last in zip(row.items, before, strict=False))
        found.append(Data(row.tag, cells) if before else row)
        before = row.items
    return found


def _delta(cell: Data, last: Data) -> Data:
    if cell.tag is not last.tag or cell.integer is None or last.integer is None:
        return cell
    step = cell.integer - last.integer
    for tag, (octets_, signed) in sorted(DELTAS.items(), key=lambda one: one[1]):
        low = -(1 << 8 * octets_ - 1) if signed else 0
        if low <= step < low + (1 << 8 * octets_):
            return Data(tag, step)
    return cell


def null_times(rows: Sequence[Data], period: int) -> list[Data]:
    """Write null-data for a stamp that is one period after the row before; others are written in full."""
    found: list[Data] = []
    last = None
    for row in rows:
        at = instant(row.items[0].octets or b"")
        due = last is not None and at is not None and period and at - last == timedelta(seconds=period)
        found.append(Data(row.tag, (Data(Tag.NULL, None), *row.items[1:])) if due else row)
        last = at
    return found


def without_demand_time(row: Data, columns: Columns) -> Data:
    """Write month and day 0 for the time of each maximum demand."""
    cells = [
        Data(cell.tag, ZERO_DATE) if _is_demand_time(column) and cell.octets is not None else cell
        for cell, column in zip(row.items, columns, strict=False)
    ]
    return Data(row.tag, tuple(cells))


def _is_demand_time(column: Data) -> bool:
    class_id, _, attribute, *_ = column.items
    return (class_id.integer, attribute.integer) == (_DEMAND_CLASS, 5)


def reclassed(capture: Data, obis: Obis, class_id: int) -> Data:
    """Return a capture object another class when it is of `obis`."""
    _, name, *rest = capture.items
    if name.octets != obis.to_bytes():
        return capture
    return Data(capture.tag, (long_unsigned(class_id), name, *rest))


def odd_object_list(listed: Data) -> Data:
    """Put the object list in an odd order, its associations last."""
    order = sorted(listed.items, key=lambda entry: hashlib.sha256(entry.items[2].octets or b"").digest())
    order.sort(key=lambda entry: entry.items[0].integer == 15)
    return Data(listed.tag, tuple(order))


def uniform(rows: Sequence[Data]) -> bool:
    """Say whether all rows have the same types, as a compact array needs."""
    first = [(c.tag, len(c.octets or b"")) for c in rows[0].items]
    return all([(c.tag, len(c.octets or b"")) for c in row.items] == first for row in rows)
