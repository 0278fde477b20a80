"""How many parts an SMS has: the alphabet that it needs, and how its characters pack (3GPP TS 23.038, 23.040)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = "\f^{}\\[~]|€"
"""Characters of two septets: an escape comes before them (TS 23.038, 6.2.1.1)."""
_WEIGHTS: Final = dict.fromkeys(_BASIC, 1) | dict.fromkeys(_EXTENDED, 2)


class Alphabet(StrEnum):
    """What a message is written in: seven bits a character, or two octets."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


_SINGLE: Final = {Alphabet.GSM7: 160, Alphabet.UCS2: 70}
_PART: Final = {Alphabet.GSM7: 153, Alphabet.UCS2: 67}
"""Of a message in parts: six octets of each go to the header that joins them (TS 23.040, 9.2.3.24.1)."""


class Size(NamedTuple):
    """What a text costs: its alphabet, its units (septets or UTF-16 code units), and its parts."""

    alphabet: Alphabet
    units: int
    segments: int


def foreign(text: str) -> str:
    """Return the characters that GSM-7 has not, each once, in the order of the text.

    >>> foreign("Rs. 100"), foreign("₹100 – बकाया")
    ('', '₹–बकाय')
    """
    return "".join(dict.fromkeys(c for c in text if c not in _WEIGHTS))


def size_of(text: str) -> Size:
    """Return alphabet, units and segments of a text; an empty one has no segment.

    >>> [str(part) for part in size_of("a" * 161)], size_of("बकाया").alphabet.value
    (['GSM-7', '161', '2'], 'UCS-2')
    """
    alphabet = Alphabet.UCS2 if foreign(text) else Alphabet.GSM7
    weights = [_WEIGHTS[c] if alphabet is Alphabet.GSM7 else 1 + (ord(c) > 0xFFFF) for c in text]
    units = sum(weights)
    if units <= _SINGLE[alphabet]:
        return Size(alphabet, units, min(len(text), 1))
    segments, left = 0, 0
    for weight in weights:
        if weight > left:  # an escape or a surrogate and what it belongs to are never torn apart
            segments, left = segments + 1, _PART[alphabet]
        left -= weight
    return Size(alphabet, units, segments)
