"""What programs sent to each other in a capture: TCP put in order again, UDP datagrams; pure and bounded.

Libraries that put TCP in order hand out octets; a trace also shows where each octet stands in the file and when
its segment was sent, so segments are put in order here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from protocols.capture.pcap import Packet

MAX_CONVERSATIONS = 10_000
"""Conversations followed; later ones are left out."""
MAX_WAITING = 256
"""Segments of one direction that wait for an earlier one; then that one counts as missing."""
_IPV6_HEADER, _UDP_HEADER = 40, 8
_SYN, _ACK = 0x02, 0x10
_HALF = 1 << 31
_ROUND = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Octets one side sent. `conversation` numbers the conversation; `forward` is the way of its first packet.

    `offset` is the place of the first octet in the capture file. `missing` says that octets before it are
    not in the capture. A datagram is whole.
    """

    conversation: int
    forward: bool
    source: str
    destination: str
    octets: bytes
    offset: int
    at: datetime | None
    datagram: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class _Payload:
    source: tuple[str, int]
    destination: tuple[str, int]
    octets: bytes
    offset: int
    sequence: int | None
    flags: int
    at: datetime | None


@dataclass(slots=True)
class _Side:
    expected: int | None = None
    waiting: dict[int, _Payload] = field(default_factory=dict)


@dataclass(slots=True)
class _Connection:
    number: int
    first: tuple[str, int]
    sides: dict[tuple[str, int], _Side] = field(default_factory=dict)


def chunks(packets: Iterable[Packet]) -> Iterator[Chunk]:
    """Yield what was said, in order: retransmissions once, segments that came early in their place.

    Fragments of IP packets, tunnels and anything but TCP and UDP are left out.
    """
    connections: dict[frozenset[tuple[str, int]], _Connection] = {}
    count = 0
    for packet in packets:
        segment = _payload_of(packet)
        if segment is None:
            continue
        key = frozenset((segment.source, segment.destination))
        connection = connections.get(key)
        opening = segment.sequence is not None and segment.flags & _SYN and not segment.flags & _ACK
        if connection is None or opening:
            if connection is not None:
                yield from _give_up_gaps(connection)
            if connection is None and len(connections) >= MAX_CONVERSATIONS:
                continue
            count += 1
            connection = connections[key] = _Connection(count, segment.source)
        if segment.sequence is None:
            if segment.octets:
                yield _chunk(connection, segment, segment.octets, segment.offset, datagram=True)
        else:
            yield from _in_order(connection, segment)
    for connection in connections.values():
        yield from _give_up_gaps(connection)


def _in_order(connection: _Connection, segment: _Payload) -> Iterator[Chunk]:
    side = connection.sides.setdefault(segment.source, _Side())
    sequence = segment.sequence or 0
    if segment.flags & _SYN:
        side.expected = (sequence + 1) % _ROUND
        side.waiting.clear()
        return
    if not segment.octets:
        return
    if side.expected is None:
        side.expected = sequence
    known = side.waiting.get(sequence)
    if known is None or len(known.octets) < len(segment.octets):
        side.waiting[sequence] = segment
    yield from _ready(connection, side)
    if len(side.waiting) > MAX_WAITING:
        yield from _skip_gap(connection, side)


def _ready(connection: _Connection, side: _Side, *, missing: bool = False) -> Iterator[Chunk]:
    """Yield what now follows without a gap."""
    while side.waiting:
        assert side.expected is not None
        expected = side.expected
        sequence = min(side.waiting, key=lambda s: _ahead(s, expected))
        ahead = _ahead(sequence, expected)
        if ahead > 0:
            return
        segment = side.waiting.pop(sequence)
        fresh = segment.octets[-ahead:] if ahead else segment.octets
        if fresh:
            yield _chunk(connection, segment, fresh, segment.offset - ahead, missing=missing)
            side.expected = (expected + len(fresh)) % _ROUND
            missing = False


def _skip_gap(connection: _Connection, side: _Side) -> Iterator[Chunk]:
    """Give up what is missing and go on behind it."""
    if side.waiting and side.expected is not None:
        expected = side.expected
        side.expected = min(side.waiting, key=lambda s: _ahead(s, expected))
        yield from _ready(connection, side, missing=True)


def _give_up_gaps(connection: _Connection) -> Iterator[Chunk]:
    for side in connection.sides.values():
        while side.waiting:
            yield from _skip_gap(connection, side)


def _ahead(sequence: int, expected: int) -> int:
    """Return by how much a sequence number is ahead, in the round of 2^32."""
    return (sequence - expected + _HALF) % _ROUND - _HALF


def _chunk(
    connection: _Connection,
    segment: _Payload,
    octets: bytes,
    offset: int,
    *,
    datagram: bool = False,
    missing: bool = False,
) -> Chunk:
    return Chunk(
        conversation=connection.number,
        forward=segment.source == connection.first,
        source=_text(segment.source),
        destination=_text(segment.destination),
        octets=octets,
        offset=offset,
        at=segment.at,
        datagram=datagram,
        missing=missing,
    )


def _text(end: tuple[str, int]) -> str:
    host, port = end
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _payload_of(packet: Packet) -> _Payload | None:
    """Return the TCP segment or the datagram in a packet, with the place of its octets in the file."""
    from pktcap import IPv4Layer, IPv6FragmentLayer, IPv6Layer, TCPLayer, UDPLayer

    hosts: tuple[str, str] | None = None
    place, before = packet.offset, packet.octets
    for layer, payload in packet.layers:
        match layer:
            case IPv4Layer() | IPv6Layer() if hosts is not None:
                return None  # a tunnel
            case IPv4Layer():
                if layer.is_fragment:
                    return None
                hosts = layer.source, layer.destination
                # What follows the packet pads the frame. The length is 0 where the card cuts packets itself.
                place += min(layer.length or len(before), len(before)) - len(payload)
            case IPv6Layer():
                hosts = layer.source, layer.destination
                place += _IPV6_HEADER
            case IPv6FragmentLayer():
                return None
            case TCPLayer() if hosts is not None:
                source, destination = (hosts[0], layer.source_port), (hosts[1], layer.destination_port)
                place += len(before) - len(payload)
                return _Payload(source, destination, payload, place, layer.sequence, layer.flags, packet.at)
            case UDPLayer() if hosts is not None:
                source, destination = (hosts[0], layer.source_port), (hosts[1], layer.destination_port)
                return _Payload(source, destination, payload, place + _UDP_HEADER, None, 0, packet.at)
            case _:
                place += len(before) - len(payload)
        before = payload
    return None
