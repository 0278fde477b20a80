"""Another edge under our name: seen by the status that it publishes on our topic."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from gateway.contract.messages import Status, rfc3339
from gateway.contract.messages.generation import Generation
from gateway.edge.sinks.base import JournalReader

CALM = 600.0
"""Seconds without a word of it after which the other edge counts as gone."""
_Life = tuple[str, Generation]


class TwinWatch:
    """Tells our own statuses from those of another edge that runs with our login.

    What was there, retained, when we connected first may be of our own past. All else that is not of this
    run is of a twin: a status that comes while we listen, or one that took the place of ours.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._past: Status | None = None
        self._connections = 0
        self._own: set[_Life] = set()
        self._fault: tuple[float, str] | None = None

    @property
    def fault(self) -> str | None:
        """What to do about the other edge; None while none was heard for CALM seconds."""
        if self._fault is None or self._now() - self._fault[0] > CALM:
            return None
        return self._fault[1]

    def connected(self, journal: JournalReader) -> None:
        """Note a connection: what is retained now was said before it."""
        self._connections += 1
        self._own.add((journal.uuid, journal.generation))

    async def heard(self, status: Status, *, retained: bool, journal: JournalReader) -> None:
        """Take a status from our own topic; a life of our very journal is noted there, too."""
        # What this run was before it went on under another uuid may still be on its way.
        self._own.add((journal.uuid, journal.generation))
        life = (status.journal, status.generation)
        if life in self._own or self._is_past(status, life, retained=retained, journal=journal):
            return
        self._fault = (
            self._now(),
            f"another edge runs as {status.gateway} (journal {status.journal}, generation {status.generation},"
            f" seen at {rfc3339(status.at)}): stop one of them, or give it a name and a login of its own",
        )
        if status.journal == journal.uuid:
            # Numbers of both would count as one: each goes on under a name of its own.
            await journal.heard(status.generation, status.last_seq)

    def _is_past(self, status: Status, life: _Life, *, retained: bool, journal: JournalReader) -> bool:
        if not retained:
            return not status.online  # the last will of a run that was killed
        if status.journal == journal.uuid and not life[1].is_before(journal.generation):
            return False
        if self._connections <= 1:
            self._past = status
        return status == self._past
