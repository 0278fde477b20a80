"""The asyncio shell of pushes: one TCP and one UDP port for thousands of meters, bounded in every direction."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from protocols.dlms.push.dial_in import DialInConnection, DialInLine
from protocols.dlms.push.framing import MAX_PUSH, PushStream, datagram
from protocols.dlms.push.receiver import Notification, PushPeer, PushReceiver, PushStatistics
from protocols.errors import LineUnavailable, MeterProtocolError
from protocols.lines.tcp import notice_dead_peer

RECEIVE_OCTETS = 32 * 1024
"""Kernel's receive buffer of a connection: what a paused or slow sender may have waiting."""
BACKLOG = 1_024
MAX_ASKING = 32
"""Connections that are asked who they are at one time."""

Network = IPv4Network | IPv6Network
Ask = Callable[[DialInLine], Awaitable[str | None]]
"""Ask who is at the other end; gives a name or serial that the key ring knows, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushLimits:
    """Bounds of a listener.

    `connections` at one time; `first` seconds for the first whole push of a connection, `idle` seconds
    between pushes; `octets` of one push; `queue` notifications that wait for the consumer; `ask_after`
    seconds of silence after which a new connection is asked who it is.
    """

    connections: int = 4_096
    first: float = 30.0
    idle: float = 300.0
    octets: int = MAX_PUSH
    queue: int = 1_000
    ask_after: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStatistics:
    """Counters since the start; `connections`, `dialled_in` and `queued` are of now."""

    connections: int = 0
    peak: int = 0
    dialled_in: int = 0
    queued: int = 0
    opened: int = 0
    over_limit: int = 0
    foreign_network: int = 0
    broken_framing: int = 0
    no_push_in_time: int = 0
    idle_closed: int = 0
    datagrams: int = 0
    broken_datagrams: int = 0
    queue_full: int = 0
    asked: int = 0
    unknown_callers: int = 0


@dataclass(slots=True)
class _Counts:
    peak: int = 0
    opened: int = 0
    over_limit: int = 0
    foreign_network: int = 0
    broken_framing: int = 0
    no_push_in_time: int = 0
    idle_closed: int = 0
    datagrams: int = 0
    broken_datagrams: int = 0
    queue_full: int = 0
    asked: int = 0
    unknown_callers: int = 0


@dataclass(slots=True, eq=False)
class _Caller:
    """One connection that belongs to no line."""

    connection: DialInConnection
    deadline: float
    pushed: bool = False
    timer: asyncio.TimerHandle | None = None
    waiting: deque[Notification] = field(default_factory=deque)


class PushListener:
    """Listens, judges through a `PushReceiver`, queues notifications; a full queue makes TCP senders wait.

    `lines` are the lines of meters that dial in, by the meter's name; `addresses` name the meter behind a
    source address. With `ask` a silent new connection is asked who it is. Use `start`, `batch`, `close`.
    """

    def __init__(
        self,
        receiver: PushReceiver,
        *,
        limits: PushLimits | None = None,
        networks: Collection[Network] = (),
        lines: Mapping[str, DialInLine] | None = None,
        addresses: Mapping[str, str] | None = None,
        peer_of: Callable[[str], PushPeer | None] = lambda _name: None,
        ask: Ask | None = None,
    ) -> None:
        self._receiver = receiver
        self._limits = limits or PushLimits()
        self._networks = tuple(networks)
        self._lines = dict(lines or {})
        self._addresses = dict(addresses or {})
        self._peer_of = peer_of
        self._ask = ask
        self._counts = _Counts()
        self._callers: set[_Caller] = set()
        self._bound: dict[DialInConnection, DialInLine] = {}
        self._queue: deque[Notification] = deque()
        self._stalled: deque[_Caller] = deque()
        self._there = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self.tcp_port = self.udp_port = 0

    async def start(self, host: str, tcp_port: int | None, udp_port: int | None = None) -> None:
        """Listen; a port of 0 is chosen by the system (`tcp_port`, `udp_port` tell). LineUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            if tcp_port is not None:
                listening = _listening(host, tcp_port)
                self._server = await loop.create_server(self._incoming, sock=listening, backlog=BACKLOG)
                self.tcp_port = int(self._server.sockets[0].getsockname()[1])
            if udp_port is not None:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _PushDatagrams(self), local_addr=(host, udp_port)
                )
                self.udp_port = int(self._udp.get_extra_info("sockname")[1])
        except OSError as error:
            await self.close()
            raise LineUnavailable(f"the push listener cannot listen on {host}: {error}") from error

    async def close(self) -> None:
        """Stop listening and drop the connections that belong to no line. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        for caller in list(self._callers):
            caller.connection.abort()
            self._leave(caller)

    async def batch(self, most: int = 100) -> list[Notification]:
        """Wait for notifications and give up to `most`, oldest first. Cancelling loses none."""
        while not self._queue:
            self._there.clear()
            await self._there.wait()
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        self._let_go_on()
        return taken

    def statistics(self) -> ListenerStatistics:
        """Return a frozen copy of the counters."""
        counts = {name: getattr(self._counts, name) for name in _Counts.__slots__}
        return ListenerStatistics(
            connections=len(self._callers) + len(self._bound),
            dialled_in=len(self._bound),
            queued=len(self._queue),
            **counts,
        )

    @property
    def refusals(self) -> PushStatistics:
        """The receiver's counters."""
        return self._receiver.statistics()

    def take(self, apdu: bytes, bound: PushPeer | None = None) -> Notification | None:
        """Judge and queue one APDU of a sender that cannot be made to wait; a full queue drops and counts.

        What is dropped is not judged: its counter is not noted, and the sender may send it again.
        """
        if len(self._queue) >= self._limits.queue:
            self._counts.queue_full += 1
            return None
        found = self._receiver.receive(apdu, bound)
        if found is not None:
            self._put(found)
        return found

    # TCP

    def _incoming(self) -> DialInConnection:
        connection = _Accepted(PushStream(self._limits.octets))
        connection.on_made = lambda: self._made(connection)
        return connection

    def _made(self, connection: DialInConnection) -> None:
        counts, limits = self._counts, self._limits
        address = _address(connection)
        if not self._allowed(address):
            counts.foreign_network += 1
            connection.abort()
            return
        if len(self._callers) + len(self._bound) >= limits.connections:
            counts.over_limit += 1
            connection.abort()
            return
        counts.opened += 1
        caller = _Caller(connection, asyncio.get_running_loop().time() + limits.first)
        self._callers.add(caller)
        counts.peak = max(counts.peak, len(self._callers) + len(self._bound))
        connection.on_octets = lambda data: self._octets(caller, data)
        connection.on_lost = lambda: self._lost(caller)
        name = self._addresses.get(address)
        if name is not None and name in self._lines:
            self._bind(caller, name)
        elif self._ask is not None and self._lines:
            self._arm(caller, limits.ask_after)
        else:
            self._arm(caller, limits.first)

    def _octets(self, caller: _Caller, data: bytes) -> None:
        try:
            apdus = caller.connection.stream.receive_data(data)
        except MeterProtocolError:
            self._counts.broken_framing += 1
            self._hang_up(caller)
            return
        self._judge(caller, apdus)

    def _judge(self, caller: _Caller, apdus: list[bytes]) -> None:
        limits = self._limits
        for apdu in apdus:
            found = self._receiver.receive(apdu)
            if found is None:
                continue
            caller.pushed = True
            caller.deadline = asyncio.get_running_loop().time() + limits.idle
            if caller.waiting or not self._put(found):
                self._stall(caller, found)
            if caller in self._callers and found.peer.name in self._lines:
                self._bind(caller, found.peer.name)

    def _lost(self, caller: _Caller) -> None:
        """The sender ended: a bare push is complete now."""
        line = self._bound.pop(caller.connection, None)
        if line is None and caller not in self._callers:
            return
        self._leave(caller)
        try:
            rest = caller.connection.stream.finish()
        except MeterProtocolError:
            self._counts.broken_framing += 1
            return
        for apdu in rest:
            if line is not None:
                line.take_push(apdu)
            else:
                self.take(apdu)

    def _hang_up(self, caller: _Caller) -> None:
        self._leave(caller)
        caller.connection.abort()

    def _leave(self, caller: _Caller) -> None:
        self._callers.discard(caller)
        if caller.timer is not None:
            caller.timer.cancel()

    def _arm(self, caller: _Caller, seconds: float) -> None:
        caller.timer = asyncio.get_running_loop().call_later(seconds, self._time_up, caller)

    def _time_up(self, caller: _Caller) -> None:
        if caller not in self._callers:
            return
        left = caller.deadline - asyncio.get_running_loop().time()
        if left > 0:
            silent = not caller.pushed and not caller.connection.received
            if silent and self._ask is not None and self._lines and len(self._asking) < MAX_ASKING:
                self._start_asking(caller, self._ask)
            else:
                self._arm(caller, left)
            return
        bare = caller.connection.stream.framing == "bare"
        self._counts.no_push_in_time += not caller.pushed and not bare
        self._counts.idle_closed += caller.pushed
        caller.connection.abort()  # what is there of a bare push is judged when the connection is gone

    # back-pressure

    def _put(self, found: Notification) -> bool:
        if len(self._queue) >= self._limits.queue:
            return False
        self._queue.append(found)
        self._there.set()
        return True

    def _stall(self, caller: _Caller, found: Notification) -> None:
        """The queue is full: keep what one read held, and let this sender wait."""
        if not caller.waiting:
            self._stalled.append(caller)
            if caller.connection.transport is not None:
                caller.connection.transport.pause_reading()
        caller.waiting.append(found)

    def _let_go_on(self) -> None:
        while self._stalled and len(self._queue) < self._limits.queue:
            caller = self._stalled[0]
            while caller.waiting and self._put(caller.waiting[0]):
                caller.waiting.popleft()
            if caller.waiting:
                return
            self._stalled.popleft()
            if caller.connection.usable and caller.connection.transport is not None:
                caller.connection.transport.resume_reading()

    # meters that dial in

    def _bind(self, caller: _Caller, name: str) -> None:
        """Hand the connection over to the line of the meter `name`."""
        line = self._lines[name]
        self._leave(caller)
        self._bound[caller.connection] = line
        peer = self._peer_of(name)
        line.on_push = lambda octets: self._take_bound(octets, peer)
        notice_dead_peer(caller.connection)
        line.adopt(caller.connection)

    def _take_bound(self, octets: bytes, peer: PushPeer | None) -> None:
        self.take(octets, peer)

    def _start_asking(self, caller: _Caller, ask: Ask) -> None:
        self._counts.asked += 1
        task = asyncio.get_running_loop().create_task(self._asked(caller, ask))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _asked(self, caller: _Caller, ask: Ask) -> None:
        line = DialInLine(f"caller {_address(caller.connection)}")
        line.adopt(caller.connection)
        pushes: list[bytes] = []
        line.on_push = pushes.append
        try:
            async with asyncio.timeout(max(1.0, self._limits.first)):
                name = await ask(line)
        except TimeoutError:
            name = None
        peer = self._peer_of(name) if name is not None else None
        known = peer is not None and peer.name in self._lines
        connection = line.give_up()
        if caller not in self._callers or connection is None or not connection.usable:
            known = False
        if known and peer is not None:
            self._bind(caller, peer.name)
            for apdu in pushes:
                self.take(apdu, peer)
            return
        self._counts.unknown_callers += 1
        self._hang_up(caller)

    # UDP

    def datagram_received(self, data: bytes, address: str) -> None:
        """Take one datagram."""
        if not self._allowed(address):
            self._counts.foreign_network += 1
            return
        self._counts.datagrams += 1
        try:
            apdus = datagram(data, self._limits.octets)
        except MeterProtocolError:
            self._counts.broken_datagrams += 1
            return
        for apdu in apdus:
            self.take(apdu)

    def _allowed(self, address: str) -> bool:
        if not self._networks:
            return True
        try:
            at = ip_address(plain_address(address))
        except ValueError:
            return False
        return any(at.version == network.version and at in network for network in self._networks)


class _Accepted(DialInConnection):
    """A connection that tells when it is there."""

    on_made: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.on_made is not None:
            self.on_made()


class _PushDatagrams(asyncio.DatagramProtocol):
    def __init__(self, listener: PushListener) -> None:
        self._listener = listener

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._listener.datagram_received(data, str(addr[0]))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)  # accepted ones inherit it
        listening.bind((host, port))
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _address(connection: DialInConnection) -> str:
    peer = connection.transport.get_extra_info("peername") if connection.transport else None
    return plain_address(str(peer[0])) if peer else ""


def plain_address(address: str) -> str:
    """Return an IPv4 address that a socket for both families shows as IPv6 its own form, without a zone."""
    return address.partition("%")[0].removeprefix("::ffff:")
