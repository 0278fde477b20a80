"""The journal file's tables, as numbered steps: a new file takes all of them, an older one those it lacks."""

from __future__ import annotations

import sqlite3
import uuid

from gateway.errors import JournalError

APPLICATION_ID = 0x4D47574A
"""`MGWJ` in the file's header: tells a journal from any other SQLite file."""

_STEP_1 = """
create table meta (key text primary key, value) without rowid;
create table entry (seq integer primary key, kind text not null, profile text not null,
    at integer not null, body blob not null);
create table stream (id integer primary key, meter text not null, profile text not null,
    mark integer, unique (meter, profile));
create table capture (key blob primary key, hash blob not null, rev integer not null) without rowid;
create table gap (gap_id text primary key, meter text not null, profile text not null,
    after integer not null, until integer not null, state text not null, body blob not null) without rowid;
create index gap_state on gap (state, meter, profile);
create table cursor (sink text primary key, seq integer not null) without rowid;
create table dead_letter (sink text not null, seq integer not null, at integer not null,
    reason text not null, body blob not null, primary key (sink, seq)) without rowid;
"""
# `capture.day`: when it was journaled, in days since 1970; 0 where the file is older than this step.
# `cursor.moved_at`: when it moved last, in seconds since 1970; 0 where nobody knows.
# `forgotten`: per stream, the seconds within which captures were forgotten.
# `tombstone`: what is delivered in place of an entry that the broker refuses for good.
_STEP_2 = """
alter table capture add column day integer not null default 0;
alter table cursor add column moved_at integer not null default 0;
create table forgotten (stream integer not null, first integer not null, last integer not null,
    primary key (stream, first)) without rowid;
create table tombstone (seq integer primary key, body blob not null);
create index gap_until on gap (until);
insert into meta select 'captures', count(*) from capture;
insert into meta values ('generation', 0), ('nonce', ''), ('previous', '');
"""
# `former`: where a uuid ended that this file had, or that stood here before it.
_STEP_3 = """
create table former (journal text primary key, counter integer not null, nonce text not null,
    last_seq integer not null, at integer not null) without rowid;
insert into meta values ('gateway', ''), ('place', '');
"""
# Entries become blocks of captures `seq`..`last`; rows of before (`last` null) are one capture each, of version 1
# of the contract, and are read as blocks. `template`: layouts and holders that blocks name by key.
_STEP_4 = """
alter table entry add column last integer;
alter table entry add column stream integer;
alter table entry add column low integer;
alter table entry add column high integer;
alter table entry add column layout text;
alter table entry add column holders text;
alter table entry add column checksum blob;
create table template (key text primary key, text blob not null, last integer not null) without rowid;
"""
# `packed`: captures of the list that one block brought, in one row; meta `packed` counts them.
_STEP_5 = """
create table packed (key blob primary key, body blob not null, day integer not null) without rowid;
insert into meta values ('packed', 0);
"""
# The packed rows stand in the order they came in, found by an index: in the order of their keys each commit would
# move rows of a whole tree about, more of it the longer the list.
_STEP_6 = """
create table packed_6 (id integer primary key, key blob not null, body blob not null, day integer not null);
insert into packed_6 (key, body, day) select key, body, day from packed order by day, key;
drop table packed;
alter table packed_6 rename to packed;
create unique index packed_key on packed (key);
"""
STEPS = (_STEP_1, _STEP_2, _STEP_3, _STEP_4, _STEP_5, _STEP_6)
"""Step n brings a file from version n-1 to n. A step that was released is never changed."""
VERSION = len(STEPS)


def create(db: sqlite3.Connection) -> None:
    """Make all tables in an empty file, in one transaction."""
    db.execute("begin immediate")
    _take_steps(db, 0)
    rows = (("uuid", str(uuid.uuid4())), ("trimmed", 0))
    db.executemany("insert into meta values (?, ?)", rows)
    db.execute(f"pragma application_id = {APPLICATION_ID}")
    db.execute("commit")


def recognize(db: sqlite3.Connection, path: object) -> int:
    """Return the file's version; JournalError for one that is newer than the program, or no journal."""
    application = db.execute("pragma application_id").fetchone()[0]
    version = db.execute("pragma user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal: give the journal a path of its own")
    if version > VERSION:
        raise JournalError(
            f"the journal {path} has version {version}, this program knows {VERSION}: use the program"
            " that wrote it"
        )
    return int(version)


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring a file of an older version up to VERSION, in one transaction."""
    if version < VERSION:
        db.execute("begin immediate")
        _take_steps(db, version)
        db.execute("commit")


def _take_steps(db: sqlite3.Connection, version: int) -> None:
    for step in STEPS[version:]:
        for statement in step.split(";"):
            db.execute(statement)
    db.execute(f"pragma user_version = {VERSION}")
