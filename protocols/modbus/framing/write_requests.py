"""Whether octets on their way to a line are a Modbus request that changes something in a meter."""

from __future__ import annotations

from pymodbus.framer import FramerRTU

WRITES = frozenset({5, 6, 15, 16, 21, 22, 23})
"""Functions that write coils, registers or file records (Modbus Application Protocol V1.1b3, 6)."""
_MBAP = 6
"""Octets of the TCP header before the length that it tells: transaction, protocol 0, length."""


def is_write(octets: bytes) -> bool:
    """Say whether octets are one whole request, TCP or RTU, of a function that writes."""
    told = int.from_bytes(octets[4:_MBAP], "big")
    if len(octets) >= _MBAP + 2 and octets[2:4] == b"\0\0" and told == len(octets) - _MBAP:
        return octets[_MBAP + 1] in WRITES
    if len(octets) < 6 or octets[1] not in WRITES:
        return False
    return FramerRTU.compute_CRC(octets[:-2]).to_bytes(2, "big") == octets[-2:]
