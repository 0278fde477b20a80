"""Fixtures that tests of several folders use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.edge.journal.journal import Journal
from protocols.clock import SystemClock
from tests.support.mosquitto import Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running Mosquitto of the test's own."""
    with Mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An empty journal."""
    opened = await Journal.open(tmp_path / "journal.db", clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()
