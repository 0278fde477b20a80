"""Packets of a capture file (pcap, pcapng), each with the place of its octets in the file; pure and bounded.

`pktcap` reads the files and takes the layers of a packet apart; it holds every length that a file states against
a ceiling before it believes it, and raises one kind of error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO

from protocols.errors import MeterConfigError, MeterProtocolError

MAX_PACKETS = 1_000_000
MAX_PACKET = 1 << 18
"""Octets of one packet; capture tools keep 262,144 at most."""
_PCAP = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1")
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_BLOCK_HEADS = {2: 28, 3: 12, 6: 28}
"""Octets before the packet in a block of pcapng, by the block's type: packet, simple packet, enhanced packet."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One packet. `layers` are pktcap's, outermost first, each with the octets that follow it.

    `offset` is where `octets` begin in the file; `at` is None where the capture gives no time.
    """

    octets: bytes
    layers: tuple[tuple[object, bytes], ...]
    offset: int
    at: datetime | None


def is_capture(data: bytes) -> bool:
    """Return whether `data` is a capture file, by its first octets."""
    return data[:4] in _PCAP or data[:4] == _PCAPNG


def read_capture(data: bytes) -> Iterator[Packet]:
    """Yield the packets in order; MeterProtocolError names the offset at which the file is wrong or cut.

    MeterConfigError says so when pktcap is not installed. What a packet holds raises nothing: the layers that
    can be read are there.
    """
    try:  # at the first capture only: it takes 80 ms of CPU, and an edge is installed without it
        from pktcap import CaptureFormatError, FrameDissector, read_frames
    except ImportError as error:
        raise MeterConfigError(
            "captures are read by the package pktcap: pip install 'meter-gateway[captures]'"
        ) from error

    stream = BytesIO(data)
    dissector = FrameDissector(reassemble=False)
    whole = 0
    try:
        for number, frame in enumerate(read_frames(stream, max_frame_size=MAX_PACKET)):
            if number >= MAX_PACKETS:
                raise MeterProtocolError(f"more than {MAX_PACKETS} packets in the capture")
            whole = stream.tell()
            dissected = dissector.dissect(frame)
            yield Packet(
                octets=frame.data,
                layers=tuple(zip(dissected.layers, dissected.payloads, strict=True)),
                offset=_place(data, whole, len(frame.data)),
                at=_time(frame.time),
            )
    except CaptureFormatError as error:
        raise MeterProtocolError(
            f"the capture is wrong or cut short at offset {whole:#06x} ({whole}): {error}"
        ) from error


def _place(data: bytes, end: int, octets: int) -> int:
    """Return where a packet begins whose record ends at `end`; pktcap does not say it."""
    if data[:4] != _PCAPNG:
        return end - octets
    trailer = data[end - 4 : end]  # a block states its length before and behind, in the order of its section
    for order in ("little", "big"):
        begin = end - int.from_bytes(trailer, order)
        head = _BLOCK_HEADS.get(int.from_bytes(data[max(begin, 0) : begin + 4], order))
        if begin >= 0 and head is not None and data[begin + 4 : begin + 8] == trailer:
            return begin + head
    return end - octets


def _time(seconds: float) -> datetime | None:
    """Return a time to the microsecond; None for none (a simple packet) and for what no calendar has."""
    try:
        return _EPOCH + timedelta(microseconds=round(seconds * 1_000_000)) if seconds else None
    except (OverflowError, ValueError):
        return None
