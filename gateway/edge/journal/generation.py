"""Whether the journal's file was set back or copied: a generation that stands in the file and, beside it, in another.

Every run takes the next generation: first in the database, then (durably, before anything is appended) in
`journal.db.generation`. What is evidence that a file is not the one that ran last:

- The file beside it shows another run, or that this run had come further.
- The lock's file, which is made once and never written, was changed: it tells a copy of the whole folder.
- The database belongs to a gateway of another name.
- A peer proves a run that this file knows nothing of (`contradiction`).

The journal then goes on under another uuid. What is in the file keeps its seq, and where the former uuid ended
is kept (`Former`) and told.
"""

from __future__ import annotations

import secrets
import sqlite3
import uuid
from dataclasses import dataclass
from datetime import datetime

from gateway.contract.messages.generation import Generation
from gateway.edge.journal.beside import SUFFIX, Beside, Held

MAX_FORMER = 8
"""Former uuids whose end is kept."""


@dataclass(frozen=True, slots=True)
class Former:
    """The end of a run that was: `last_seq` is the last number that it gave, as far as is known here."""

    journal: str
    generation: Generation
    last_seq: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The generation of this run, which begins behind `seq`.

    `was` is the journal's former uuid when it goes on under another one, `why` what showed that it must.
    """

    journal: str
    generation: Generation
    seq: int
    was: str | None = None
    why: str | None = None


def set_back(held: Held, previous: str, beside: Held | None) -> str | None:
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


def contradiction(begun: Begun, heard: Generation, seq: int) -> str | None:
    """Return why this file cannot be the one that ran last, by a generation of it and a seq that a peer proved.

    A seq beyond the end of the present generation is no such proof: nothing of ours was lost by it.
    """
    own = begun.generation
    if not heard.counter:
        return None  # said by who knows of no generations
    if own.is_before(heard):
        return f"it shows generation {own}, and generation {heard} was heard of"
    if own.is_twin_of(heard):
        return f"it lives twice: this is generation {own}, and generation {heard} was heard of"
    if heard.is_before(own) and seq > begun.seq:
        return f"its generation {heard} had come to {seq}, and here it ended at {begun.seq}"
    return None


def begin_generation(
    db: sqlite3.Connection, beside: Beside, *, last_seq: int, gateway: str, place: str, now: datetime
) -> Begun:
    """Take the next generation, durably in both files; a journal that was set back or copied gets another uuid.

    `place` tells the lock's file from a copy of it. What consumers acknowledged under a former uuid counts no
    more.
    """
    meta = dict(db.execute("select key, value from meta"))
    held = Held(str(meta["uuid"]), int(meta["generation"]), str(meta["nonce"]), last_seq)
    found = beside.read()
    why = (
        set_back(held, str(meta["previous"]), found)
        or _moved(str(meta["place"]), place)
        or _other_gateway(str(meta["gateway"]), gateway)
    )
    was: str | None = held.journal if why is not None else None
    ended = [held] if held.counter else []
    if held.counter == 0 and found is not None and found.journal != held.journal:
        # A new file where there was a journal: its end stands beside it.
        ended, was, why = [found], found.journal, "its file is gone"
    counter = max(held.counter, found.counter if found is not None else 0) + 1
    journal = str(uuid.uuid4()) if why is not None and held.counter + last_seq else held.journal
    begun = Begun(journal, Generation(counter, secrets.token_hex(4)), last_seq, was, why)
    _store(db, begun, ended, previous=held.name, now=now, gateway=gateway or meta["gateway"], place=place)
    beside.replace(_as_held(begun))
    return begun


def begin_anew(
    db: sqlite3.Connection,
    beside: Beside,
    was: Begun,
    *,
    last_seq: int,
    above: Generation,
    why: str,
    now: datetime,
) -> Begun:
    """Go on under another uuid while running: a peer proved that the file was set back."""
    fresh = Generation.after(was.generation, above)
    begun = Begun(str(uuid.uuid4()), fresh, last_seq, was.journal, why)
    ended = Held(was.journal, was.generation.counter, was.generation.random, last_seq)
    _store(db, begun, [ended], previous=ended.name, now=now)
    beside.replace(_as_held(begun))
    return begun


def former(db: sqlite3.Connection) -> tuple[Former, ...]:
    """Return where former runs ended, one for each uuid, newest first."""
    rows = db.execute("select journal, counter, nonce, last_seq from former order by at desc, counter desc")
    return tuple(Former(name, Generation(counter, nonce), seq) for name, counter, nonce, seq in rows)


def _as_held(begun: Begun) -> Held:
    return Held(begun.journal, begun.generation.counter, begun.generation.random, begun.seq)


def _moved(was: str, now: str) -> str | None:
    if was in ("", now):
        return None
    return "its folder was copied or restored, or changed hands (its lock's file is not the one it was)"


def _other_gateway(was: str, now: str) -> str | None:
    return None if not (was and now) or was == now else f"it is that of gateway {was}, and this is {now}"


def _store(
    db: sqlite3.Connection,
    begun: Begun,
    ended: list[Held],
    *,
    previous: str,
    now: datetime,
    **more: str,
) -> None:
    rows = {
        "uuid": begun.journal,
        "generation": begun.generation.counter,
        "nonce": begun.generation.random,
        "previous": previous,
        **more,
    }
    at = int(now.timestamp())
    db.execute("begin immediate")
    db.executemany("insert or replace into meta values (?, ?)", rows.items())
    for end in ended:
        # Before version 2 of the contract the random part was longer.
        row = (end.journal, end.counter, end.nonce[:8].rjust(8, "0"), end.seq, at)
        db.execute("insert or replace into former values (?, ?, ?, ?, ?)", row)
    db.execute(
        "delete from former where journal not in"
        " (select journal from former order by at desc, counter desc limit ?)",
        (MAX_FORMER,),
    )
    if begun.was is not None:
        db.execute("delete from cursor where sink like '@%'")
    db.execute("commit")
