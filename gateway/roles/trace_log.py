"""Trace files: private from the first octet, bounded, and never a reason for a reading to fail."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from gateway.errors import UsageError
from protocols.capture.trace_file import HEAD, piece_line, remark_line

MAX_OCTETS = 256 << 20
"""Size at which a trace ends: an edge that is left tracing must not fill its disk."""


class TraceFile:
    """`TraceSink` that writes a file of mode 0600; what is in it already stays, new octets come behind it.

    UsageError when the file cannot be opened. A disk that is full later ends the trace, nothing else.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._file: TextIO | None = _open_private(path)
        self._size = self._file.tell()
        if not self._size:
            self._write(HEAD)

    def octets(self, *, sent: bool, octets: bytes) -> None:
        """Write octets that were sent, or that came, with the time."""
        self._write(piece_line(self._now(), sent=sent, octets=octets))

    def remark(self, text: str) -> None:
        """Write what else happened, with the time."""
        self._write(remark_line(self._now(), text))

    def close(self) -> None:
        """Close for good; idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        full = self._size + len(line) > MAX_OCTETS
        if full:
            line = remark_line(self._now(), f"the trace ends here: {MAX_OCTETS >> 20} MiB are reached")
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError:
            self.close()
            return
        self._size += len(line) + 1
        if full:
            self.close()


def new_trace(path: Path) -> None:
    """Make an empty private trace, in place of an older one; UsageError when that cannot be."""
    with _open_private(path) as file:
        file.truncate(0)


def _open_private(path: Path) -> TextIO:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"the trace {path} must be a plain file")
            os.fchmod(descriptor, 0o600)
        except (OSError, UsageError):
            os.close(descriptor)
            raise
    except OSError as error:
        raise UsageError(f"the trace {path} cannot be written: {error.strerror}") from error
    file = os.fdopen(descriptor, "a", encoding="ascii", errors="backslashreplace")
    file.seek(0, os.SEEK_END)
    return file
