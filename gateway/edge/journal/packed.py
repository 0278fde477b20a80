"""The list of captures, packed: one row for the captures that one block brought, as long as nothing befalls them.

Most captures are newer than all that their stream has, and are never seen again. The captures of a block share a
row, in the order of their keys; rows of one stream do not overlap. What a revision, a doubt or a clock concerns is
unpacked first, into a row for each capture.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

STREAM_OCTETS = 4
"""Octets at a key's beginning that name the stream: those of a packed row say it once."""
KEY_OCTETS = 20
HASH_OCTETS = 8
PACKED_OCTETS = 32
"""Octets that one packed capture usually takes in the file, its share of the row's key and of the page included."""
_REST = KEY_OCTETS - STREAM_OCTETS
_ITEM = _REST + HASH_OCTETS

Known = dict[bytes, tuple[bytes, int]]


def pack(captures: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return key and body of the row of captures of one stream, by their keys in rising order, with their hashes."""
    body = b"".join([key[STREAM_OCTETS:] + value for key, value in captures.items()])
    return next(iter(captures)), body


def unpack(key: bytes, body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and hash of each capture of a row, in rising order."""
    stream = key[:STREAM_OCTETS]
    for at in range(0, len(body), _ITEM):
        yield stream + body[at : at + _REST], body[at + _REST : at + _ITEM]


def last_key(key: bytes, body: bytes) -> bytes:
    """Return the highest key of a row."""
    return key[:STREAM_OCTETS] + body[-_ITEM:-HASH_OCTETS]


def count(body: bytes) -> int:
    """Return how many captures a row holds."""
    return len(body) // _ITEM


def row_of(db: sqlite3.Connection, key: bytes) -> tuple[bytes, bytes] | None:
    """Return key and body of the row that would hold a capture, whether or not it does; None where there is none."""
    found = db.execute("select key, body from packed where key <= ? order by key desc limit 1", (key,))
    row: tuple[bytes, bytes] | None = found.fetchone()
    return row


def hash_of(db: sqlite3.Connection, key: bytes) -> bytes | None:
    """Return the hash of a capture that is packed, None for one that is not."""
    row = row_of(db, key)
    return None if row is None else dict(unpack(*row)).get(key)


class PackedRows:
    """The packed rows of a journal. Writes run inside the caller's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def known(self, keys: Sequence[bytes], low: bytes, high: bytes) -> Known:
        """Return those keys of one stream, all within low..high, that are packed."""
        wanted = set(keys)
        rows = self.between(low, high, len(keys) + 1)
        if len(rows) > len(keys):  # a few captures far apart: each is looked for by itself
            rows = list({row for key in keys if (row := row_of(self._db, key)) is not None})
        return {key: (value, 1) for row in rows for key, value in unpack(*row) if key in wanted}

    def between(self, low: bytes, high: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the rows that hold, or would hold, keys of low..high, at most `limit`."""
        return self._db.execute(
            "select key, body from packed where key <= ? and key >="
            " coalesce((select max(key) from packed where key <= ?), ?) order by key limit ?",
            (high, low, low, limit),
        ).fetchall()

    def newest(self, low: bytes, high: bytes) -> bytes:
        """Return the highest packed key of low <= key < high, b"" where there is none."""
        found = self._db.execute(
            "select key, body from packed where key >= ? and key < ? order by key desc limit 1", (low, high)
        ).fetchone()
        return b"" if found is None else last_key(*found)

    def loosen(self, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """Give each capture of these rows a row of its own; return how many captures that were."""
        loosened = 0
        for key, body in rows:
            [(day,)] = self._db.execute("delete from packed where key = ? returning day", (key,)).fetchall()
            captures = [(one, value, 1, day) for one, value in unpack(key, body)]
            self._db.executemany("insert into capture values (?, ?, ?, ?)", captures)
            loosened += len(captures)
        return loosened

    def forget(self, low: bytes, high: bytes, day: int, limit: int) -> list[tuple[bytes, bytes, int]]:
        """Delete rows that lie in low <= key < high as a whole and were journaled before `day`.

        Returns first key, last key and number of captures of each; about `limit` captures in all.
        """
        rows = self._db.execute(
            "select key, body from packed where key >= ? and key < ? and day < ? order by key limit ?",
            (low, high, day, max(0, limit)),
        ).fetchall()
        gone: list[tuple[bytes, bytes, int]] = []
        for key, body in rows:
            last = last_key(key, body)
            if limit <= 0 or last >= high:
                break
            gone.append((key, last, count(body)))
            limit -= count(body)
        self._db.executemany("delete from packed where key = ?", [(key,) for key, _, _ in gone])
        return gone
