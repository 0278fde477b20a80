"""Fixtures of central's tests: a ledger is a SQLite file, and again one in a PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from gateway.central.ledger.ledger import Ledger
from tests.support.central.ledgers import FreshLedger, LedgerDatabase, ledger_database


@pytest.fixture(scope="session")
def ledger_in_postgresql() -> Iterator[LedgerDatabase]:
    with ledger_database() as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def fresh_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> FreshLedger:
    """Where empty ledgers may be opened; on PostgreSQL one at a time."""
    if request.param == "sqlite":
        numbers = count(1)
        return lambda: tmp_path / f"ledger-{next(numbers)}.db"
    database: LedgerDatabase = request.getfixturevalue("ledger_in_postgresql")
    return database.emptied


@pytest.fixture
def ledger(fresh_ledger: FreshLedger) -> Iterator[Ledger]:
    """An empty ledger."""
    opened = Ledger(fresh_ledger())
    yield opened
    opened.close()


@pytest.fixture
def ledger_file(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger in `ledger.db`, for what reads the file itself."""
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()
