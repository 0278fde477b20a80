"""Whether octets on their way to a line are a Modbus request that changes something in a meter."""

from __future__ import annotations

from protocols.modbus.framing.hunt import ascii_line, checks, mbap_at

WRITES = frozenset({5, 6, 15, 16, 21, 22, 23})
"""Functions that write coils, registers or file records (Modbus Application Protocol V1.1b3, 6)."""
_SHORTEST = 6
"""Octets of the shortest RTU frame that writes, and a little less."""


def is_write(octets: bytes) -> bool:
    """Say whether octets are one whole request, TCP, RTU or ASCII, of a function that writes."""
    frame, size = mbap_at(octets, 0)
    if frame is not None and size == len(octets):
        return frame.pdu[0] in WRITES
    if octets.startswith(b":") and octets.endswith(b"\r\n"):
        frame, sound = ascii_line(octets)
        return frame is not None and sound and frame.pdu[0] in WRITES
    return len(octets) >= _SHORTEST and octets[1] in WRITES and checks(octets)
