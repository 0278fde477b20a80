"""Acts on one meter in an open session: who it is, what stands and would stand, and the act with its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.acts.audit import ActRecord
from protocols.dlms.acts.programming import Act, Preview, perform, preview, shown
from protocols.dlms.session import DlmsSession
from protocols.reading import Nameplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What an act would change in a meter."""

    plate: Nameplate
    changes: tuple[Preview, ...]

    @property
    def needed(self) -> bool:
        """Say whether anything would change."""
        return any(one.before != one.after for one in self.changes)


async def look(session: DlmsSession, act: Act) -> Looked:
    """Return what stands in the meter beside what the act would write; nothing is written."""
    return Looked(plate=await session.identify(), changes=tuple(await preview(session.exchange, act)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Whose order it is, where it is recorded, and the time."""

    by: str
    record: ActRecord
    now: Callable[[], datetime]


async def do(session: DlmsSession, act: Act, actor: Actor) -> Looked:
    """Do the act and return what stands afterwards; its record is durable before anything is written.

    Raises what `perform` raises; the record says then how it failed.
    """
    found = await look(session, act)
    with actor.record.recorded(
        now=actor.now,
        by=actor.by,
        meter=found.plate.meter_id,
        act=act.name,
        before=_joined(found, "before"),
        after=_joined(found, "after"),
    ) as outcome:
        judged = await perform(session.exchange, act)
        stands = [shown(one.target, done.found) for one, done in zip(found.changes, judged, strict=False)]
        stands += [one.after for one in found.changes[len(stands) :]]  # what a method did was read as well
        after = Looked(
            plate=found.plate,
            changes=tuple(replace(one, after=now) for one, now in zip(found.changes, stands, strict=True)),
        )
        outcome.after = _joined(after, "after")
    return after


def _joined(found: Looked, which: str) -> str:
    return "; ".join(f"{one.label}: {getattr(one, which)}" for one in found.changes)
