"""Octets as people give them to a command: hex on the command line, or a file of hex or octets."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.errors import UsageError
from protocols.dlms.data.cursor import MAX_OCTETS

MAX_FILE = 256 << 20
"""Octets of a capture or trace file."""
TITLE_OCTETS = 8
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_SEPARATORS = re.compile(r"0x|[\s:,;-]+", re.IGNORECASE)
_HEX = re.compile(r"[0-9A-Fa-f]+")


def from_hex(text: str) -> bytes | None:
    """Return the octets of hex with any separators, lines that begin with # left out; None when it is none."""
    digits = _SEPARATORS.sub("", _COMMENT.sub("", text))
    return bytes.fromhex(digits) if _HEX.fullmatch(digits) and len(digits) % 2 == 0 else None


def from_file(path: Path) -> bytes:
    """Return the content of a file; UsageError when it cannot be read, or is too long."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{path} is too long for one trace")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError("the trace is neither hex with whole octets nor a file that can be read") from error


def of_content(content: bytes) -> bytes:
    """Return what a file means: the octets of its hex, else its own."""
    return from_hex(content.decode("ascii", errors="replace")) or content


def octets_given(text: str) -> bytes:
    """Return the octets of hex or of a file; UsageError when they are too many, or none."""
    octets = from_hex(text)
    if octets is None:
        octets = of_content(from_file(Path(text)))
    if len(octets) > MAX_OCTETS:
        raise UsageError(f"{text[:80]} is too long for one trace")
    return octets


def title_given(text: str) -> bytes:
    """Return a system title given as hex; UsageError for anything else."""
    octets = from_hex(text)
    if octets is None or len(octets) != TITLE_OCTETS:
        raise UsageError(f"--system-title must have {TITLE_OCTETS} octets as {2 * TITLE_OCTETS} hex digits")
    return octets
