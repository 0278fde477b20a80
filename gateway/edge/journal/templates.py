"""What the journal's blocks name by key: layouts and holders, each once, as long as a block may name it."""

from __future__ import annotations

import sqlite3

from gateway.contract.blocks import Keyed, key_of

SLACK = 10_000
"""Sequence numbers after which it is noted anew that a template is in use."""


class TemplateTable:
    """Layouts and holders by key. Writes run inside the caller's transaction.

    `damaged` are keys whose text is not what was written: blocks that name them cannot be delivered.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[str, Keyed] = {}
        self._noted: dict[str, int] = {}
        self._new: dict[str, tuple[Keyed, int]] = {}
        for key, text, last in db.execute("select key, text, last from template"):
            if key_of(text) == key:
                self._known[key], self._noted[key] = Keyed(key, text), last

    def begin(self) -> None:
        """Forget what a transaction that failed had begun."""
        self._new = {}

    def committed(self) -> None:
        """Take over what the transaction brought."""
        for key, (keyed, last) in self._new.items():
            self._known[key], self._noted[key] = keyed, last
        self._new = {}

    def use(self, keyed: Keyed, seq: int) -> None:
        """Note that entry `seq` names a template, which is written when it is new or was noted long ago."""
        # One transaction may be long (a salvage takes over a whole file): what it noted itself grows old, too.
        noted = self._new[keyed.key][1] if keyed.key in self._new else self._noted.get(keyed.key)
        if noted is not None and seq - noted < SLACK:
            return
        self._db.execute("insert or replace into template values (?, ?, ?)", (keyed.key, keyed.text, seq))
        self._new[keyed.key] = (keyed, seq)

    def get(self, key: str) -> Keyed | None:
        """Return a template; None where there is none that is whole."""
        return self._known.get(key)

    def trim(self, first_seq: int) -> None:
        """Delete what no entry from `first_seq` on names."""
        gone = [key for key, last in self._noted.items() if last + SLACK < first_seq]
        self._db.executemany("delete from template where key = ?", [(key,) for key in gone])
        for key in gone:
            del self._known[key], self._noted[key]
