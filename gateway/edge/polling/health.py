"""What the poller tells: the health of meters and lines, and the report of one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from protocols.errors import (
    AnswerOwed,
    AssociationRefused,
    IdentityMismatch,
    LineError,
    MeterSilent,
    NotSupported,
    ProtocolError,
    SecurityFailure,
)


class PollState(StrEnum):
    """What the last poll of a meter came to, in one word."""

    NEW = "new"
    OK = "ok"
    SILENT = "silent"
    REFUSED = "refused"
    MISMATCH = "mismatch"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterHealth:
    """One meter: state and since when, last success and error, next try, clock.

    `drift` is in seconds, meter minus gateway, None when not measured; `clock_trusted` is None as long.
    """

    meter: str
    line: str
    state: PollState = PollState.NEW
    since: datetime
    last_success: datetime | None = None
    error_code: str | None = None
    error: str | None = None
    failures: int = 0
    next_try: datetime | None = None
    drift: float | None = None
    drift_alarm: bool = False
    clock_trusted: bool | None = None
    captures: int = 0
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LineHealth:
    """One line: `state` is new, ok or down; seconds busy in all and for meters that did not answer.

    `dead_cost_seconds` is how long meters that were due waited for those. `talk` is what goes on now, None for
    nothing; `waiting` how many wait for a turn.
    """

    line: str
    state: str = "new"
    since: datetime
    error_code: str | None = None
    error: str | None = None
    next_try: datetime | None = None
    meters: int = 0
    silent_meters: int = 0
    busy_seconds: float = 0.0
    dead_seconds: float = 0.0
    dead_cost_seconds: float = 0.0
    talk: str | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerStatistics:
    """The poller at one moment. `paused` says why reading stands still (the journal), else None.

    `sessions` with meters go on now, `sessions_waiting` wait until admission control lets them begin. Meters that did
    not answer took `dead_seconds` of their lines, most of it idle; others waited `dead_cost_seconds` for them.
    `clocks_off` meters' clocks wait for an order; the others count corrections that meters took, or did not.
    """

    meters: Mapping[str, MeterHealth]
    lines: Mapping[str, LineHealth]
    polls: int = 0
    failures: int = 0
    captures: int = 0
    paused: str | None = None
    paused_since: datetime | None = None
    sessions: int = 0
    sessions_waiting: int = 0
    dead_seconds: float = 0.0
    dead_cost_seconds: float = 0.0
    clocks_off: int = 0
    clocks_corrected: int = 0
    clocks_not_corrected: int = 0

    @property
    def silent(self) -> int:
        """How many meters do not answer."""
        return sum(m.state is PollState.SILENT for m in self.meters.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReport:
    """One meter's part of a round: new captures by profile, what it lacks, what failed."""

    meter: str
    line: str
    captures: Mapping[str, int] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()
    error_code: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Everything that the meter has was read."""
        return self.error is None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollReport:
    """One round over all meters."""

    meters: tuple[MeterReport, ...]

    @property
    def ok(self) -> bool:
        """Every meter was read."""
        return all(report.ok for report in self.meters)


def state_of(error: Exception) -> PollState:
    """Return the state that a failure puts a meter into."""
    match error:
        case IdentityMismatch():
            return PollState.MISMATCH
        case MeterSilent() | AnswerOwed() | LineError() | TimeoutError():
            return PollState.SILENT
        case NotSupported():
            return PollState.UNSUPPORTED
        case _:
            return PollState.REFUSED


def may_lock_out(error: Exception) -> bool:
    """Say whether trying again at once could lock the meter (wrong password or key)."""
    return isinstance(error, AssociationRefused | SecurityFailure)


def health_code(error: Exception | None) -> str | None:
    """Return the stable name of what is wrong, for messages and pages; None when nothing is."""
    if error is None:
        return None
    return error.code if isinstance(error, ProtocolError) else "internal"
