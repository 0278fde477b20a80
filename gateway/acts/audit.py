"""The record of what was done to meters: a durable line before an act and one with its outcome."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.errors import JournalError

FILE = "acts.jsonl"
BEGUN = "begun"
"""Outcome of the line before an act; one that has no other line was cut off: what became of it is not known."""
BROKEN_OFF = "not known: broken off before the meter's answer; look what it shows before you do it again"
MAX_TEXT = 4_096
"""Characters of a value that are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActLine:
    """One line: who did what to which meter, what stood there and what was wanted, and what came of it.

    Lines of one act have one `act_id`. Values are readable text, never a key or password.
    """

    act_id: str
    at: datetime
    by: str
    meter: str
    act: str
    before: str
    after: str
    outcome: str


class ActRecord:
    """The file of these lines (0600) in a gateway's data folder; several programs may append to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def begin(self, *, at: datetime, by: str, meter: str, act: str, before: str, after: str) -> ActLine:
        """Record that an act begins, durably; JournalError when that cannot be done: then do not act."""
        return self.note(at=at, by=by, meter=meter, act=act, before=before, after=after, outcome=BEGUN)

    def note(
        self, *, at: datetime, by: str, meter: str, act: str, before: str, after: str, outcome: str
    ) -> ActLine:
        """Record one thing that happened, durably; returns its line. JournalError when that cannot be done."""
        line = ActLine(
            act_id=uuid.uuid4().hex,
            at=at,
            by=by,
            meter=meter,
            act=act,
            before=before[:MAX_TEXT],
            after=after[:MAX_TEXT],
            outcome=outcome[:MAX_TEXT],
        )
        self.add(line)
        return line

    def end(self, begun: ActLine, *, at: datetime, outcome: str, after: str | None = None) -> ActLine:
        """Record what came of it, with what stands in the meter where that is known."""
        line = ActLine(
            **{
                **_fields(begun),
                "at": at,
                "outcome": outcome[:MAX_TEXT],
                "after": begun.after if after is None else after[:MAX_TEXT],
            }
        )
        self.add(line)
        return line

    def add(self, line: ActLine) -> None:
        """Append a line, durably; a line that a crash cut in two is ended first."""
        fields = {**asdict(line), "at": line.at.isoformat()}
        octets = (json.dumps(fields, ensure_ascii=False) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self.path, flags, 0o600), "rb+", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                end = file.seek(0, os.SEEK_END)
                torn = bool(end) and os.pread(file.fileno(), 1, end - 1) != b"\n"
                _write_all(file.fileno(), (b"\n" if torn else b"") + octets)
                os.fsync(file.fileno())
        except OSError as error:
            raise JournalError(
                f"the record of acts {self.path} cannot be written: {error.strerror}"
            ) from error

    def lines(self) -> Iterator[ActLine]:
        """Yield the lines, oldest first; what is no line is left out."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"the record of acts {self.path} cannot be read: {error.strerror}") from error
        for row in text.splitlines():
            try:
                fields = json.loads(row)
                yield ActLine(**{**fields, "at": datetime.fromisoformat(fields["at"])})
            except (ValueError, TypeError, KeyError):
                continue

    @contextmanager
    def recorded(
        self, *, now: Callable[[], datetime], by: str, meter: str, act: str, before: str, after: str
    ) -> Iterator[Outcome]:
        """Record an act around its block: `done` with what stands afterwards, what failed, or BROKEN_OFF."""
        begun = self.begin(at=now(), by=by, meter=meter, act=act, before=before, after=after)
        outcome = Outcome()
        try:
            yield outcome
        except Exception as error:
            self.end(begun, at=now(), outcome=f"failed: {str(error) or type(error).__name__}")
            raise
        except BaseException:  # Ctrl-C, or the program's end: the meter may have done it
            self.end(begun, at=now(), outcome=BROKEN_OFF)
            raise
        self.end(begun, at=now(), outcome=outcome.text, after=outcome.after)


@dataclass(slots=True)
class Outcome:
    """What came of an act that ended without an error."""

    text: str = "done"
    after: str | None = None


def _fields(line: ActLine) -> Mapping[str, Any]:
    return {name: getattr(line, name) for name in ActLine.__dataclass_fields__}


def _write_all(descriptor: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(descriptor, octets) :]
