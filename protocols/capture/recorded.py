"""Octets of a recording as decoders take them, and what decoders of any protocol give back; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocols.capture.tree import Node, WrongByte


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOctets:
    """Octets in one direction of a conversation. `offset` is the place of the first; `label` names the way.

    `whole` octets begin and end with a unit (a datagram); `missing` says that octets before them are lost.
    `always_shown` conversations are shown even where they are of another protocol.
    """

    conversation: int
    sent: bool
    octets: bytes
    offset: int
    at: datetime | None = None
    label: str = ""
    where: str = ""
    whole: bool = False
    missing: bool = False
    always_shown: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversations:
    """What conversations hold. `problems` are in order; `unknown` are the numbers of those of another protocol."""

    parts: tuple[Node, ...]
    problems: tuple[WrongByte, ...]
    unknown: frozenset[int] = frozenset()

    @property
    def others(self) -> int:
        """How many are of another protocol."""
        return len(self.unknown)

    def lines(self) -> list[str]:
        """Return the tree as lines for people."""
        return [line for part in self.parts for line in part.lines()]

    def document(self) -> dict[str, object]:
        """Return tree and problems for JSON."""
        found = [{"offset": p.offset, "of": p.space, "reason": p.reason} for p in self.problems]
        return {
            "parts": [part.document() for part in self.parts],
            "problem": found[0] if found else None,
            "problems": found,
            "others": self.others,
        }


def arrow_and_time(piece: RecordedOctets) -> str:
    """Return which way a piece went, and when."""
    arrow = "→" if piece.sent else "←"
    return f"{arrow} {piece.at:%Y-%m-%d %H:%M:%S.%f}" if piece.at is not None else arrow
