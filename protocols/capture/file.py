"""Packets of a capture file (pcap, pcapng) with the place of their octets in the file; pure and bounded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from protocols.errors import MeterProtocolError

MAX_PACKETS = 1_000_000
MAX_PACKET = 1 << 18
"""Octets of one packet; capture tools keep 262,144 at most."""
MAX_INTERFACES = 256
_PCAP = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One packet. `offset` is where its octets begin in the file, `link` the type of its first header."""

    octets: bytes
    offset: int
    link: int
    at: datetime | None


def is_capture(data: bytes) -> bool:
    """Tell a capture file by its first octets."""
    return data[:4] in _PCAP or data[:4] == _PCAPNG


def read_capture(data: bytes) -> Iterator[Packet]:
    """Yield the packets in order; MeterProtocolError names the offset at which the file is wrong or cut."""
    packets = _pcapng(data) if data[:4] == _PCAPNG else _pcap(data)
    for number, packet in enumerate(packets):
        if number >= MAX_PACKETS:
            raise MeterProtocolError(f"more than {MAX_PACKETS} packets in the capture")
        yield packet


def _pcap(data: bytes) -> Iterator[Packet]:
    if data[:4] not in _PCAP or len(data) < 24:
        raise MeterProtocolError("not a capture file (pcap or pcapng)")
    order, fraction = _PCAP[data[:4]]
    link = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF
    offset = 24
    while offset < len(data):
        if len(data) - offset < 16:
            raise _cut(offset)
        seconds, part, kept, _ = struct.unpack_from(f"{order}IIII", data, offset)
        start, offset = offset + 16, offset + 16 + kept
        if kept > MAX_PACKET or offset > len(data):
            raise _cut(start)
        yield Packet(
            octets=data[start:offset], offset=start, link=link, at=_time(seconds * fraction + part, fraction)
        )


def _pcapng(data: bytes) -> Iterator[Packet]:
    order = "<"
    interfaces: list[tuple[int, int]] = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < 12:
            raise _cut(offset)
        if data[offset : offset + 4] == _PCAPNG:
            order = ">" if data[offset + 8 : offset + 12] == b"\x1a\x2b\x3c\x4d" else "<"
            interfaces = []
        kind, length = struct.unpack_from(f"{order}II", data, offset)
        if length < 12 or length % 4 or offset + length > len(data):
            raise _cut(offset)
        body = offset + 8
        end = offset + length - 4
        if kind == _INTERFACE:
            if len(interfaces) >= MAX_INTERFACES or end - body < 8:
                raise _cut(offset)
            interfaces.append(_interface(data[body:end], order))
        elif kind in (_ENHANCED, _PACKET, _SIMPLE):
            yield _block(data, body, end, kind, order, interfaces)
        offset += length


def _interface(body: bytes, order: str) -> tuple[int, int]:
    """Return link type and ticks in a second."""
    link = struct.unpack_from(f"{order}H", body)[0]
    offset, ticks = 8, 1_000_000
    while offset + 4 <= len(body):
        code, length = struct.unpack_from(f"{order}HH", body, offset)
        if code == 0:
            break
        if code == 9 and length == 1 and offset + 4 < len(body):  # if_tsresol
            value = body[offset + 4]
            ticks = 1 << (value & 0x3F) if value & 0x80 else 10 ** min(value, 18)
        offset += 4 + (length + 3) // 4 * 4
    return link, ticks


def _block(
    data: bytes, body: int, end: int, kind: int, order: str, interfaces: list[tuple[int, int]]
) -> Packet:
    head = 4 if kind == _SIMPLE else 20
    if end - body < head:
        raise _cut(body)
    at: datetime | None = None
    number = 0
    if kind == _SIMPLE:
        kept = min(struct.unpack_from(f"{order}I", data, body)[0], end - body - head)
    else:
        number, high, low, kept = struct.unpack_from(f"{order}IIII", data, body)
        number = number >> 16 if kind == _PACKET and order == ">" else number & 0xFFFF
    if number >= len(interfaces) or kept > min(MAX_PACKET, end - body - head):
        raise _cut(body)
    link, ticks = interfaces[number]
    if kind != _SIMPLE:
        at = _time(high << 32 | low, ticks)
    start = body + head
    return Packet(octets=data[start : start + kept], offset=start, link=link, at=at)


def _time(ticks: int, in_second: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=ticks * 1_000_000 // in_second)
    except OverflowError:
        return None


def _cut(offset: int) -> MeterProtocolError:
    return MeterProtocolError(f"the capture is wrong or cut short at offset {offset:#06x} ({offset})")
