"""What the poller needs of others: how to open a session, and which meters push."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from protocols.line import Line
from protocols.session import MeterSession, MeterSpec, SessionContext, Visit


class OpenSession(Protocol):
    """How to open a session with a meter (`protocols.meters.open.open_session`)."""

    def __call__(
        self, line: Line, spec: MeterSpec, context: SessionContext, /, *, visit: Visit
    ) -> AbstractAsyncContextManager[MeterSession]: ...


class PushingMeters(Protocol):
    """The meters that push or dial in: their lines are woken, and their sessions teach how pushes are read."""

    @property
    def meters(self) -> Collection[str]:
        """Their identities, `GEN:12345678`."""

    async def learn(self, meter: str, session: MeterSession) -> None:
        """Use an open session with one of them, before its profiles are read."""
