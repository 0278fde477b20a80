"""What an upgrade asks of whoever carries it out, one step at a time, and what it comes to."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data


@dataclass(frozen=True, slots=True)
class Get:
    """Read an attribute; the answer is its Data. Errors are thrown in."""

    target: Target


@dataclass(frozen=True, slots=True)
class Set:
    """Write an attribute; the answer is None."""

    target: Target
    value: Data


@dataclass(frozen=True, slots=True)
class Run:
    """Run a method; the answer is None."""

    target: Target
    parameter: Data


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep these facts for later visits; they are durable when the answer (None) comes."""

    kept: Kept


@dataclass(frozen=True, slots=True)
class Note:
    """Record what comes next, of a meter that runs `version`; it is durable when the answer (None) comes."""

    text: str
    version: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Wait so many seconds; the answer is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """The answer is a `Now`."""


@dataclass(frozen=True, slots=True)
class Now:
    """The instant, and whether this visit may take further steps."""

    at: datetime
    may_go_on: bool


Step = Get | Set | Run | Keep | Note | Rest | Look


class Phase(StrEnum):
    """How far an upgrade has come, by what was kept.

    `committed` is kept before the meter is told to activate (or its schedule is written): from then on nobody tells
    it a second time, and the meter is only watched.
    """

    NEW = "new"
    SENDING = "sending"
    VERIFIED = "verified"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What an upgrade keeps between visits.

    `block_size` is that of the transfer which goes on; `rounds` counts initiations, `unverified` transfers that the
    meter could not verify. `from_version` ran before, `due` is when the new one was to be activated; `seen` says that
    the new version was read after that, `answered` that the meter
    answered when it was told. `signature` (hex) is what the meter showed of the image that it verified, None before.
    """

    phase: Phase = Phase.NEW
    block_size: int = 0
    rounds: int = 0
    unverified: int = 0
    from_version: str = ""
    due: datetime | None = None
    seen: bool = False
    answered: bool = False
    signature: str | None = None

    def as_facts(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "phase": str(self.phase),
            "block_size": self.block_size,
            "rounds": self.rounds,
            "unverified": self.unverified,
            "from_version": self.from_version,
            "due": None if self.due is None else self.due.isoformat(),
            "seen": self.seen,
            "answered": self.answered,
            "signature": self.signature,
        }

    @classmethod
    def of(cls, facts: Any) -> Kept:
        """Read what `as_facts` wrote; of nothing, a new upgrade."""
        if not facts:
            return cls()
        due = facts["due"]
        return cls(
            phase=Phase(facts["phase"]),
            block_size=int(facts["block_size"]),
            rounds=int(facts["rounds"]),
            unverified=int(facts["unverified"]),
            from_version=str(facts["from_version"]),
            due=None if due is None else datetime.fromisoformat(due),
            seen=bool(facts["seen"]),
            answered=bool(facts["answered"]),
            signature=facts.get("signature"),
        )

    def told_again(self) -> Kept:
        """Return what is left when a person orders a failed upgrade again: it may be told to activate once more."""
        if self.phase is not Phase.COMMITTED:
            return Kept()
        return replace(self, phase=Phase.VERIFIED, due=None, seen=False, answered=False)


class How(StrEnum):
    """How an image is activated: never, by the method, or by the meter itself at the time in its schedule."""

    NEVER = "never"
    METHOD = "method"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """When an image is activated (None: as soon as it is verified) and how; and how long it is watched afterwards.

    The version is looked at `settle` after the activation, and once more `watch` after it, for a meter that comes
    back on the old one.
    """

    how: How = How.METHOD
    at: datetime | None = None
    settle: timedelta = timedelta(minutes=5)
    watch: timedelta = timedelta(minutes=15)


class Result(StrEnum):
    """What a visit came to: the upgrade is done, goes on in another visit, or failed (perhaps for good)."""

    DONE = "done"
    AGAIN = "again"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitEnd:
    """How a visit ended. `reason` names a failure, `final`: no other visit helps, `progress`: this one brought some."""

    result: Result
    note: str = ""
    reason: str = ""
    final: bool = False
    progress: bool = True
    not_before: datetime | None = None


Steps = Generator[Step, Any, VisitEnd]
"""A visit as a state machine without I/O: `send` it the answer to each step, `throw` the ProtocolError that came."""


def done(note: str) -> VisitEnd:
    """Return that the upgrade is done."""
    return VisitEnd(result=Result.DONE, note=note)


def again(note: str, *, not_before: datetime | None = None, progress: bool = True) -> VisitEnd:
    """Return that it goes on in another visit."""
    return VisitEnd(result=Result.AGAIN, note=note, not_before=not_before, progress=progress)


def failed(reason: str, note: str, *, final: bool = False) -> VisitEnd:
    """Return that it failed."""
    return VisitEnd(result=Result.FAILED, reason=reason, note=note, final=final)
