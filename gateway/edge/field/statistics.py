"""What the field's work on an edge came to, for metrics, status and log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Ending(StrEnum):
    """How a turn ended."""

    RELEASED = "released"
    DIED = "died"
    OVERTIME = "overtime"
    IDLE = "idle"
    STOPPED = "stopped"


@dataclass(slots=True)
class TurnCounts:
    """Octets of one turn, and whether a Modbus meter was written to in it."""

    sent: int = 0
    received: int = 0
    wrote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldStatistics:
    """Counters since start; `connected`, `waiting` and `running` are of now, `seconds` those of turns that ended.

    `died` counts commands that went in the middle of a turn, `revoked` turns that the edge took back, `refused` those
    that were not given, `strangers` connections that were let go for what they said or who they are.
    """

    connected: int = 0
    waiting: int = 0
    running: int = 0
    turns: int = 0
    released: int = 0
    died: int = 0
    revoked: int = 0
    refused: int = 0
    strangers: int = 0
    reloads: int = 0
    seconds: float = 0.0
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnNote:
    """Who has or had a line, for what; `ending` is None while the turn goes on. `began` is in the loop's seconds."""

    line: str
    purpose: str
    meter: str | None
    by: str
    pid: int
    began: float
    ending: Ending | None = None
    seconds: float = 0.0
    sent: int = 0
    received: int = 0
    wrote: bool = False

    def ended(self, ending: Ending, seconds: float, counts: TurnCounts) -> TurnNote:
        """Return the note of the turn that ended so."""
        return replace(
            self,
            ending=ending,
            seconds=seconds,
            sent=counts.sent,
            received=counts.received,
            wrote=counts.wrote,
        )
