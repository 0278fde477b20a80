"""What programs said to each other in a capture: TCP put in order again, UDP datagrams; pure and bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

from protocols.capture.file import Packet

MAX_TALKS = 10_000
"""Conversations followed; later ones are left out."""
MAX_WAITING = 256
"""Segments of one direction that wait for an earlier one; then that one counts as missing."""
_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN = (0x8100, 0x88A8, 0x9100)
_TCP, _UDP = 6, 17
_EXTENSIONS = (0, 43, 60)
_FIN, _SYN, _RST = 1, 2, 4
_HALF = 1 << 31
_ROUND = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Octets one side sent. `talk` numbers the conversation; `forward` is the way of its first packet.

    `offset` is the place of the first octet in the capture file. `missing` says that octets before it are
    not in the capture. A datagram is whole.
    """

    talk: int
    forward: bool
    source: str
    destination: str
    octets: bytes
    offset: int
    at: datetime | None
    datagram: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class _Segment:
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
    waiting: dict[int, _Segment] = field(default_factory=dict)


@dataclass(slots=True)
class _Talk:
    number: int
    first: tuple[str, int]
    sides: dict[tuple[str, int], _Side] = field(default_factory=dict)


def chunks(packets: Iterable[Packet]) -> Iterator[Chunk]:
    """Yield what was said, in order: retransmissions once, segments that came early in their place.

    Fragments of IP packets, tunnels and anything but TCP and UDP are left out.
    """
    talks: dict[frozenset[tuple[str, int]], _Talk] = {}
    count = 0
    for packet in packets:
        segment = _segment(packet)
        if segment is None:
            continue
        key = frozenset((segment.source, segment.destination))
        talk = talks.get(key)
        opening = segment.sequence is not None and segment.flags & _SYN and not segment.flags & 0x10
        if talk is None or opening:
            if talk is not None:
                yield from _rest(talk)
            if talk is None and len(talks) >= MAX_TALKS:
                continue
            count += 1
            talk = talks[key] = _Talk(count, segment.source)
        if segment.sequence is None:
            if segment.octets:
                yield _chunk(talk, segment, segment.octets, segment.offset, datagram=True)
        else:
            yield from _in_order(talk, segment)
    for talk in talks.values():
        yield from _rest(talk)


def _in_order(talk: _Talk, segment: _Segment) -> Iterator[Chunk]:
    side = talk.sides.setdefault(segment.source, _Side())
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
    yield from _ready(talk, side)
    if len(side.waiting) > MAX_WAITING:
        yield from _skip(talk, side)


def _ready(talk: _Talk, side: _Side, *, missing: bool = False) -> Iterator[Chunk]:
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
            yield _chunk(talk, segment, fresh, segment.offset - ahead, missing=missing)
            side.expected = (expected + len(fresh)) % _ROUND
            missing = False


def _skip(talk: _Talk, side: _Side) -> Iterator[Chunk]:
    """Give up what is missing and go on behind it."""
    if side.waiting and side.expected is not None:
        expected = side.expected
        side.expected = min(side.waiting, key=lambda s: _ahead(s, expected))
        yield from _ready(talk, side, missing=True)


def _rest(talk: _Talk) -> Iterator[Chunk]:
    for side in talk.sides.values():
        while side.waiting:
            yield from _skip(talk, side)


def _ahead(sequence: int, expected: int) -> int:
    """Return by how much a sequence number is ahead, in the round of 2^32."""
    return (sequence - expected + _HALF) % _ROUND - _HALF


def _chunk(
    talk: _Talk,
    segment: _Segment,
    octets: bytes,
    offset: int,
    *,
    datagram: bool = False,
    missing: bool = False,
) -> Chunk:
    return Chunk(
        talk=talk.number,
        forward=segment.source == talk.first,
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


# headers


def _segment(packet: Packet) -> _Segment | None:
    found = _network(packet.octets, packet.link)
    if found is None:
        return None
    kind, at = found
    octets = packet.octets
    if kind == _IPV4:
        return _ipv4(packet, octets, at)
    return _ipv6(packet, octets, at) if kind == _IPV6 else None


def _network(octets: bytes, link: int) -> tuple[int, int] | None:
    """Return the ether type and where its packet begins."""
    match link:
        case 1:
            at, kind = 14, int.from_bytes(octets[12:14], "big")
            while kind in _VLAN and at + 4 <= len(octets):
                at, kind = at + 4, int.from_bytes(octets[at + 2 : at + 4], "big")
            return kind, at
        case 113:
            return int.from_bytes(octets[14:16], "big"), 16
        case 276:
            return int.from_bytes(octets[0:2], "big"), 20
        case 0 | 108:
            return _by_version(octets, 4)
        case 12 | 14 | 101 | 228 | 229:
            return _by_version(octets, 0)
    return None


def _by_version(octets: bytes, at: int) -> tuple[int, int] | None:
    version = octets[at] >> 4 if len(octets) > at else 0
    return {4: (_IPV4, at), 6: (_IPV6, at)}.get(version)


def _ipv4(packet: Packet, octets: bytes, at: int) -> _Segment | None:
    if len(octets) < at + 20:
        return None
    header = (octets[at] & 15) * 4
    total = int.from_bytes(octets[at + 2 : at + 4], "big")
    if int.from_bytes(octets[at + 6 : at + 8], "big") & 0x3FFF or header < 20:
        return None
    hosts = str(ip_address(octets[at + 12 : at + 16])), str(ip_address(octets[at + 16 : at + 20]))
    end = min(at + total, len(octets)) if total else len(octets)  # 0 where the card cuts packets itself
    return _transport(packet, octets[:end], octets[at + 9], at + header, hosts)


def _ipv6(packet: Packet, octets: bytes, at: int) -> _Segment | None:
    if len(octets) < at + 40:
        return None
    length, kind = int.from_bytes(octets[at + 4 : at + 6], "big"), octets[at + 6]
    hosts = str(ip_address(octets[at + 8 : at + 24])), str(ip_address(octets[at + 24 : at + 40]))
    end = min(at + 40 + length, len(octets)) if length else len(octets)
    at += 40
    while kind in _EXTENSIONS and at + 8 <= end:
        kind, at = octets[at], at + 8 + octets[at + 1] * 8
    return _transport(packet, octets[:end], kind, at, hosts)


def _transport(packet: Packet, octets: bytes, kind: int, at: int, hosts: tuple[str, str]) -> _Segment | None:
    if kind not in (_TCP, _UDP) or len(octets) < at + (20 if kind == _TCP else 8):
        return None
    source = hosts[0], int.from_bytes(octets[at : at + 2], "big")
    destination = hosts[1], int.from_bytes(octets[at + 2 : at + 4], "big")
    if kind == _UDP:
        return _Segment(source, destination, octets[at + 8 :], packet.offset + at + 8, None, 0, packet.at)
    sequence = int.from_bytes(octets[at + 4 : at + 8], "big")
    start = at + (octets[at + 12] >> 4) * 4
    content = octets[start:] if start >= at + 20 else b""
    flags = octets[at + 13]
    return _Segment(source, destination, content, packet.offset + start, sequence, flags, packet.at)
