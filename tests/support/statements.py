"""The statements that SQLAlchemy sends while a block runs, in all its engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event


@contextmanager
def statements_sent() -> Iterator[list[str]]:
    """Yield a list that fills with the SQL of each statement but BEGIN."""
    sent: list[str] = []

    def note(*arguments: object) -> None:
        statement = str(arguments[2])
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
