"""The numbers of verdicts rise over every life of the ledger: consumers keep the highest, whatever a copy knew."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, select

from gateway.central.ledger.cursors import read_cursor, write_cursor
from gateway.central.ledger.schema import verdicts

NUMBERED: Final = "verdicts_life"
"""Cursor: the counter of the ledger's generation in which verdicts are numbered."""
OF_A_LIFE: Final = 1_000_000_000
"""Numbers of one generation: those of the next are above all that the one before may have told."""


def newest(connection: Connection) -> int:
    """Return the number that the next verdict follows."""
    last = connection.execute(select(func.max(verdicts.c.version))).scalar() or 0
    return max(last, OF_A_LIFE * ((read_cursor(connection, NUMBERED) or 1) - 1))


def begin_life(connection: Connection, counter: int) -> bool:
    """Number verdicts in the generation of this counter from now on; False where they are already."""
    if (read_cursor(connection, NUMBERED) or 1) >= counter:
        return False
    write_cursor(connection, NUMBERED, counter)
    return True
