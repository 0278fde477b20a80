"""What a meter says of its event logs without giving a row: how many they hold, their numbers, its status words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from protocols.obis import Obis


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMark:
    """One log: rows it holds, rows it can hold, the number of its last event; None where the meter does not say.

    `absent` says that the meter has no such log.
    """

    entries: int | None = None
    capacity: int | None = None
    sequence: int | None = None
    absent: bool = False

    @property
    def tells(self) -> bool:
        """Say whether a new event must show in this mark: a full log holds as many rows after it as before."""
        counts = self.entries is not None and self.capacity is not None and self.entries < self.capacity
        return counts or self.sequence is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMarks:
    """How the logs of one meter stood, and its words that speak of all of them.

    `words` are counters and texts by name: tampers, programmings, event status word.
    """

    logs: Mapping[Obis, LogMark] = field(default_factory=lambda: MappingProxyType({}))
    words: Mapping[str, int | str] = field(default_factory=lambda: MappingProxyType({}))

    def quiet_since(self, before: EventMarks | None) -> frozenset[Obis]:
        """Return the logs that can have no event which they had not at `before`.

        A log is quiet when its own mark tells, and tells the same. A word that changed speaks of some log: where
        no mark changed to explain it, no log is quiet.
        """
        if before is None:
            return frozenset()
        same = frozenset(
            log
            for log, mark in self.logs.items()
            if mark == before.logs.get(log) and (mark.tells or mark.absent)
        )
        explained = any(
            mark.tells and log in before.logs and log not in same for log, mark in self.logs.items()
        )
        if self._alarmed_since(before) and not explained:
            return frozenset()
        return same

    def _alarmed_since(self, before: EventMarks) -> bool:
        return any(_rose(before.words.get(name), word) for name, word in self.words.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNews:
    """What a session found of the event logs before it read one: how they stand, and which need no reading."""

    marks: EventMarks
    quiet: frozenset[Obis] = frozenset()

    @property
    def none(self) -> bool:
        """Say whether no log needs reading."""
        return bool(self.marks.logs) and self.quiet >= self.marks.logs.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenLog:
    """How one log stood when all that it held was taken over, at `read_at`; None where nobody knew the time."""

    log: Obis
    mark: LogMark
    read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenLogs:
    """How the logs of one meter stood when all that they held was in the journal of this name.

    `lied` says that they held news once which no mark had told.
    """

    journal: str
    logs: tuple[TakenLog, ...]
    words: Mapping[str, int | str]
    lied: bool = False

    @property
    def marks(self) -> EventMarks:
        """The same as a meter tells it."""
        return EventMarks(logs={one.log: one.mark for one in self.logs}, words=self.words)


def _rose(before: int | str | None, now: int | str) -> bool:
    """Say whether a counter differs, or a bit of a status word came; bits that went say nothing new."""
    if isinstance(before, str) and isinstance(now, str) and len(before) == len(now):
        return any(b == "0" and n == "1" for b, n in zip(before, now, strict=True))
    return before != now
