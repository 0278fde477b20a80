"""A lot in one SQLite file: each change is durable before anything is done that depends on it."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from gateway.errors import JournalError, UsageError
from gateway.lots.core import ENDS, Facts, Item, ItemState, Lot, LotCore, LotState, Outcome
from gateway.lots.terms import Terms, Window
from gateway.private_database import PrivateDatabase

FORMAT = 1
MAX_ITEMS = 20_000
_SETS = ("stop_on", "not_counted")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SCHEMA = (
    """CREATE TABLE lot (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, kind TEXT NOT NULL,
    created INTEGER NOT NULL, by_whom TEXT NOT NULL, terms TEXT NOT NULL, facts TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL, accepted INTEGER NOT NULL, pilot_over INTEGER NOT NULL, last_begun INTEGER)""",
    """CREATE TABLE items (position INTEGER PRIMARY KEY, meter TEXT NOT NULL UNIQUE, line TEXT NOT NULL,
    facts TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL, not_before INTEGER, reason TEXT NOT NULL,
    note TEXT NOT NULL, kept TEXT NOT NULL, began INTEGER, ended INTEGER, end_number INTEGER NOT NULL)""",
    """CREATE TABLE visits (id INTEGER PRIMARY KEY, position INTEGER NOT NULL REFERENCES items, began INTEGER NOT NULL,
    ended INTEGER, outcome TEXT, reason TEXT, note TEXT)""",
    "CREATE TABLE words (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, by_whom TEXT NOT NULL, what TEXT NOT NULL)",
    f"PRAGMA user_version = {FORMAT}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a person, or the lot itself (`by` empty), decided: planned, paused, resumed, stopped."""

    at: datetime
    by: str
    what: str


class _LotFile(PrivateDatabase):
    def __init__(self, path: Path) -> None:
        super().__init__(path, named="lot")

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = DELETE")  # few writes; one file is easier to copy than three
        self._db.execute("PRAGMA synchronous = FULL")

    def fill(self, lot: Lot, items: Sequence[Item]) -> None:
        """Write a new lot into the empty file."""
        with self._transaction():
            _fill(self._db, lot, items)


class LotStore(_LotFile):
    """One lot's file (0600); safe for threads, and for other processes that pause or cancel it.

    JournalError when the file cannot be read or written, UsageError when it is no lot or of another kind.
    """

    def __init__(self, path: Path, kind: str | None = None) -> None:
        """Open the lot at `path`; with `kind` it must be one of it."""
        if not path.is_file():
            raise UsageError(f"there is no lot at {path}")
        super().__init__(path)
        self.path = path
        try:
            found = self._read("PRAGMA user_version")[0][0]
            if found != FORMAT:
                raise UsageError(f"{path} is no lot of format {FORMAT} (it says {found})")
            if kind is not None and (has := self.lot().kind) != kind:
                raise UsageError(f"{path} is a lot of {has}, not of {kind}")
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, lot: Lot, items: Sequence[Item]) -> LotStore:
        """Make the file of a new lot; UsageError when there is one already, no meter in it, or one twice."""
        if not 0 < len(items) <= MAX_ITEMS:
            raise UsageError(f"a lot has 1 to {MAX_ITEMS} meters, not {len(items)}")
        meters = [item.meter for item in items]
        if twice := next((m for m in meters if meters.count(m) > 1), None):
            raise UsageError(f"{twice} is in the lot twice")
        new = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for stale in (new, *(new.with_name(new.name + end) for end in ("-wal", "-shm"))):
                stale.unlink(missing_ok=True)
            file = _LotFile(new)
            try:
                file.fill(lot, items)
            finally:
                file.close()
            _link(new, path)
        except FileExistsError as error:
            raise UsageError(f"there is a lot at {path} already") from error
        except OSError as error:
            raise JournalError(f"the lot {path} cannot be made: {error}") from error
        return cls(path)

    def __enter__(self) -> LotStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- reading

    def lot(self) -> Lot:
        """Return where the lot stands."""
        return _lot(self._read(_LOT)[0])

    def items(self) -> list[Item]:
        """Return its meters in the order of the plan."""
        return [_item(row) for row in self._read(f"{_ITEMS} ORDER BY position")]

    def core(self) -> LotCore:
        """Return the state machine as the file has it."""
        with self._transaction():
            last = self._read("SELECT last_begun FROM lot")[0][0]
            return LotCore(self.lot(), self.items(), _instant(last))

    def words(self) -> list[Word]:
        """Return what was decided about it, oldest first."""
        rows = self._read("SELECT at, by_whom, what FROM words ORDER BY id")
        return [Word(at=_EPOCH + at * _MICROSECOND, by=by, what=what) for at, by, what in rows]

    # ---- writing

    def begin(self, item: Item, now: datetime) -> int | None:
        """Keep that a visit of this item begins; return its number, None when the lot may not go on meanwhile."""
        with self._transaction():
            if self.lot().state is not LotState.READY:
                return None
            self._write(item)
            self._db.execute("UPDATE lot SET last_begun = ?", (_micros(now),))
            return self._db.execute(
                "INSERT INTO visits (position, began) VALUES (?, ?)", (item.position, _micros(now))
            ).lastrowid

    def end(self, item: Item, visit: int, outcome: Outcome, now: datetime) -> Item:
        """Keep how a visit ended; return the item, cancelled where the lot was meanwhile and more was to be done."""
        with self._transaction():
            if item.state not in ENDS and self.lot().state is LotState.CANCELLED:
                item = replace(item, state=ItemState.CANCELLED, ended=now)
            self._write(item)
            name, reason = type(outcome).__name__.lower(), getattr(outcome, "reason", "")
            self._db.execute(
                "UPDATE visits SET ended = ?, outcome = ?, reason = ?, note = ? WHERE id = ?",
                (_micros(now), name, reason, outcome.note, visit),
            )
        return item

    def keep(self, position: int, kept: Facts) -> None:
        """Keep what a visit leaves for the next, in place of what was left before."""
        with self._transaction():
            self._db.execute("UPDATE items SET kept = ? WHERE position = ?", (json.dumps(kept), position))

    def put(self, *items: Item) -> None:
        """Write items as they are now."""
        with self._transaction():
            for item in items:
                self._write(item)

    def decide(self, lot: Lot, *, at: datetime, by: str, what: str, only_from: Iterable[LotState]) -> bool:
        """Give the lot a new state with the word for it; False when it is in none of `only_from` any more.

        A cancelled lot's meters that no visit is with are cancelled, too.
        """
        with self._transaction():
            if self.lot().state not in set(only_from):
                return False
            self._db.execute(
                "UPDATE lot SET state = ?, reason = ?, accepted = ?, pilot_over = ?",
                (lot.state, lot.reason, lot.accepted, lot.pilot_over),
            )
            self._db.execute(
                "INSERT INTO words (at, by_whom, what) VALUES (?, ?, ?)", (_micros(at), by, what)
            )
            if lot.state is LotState.CANCELLED:
                self._db.execute(
                    "UPDATE items SET state = 'cancelled', ended = ? WHERE state IN ('fresh', 'begun')",
                    (_micros(at),),
                )
        return True

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Be the only one that runs the lot; UsageError when another program does."""
        with owned(self.path):
            yield

    def in_use(self) -> bool:
        """Say whether a program runs the lot now."""
        try:
            with self.owned():
                return False
        except UsageError:
            return True

    def _write(self, item: Item) -> None:
        self._db.execute(
            "UPDATE items SET state = ?, tries = ?, not_before = ?, reason = ?, note = ?, began = ?, ended = ?,"
            " end_number = ? WHERE position = ?",
            (
                item.state,
                item.tries,
                _micros(item.not_before),
                item.reason,
                item.note,
                _micros(item.began),
                _micros(item.ended),
                item.end,
                item.position,
            ),
        )


_LOT = "SELECT name, kind, created, by_whom, terms, facts, state, reason, accepted, pilot_over FROM lot WHERE id = 1"
_ITEMS = (
    "SELECT position, meter, line, facts, state, tries, not_before, reason, note, kept, began, ended, end_number"
    " FROM items"
)


def _fill(db: sqlite3.Connection, lot: Lot, items: Sequence[Item]) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute(
        "INSERT INTO lot VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        (
            lot.name,
            lot.kind,
            _micros(lot.created),
            lot.by,
            _dump_terms(lot.terms),
            json.dumps(lot.facts),
            lot.state,
            lot.reason,
            lot.accepted,
            lot.pilot_over,
        ),
    )
    db.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?, 'fresh', 0, NULL, '', '', ?, NULL, NULL, 0)",
        [(i.position, i.meter, i.line, json.dumps(i.facts), json.dumps(i.kept)) for i in items],
    )
    db.execute(
        "INSERT INTO words (at, by_whom, what) VALUES (?, ?, 'planned')", (_micros(lot.created), lot.by)
    )


def _link(new: Path, path: Path) -> None:
    """Give the whole file its name; FileExistsError when another has it."""
    path.hardlink_to(new)
    new.unlink()


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Be the only one that makes or runs the lot at `path`; UsageError when another program does."""
    with path.with_name(path.name + ".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"the lot {path} is made or run by another program: wait until it ends, or pause it"
            ) from error
        yield


def _lot(row: Sequence[Any]) -> Lot:
    name, kind, created, by, terms, facts, state, reason, accepted, pilot_over = row
    return Lot(
        name=name,
        kind=kind,
        created=_EPOCH + created * _MICROSECOND,
        by=by,
        terms=_load_terms(terms),
        facts=json.loads(facts),
        state=LotState(state),
        reason=reason,
        accepted=accepted,
        pilot_over=bool(pilot_over),
    )


def _item(row: Sequence[Any]) -> Item:
    position, meter, line, facts, state, tries, not_before, reason, note, kept, began, ended, end = row
    return Item(
        position=position,
        meter=meter,
        line=line,
        facts=json.loads(facts),
        state=ItemState(state),
        tries=tries,
        not_before=_instant(not_before),
        reason=reason,
        note=note,
        kept=json.loads(kept),
        began=_instant(began),
        ended=_instant(ended),
        end=end,
    )


def _dump_terms(terms: Terms) -> str:
    fields = asdict(terms)
    sets = {name: sorted(fields[name]) for name in _SETS}
    return json.dumps({**fields, "windows": [str(w) for w in terms.windows], **sets})


def _load_terms(text: str) -> Terms:
    fields = json.loads(text)
    fields["windows"] = tuple(Window.parse(w) for w in fields["windows"])
    return Terms(**{**fields, **{name: frozenset(fields.get(name, ())) for name in _SETS}})


def _micros(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else _EPOCH + micros * _MICROSECOND
