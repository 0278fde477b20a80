"""Fixtures of the people store: each test runs on a SQLite file and on a fresh database of a PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.central.people.database import PeopleStore
from tests.support.mapping.places import Place
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
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PeopleStore]:
    if request.param == "sqlite":
        made = PeopleStore(tmp_path / "people.db")
        yield made
        made.close()
        return
    place: Place = request.getfixturevalue("in_a_database")
    with place() as where:
        made = PeopleStore(where)
        yield made
        made.close()
