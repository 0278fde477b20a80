"""The health of meters as a status report is given it, for tests: every row that is made is counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.contract.messages import MeterStatus
from gateway.edge.polling.changes import HealthChanges, Subject
from gateway.edge.sinks.status_report import Row

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Health:
    """Meters whose rows are counted when they are made."""

    def __init__(self, meters: int) -> None:
        self.changes = HealthChanges((Subject.METER, f"GEN:{n}", "new") for n in range(meters))
        self.made = 0

    @property
    def number(self) -> int:
        return self.changes.number

    def since(self, number: int) -> list[tuple[int, Row]]:
        return [self._row(c.number, c.name, c.health) for c in self.changes.since(number)]

    def all(self) -> Iterator[tuple[int, Row]]:
        return (self._row(c.number, c.name, c.health) for c in self.changes.all())

    def _row(self, number: int, name: str, health: str) -> tuple[int, Row]:
        self.made += 1
        return number, MeterStatus(meter=name, line="bus", health=health, since=NOW)

    def fall_silent(self, *meters: int) -> None:
        for meter in meters:
            self.changes.note(Subject.METER, f"GEN:{meter}", "meter_silent")
