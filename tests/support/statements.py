"""The statements that SQLAlchemy sends to one store while a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event


@contextmanager
def statements_sent(store: str = "ledger") -> Iterator[list[str]]:
    """Yield a list that fills with the SQL of each statement but BEGIN to files whose name begins so."""
    sent: list[str] = []

    def note(connection: Connection, _cursor: Any, statement: str, *_others: Any) -> None:
        file = Path(connection.engine.url.database or "").name
        if file.startswith(store) and not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
