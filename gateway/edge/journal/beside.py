"""The file beside the journal, `journal.db.generation`: which run is on, and how far it has come.

It is replaced durably when a run begins. How far the journal has come is then written over in place after each
commit, which a killed program leaves behind and a power cut may lose: it is never ahead of the database.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from protocols.durable import replace_file

SUFFIX = ".generation"
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Held:
    """Whose a file is, which run, how far it had come: what the database shows, and what the file beside it."""

    journal: str
    counter: int
    nonce: str
    seq: int

    @property
    def name(self) -> str:
        """Counter and random part: two runs never share it."""
        return f"{self.counter}-{self.nonce}"


class Beside:
    """The file beside the journal at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + SUFFIX)
        self._file: int | None = None
        self._at = 0

    def read(self) -> Held | None:
        """Return what stands there; None when there is nothing, or nothing readable."""
        try:
            held = json.loads(self._path.read_bytes())
            return Held(str(held["journal"]), int(held["counter"]), str(held["nonce"]), int(held["last_seq"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None

    def replace(self, held: Held) -> None:
        """Replace the file durably; `note` then writes into it."""
        self.close()
        named = {"journal": held.journal, "counter": held.counter, "nonce": held.nonce}
        content = json.dumps(named)[:-1].encode() + b', "last_seq": '
        replace_file(self._path, b"%b%*d}\n" % (content, _DIGITS, held.seq), mode=0o666)
        self._file, self._at = os.open(self._path, os.O_WRONLY), len(content)

    def note(self, seq: int) -> None:
        """Write how far the journal has come; what a program that is killed has written stays."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # the commit stands, and the next one notes it again
                os.pwrite(self._file, b"%*d" % (_DIGITS, seq), self._at)

    def sync(self) -> None:
        """Make the last note durable."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
