"""Our turn on a line, which can be given back and taken again in the middle of a conversation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from protocols.errors import LocalError
from protocols.line import Line, LineIO


class Turn:
    """The exclusive use of a line; a hung-up or lost connection is opened anew by `renew`.

    `entered` is called each time the turn is ours, so that whoever keeps associations can tell our turns
    from those of strangers.
    """

    def __init__(self, line: Line, entered: Callable[[], None] = lambda: None) -> None:
        self.line = line
        self._entered = entered
        self._held: AsyncExitStack | None = None
        self._io: LineIO | None = None

    @property
    def io(self) -> LineIO:
        """The line in our hands; LocalError when it is not."""
        if self._io is None:
            raise LocalError("the line is not in our hands").with_context(line=self.line.name)
        return self._io

    async def begin(self) -> None:
        """Wait for the turn and connect if needed; raises LineUnavailable."""
        async with AsyncExitStack() as stack:
            self._io = await stack.enter_async_context(self.line.exclusive())
            self._held = stack.pop_all()
        self._entered()

    async def renew(self) -> None:
        """Give the turn back and take it again; others that waited go first. Raises LineUnavailable."""
        await self.end()
        await self.begin()

    async def end(self) -> None:
        """Give the turn back; idempotent."""
        held, self._held, self._io = self._held, None, None
        if held is not None:
            await held.aclose()
