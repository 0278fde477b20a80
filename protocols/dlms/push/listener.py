"""The asyncio shell of pushes: one TCP and one UDP port for thousands of meters, bounded in every direction."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address

from protocols.dlms.push.callers import Ask, Callers
from protocols.dlms.push.dial_in import Answer, DialInConnection, DialInLine
from protocols.dlms.push.framing import PushStream, ReceivedApdu
from protocols.dlms.push.limits import ListenerStatistics, PushLimits
from protocols.dlms.push.notification_queue import NotificationQueue, Promise, answerable
from protocols.dlms.push.receiver import Notification, PushReceiver, PushStatistics
from protocols.dlms.push.senders import PushPeer
from protocols.errors import LineUnavailable
from protocols.unused import Unused, UnusedCounter, UnusedFrames

RECEIVE_OCTETS = 32 * 1024
"""Kernel's receive buffer of a connection: what a paused or slow sender may have waiting."""
BACKLOG = 1_024
MAX_JOINING = 256
"""Senders of datagrams whose segments or blocks wait for the rest of a push."""
Network = IPv4Network | IPv6Network


class PushListener:
    """Listens, judges through a `PushReceiver`, queues notifications; a full queue makes TCP senders wait.

    Senders outside `networks` are dropped (none given: all may push). `lines` are the lines of meters that
    dial in, by the meter's name; `addresses` name the meter behind a source address, `peer_of` finds a meter
    by its name. `hints` are the meters at source addresses whose plain pushes name none. With `ask` a silent
    new connection is asked who it is. Use `start`, `batch`, `close`.
    """

    def __init__(
        self,
        receiver: PushReceiver,
        *,
        limits: PushLimits | None = None,
        networks: Collection[Network] = (),
        lines: Mapping[str, DialInLine] | None = None,
        addresses: Mapping[str, str] | None = None,
        hints: Mapping[str, PushPeer] | None = None,
        peer_of: Callable[[str], PushPeer | None] = lambda _name: None,
        ask: Ask | None = None,
    ) -> None:
        self._receiver = receiver
        self._limits = limits or PushLimits()
        self._networks = tuple(networks)
        self._counts: Counter[str] = Counter()
        self._unused = UnusedCounter()
        self._queue = NotificationQueue(self._limits.queue)
        self._callers = Callers(
            receiver,
            self._queue,
            self._limits,
            self._counts,
            take=self.take,
            lines=lines or {},
            addresses=addresses or {},
            hints=hints or {},
            peer_of=peer_of,
            ask=ask,
        )
        self._hints = dict(hints or {})
        self._joining: OrderedDict[tuple[str, int], PushStream] = OrderedDict()
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self.tcp_port = self.udp_port = 0

    async def start(self, host: str, tcp_port: int | None, udp_port: int | None = None) -> None:
        """Listen; a port of 0 is chosen by the system (`tcp_port`, `udp_port` tell). LineUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            if tcp_port is not None:
                listening = _listening_socket(host, tcp_port)
                self._server = await loop.create_server(self._new_connection, sock=listening, backlog=BACKLOG)
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
        await self._callers.close()

    async def batch(self, most: int = 100) -> list[Notification]:
        """Wait for notifications and return up to `most`, oldest first. Cancelling loses none."""
        return await self._queue.batch(most)

    def statistics(self) -> ListenerStatistics:
        """Return the counters since the start, frozen."""
        return ListenerStatistics(
            connections=len(self._callers),
            dialled_in=self._callers.dialled_in,
            queued=len(self._queue),
            **self._counts,
        )

    def unused(self) -> UnusedFrames:
        """Return how many frames held no push, by cause, frozen."""
        return UnusedFrames.of(self._unused)

    @property
    def refusals(self) -> PushStatistics:
        """The receiver's counters."""
        return self._receiver.statistics()

    def take(
        self,
        apdu: bytes,
        bound: PushPeer | None = None,
        promise: Promise | None = None,
        *,
        hint: PushPeer | None = None,
    ) -> Notification | None:
        """Judge and queue one APDU of a sender that cannot be made to wait; a full queue drops and counts.

        `bound` is the meter that the connection is known to belong to, `hint` the one that the address is known
        for, `promise` gives the way back. What is dropped is not judged: its counter is not noted, and the sender
        may send it again.
        """
        if self._queue.full:
            self._counts["queue_full"] += 1
            return None
        found = self._receiver.receive(apdu, bound, hint=hint)
        if found is not None:
            self._queue.put(answerable(found, promise))
        return found

    # TCP

    def _new_connection(self) -> DialInConnection:
        connection = DialInConnection(PushStream(self._limits.octets, self._unused))
        connection.on_made = lambda: self._accept(connection)
        return connection

    def _accept(self, connection: DialInConnection) -> None:
        peer = connection.transport.get_extra_info("peername") if connection.transport else None
        address = _plain_address(str(peer[0])) if peer else ""
        if self._allowed(address):
            self._callers.accept(connection, address)
        else:
            connection.abort()

    # UDP

    def datagram_received(self, data: bytes, address: str, port: int = 0) -> None:
        """Take one datagram: whole frames, which may be segments or blocks of a push."""
        plain = _plain_address(address)
        if not self._allowed(plain):
            return
        self._counts["datagrams"] += 1
        sender = (address, port)
        stream = self._joining.pop(sender, None) or PushStream(self._limits.octets, self._unused)
        apdus = stream.datagram(data)
        self._counts["broken_datagrams"] += bool(stream.broken)
        self._send_to(sender, stream.take_answers())
        if stream.pending:
            self._wait_for_more(sender, stream)
        for apdu in apdus:
            self.take(
                apdu.octets, promise=partial(self._answer_to, apdu, sender), hint=self._hints.get(plain)
            )

    def _wait_for_more(self, sender: tuple[str, int], stream: PushStream) -> None:
        """Keep what a sender's datagrams have not completed; of too many senders the oldest is given up."""
        if len(self._joining) >= MAX_JOINING:
            self._joining.popitem(last=False)
            self._unused[Unused.CUT_SHORT] += 1
        self._joining[sender] = stream

    def _answer_to(self, apdu: ReceivedApdu, sender: tuple[str, int]) -> Answer:
        def answer(octets: bytes) -> bool:
            framed = apdu.way.framed(octets)
            return framed is not None and self._send_to(sender, framed)

        return answer

    def _send_to(self, sender: tuple[str, int], octets: bytes) -> bool:
        if self._udp is None or self._udp.is_closing() or not octets:
            return False
        self._udp.sendto(octets, sender)
        return True

    def _allowed(self, address: str) -> bool:
        """Say whether somebody at `address` may push; who may not is counted."""
        if not self._networks:
            return True
        try:
            at = ip_address(address)
        except ValueError:  # a connection that is gone already shows no address
            allowed = False
        else:
            allowed = any(at.version == network.version and at in network for network in self._networks)
        self._counts["foreign_network"] += not allowed
        return allowed


class _PushDatagrams(asyncio.DatagramProtocol):
    def __init__(self, listener: PushListener) -> None:
        self._listener = listener

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._listener.datagram_received(data, str(addr[0]), int(addr[1]))


def _listening_socket(host: str, port: int) -> socket.socket:
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


def _plain_address(address: str) -> str:
    """Return an address without a zone; IPv4 in its own form, which a socket for both families shows as IPv6."""
    return address.partition("%")[0].removeprefix("::ffff:")
