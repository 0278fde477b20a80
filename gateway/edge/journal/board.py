"""What the journal tells about itself, kept in one place: counters and standing alarms."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

import structlog

from gateway.edge.journal.limits import JournalAlarm, JournalStatistics

log = structlog.get_logger("gateway.edge.journal")


class Board:
    """The statistics now. Written by the journal's thread, at each commit; read by everybody, seldom."""

    def __init__(self, statistics: JournalStatistics) -> None:
        # A commit sets ten fields: in a dict that costs a tenth of a new object.
        self._fields: dict[str, Any] = {one.name: getattr(statistics, one.name) for one in fields(statistics)}
        self._alarms: dict[str, JournalAlarm] = {}

    @property
    def now(self) -> JournalStatistics:
        """The statistics as they are now."""
        # Changed and copied at once, so that nobody sees half of a change.
        return JournalStatistics(**self._fields)

    @property
    def bytes(self) -> int:
        """Octets of the pages in use, as of the last look."""
        found: int = self._fields["bytes"]
        return found

    def count(self, **more: int) -> None:
        """Raise counters."""
        held = self._fields
        held.update({name: held[name] + by for name, by in more.items()})

    def set(self, **new: object) -> None:
        """Set fields."""
        self._fields.update(new)

    def alarm(self, code: str, text: str, since: datetime) -> None:
        """Let an alarm stand, and log it when it is new; a standing one gets the newer text."""
        known = self._alarms.get(code)
        if known is None:
            log.error("journal_alarm_raised", code=code, error=text)
        self._alarms[code] = JournalAlarm(code, text, since if known is None else known.since)
        self.set(alarms=tuple(self._alarms.values()))

    def calm(self, code: str) -> None:
        """Let an alarm go."""
        if self._alarms.pop(code, None) is not None:
            log.info("alarm_ended", code=code)
            self.set(alarms=tuple(self._alarms.values()))
