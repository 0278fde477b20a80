"""The wrapper for TCP and UDP (IEC 62056-47): version, source, destination, length, APDU."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from protocols.dlms.data.cursor import OctetsLeftOver, leading
from protocols.dlms.framing.link import ApduReceived, LinkClosed, LinkEvent, LinkOpened
from protocols.errors import LocalError, MeterProtocolError
from protocols.unused import Unused, UnusedCounter

VERSION = 1
HEADER_OCTETS = 8
MAX_APDU = 0xFFFF
"""The header's length field has 16 bits, which also bounds the buffer: one header and one APDU."""
MAX_WAITING = 64
"""APDUs kept for an association that shares its socket until it looks; further ones are strays."""
PUSH_TAGS = frozenset((0x0F, 0xC2, 0xCA, 0xD2, 0xDB, 0xDC))
"""First octets of what a meter may send unasked: notifications, ciphered ones, general ciphering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapperApdu:
    """One APDU with its wPorts."""

    source: int
    destination: int
    apdu: bytes = field(repr=False)


def encode(source: int, destination: int, apdu: bytes) -> bytes:
    """Return one APDU behind its header; LocalError when it is longer than the header can say."""
    if len(apdu) > MAX_APDU:
        raise LocalError(f"an APDU of {len(apdu)} octets does not fit the wrapper")
    words = (VERSION, source, destination, len(apdu))
    return b"".join(word.to_bytes(2, "big") for word in words) + apdu


def decode_datagram(data: bytes) -> WrapperApdu:
    """Return the one APDU in a UDP datagram; MeterProtocolError at once when its length says otherwise.

    Of octets behind the APDU OctetsLeftOver says how many, so that a client can use it all the same.
    """
    head = _header(data)
    if len(data) < HEADER_OCTETS:
        raise MeterProtocolError(f"a datagram of {len(data)} octets has no whole DLMS wrapper header")
    source, destination, length = head
    held = len(data) - HEADER_OCTETS
    told = f"a datagram with {held} octets of APDU, its header says {length}"
    if length < held:
        raise OctetsLeftOver(told, held - length)
    if length > held:
        raise MeterProtocolError(told)
    return WrapperApdu(source=source, destination=destination, apdu=data[HEADER_OCTETS:])


def _header(data: bytes) -> tuple[int, int, int]:
    """Return source, destination and length of a header, which hold once it is whole; checks what is there."""
    head = data[:HEADER_OCTETS]
    if head[:2] != VERSION.to_bytes(2, "big")[: len(head)]:
        raise MeterProtocolError(f"not a DLMS wrapper header: {head.hex(' ')}")
    source, destination, length = (int.from_bytes(head[i : i + 2], "big") for i in (2, 4, 6))
    if len(head) == HEADER_OCTETS and not length:
        raise MeterProtocolError("a wrapper header without an APDU")
    return source, destination, length


class WrapperDecoder:
    """Octets to APDUs. After an error the stream cannot be followed: hang up.

    What stands behind a whole APDU and is no header hides nothing: it is dropped, as nothing else is on its way
    while one answer is awaited. `unused` counts that, and what broke the framing.
    """

    def __init__(self, unused: UnusedCounter | None = None) -> None:
        self._buffer = bytearray()
        self._unused = UnusedCounter() if unused is None else unused

    @property
    def pending(self) -> int:
        """Octets of an APDU that is not complete yet."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[WrapperApdu]:
        """Return the APDUs completed by `data`; MeterProtocolError where it goes on with a wrong header instead."""
        self._buffer += data
        apdus: list[WrapperApdu] = []
        try:
            while (apdu := self._next()) is not None:
                apdus.append(apdu)
        except MeterProtocolError:
            self._unused[Unused.LEFT_OVER if apdus else Unused.NOT_A_FRAME] += 1
            if not apdus:
                raise
        return apdus

    def _next(self) -> WrapperApdu | None:
        try:
            source, destination, length = _header(bytes(self._buffer[:HEADER_OCTETS]))
        except MeterProtocolError:
            self._buffer.clear()
            raise
        end = HEADER_OCTETS + length
        if len(self._buffer) < max(end, HEADER_OCTETS):
            return None
        apdu = bytes(self._buffer[HEADER_OCTETS:end])
        del self._buffer[:end]
        return WrapperApdu(source=source, destination=destination, apdu=apdu)


class WrapperSocket:
    """One TCP connection (or UDP peer) that several associations share, told apart by their wPorts.

    Whoever holds the socket feeds it; an APDU of another open association waits for that one, bounded by
    MAX_WAITING. A notification for nobody goes to whoever looks next. Anything else for nobody is
    counted and named, no error: it is a late answer to an association that is over.
    """

    def __init__(self, *, datagrams: bool = False, unused: UnusedCounter | None = None) -> None:
        self.unused = UnusedCounter() if unused is None else unused
        self._datagrams = datagrams
        self._decoder = WrapperDecoder(self.unused)
        self._waiting: dict[tuple[int, int], deque[bytes]] = {}
        self._unasked: deque[WrapperApdu] = deque(maxlen=MAX_WAITING)
        self.strays = 0
        self.stray = ""

    @property
    def pending(self) -> int:
        """Octets of an APDU that is not complete yet."""
        return self._decoder.pending

    def link(self, *, client: int, server: int) -> WrapperClientLink:
        """Return the link of one association on this socket."""
        return WrapperClientLink(client=client, server=server, socket=self)

    def enter(self, client: int, server: int) -> None:
        """Begin to keep APDUs for this pair."""
        self._waiting.setdefault((client, server), deque())

    def leave(self, client: int, server: int) -> None:
        """Keep none any more."""
        self._waiting.pop((client, server), None)

    def receive_data(self, data: bytes, taker: tuple[int, int] | None = None) -> None:
        """Take octets (or one datagram) and hand out what they completed; MeterProtocolError for wrong ones.

        The pair that takes its APDUs at once needs no bound: they are no more than `data` held.
        """
        for found in [self._datagram(data)] if self._datagrams else self._decoder.receive_data(data):
            pair = (found.destination, found.source)
            waiting = self._waiting.get(pair)
            if waiting is not None and (pair == taker or len(waiting) < MAX_WAITING):
                waiting.append(found.apdu)
            elif waiting is None and found.apdu[0] in PUSH_TAGS:
                self._unasked.append(found)
            else:
                why = "its association does not look" if waiting else "no association is open there"
                self.stray = f"an APDU between wPorts {found.source}->{found.destination} came, but {why}"
                self.strays += 1
                self.unused[Unused.WRONG_PORT] += 1

    def _datagram(self, data: bytes) -> WrapperApdu:
        try:
            found, left = leading(data, decode_datagram)
        except MeterProtocolError:
            self.unused[Unused.NOT_A_FRAME] += 1
            raise
        self.unused[Unused.LEFT_OVER] += bool(left)
        return found

    def take(self, client: int, server: int) -> list[ApduReceived]:
        """Return and forget the APDUs of one pair, and notifications that belong to none."""
        unasked = [
            ApduReceived(one.apdu, unasked=True, back=partial(encode, one.destination, one.source))
            for one in self._unasked
        ]
        self._unasked.clear()
        waiting = self._waiting.get((client, server), deque())
        found = [ApduReceived(apdu, back=partial(encode, client, server)) for apdu in waiting]
        waiting.clear()
        return unasked + found


class WrapperClientLink:
    """The wrapper as one client uses it (see `ClientLink`), on a socket of its own unless one is given."""

    def __init__(self, *, client: int, server: int, socket: WrapperSocket | None = None) -> None:
        self._client = client
        self._server = server
        self._socket = socket or WrapperSocket()
        self._socket.enter(client, server)
        self._progress = 0
        self._out = bytearray()

    @property
    def unused(self) -> UnusedCounter:
        """See `ClientLink`."""
        return self._socket.unused

    @property
    def noise(self) -> int:
        """Octets of an unfinished APDU, and APDUs for nobody."""
        return self._socket.pending + self._socket.strays

    @property
    def progress(self) -> int:
        """See `ClientLink`."""
        return self._progress

    @property
    def busy(self) -> bool:
        """The wrapper has no way to ask for patience."""
        return False

    @property
    def complaint(self) -> str:
        """See `ClientLink`."""
        return self._socket.stray

    def open(self) -> list[LinkEvent]:
        """TCP is connected already."""
        self._socket.enter(self._client, self._server)
        return [LinkOpened()]

    def close(self) -> list[LinkEvent]:
        """Nothing is said: TCP ends the connection. A late answer is a stray from now on."""
        self._socket.leave(self._client, self._server)
        return [LinkClosed()]

    def send(self, apdu: bytes) -> None:
        """Queue one APDU."""
        self._out += encode(self._client, self._server, apdu)

    def expect(self) -> None:
        """TCP brings what comes."""

    def data_to_send(self) -> bytes:
        """Return and forget what must go out now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def timed_out(self) -> bool:
        """Never repeat: without sequence numbers a meter could act twice, and TCP loses nothing."""
        return False

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Take octets and return the APDUs of this association; see `WrapperSocket` for the others."""
        if data:
            self._socket.receive_data(data, (self._client, self._server))
        found = self._socket.take(self._client, self._server)
        self._progress += len(found)
        return list(found)
