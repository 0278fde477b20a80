"""Numbers each change in the health of meters and lines, so that telling it costs what changed, not what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple


class Subject(StrEnum):
    """What has a health."""

    METER = "meter"
    LINE = "line"


class Change(NamedTuple):
    """The newest change of one meter or line: its number among all changes, which it is, and its health since."""

    number: int
    subject: Subject
    name: str
    health: str


class HealthChanges:
    """The last change of every meter and line, in the order of changes; made by the poller, read by the status.

    `number` is that of the newest change; it only rises. Health is a short word (`ok`, `meter_silent`, `down`).
    """

    def __init__(self, found: Iterable[tuple[Subject, str, str]] = ()) -> None:
        """Begin with the health of each (subject, name, health): the first changes."""
        self.number = 0
        # Python's dict keeps the order of insertion: a change takes its key out and puts it at the end.
        self._last: dict[tuple[Subject, str], tuple[int, str]] = {}
        self._counts: dict[Subject, Counter[str]] = {subject: Counter() for subject in Subject}
        for subject, name, health in found:
            self.note(subject, name, health)

    def note(self, subject: Subject, name: str, health: str) -> bool:
        """Note a health; False when it is as it was."""
        before = self._last.get((subject, name))
        if before is not None:
            if before[1] == health:
                return False
            del self._last[subject, name]
            self._counts[subject][before[1]] -= 1
        self.number += 1
        self._last[subject, name] = (self.number, health)
        self._counts[subject][health] += 1
        return True

    def forget(self, subject: Subject, name: str) -> None:
        """Tell no longer of what is not there any more; forgetting it is no change."""
        before = self._last.pop((subject, name), None)
        if before is not None:
            self._counts[subject][before[1]] -= 1

    def counts(self, subject: Subject) -> dict[str, int]:
        """Return how many have each health, none of zero."""
        return {health: count for health, count in self._counts[subject].items() if count}

    def since(self, number: int) -> list[Change]:
        """Return the last change of all that changed after `number`, oldest first; looks at no other."""
        found = []
        for (subject, name), (at, health) in reversed(self._last.items()):
            if at <= number:
                break
            found.append(Change(at, subject, name, health))
        found.reverse()
        return found

    def all(self) -> Iterator[Change]:
        """Yield the last change of every meter and line, oldest first."""
        for (subject, name), (at, health) in list(self._last.items()):
            yield Change(at, subject, name, health)
