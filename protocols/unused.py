"""What came on a line and was not used, counted by cause: every dropped frame has a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Unused(StrEnum):
    """Why a frame, an APDU or a part of one was not used; each is a counter of `UnusedFrames`."""

    BAD_CHECK = "bad_check"
    NOT_A_FRAME = "not_a_frame"
    WRONG_ADDRESS = "wrong_address"
    UNEXPECTED_CONTROL = "unexpected_control"
    OUT_OF_SEQUENCE = "out_of_sequence"
    EMPTY = "empty"
    WRONG_PORT = "wrong_port"
    OTHER_METER = "other_meter"
    LATE_ANSWER = "late_answer"
    REPEATED_BLOCK = "repeated_block"
    CUT_SHORT = "cut_short"
    UNHEARD_PUSH = "unheard_push"
    LEFT_OVER = "left_over"
    ECHO = "echo"
    OTHER_MASTER = "other_master"
    FOREIGN_TRANSACTION = "foreign_transaction"

    @property
    def meaning(self) -> str:
        """What happened, in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Unused.BAD_CHECK: "check sequence wrong",
    Unused.NOT_A_FRAME: "octets that are no frame",
    Unused.WRONG_ADDRESS: "from or for another station",
    Unused.UNEXPECTED_CONTROL: "HDLC control that nothing asked for",
    Unused.OUT_OF_SEQUENCE: "I frame out of sequence or repeated",
    Unused.EMPTY: "without an APDU",
    Unused.WRONG_PORT: "wrapper ports of no association",
    Unused.OTHER_METER: "of another meter behind the gateway, or of the gateway itself",
    Unused.LATE_ANSWER: "answer to nothing that is asked now",
    Unused.REPEATED_BLOCK: "block that brought nothing new",
    Unused.CUT_SHORT: "push of which a segment or block never came",
    Unused.UNHEARD_PUSH: "push that nobody takes here",
    Unused.LEFT_OVER: "octets left over behind an answer, which was used",
    Unused.ECHO: "our own request, given back by the line",
    Unused.OTHER_MASTER: "request of another master, or the answer to it",
    Unused.FOREIGN_TRANSACTION: "with a transaction id that was not asked",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedFrames:
    """How many frames of each cause were not used; see `Unused`. Never reset."""

    bad_check: int = 0
    not_a_frame: int = 0
    wrong_address: int = 0
    unexpected_control: int = 0
    out_of_sequence: int = 0
    empty: int = 0
    wrong_port: int = 0
    other_meter: int = 0
    late_answer: int = 0
    repeated_block: int = 0
    cut_short: int = 0
    unheard_push: int = 0
    left_over: int = 0
    echo: int = 0
    other_master: int = 0
    foreign_transaction: int = 0

    @classmethod
    def of(cls, counts: Mapping[Unused, int]) -> UnusedFrames:
        """Make one of counts by cause."""
        return cls(**{cause.value: count for cause, count in counts.items()})

    def __str__(self) -> str:
        counts = ((Unused(f.name), getattr(self, f.name)) for f in fields(self))
        return ", ".join(f"{count} {cause} ({cause.meaning})" for cause, count in counts if count)


UnusedCounter = Counter[Unused]


@runtime_checkable
class CountsUnused(Protocol):
    """A line that counts what came on it and was not used."""

    @property
    def unused(self) -> UnusedCounter:
        """The counter, for whoever reads frames from the line."""


def unused_frames(line: object) -> UnusedFrames:
    """Return what a line counted so far, frozen."""
    return UnusedFrames.of(unused_of(line))


def unused_of(line: object) -> UnusedCounter:
    """Return a line's own counter, or a new one where it has none."""
    return line.unused if isinstance(line, CountsUnused) else UnusedCounter()
