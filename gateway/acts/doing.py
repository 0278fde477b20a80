"""Acts on one meter in an open session: who it is, what stands and would stand, and the act with its record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.acts.audit import ActRecord, Outcome
from gateway.errors import UsageError
from protocols.dlms.acts.programming import Act, Preview, perform, preview, shown
from protocols.dlms.session import DlmsSession
from protocols.reading import Nameplate
from protocols.session import MeterSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that an act changes, in words: what it is, what stands, what is wanted or stands afterwards."""

    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What an act would change in a meter."""

    plate: Nameplate
    changes: tuple[Difference, ...]

    @property
    def needed(self) -> bool:
        """Say whether anything would change."""
        return any(one.before != one.after for one in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Whose order it is, where it is recorded, and the time."""

    by: str
    record: ActRecord
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """An act on a meter of any protocol: looked at first, then done with its record; `warning` is for a person."""

    name: str
    look: Callable[[MeterSession], Awaitable[Looked]]
    do: Callable[[MeterSession, Actor], Awaitable[Looked]]
    warning: str = ""


def dlms_act(act: Act) -> Doing:
    """Return a programming act of DLMS meters as one of any meter; UsageError where the meter is none.

    Done, it raises what `perform` raises; the record says then how it failed.
    """

    async def look(session: MeterSession) -> Looked:
        return await _looked(_dlms(session), await preview(_dlms(session).exchange, act))

    async def do(session: MeterSession, actor: Actor) -> Looked:
        exchange = _dlms(session).exchange
        previews = await preview(exchange, act)
        found = await _looked(_dlms(session), previews)
        with recorded(actor, act.name, found) as outcome:
            judged = await perform(exchange, act)
            stands = [shown(one.target, done.found) for one, done in zip(previews, judged, strict=False)]
            stands += [one.after for one in previews[len(stands) :]]  # what a method did was read as well
            changes = (replace(one, after=now) for one, now in zip(found.changes, stands, strict=True))
            after = replace(found, changes=tuple(changes))
            outcome.after = _joined(after, "after")
        return after

    return Doing(name=act.name, look=look, do=do, warning=act.warning)


def recorded(actor: Actor, act: str, found: Looked) -> AbstractContextManager[Outcome]:
    """Return the record around an act that changes what was `found`: durable before anything is written."""
    return actor.record.recorded(
        now=actor.now,
        by=actor.by,
        meter=found.plate.meter_id,
        act=act,
        before=_joined(found, "before"),
        after=_joined(found, "after"),
    )


async def _looked(session: DlmsSession, previews: list[Preview]) -> Looked:
    changes = (Difference(label=one.label, before=one.before, after=one.after) for one in previews)
    return Looked(plate=await session.identify(), changes=tuple(changes))


def _dlms(session: MeterSession) -> DlmsSession:
    if not isinstance(session, DlmsSession):
        raise UsageError("only DLMS meters are programmed so")
    return session


def _joined(found: Looked, which: str) -> str:
    return "; ".join(f"{one.label}: {getattr(one, which)}" for one in found.changes)
