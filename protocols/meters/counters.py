"""Invocation counters that never repeat: reserved on the disk in blocks before they are used."""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path

from protocols.durable import replace_file
from protocols.errors import LocalError

BLOCK = 256
"""Counters reserved at a time: a crash wastes at most that many of 2^32 that a key has."""
MAX_COUNTER = 2**32 - 1


class FileCounters:
    """A CounterStore in one small file, written anew (fsync, rename, fsync of the folder) for each block.

    The file holds, by key, the first counter that was never reserved. Safe to call from several threads;
    one process owns it. LocalError when the file cannot be read or written (then no counter is given: a
    repeated one would break the cipher) or when a key's counters are used up (a new key is needed).
    """

    def __init__(self, path: Path, block: int = BLOCK) -> None:
        self._path = path
        self._block = block
        self._mutex = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(path.name + ".lock").open("ab")
        except OSError as error:
            raise LocalError(f"the counters {path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._reserved = _load(path)
        except OSError as error:
            lock.close()
            raise LocalError(f"the counters {path} are in use: {error.strerror}") from error
        except LocalError:
            lock.close()
            raise
        self._lock = lock
        self._next: dict[str, int] = dict(self._reserved)

    def next(self, key: str, at_least: int = 0) -> int:
        """Return a counter for `key` that was never given before and is >= `at_least`."""
        with self._mutex:
            given = max(self._next.get(key, 0), at_least)
            if given > MAX_COUNTER:
                raise LocalError(f"the invocation counters of {key} are used up: give the meter a new key")
            if given >= self._reserved.get(key, 0):
                reserved = {**self._reserved, key: min(given + self._block, MAX_COUNTER + 1)}
                self._write(reserved)
                self._reserved = reserved
            self._next[key] = given + 1
            return given

    def close(self) -> None:
        """Let go of the file; what was reserved and not used stays unused."""
        self._lock.close()

    def _write(self, reserved: dict[str, int]) -> None:
        try:
            replace_file(self._path, json.dumps(reserved).encode(), mode=0o644)
        except OSError as error:
            raise LocalError(f"the counters {self._path} cannot be written: {error.strerror}") from error


class CountersOnDemand:
    """A CounterStore whose file is opened, and locked, at the first counter: a meter read in the clear needs none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: FileCounters | None = None

    def next(self, key: str, at_least: int = 0) -> int:
        """Return a counter as `FileCounters.next` does."""
        if self._store is None:
            self._store = FileCounters(self._path)
        return self._store.next(key, at_least)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        if self._store is not None:
            self._store.close()


def _load(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LocalError(
            f"the counters {path} are damaged: restore the file, or write each meter's own counter into it"
        ) from error
    if not isinstance(content, dict) or not all(type(n) is int and n >= 0 for n in content.values()):
        raise LocalError(f"the counters {path} are damaged: not a table of whole numbers")
    return content
