"""TCP connections to the push port: judged, timed, and handed to the line of the meter that dialled in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from protocols.dlms.push.dial_in import DialInConnection, DialInLine
from protocols.dlms.push.framing import BARE
from protocols.dlms.push.limits import PushLimits
from protocols.dlms.push.notification_queue import NotificationQueue, Promise, TcpSender, answerable
from protocols.dlms.push.receiver import PushReceiver
from protocols.dlms.push.senders import PushPeer
from protocols.lines.tcp import notice_dead_peer

MAX_ASKING = 32
"""Connections that are asked who they are at one time."""

Ask = Callable[[DialInLine], Awaitable[str | None]]
"""Ask who is at the other end; returns a name or serial that the key ring knows, or None."""


@dataclass(slots=True, eq=False)
class Caller(TcpSender):
    """One connection that belongs to no line yet; `deadline` in the event loop's time.

    `said` is the meter that pushed on it in the plain last, or that its address is known for.
    """

    address: str = ""
    deadline: float = 0.0
    pushed: bool = False
    said: PushPeer | None = None
    timer: asyncio.TimerHandle | None = None


class Callers:
    """The connections of a listener.

    A connection belongs to a line as soon as its source address, a push or an answer to `ask` names a meter
    of `lines`; until then it must push in time. `take` judges and queues what came on the connection of a
    known peer, with a way to answer it. `hints` are the meters of source addresses whose plain pushes name none.
    `counts` counts under the names of `ListenerStatistics`.
    """

    def __init__(
        self,
        receiver: PushReceiver,
        queue: NotificationQueue,
        limits: PushLimits,
        counts: Counter[str],
        *,
        take: Callable[[bytes, PushPeer | None, Promise | None], object],
        lines: Mapping[str, DialInLine],
        addresses: Mapping[str, str],
        hints: Mapping[str, PushPeer],
        peer_of: Callable[[str], PushPeer | None],
        ask: Ask | None,
    ) -> None:
        self._receiver = receiver
        self._queue = queue
        self._limits = limits
        self._counts = counts
        self._take = take
        self._lines = dict(lines)
        self._addresses = dict(addresses)
        self._hints = dict(hints)
        self._peer_of = peer_of
        self._ask = ask if lines else None
        self._callers: set[Caller] = set()
        self._bound: dict[DialInConnection, DialInLine] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._callers) + len(self._bound)

    @property
    def dialled_in(self) -> int:
        """Connections that belong to a line."""
        return len(self._bound)

    async def close(self) -> None:
        """Drop the connections that belong to no line. Idempotent."""
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        for caller in list(self._callers):
            self._hang_up(caller)

    def accept(self, connection: DialInConnection, address: str) -> None:
        """Take over a new connection from `address`; it is dropped when there are too many."""
        limits = self._limits
        if len(self) >= limits.connections:
            self._counts["over_limit"] += 1
            connection.abort()
            return
        self._counts["opened"] += 1
        deadline = asyncio.get_running_loop().time() + limits.first
        caller = Caller(connection, address=address, deadline=deadline, said=self._hints.get(address))
        self._callers.add(caller)
        self._counts["peak"] = max(self._counts["peak"], len(self))
        connection.on_octets = lambda data: self._receive(caller, data)
        connection.on_lost = lambda: self._finish(caller)
        name = self._addresses.get(address)
        if name is not None and name in self._lines:
            self._bind(caller, name)
        elif self._ask is not None:
            self._arm(caller, limits.ask_after)
        else:
            self._arm(caller, limits.first)

    def _receive(self, caller: Caller, data: bytes) -> None:
        for apdu in caller.connection.receive_pushes(data):
            found = self._receiver.receive(apdu.octets, hint=caller.said)
            if found is None:  # counted by its reason; a refused push earns no more time
                continue
            caller.pushed = True
            if found.counter is None:
                caller.said = found.peer
            caller.deadline = asyncio.get_running_loop().time() + self._limits.idle
            promise = partial(caller.connection.owe, apdu.way.framed)
            self._queue.put_from(caller, answerable(found, promise))
            if caller in self._callers and found.peer.name in self._lines:
                self._bind(caller, found.peer.name)
        if caller.connection.stream.broken:
            self._counts["broken_framing"] += 1
            self._hang_up(caller)

    def _finish(self, caller: Caller) -> None:
        """The sender ended: what has no frame around it, or stands behind one that was cut short, is complete now."""
        line = self._bound.pop(caller.connection, None)
        if line is None and caller not in self._callers:
            return  # we hung up
        self._leave(caller)
        stream = caller.connection.stream
        for apdu in stream.finish():
            if line is not None:
                line.take_push(apdu.octets)
            else:
                self._take_last(apdu.octets, caller)
        self._counts["broken_framing"] += bool(stream.broken)

    def _take_last(self, apdu: bytes, caller: Caller) -> None:
        """Judge a bare push, whose sender is gone: it waits for nothing, and nothing can be sent back."""
        if self._queue.full:
            self._counts["queue_full"] += 1
            return
        found = self._receiver.receive(apdu, hint=caller.said)
        if found is not None:
            self._queue.put(found)

    def _hang_up(self, caller: Caller) -> None:
        self._leave(caller)
        caller.connection.abort()

    def _leave(self, caller: Caller) -> None:
        self._callers.discard(caller)
        if caller.timer is not None:
            caller.timer.cancel()

    # time

    def _arm(self, caller: Caller, seconds: float) -> None:
        caller.timer = asyncio.get_running_loop().call_later(seconds, self._time_up, caller)

    def _time_up(self, caller: Caller) -> None:
        if caller not in self._callers:
            return
        left = caller.deadline - asyncio.get_running_loop().time()
        if left > 0:  # it pushed meanwhile, or this is the time to ask
            silent = not caller.pushed and not caller.connection.received
            if silent and self._ask is not None and len(self._asking) < MAX_ASKING:
                self._start_asking(caller, self._ask)
            else:
                self._arm(caller, left)
            return
        bare = caller.connection.stream.framing == BARE
        self._counts["no_push_in_time"] += not caller.pushed and not bare
        self._counts["idle_closed"] += caller.pushed
        caller.connection.abort()  # what is there of a bare push is judged when the connection is gone

    # meters that dial in

    def _bind(self, caller: Caller, name: str) -> None:
        """Hand the connection over to the line of the meter `name`."""
        line = self._lines[name]
        self._leave(caller)
        self._bound[caller.connection] = line
        peer = self._peer_of(name)
        line.on_push = lambda apdu, promise: self._take(apdu, peer, promise)
        notice_dead_peer(caller.connection)
        line.adopt(caller.connection)

    def _start_asking(self, caller: Caller, ask: Ask) -> None:
        self._counts["asked"] += 1
        task = asyncio.get_running_loop().create_task(self._identify(caller, ask))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _identify(self, caller: Caller, ask: Ask) -> None:
        """Ask a silent caller who it is, on a line of its own; it is bound where that is one of our meters."""
        line = DialInLine(f"caller {caller.address}")
        line.adopt(caller.connection)
        pushes: list[tuple[bytes, Promise | None]] = []  # of whom, is known only with the answer
        line.on_push = lambda apdu, promise: pushes.append((apdu, promise))
        try:
            async with asyncio.timeout(max(1.0, self._limits.first)):
                name = await ask(line)
        except TimeoutError:
            name = None
        peer = self._peer_of(name) if name is not None else None
        connection = line.give_up()
        alive = caller in self._callers and connection is not None and connection.usable
        if not alive or peer is None or peer.name not in self._lines:
            self._counts["unknown_callers"] += 1
            self._hang_up(caller)
            return
        self._bind(caller, peer.name)
        for apdu, promise in pushes:
            self._take(apdu, peer, promise)
