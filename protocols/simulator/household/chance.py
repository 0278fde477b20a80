"""Chance that repeats: numbers drawn from a hash of a name, the same in every process."""

from __future__ import annotations

import hashlib
import struct


class Dice:
    """A stream of numbers that depends on its name only (SHAKE-256 of the name, read four octets a draw)."""

    def __init__(self, *name: object, draws: int = 64) -> None:
        self._name = "|".join(str(part) for part in name).encode()
        self._draws = draws
        self._drawn = _numbers(self._name, draws)
        self._at = 0

    def below(self, bound: int) -> int:
        """Draw from 0..bound-1 (the bias is below 2^-12 for the bounds used here)."""
        return self._draw() % bound

    def between(self, low: int, high: int) -> int:
        """Draw from low..high, both included."""
        return low + self._draw() % (high - low + 1)

    def chance(self, per_mille: int) -> bool:
        """Say yes in `per_mille` of 1000 draws."""
        return self._draw() % 1000 < per_mille

    def octets(self, count: int) -> bytes:
        """Draw `count` octets: keys and passwords of simulated meters."""
        return b"".join(self._draw().to_bytes(4, "big") for _ in range((count + 3) // 4))[:count]

    def _draw(self) -> int:
        if self._at >= len(self._drawn):
            self._draws *= 2
            self._drawn = _numbers(self._name, self._draws)
        value = self._drawn[self._at]
        self._at += 1
        return value


def _numbers(name: bytes, draws: int) -> tuple[int, ...]:
    return struct.unpack(f">{draws}I", hashlib.shake_256(name).digest(draws * 4))
