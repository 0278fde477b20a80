"""A second copy of central's sealed keys, in another place: one line for each, only ever appended to.

What the store lacks, since an older copy of it was put back, is filled from here, and the other way round. Each line
has a checksum, so that a torn or damaged one costs itself alone.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

from gateway.central.keys.sealed import SealedKeys
from gateway.contract.messages import rfc3339
from gateway.errors import JournalError

MAX_LINE = 65_536
"""Octets of a line: sealed keys have some hundred."""
_TAIL = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What the copy holds by name, and how many of its lines cannot be read."""

    keys: dict[str, SealedKeys]
    damaged: int


class SecondCopy:
    """The file `path`; JournalError when it cannot be used. The store's transaction sees to one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def there(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file()

    def mark(self) -> str:
        """Return what shows whether the file is as it was last left: "" where there is none."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                return f"{size} {sha256(file.read()).hexdigest()}"
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._error("read", error) from error

    def append(self, keys: Iterable[SealedKeys]) -> None:
        """Append keys, durable on return; the file is made where there is none, its folder is not."""
        lines = b"".join(_line(one) for one in keys)
        try:
            new = not self.path.exists()
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self.path, flags, 0o600), "r+b") as file:
                os.fchmod(file.fileno(), 0o600)
                if size := file.seek(0, os.SEEK_END):
                    file.seek(size - 1)
                    if file.read(1) != b"\n":  # a line that a crash tore
                        lines = b"\n" + lines
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            if new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise self._error("written", error) from error

    def read(self) -> Copied:
        """Return all that the file holds; nothing where there is none."""
        keys: dict[str, SealedKeys] = {}
        damaged = 0
        try:
            with self.path.open("rb") as file:
                while line := file.readline(MAX_LINE):
                    one = _read(line)
                    there = None if one is None else keys.get(one.key_id)
                    if one is None or (there is not None and there.sealed != one.sealed):
                        damaged += bool(line.strip())
                    elif there is None or there.proved_at is None:
                        keys[one.key_id] = one if there is None else replace(there, proved_at=one.proved_at)
        except FileNotFoundError:
            return Copied(keys={}, damaged=0)
        except OSError as error:
            raise self._error("read", error) from error
        return Copied(keys=keys, damaged=damaged)

    def _error(self, what: str, error: OSError) -> JournalError:
        return JournalError(
            f"the second copy of the sealed keys, {self.path}, cannot be {what}: {error.strerror or error};"
            " mount its disk, or name another place ([keys] second_copy)"
        )


def _line(one: SealedKeys) -> bytes:
    said: dict[str, Any] = {
        "key_id": one.key_id,
        "gateway": one.gateway,
        "meter": one.meter,
        "slots": one.slots,
        "sealed": base64.b64encode(one.sealed).decode(),
        "made_at": rfc3339(one.made_at),
        "kept_at": None if one.kept_at is None else rfc3339(one.kept_at),
        "proved_at": None if one.proved_at is None else rfc3339(one.proved_at),
        "source": one.source,
    }
    text = json.dumps(said, separators=(",", ":")).encode()
    return b"%08x %s\n" % (crc32(text), text)


def _read(line: bytes) -> SealedKeys | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % crc32(text):
        return None
    try:
        said = json.loads(text)
        return SealedKeys(
            key_id=str(said["key_id"]),
            gateway=str(said["gateway"]),
            meter=str(said["meter"]),
            slots=tuple(map(str, said["slots"])),
            sealed=base64.b64decode(said["sealed"], validate=True),
            made_at=_at(said["made_at"]),
            kept_at=None if said["kept_at"] is None else _at(said["kept_at"]),
            proved_at=None if said["proved_at"] is None else _at(said["proved_at"]),
            source=str(said["source"]),
        )
    except (ValueError, KeyError, TypeError):  # of a newer program
        return None


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
