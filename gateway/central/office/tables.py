"""The office's tables, in SQLite or PostgreSQL. Times are microseconds since 1970 UTC.

`versions/` makes them; this says what the program knows of them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from gateway.central.storage.versions import StoreVersions

META: Final = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _perhaps(name: str) -> Column[int]:
    return Column(name, BigInteger)


life = Table("office_life", META, _text("name"), _text("value"), PrimaryKeyConstraint("name"))
staff = Table(
    "office_staff",
    META,
    *map(_text, ("name", "roles", "password", "seed")),
    *map(_number, ("epoch", "code_step", "failures")),
    *map(_perhaps, ("wait_until", "disabled_at", "last_login")),
    _number("made_at"),
    _text("made_by"),
    PrimaryKeyConstraint("name"),
)
session = Table(
    "office_session",
    META,
    *map(_text, ("digest", "name", "kind", "source")),
    *map(_number, ("epoch", "made_at", "expires_at")),
    PrimaryKeyConstraint("digest"),
)
Index("office_session_name", session.c.name)
Index("office_session_expires", session.c.expires_at)
machine = Table(
    "office_machine",
    META,
    *map(_text, ("name", "kind", "proof", "roles")),
    _number("made_at"),
    _text("made_by"),
    _number("expires_at"),
    *map(_perhaps, ("revoked_at", "last_used")),
    PrimaryKeyConstraint("name"),
)
Index("office_machine_proof", machine.c.kind, machine.c.proof, unique=True)
change_set = Table(
    "office_change_set",
    META,
    *map(_text, ("id", "actor", "source", "state", "fingerprint", "changes")),
    *map(_number, ("count", "asked_at")),
    _perhaps("base"),
    Column("note", Text),
    Column("decided_by", Text),
    *map(_perhaps, ("decided_at", "version")),
    PrimaryKeyConstraint("id"),
)
Index("office_change_set_asked", change_set.c.asked_at, change_set.c.id)
Index("office_change_set_state", change_set.c.state)
answer = Table(
    "office_answer",
    META,
    *map(_text, ("actor", "key", "digest", "run")),
    _number("begun_at"),
    Column("status", Integer),
    Column("body", Text),
    PrimaryKeyConstraint("actor", "key"),
)
Index("office_answer_begun", answer.c.begun_at)
approval = Table(
    "office_approval",
    META,
    *map(_text, ("fingerprint", "by")),
    _number("at"),
    PrimaryKeyConstraint("fingerprint", "by"),
)
trail = Table(
    "office_trail",
    META,
    *map(_number, ("number", "at")),
    *map(_text, ("actor", "act", "subject", "source", "detail", "hash")),
    PrimaryKeyConstraint("number"),
)
Index("office_trail_subject", trail.c.subject, trail.c.number)
inbox = Table(
    "office_inbox",
    META,
    _text("system"),
    *map(_number, ("sequence", "at")),
    *map(_text, ("digest", "result")),
    PrimaryKeyConstraint("system", "sequence"),
)


def _none(_: Connection) -> None:
    return None


VERSIONS: Final = StoreVersions("office", "gateway.central.office.versions", _none)
