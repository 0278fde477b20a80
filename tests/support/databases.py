"""Where a store may lie: a file, and a PostgreSQL; the same tests run on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import PostgreSQL

ON_BOTH = pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])


@contextmanager
def database(kind: str, folder: Path) -> Iterator[Path | str]:
    """Give a fresh place for a store: a path, or a URL of a server that runs while the block does."""
    if kind == "sqlite":
        yield folder / "store.db"
        return
    with PostgreSQL() as server:
        yield server.database()
