"""Mutations of octets: what a bad line, a bad meter or an attacker does to a frame; repeatable by seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

INTERESTING = (0x00, 0x01, 0x7E, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xA0, 0xA8, 0xC0, 0xC4, 0xDB, 0xE0, 0xFE, 0xFF)
MAX_GROWTH = 4096
"""Octets that repeating a slice may add to one frame."""


def mutated(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change octets in one to four ways; `others` lends pieces."""
    octets = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        _one(random, octets, others)
    return bytes(octets)


def _one(random: Random, octets: bytearray, others: Sequence[bytes]) -> None:
    at = random.randrange(len(octets) + 1)
    size = random.choice((1, 1, 1, 2, 4, 8, 16, 64))
    match random.randrange(9):
        case 0 if octets:
            octets[at % len(octets)] ^= 1 << random.randrange(8)
        case 1 if octets:
            octets[at % len(octets)] = random.choice(INTERESTING)
        case 2 if octets:
            octets[at % len(octets)] = random.randrange(256)
        case 3:
            octets[at:at] = random.randbytes(size)
        case 4:
            del octets[at : at + size]
        case 5:
            del octets[at:]
        case 6:
            piece = octets[at : at + size]
            octets[at:at] = piece * random.randrange(1, max(2, MAX_GROWTH // (len(piece) or 1) // 64))
        case 7:
            other = random.choice(others)
            start = random.randrange(len(other) + 1)
            octets[at : at + size] = other[start : start + size]
        case 8 if octets:  # lengths and counts that promise too much
            octets[at % len(octets) : at % len(octets) + 1] = random.choice(
                (b"\x84\xff\xff\xff\xff", b"\x83\x0f\xff\xff", b"\x82\xff\xff", b"\xff", b"\x7f")
            )
