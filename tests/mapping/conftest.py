"""Fixtures of the directory's tests: each place is a SQLite file or a fresh database of a PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mapping.store import DirectoryStore
from tests.support.mapping.places import Place, in_a_file
from tests.support.postgres import PostgreSQL


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
