"""The text form of a trace: one line for each piece of octets on a line, with its time and direction; pure.

    # meter-gateway trace 1
    2026-11-25T08:00:00.123456Z # tcp://10.0.0.7:4059
    2026-11-25T08:00:00.123701Z > 7EA0070321930F017E
    2026-11-25T08:00:00.171230Z < 7EA01E210373C37A818012...

`>` was sent by the client, `<` came from the meter; octets are hex, as they were handed over: a piece may hold
a part of a frame or several. `#` begins a remark, alone or after a time. Blank lines mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from protocols.errors import MeterProtocolError

HEAD = "# meter-gateway trace 1"
"""The first line of a trace file; the number is the form's version."""
MAX_CHARACTERS = 64 << 20
"""Characters of a trace that is read at once."""
MAX_PIECES = 1_000_000
_LINE = re.compile(r"(?:(\S+)\s+)?([<>])\s*((?:[0-9A-Fa-f]{2}\s*)*)", re.ASCII)
_SECONDS = re.compile(r"(\.\d{6})\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Octets in one direction. `line` counts from 1; `at` is None where the trace gives no time."""

    sent: bool
    octets: bytes
    at: datetime | None = None
    line: int = 0


def piece_line(at: datetime, *, sent: bool, octets: bytes) -> str:
    """Return the line of one piece, without a line end."""
    return f"{_time(at)} {'>' if sent else '<'} {octets.hex().upper()}"


def remark_line(at: datetime, text: str) -> str:
    """Return the line of a remark, without a line end."""
    return f"{_time(at)} # {' '.join(text.split())}"


def is_trace(text: str) -> bool:
    """Return whether `text` is a trace: it has the head of one, or a first line that is a piece."""
    for line in text[:4096].splitlines():
        if line.startswith("# meter-gateway trace"):
            return True
        if line.strip() and not line.lstrip().startswith("#"):
            return _LINE.fullmatch(line.strip()) is not None
    return False


def read_trace(text: str) -> Iterator[Piece]:
    """Read the pieces of a trace in order; MeterProtocolError names the first line that is none."""
    if len(text) > MAX_CHARACTERS:
        raise MeterProtocolError(f"a trace of {len(text)} characters; {MAX_CHARACTERS} are read at once")
    if text.startswith("# meter-gateway trace") and text.splitlines()[0].strip() != HEAD:
        raise MeterProtocolError(f"line 1 of the trace: only `{HEAD}` can be read")
    pieces = 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or stripped.partition(" ")[2].startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        if found is None:
            raise MeterProtocolError(f"line {number} of the trace is neither `TIME > HEX` nor `TIME < HEX`")
        pieces += 1
        if pieces > MAX_PIECES:
            raise MeterProtocolError(f"line {number} of the trace: more than {MAX_PIECES} pieces")
        octets = bytes.fromhex(found[3])
        yield Piece(sent=found[2] == ">", octets=octets, at=_read_time(found[1], number), line=number)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read_time(text: str | None, line: int) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(_SECONDS.sub(r"\1", text))
    except ValueError as error:
        raise MeterProtocolError(f"line {line} of the trace: `{text[:40]}` is no time") from error
    return at.replace(tzinfo=UTC) if at.utcoffset() is None else at.astimezone(UTC)
