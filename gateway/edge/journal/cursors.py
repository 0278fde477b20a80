"""How far each sink and each consumer has come, and the proofs of what consumers acknowledged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

MAX_CURSORS = 64
"""Cursors of sinks and consumers; beyond, those go that are not configured and moved longest ago."""
CONSUMER = "@ack/"
"""Beginning of the cursor's name of a consumer: how far it acknowledged."""
ALL_CONSUMERS = "@billing"
"""What every named consumer had acknowledged, in files of version 1; holds for each until it speaks."""
_PROOF = "proof "
"""Beginning of the name in `meta` of the proof of a consumer's acknowledgement."""


class CursorTable(Mapping[str, int]):
    """Cursors by name. Writes run inside the caller's transaction; `moved` and `forget` follow its commit.

    `moved_at` is when each moved last, in seconds since 1970; `proofs` are those of the last acknowledgements.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._held: dict[str, int] = {}
        self.moved_at: dict[str, int] = {}
        found = db.execute("select key, value from meta where key like ?", (f"{_PROOF}%",))
        self.proofs: dict[str, str] = {key.removeprefix(_PROOF): str(text) for key, text in found}
        for name, seq, at in db.execute("select sink, seq, moved_at from cursor"):
            self._held[name], self.moved_at[name] = seq, at

    def __getitem__(self, name: str) -> int:
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def store(self, moves: Mapping[str, int], proofs: Mapping[str, str], at: int) -> None:
        """Write moves with their proofs."""
        for name, seq in moves.items():
            self._db.execute("insert or replace into cursor values (?, ?, ?)", (name, seq, at))
        for name, proof in proofs.items():
            self._db.execute("insert or replace into meta values (?, ?)", (_PROOF + name, proof))

    def moved(self, moves: Mapping[str, int], proofs: Mapping[str, str], at: int) -> None:
        """Hold moves that are durable."""
        self._held.update(moves)
        self.moved_at.update(dict.fromkeys(moves, at))
        self.proofs.update(proofs)

    def excess(self, wanted: set[str]) -> list[str]:
        """Return the cursors that nobody names any more, beyond MAX_CURSORS: the longest unmoved."""
        excess = len(self) - MAX_CURSORS
        if excess <= 0:
            return []
        return sorted(set(self) - wanted, key=lambda name: self.moved_at[name])[:excess]

    def delete(self, names: list[str]) -> None:
        """Delete cursors from the file."""
        self._db.executemany("delete from cursor where sink = ?", [(name,) for name in names])

    def forget(self, names: list[str]) -> None:
        """Hold cursors no more that are deleted."""
        for name in names:
            del self._held[name], self.moved_at[name]
