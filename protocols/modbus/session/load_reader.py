"""Reading a load survey out of a meter's memory: which records to ask for, and what intervals they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from protocols.errors import MeterProtocolError
from protocols.modbus.decoding.codec import Scales, decode, decode_instant, raw_value
from protocols.modbus.format.loads import FILE_RECORD, LoadLog, LogHead
from protocols.modbus.format.model import MeterModel
from protocols.reading import Instant, MeterTime, Missing, MissingReason, Quantity, Value


class ReadWords(Protocol):
    """Reads registers, or a record of a file; raises what the client raises."""

    async def __call__(self, function: int, address: int, count: int, *, file: int = 0) -> Sequence[int]:
        """Return `count` words."""


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One interval: its end, its number among those with this end, what the meter stamped it with, and its values."""

    at: datetime
    occurrence: int
    stamp: MeterTime
    values: tuple[tuple[Quantity, Value], ...]


class LoadReader:
    """Reads the records of a model's log, newest first, as far back as they are wanted.

    `unplaced` counts the records whose time is none: they belong to no interval, which stays missing.
    """

    def __init__(self, model: MeterModel, log: LoadLog, read: ReadWords, zone: ZoneInfo) -> None:
        self._model = model
        self._log = log
        self._read = read
        self._zone = zone
        self.unplaced = 0

    async def rows(self, scales: Scales, since: datetime | None, until: datetime | None) -> list[LoadRow]:
        """Return the intervals with since < end <= until, oldest first; raises what reading raises.

        A record that is met twice, as records move on while they are read, is one.
        """
        met: set[tuple[datetime, tuple[int, ...]]] = set()
        rows: list[LoadRow] = []
        async for words in self._records():
            time = self._time(words)
            if time is None:
                continue
            at = time if self._log.stamp == "end" else time + self._log.length
            if since is not None and at <= since and self._ordered:
                break
            if (at, tuple(words)) in met:
                continue
            met.add((at, tuple(words)))
            if (since is None or at > since) and (until is None or at <= until):
                rows.append(LoadRow(at, 0, self._stamp(time), tuple(self._values(words, scales))))
        # Of rows with one stamp, after a clock was set back, the older one keeps its number when the newer one comes.
        seen: Counter[datetime] = Counter()
        for place in range(len(rows) - 1, -1, -1):
            rows[place] = replace(rows[place], occurrence=seen[rows[place].at])
            seen[rows[place].at] += 1
        return sorted(rows, key=lambda row: (row.at, row.occurrence))

    @property
    def _ordered(self) -> bool:
        """Say whether records are met newest first, so that one that is too old ends the reading."""
        return self._log.order == "newest_first" or self._log.newest is not None

    async def _records(self) -> AsyncIterator[Sequence[int]]:
        """Yield the words of the records, newest first where the log tells, until there are no more."""
        filled = await self._filled()
        for numbers in self._runs(filled, await self._newest(filled)):
            words = await self._ask(numbers)
            size = self._log.record
            cut = [words[i : i + size] for i in range(0, len(words), size)]
            for record in cut if self._log.order == "newest_first" else reversed(cut):
                yield record

    async def _filled(self) -> int:
        most = self._log.records
        return most if self._log.filled is None else min(most, await self._head(self._log.filled))

    async def _newest(self, filled: int) -> int:
        """Return the number of a ring's newest record, from 0; the last of `filled` where the log does not tell."""
        log = self._log
        if log.newest is None:
            return filled - 1
        number = await self._head(log.newest) - log.newest_from
        if not 0 <= number < log.records + log.newest_is_next:
            shown = f"the meter shows record {number + log.newest_from} as its newest"
            raise MeterProtocolError(f"{shown}, and model {self._model.name} has {log.records}")
        return (number - log.newest_is_next) % log.records

    async def _head(self, head: LogHead) -> int:
        return raw_value(self._model, head, await self._read(head.function, head.address, head.size))

    def _runs(self, filled: int, newest: int) -> Iterator[range]:
        """Yield the numbers of records that are asked for together, in rising order within each run."""
        if self._log.order == "newest_first":
            for first in range(0, filled, self._together):
                yield range(first, min(first + self._together, filled))
            return
        end = newest + 1
        while filled > 0:
            first = max(0, end - min(self._together, filled))
            yield range(first, end)
            filled -= end - first
            end = first or self._log.records

    @property
    def _together(self) -> int:
        """How many records go into one request: those that leave holes between them are read one by one."""
        if self._log.function == FILE_RECORD or self._log.step != self._log.record:
            return 1
        return max(1, self._model.max_read // self._log.record)

    async def _ask(self, numbers: range) -> Sequence[int]:
        log = self._log
        address = log.address + numbers.start * log.step
        return await self._read(log.function, address, len(numbers) * log.record, file=log.file or 0)

    def _time(self, words: Sequence[int]) -> datetime | None:
        """Return the time of a record; None for one that is empty or has none."""
        cell = self._log.time
        value = decode_instant(self._model, cell, words[cell.offset : cell.offset + cell.size], self._zone)
        if isinstance(value, Instant):
            return value.at
        self.unplaced += value != Missing(MissingReason.NOT_SPECIFIED)
        return None

    def _stamp(self, time: datetime) -> MeterTime:
        shown = time.astimezone(UTC if self._log.time.is_utc else self._zone)
        return MeterTime(wall=shown.strftime("%Y-%m-%dT%H:%M:%S"))

    def _values(self, words: Sequence[int], scales: Scales) -> Iterator[tuple[Quantity, Value]]:
        for value in self._log.values:
            cells = words[value.offset : value.offset + value.size]
            yield Quantity.of(value.quantity), decode(self._model, value, cells, self._zone, scales=scales)
