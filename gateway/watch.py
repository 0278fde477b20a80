"""Which parts of the program come round, for systemd's watchdog: a part that is busy and makes no progress is stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watched:
    """A part that shows progress by a `mark` that changes; None while it has nothing to do.

    `within`: longest time, in seconds, that it may be busy without progress.
    """

    name: str
    mark: Callable[[], object]
    within: float


class Watch:
    """Looks at the marks of all parts, which may come and go; has no clock: `now` is any clock's seconds."""

    def __init__(self, parts: Callable[[], Iterable[Watched]]) -> None:
        self._parts = parts
        self._seen: dict[str, tuple[object, float]] = {}

    def stuck(self, now: float) -> list[str]:
        """Return the names of the parts that made no progress for longer than they may."""
        found = []
        for part in self._parts():
            mark = part.mark()
            known, since = self._seen.get(part.name, (None, now))
            if mark is None or mark != known:
                self._seen[part.name] = (mark, now)
            elif now - since > part.within:
                found.append(part.name)
        return found
