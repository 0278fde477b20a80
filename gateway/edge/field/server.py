"""The edge's local socket: who may connect, how many, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from gateway.edge.field.connection import FieldConnection, Handler, socket_of
from gateway.edge.field.giver import TurnGiver
from gateway.edge.field.messages import FieldMessageError, Refused, packed
from gateway.edge.field.peers import Peer, peer_of
from gateway.edge.field.socket_file import listening_socket
from gateway.edge.field.statistics import Ending, FieldStatistics, TurnNote
from gateway.errors import ConfigError
from protocols.session import CounterStore

SLOW = 10.0
"""Seconds in which a command must take what was sent to it before the end."""
LONG = 30.0
"""Seconds after which a turn that goes on is told in the edge's status."""
log = structlog.get_logger("gateway.edge.field")


class FieldServer:
    """Serves the field at `path`: for its own user and root, and for `group` where one is named."""

    def __init__(
        self,
        path: Path,
        group: str | None,
        *,
        giver: TurnGiver,
        counters: CounterStore,
        calls: Mapping[str, Handler],
    ) -> None:
        self._path = path
        self._group = group
        self._giver = giver
        self._counters = counters
        self._calls = calls
        self._server: asyncio.Server | None = None
        self._group_id: int | None = None
        self._tasks: dict[asyncio.Task[None], FieldConnection | None] = {}
        self._strangers = self.reloads = 0

    async def start(self) -> None:
        """Listen; ConfigError where the socket cannot be made."""
        try:
            listening = listening_socket(self._path, self._group)
        except OSError as error:
            raise ConfigError(
                f"[field] socket {self._path} cannot be made: {error.strerror or error}"
            ) from error
        self._group_id = self._path.stat().st_gid if self._group is not None else None
        self._server = await asyncio.start_unix_server(self._accept, sock=listening)

    async def close(self) -> None:
        """Listen no more, end the turns that go on, each with its line in order, and take the socket away."""
        if self._server is None:
            return
        self._server.close()
        for task, connection in list(self._tasks.items()):
            if connection is not None:
                connection.stop()
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None
        with suppress(OSError):
            self._path.unlink()

    def long_turns(self) -> list[TurnNote]:
        """Return the turns that go on for LONG seconds already."""
        running = self._giver.running()
        return (
            [one for one in running if asyncio.get_running_loop().time() - one.began >= LONG]
            if running
            else []
        )

    def statistics(self) -> FieldStatistics:
        """Return the counters, frozen."""
        giver = self._giver
        return FieldStatistics(
            connected=len(self._tasks),
            waiting=giver.waiting,
            running=len(giver.running()),
            turns=giver.turns,
            released=giver.endings[Ending.RELEASED],
            died=giver.endings[Ending.DIED],
            revoked=giver.endings[Ending.OVERTIME] + giver.endings[Ending.IDLE],
            refused=giver.refused,
            strangers=self._strangers,
            reloads=self.reloads,
            seconds=giver.seconds,
            sent=giver.sent,
            received=giver.received,
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = None
        try:
            await self._serve(task, reader, writer)
        except asyncio.CancelledError:
            pass  # the edge stops: asyncio would log a handler that was cancelled
        finally:
            del self._tasks[task]
            writer.close()
            asyncio.get_running_loop().call_later(SLOW, writer.transport.abort)  # one that reads nothing

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = peer_of(socket_of(writer))
        if why := self._refusal(peer):
            self._let_go(writer, peer.name, why)
            with suppress(TimeoutError):  # it speaks first: gone before that, it would not hear the answer
                async with asyncio.timeout(SLOW):
                    await reader.read(1)
            return
        connection = FieldConnection(
            reader, writer, peer, giver=self._giver, counters=self._counters, calls=self._calls
        )
        self._tasks[task] = connection
        try:
            await connection.serve()
        except FieldMessageError as error:
            self._let_go(writer, peer.name, str(error))
        except (TimeoutError, ConnectionError) as error:
            log.debug("field_connection_ended", who=peer.name, why=str(error) or "it said nothing for long")

    def _refusal(self, peer: Peer) -> str | None:
        """Return why somebody is not served; None when he is."""
        if not peer.may_work(self._group_id):
            return "the socket is for root, the edge's own user and the group of [field]"
        if len(self._tasks) > self._giver.limits.connections:
            return f"{self._giver.limits.connections} commands are connected already"
        return None

    def _let_go(self, writer: asyncio.StreamWriter, who: str, why: str) -> None:
        self._strangers += 1
        if not writer.transport.is_closing():
            writer.write(packed(Refused(turn=0, code="usage", text=why)))
        log.warning("field_connection_refused", who=who, why=why)
