"""The disk under the journal: a reserve for hard times, how much is free, whether the file is still there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE = 16 << 20
"""Octets kept in `journal.db.reserve` at most: more than the write-ahead log holds between two checkpoints."""
LEAST_RESERVE = 256 << 10
SUFFIX = ".reserve"


class Reserve:
    """A file of real blocks beside the journal.

    It is given back to the disk when that is full, so that what is acknowledged can be deleted (SQLite needs
    space for it), and taken again as soon as there is room.
    """

    def __init__(self, path: Path, octets: int) -> None:
        self._path = path.with_name(path.name + SUFFIX)
        self._octets = octets
        self.held = False

    def take(self) -> bool:
        """Fill the file with blocks; return whether it is whole."""
        if self.held:
            return True
        try:
            with self._path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, self._octets)
                os.fsync(file.fileno())
        except OSError:
            self.release()
            return False
        self.held = True
        return True

    def release(self) -> bool:
        """Give the blocks back; return whether there were any."""
        self.held = False
        try:
            octets = self._path.stat().st_size
            os.truncate(self._path, 0)
        except OSError:
            return False
        with contextlib.suppress(OSError):
            self._path.unlink()
        return octets > 0


def reserve_octets(max_bytes: int) -> int:
    """Return the reserve for a journal of this bound: a 32nd of it, within limits."""
    return min(max(max_bytes // 32, LEAST_RESERVE), RESERVE)


def free_octets(path: Path) -> int | None:
    """Return what the file system still gives to us, None when it does not say."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


class FileWatch:
    """Notices that the journal's file was deleted, or that another one took its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = self._look()
        self.found: str | None = None

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def lost(self) -> str | None:
        """Return what happened to the file, None while it is the one that was opened; once lost, it stays lost."""
        now = self._look()
        if now != self._identity:
            self.found = "was deleted" if now is None else "was replaced by another file"
        return self.found
