"""What the journal tells about itself, kept in one place: counters and standing alarms."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import structlog

from gateway.edge.journal.limits import JournalAlarm, JournalStatistics
from gateway.statistics import counted

log = structlog.get_logger("gateway.edge.journal")


class Board:
    """The statistics now. Written by the journal's thread, read by everybody (the object is replaced whole)."""

    def __init__(self, statistics: JournalStatistics) -> None:
        self.now = statistics
        self._alarms: dict[str, JournalAlarm] = {}

    def count(self, **more: int) -> None:
        """Raise counters."""
        self.now = counted(self.now, **more)

    def set(self, **fields: object) -> None:
        """Set fields."""
        self.now = replace(self.now, **fields)  # type: ignore[arg-type]  # names of its fields

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
