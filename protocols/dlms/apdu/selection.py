"""Selective access to a profile's buffer: by range and by entry (Blue Book 4.3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from protocols.obis import Obis


class ColumnName(NamedTuple):
    """One captured column as a selection names it."""

    class_id: int
    obis: Obis
    attribute: int = 2
    data_index: int = 0


@dataclass(frozen=True, slots=True)
class RangeSelection:
    """Rows of a profile whose `obis`#`attribute` column lies in since..until (12 date-time octets each).

    `columns` names the columns wanted; none means all.
    """

    obis: Obis
    attribute: int
    since: bytes
    until: bytes
    columns: tuple[ColumnName, ...] = ()


@dataclass(frozen=True, slots=True)
class EntrySelection:
    """Rows first..last of a profile, counted from 1, and columns likewise; last = 0 means to the end."""

    first: int
    last: int
    first_column: int = 1
    last_column: int = 0
