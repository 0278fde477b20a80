"""OBIS codes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OBIS = re.compile(r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:[*.](\d{1,3}))?", re.ASCII)
_OBIS_DOTS = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Obis:
    """An OBIS code A-B:C.D.E*F (IEC 62056-61); every group is 0..255."""

    a: int
    b: int
    c: int
    d: int
    e: int
    f: int = 255

    def __post_init__(self) -> None:
        for group in (self.a, self.b, self.c, self.d, self.e, self.f):
            if not 0 <= group <= 255:
                raise ValueError(f"OBIS group {group} is outside 0..255")

    @classmethod
    def parse(cls, text: str) -> Obis:
        """Read `1-0:1.8.0*255`, `1-0:1.8.0` or `1.0.1.8.0.255`; ValueError otherwise."""
        if match := _OBIS_DOTS.fullmatch(text):
            return cls(*(int(g) for g in match.groups()))
        match = _OBIS.fullmatch(text)
        if match is None:
            raise ValueError(f"not an OBIS code: {text!r} (write A-B:C.D.E*F, for example 1-0:1.8.0*255)")
        a, b, c, d, e, f = match.groups()
        return cls(int(a), int(b), int(c), int(d), int(e), int(f) if f is not None else 255)

    @classmethod
    def from_bytes(cls, octets: bytes) -> Obis:
        """Read the six octets of a logical name."""
        if len(octets) != 6:
            raise ValueError(f"a logical name has 6 octets, not {len(octets)}")
        return cls(*octets)

    def to_bytes(self) -> bytes:
        """Return the six octets of the logical name."""
        return bytes((self.a, self.b, self.c, self.d, self.e, self.f))

    def __str__(self) -> str:
        return f"{self.a}-{self.b}:{self.c}.{self.d}.{self.e}*{self.f}"
