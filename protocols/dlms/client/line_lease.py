"""The exclusive use of a line, which can be given back and taken again in the middle of a conversation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from protocols.errors import LocalError
from protocols.line import Line, LineIO
from protocols.unused import unused_of


class LineLease:
    """The exclusive use of a line; a hung-up or lost connection is opened anew by `renew`.

    `on_acquired` is called each time the line is ours, so that a pool of associations can tell its own
    leases from those of strangers.
    """

    def __init__(self, line: Line, on_acquired: Callable[[], None] = lambda: None) -> None:
        self.line = line
        self.unused = unused_of(line)
        self._on_acquired = on_acquired
        self._held: AsyncExitStack | None = None
        self._used = False
        self._io: LineIO | None = None

    @property
    def io(self) -> LineIO:
        """The line while we hold it; LocalError while we do not."""
        if self._io is None:
            raise LocalError("the line is not in our hands").with_context(line=self.line.name)
        return self._io

    @property
    def used(self) -> bool:
        """Say whether the connection carried a conversation before: its end since then is no fault of the line."""
        return self._used

    def note_use(self) -> None:
        """Note that a conversation went over the connection."""
        self._used = True

    async def acquire(self) -> None:
        """Wait until the line is free and connect if needed; raises LineUnavailable."""
        connects = self.line.statistics().connects
        async with AsyncExitStack() as stack:
            self._io = await stack.enter_async_context(self.line.exclusive())
            self._held = stack.pop_all()
        self._used = self.line.statistics().connects == connects
        self._on_acquired()

    async def renew(self) -> None:
        """Release the line and acquire it again; others that waited go first. Raises LineUnavailable."""
        await self.release()
        await self.acquire()

    async def release(self) -> None:
        """Give the line back; idempotent."""
        held, self._held, self._io = self._held, None, None
        if held is not None:
            await held.aclose()
