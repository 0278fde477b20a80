"""Profile generic: class 7 (Blue Book 4.3.6), its capture objects and the selections of its buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.selection import ColumnName, EntrySelection, RangeSelection
from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_time import INDIA
from protocols.dlms.data.types import Tag
from protocols.dlms.objects.catalogue import attribute_label
from protocols.dlms.objects.clock import CLOCK
from protocols.dlms.objects.codec import (
    ANY,
    DOUBLE_LONG_UNSIGNED,
    INTEGER,
    LOGICAL_NAME,
    LONG_UNSIGNED,
    listing,
    number,
    optional,
    record,
)
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method
from protocols.errors import LocalError
from protocols.reading import Obis

_SORTS = {
    1: "first in first out",
    2: "last in first out",
    3: "largest first",
    4: "smallest first",
    5: "nearest to zero first",
    6: "farthest from zero first",
}


@dataclass(frozen=True, slots=True)
class CaptureObject:
    """One captured column; `data_index` 0 is the whole attribute."""

    class_id: int
    logical_name: Obis
    attribute_index: int
    data_index: int = 0

    def __str__(self) -> str:
        label = attribute_label(self.class_id, self.logical_name, self.attribute_index)
        return f"{label} [{self.data_index}]" if self.data_index else label


CAPTURE_OBJECT = replace(
    record(
        CaptureObject,
        class_id=LONG_UNSIGNED,
        logical_name=LOGICAL_NAME,
        attribute_index=INTEGER,
        data_index=LONG_UNSIGNED,
    ),
    show=str,
    kind="capture_object",
)


class ProfileGeneric(CosemObject):
    """Profile generic (class 7); capture period in seconds."""

    CLASS_ID = 7
    buffer = Attribute(ANY)
    capture_objects = Attribute(listing(CAPTURE_OBJECT))
    capture_period = Attribute(DOUBLE_LONG_UNSIGNED)
    sort_method = Attribute(number(Tag.ENUM, _SORTS))
    sort_object = Attribute(optional(CAPTURE_OBJECT))
    entries_in_use = Attribute(DOUBLE_LONG_UNSIGNED)
    profile_entries = Attribute(DOUBLE_LONG_UNSIGNED)
    reset = Method(NOTHING)
    capture = Method(NOTHING)


def between(
    since: datetime,
    until: datetime,
    zone: ZoneInfo = INDIA,
    *,
    stamp: Obis = CLOCK,
    columns: Sequence[CaptureObject] = (),
) -> RangeSelection:
    """Select the rows whose `stamp` column lies in since..until, for `ProfileGeneric.buffer.get`.

    `columns` names the captured columns wanted; none means all. LocalError for a time without a zone.
    """
    if since.utcoffset() is None or until.utcoffset() is None:
        raise LocalError("a range of rows is between instants with a zone")
    names = tuple(ColumnName(c.class_id, c.logical_name, c.attribute_index, c.data_index) for c in columns)
    edges = cosem_time.encode(since, zone), cosem_time.encode(until, zone)
    return RangeSelection(stamp, 2, *edges, names)


def entries(first: int, last: int = 0, *, first_column: int = 1, last_column: int = 0) -> EntrySelection:
    """Select rows first..last and columns likewise, counted from 1; last 0 is the end.

    LocalError when there are none such.
    """
    for what, low, high in (("rows", first, last), ("columns", first_column, last_column)):
        if low < 1 or (high and high < low):
            raise LocalError(f"{what} {low}..{high} of a profile: count from 1, upwards")
    return EntrySelection(first, last, first_column, last_column)
