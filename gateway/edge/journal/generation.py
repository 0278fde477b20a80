"""Whether the journal's file was set back: a generation that stands in the file and, beside it, in another.

Every run takes the next generation: first in the database, then (durably, before anything is appended) in
`journal.db.generation`. A database restored from a copy shows an older one than the file beside it. Nothing
that travels in a message is evidence. A copy of the whole folder brings both files back and cannot be told
apart here; deleting `journal.db.generation` then makes the next start take the journal for a copy.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".generation"


@dataclass(frozen=True, slots=True)
class Generation:
    """What the file beside the journal says: whose it is, which run, how far the journal had come."""

    journal: str
    counter: int
    nonce: str
    seq: int

    @property
    def name(self) -> str:
        """Counter and random part: two runs never share it."""
        return f"{self.counter}-{self.nonce}"


def read_generation(path: Path) -> Generation | None:
    """Return what stands beside the journal at `path`; None when there is nothing, or nothing readable."""
    try:
        held = json.loads(path.with_name(path.name + SUFFIX).read_bytes())
        return Generation(
            str(held["journal"]), int(held["counter"]), str(held["nonce"]), int(held["last_seq"])
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None


def write_generation(path: Path, generation: Generation) -> None:
    """Replace the file beside the journal durably."""
    target = path.with_name(path.name + SUFFIX)
    fresh = target.with_name(target.name + ".new")
    content = {
        "journal": generation.journal,
        "counter": generation.counter,
        "nonce": generation.nonce,
        "last_seq": generation.seq,
    }
    with fresh.open("wb") as file:
        file.write(json.dumps(content).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def set_back(held: Generation, previous: str, beside: Generation | None) -> str | None:
    """Return why the database must be an older copy, None when it is the one that ran last.

    `held` is what the database shows (counter 0: it never ran with a file beside it), `previous` the name of
    the generation before that.
    """
    if held.counter == 0:
        if beside is not None and beside.journal == held.journal:
            return "it is older than its first run beside a generation file"
        return None
    if beside is None:
        return f"there is no {SUFFIX[1:]} file beside it"
    if beside.journal != held.journal:
        return f"the {SUFFIX[1:]} file names journal {beside.journal}"
    if beside.name == held.name:
        if beside.seq > held.seq:
            return f"it ends at {held.seq} and had come to {beside.seq}"
        return None
    if beside.name == previous and beside.seq <= held.seq:
        return None  # the last start was cut short between the two files: nothing was appended in it
    return f"it shows generation {held.counter}, the {SUFFIX[1:]} file {beside.counter}"


@dataclass(frozen=True, slots=True)
class Begun:
    """The generation of this run; `was` is the journal's former uuid when the file had been set back."""

    generation: Generation
    was: str | None = None
    why: str | None = None


def begin_generation(db: sqlite3.Connection, path: Path, last_seq: int) -> Begun:
    """Take the next generation, durably in both files; a journal that was set back gets another uuid.

    What is in the file keeps its seq under the new name, and what consumers acknowledged under the old one
    counts no more.
    """
    meta = dict(db.execute("select key, value from meta"))
    held = Generation(str(meta["uuid"]), int(meta["generation"]), str(meta["nonce"]), last_seq)
    beside = read_generation(path)
    why = set_back(held, str(meta["previous"]), beside)
    journal = held.journal if why is None else str(uuid.uuid4())
    counter = max(held.counter, beside.counter if beside is not None else 0) + 1
    fresh = Generation(journal, counter, secrets.token_hex(8), last_seq)
    rows = {"uuid": journal, "generation": counter, "nonce": fresh.nonce, "previous": held.name}
    db.execute("begin immediate")
    db.executemany("insert or replace into meta values (?, ?)", rows.items())
    if why is not None:
        db.execute("delete from cursor where sink like '@%'")
    db.execute("commit")
    write_generation(path, fresh)
    return Begun(fresh, held.journal if why is not None else None, why)
