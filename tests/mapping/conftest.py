"""Where the directory's tests keep it: each on a SQLite file and on a PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mapping.store import DirectoryStore
from tests.support.postgres import PostgreSQL

Place = Callable[[], AbstractContextManager[Path | str]]
"""Makes a place for one directory that goes with the block."""


@contextmanager
def in_a_file() -> Iterator[Path | str]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "directory.db"


@pytest.fixture(scope="session")
def in_a_database() -> Iterator[Place]:
    """Places on a PostgreSQL; a test that asks for it is marked with `postgres`."""
    with PostgreSQL() as server:

        @contextmanager
        def place() -> Iterator[Path | str]:
            yield server.database()

        yield place


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = in_a_file if request.param == "sqlite" else request.getfixturevalue("in_a_database")
    return found


@pytest.fixture
def store(place: Place) -> Iterator[DirectoryStore]:
    with place() as where, DirectoryStore(where) as made:
        yield made
