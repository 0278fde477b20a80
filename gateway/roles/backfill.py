"""Reading a meter's memory of a span again because somebody asks for it, by turns beside the edge's own polling."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from gateway.edge.field.messages import Called
from gateway.edge.polling.collect import STORED
from gateway.edge.polling.poller import Poller
from gateway.errors import JournalError
from protocols.reading import ProfileName
from protocols.session import Clock

A_TURN = timedelta(days=5)
"""Days of rows in one turn on the line: others may talk between."""
FURTHEST = timedelta(days=400)
log = structlog.get_logger("gateway.roles")


class EdgeBackfill:
    """Answers the call `backfill METER PROFILE SINCE UNTIL`, times in ISO 8601 with offset; newest rows first."""

    def __init__(self, poller: Poller, clock: Clock) -> None:
        self._poller = poller
        self._clock = clock

    async def backfill(self, by: str, words: Sequence[str]) -> Called:
        """Read the span, for `by`, and say how many captures were new; raises nothing."""
        try:
            meter, profile, since, until = self._asked(words)
        except ValueError as error:
            return Called(done=False, lines=(str(error),))
        log.info(
            "backfill_asked",
            by=by,
            meter=meter,
            profile=profile.value,
            since=since.isoformat(),
            until=until.isoformat(),
        )
        new = 0
        upto = until
        while upto > since:
            begin = max(since, upto - A_TURN)
            try:
                report = await self._poller.backfill(meter, profile, begin, upto)
            except JournalError as error:
                return self._broken(meter, new, begin, upto, f"the journal takes nothing: {error}")
            if report.error is not None:
                return self._broken(meter, new, begin, upto, report.error)
            if profile.value in report.unsupported:
                return Called(done=False, about=meter, lines=(f"{meter} keeps no {profile}",))
            new += report.captures.get(profile.value, 0)
            upto = begin
        return Called(done=True, about=meter, lines=(f"{profile} of {meter}: {new} captures were new",))

    def _asked(self, words: Sequence[str]) -> tuple[str, ProfileName, datetime, datetime]:
        """Return what is asked for; ValueError says in words what is wrong."""
        if len(words) != 4:
            raise ValueError("say METER PROFILE SINCE UNTIL")
        meter, name, *times = words
        since, until = (datetime.fromisoformat(time) for time in times)
        if since.utcoffset() is None or until.utcoffset() is None:
            raise ValueError("times need their offset: 2026-11-23T10:00:00+05:30")
        now = self._clock.now()
        until = min(until, now)
        if not since < until or now - since > FURTHEST:
            raise ValueError(f"a span ends after it begins, and begins in the last {FURTHEST.days} days")
        if name not in {profile.value for profile in STORED}:
            kept = ", ".join(sorted(profile.value for profile in STORED))
            raise ValueError(f"no meter keeps `{name}`; {kept} can be read again")
        profile = ProfileName(name)
        if not self._poller.reads(meter, profile):
            raise ValueError(f"this edge does not read {profile} of {meter}")
        return meter, profile, since, until

    @staticmethod
    def _broken(meter: str, new: int, begin: datetime, upto: datetime, why: str) -> Called:
        where = f"from {begin:%Y-%m-%d %H:%M} to {upto:%Y-%m-%d %H:%M} UTC"
        return Called(
            done=False,
            about=meter,
            lines=(f"{where}: {why}", f"{new} captures were new before; give the command again for the rest"),
        )
