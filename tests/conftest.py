"""Fixtures that tests of several folders use, and markers of the programs that tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.central.ledger.ledger import Ledger
from gateway.edge.journal.journal import Journal
from protocols.clock import SystemClock
from tests.support import services
from tests.support.mosquitto import Mosquitto

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures they use."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in services.BY_FIXTURE:
                item.add_marker(services.BY_FIXTURE[name])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    services.carry({marker.name for marker in item.iter_markers()})


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
