"""Characters around and inside a given number: what is stripped, rewritten or refused, by a closed list."""

from __future__ import annotations

import unicodedata
from enum import StrEnum

from mapping.errors import NumberRefused

MAX_INPUT = 64
"""Characters looked at in one given number; the longest lawful wrapping is far shorter."""

_OUTSIDE = "\ufeff \t\r\n\u00a0"
_DEVANAGARI = {chr(0x0966 + i): str(i) for i in range(10)}
_FULL_WIDTH = {chr(0xFF10 + i): str(i) for i in range(10)}
_TO_ASCII = str.maketrans({**_DEVANAGARI, **_FULL_WIDTH})
_PAIRS = (('="', '"'), ("=“", "”"), ('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"), ("'", ""), ("₹", ""))
_MAX_WRAPPERS = 4
SEPARATORS = " -./_,"
"""What may stand inside a number and is left out or put in by whoever writes it."""
_NO_SEPARATORS = str.maketrans("", "", SEPARATORS)


def folded(number: str) -> str:
    """Return a number without its separators: what people compare by.

    >>> folded("KE-00/12 345")
    'KE0012345'
    """
    return number.translate(_NO_SEPARATORS)


class Repair(StrEnum):
    """What was put right; counted and shown, never silent."""

    SPACES = "spaces"
    NBSP = "nbsp"
    BOM = "bom"
    WRAPPER = "wrapper"
    POINT_ZERO = "point_zero"
    THOUSANDS = "thousands"
    GROUPING = "grouping"
    PREFIX = "prefix"
    DEVANAGARI = "devanagari"
    FULL_WIDTH = "full_width"
    MIXED_SCRIPT = "mixed_script"
    CASE = "case"


def strip_outside(text: str) -> tuple[str, tuple[Repair, ...]]:
    """Strip blanks, no-break spaces and byte order marks from both ends (row 8)."""
    inner = text.strip(_OUTSIDE)
    if inner == text:
        return text, ()
    start = text.find(inner) if inner else len(text)
    gone = text[:start] + text[start + len(inner) :]
    repairs = []
    if "\ufeff" in gone:
        repairs.append(Repair.BOM)
    if "\u00a0" in gone:
        repairs.append(Repair.NBSP)
    if set(gone) & set(" \t\r\n"):
        repairs.append(Repair.SPACES)
    return inner, tuple(repairs)


def refuse_invisible(given: str, offset: int, inner: str) -> None:
    """Refuse zero-width, direction and control characters; positions count from 1 in what was given."""
    for i, char in enumerate(inner):
        if unicodedata.category(char) in ("Cf", "Cc"):
            raise NumberRefused(
                "ZERO_WIDTH",
                f"an invisible character U+{ord(char):04X} stands at position {offset + i + 1}: type it anew",
                given=given,
                position=offset + i + 1,
            )


def strip_wrappers(text: str) -> tuple[str, tuple[Repair, ...]]:
    """Take off quotes, `="..."`, a leading apostrophe and a rupee sign (row 4), and nothing else."""
    if text[:1].isalnum():
        return text, ()
    found = False
    for _ in range(_MAX_WRAPPERS):
        for before, after in _PAIRS:
            if len(text) > len(before) + len(after) and text.startswith(before) and text.endswith(after):
                text = text[len(before) : len(text) - len(after)].strip(_OUTSIDE)
                found = True
                break
        else:
            break
    return text, ((Repair.WRAPPER,) if found else ())


def ascii_digits(text: str) -> tuple[str, tuple[Repair, ...]]:
    """Rewrite Devanagari and full-width digits in ASCII (rows 5, 6); other scripts are left to be refused."""
    if text.isascii():
        return text, ()
    scripts = {
        "devanagari" if c in _DEVANAGARI else "full_width" if c in _FULL_WIDTH else "ascii"
        for c in text
        if c in _DEVANAGARI or c in _FULL_WIDTH or c in "0123456789"
    }
    if scripts <= {"ascii"}:
        return text, ()
    if len(scripts) > 1:
        return text.translate(_TO_ASCII), (Repair.MIXED_SCRIPT,)
    return text.translate(_TO_ASCII), (Repair(scripts.pop()),)
