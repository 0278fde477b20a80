"""Fixtures that tests of several folders use, and markers of the programs that tests need."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.central.ledger.ledger import Ledger
from gateway.edge.journal.journal import Journal
from protocols.clock import SystemClock
from tests.support import services
from tests.support.mosquitto import Mosquitto
from tests.support.virtual_time import VirtualTimeLoop

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


DEAR = {"cli_town", "cli", "commands", "peer", "town"}
"""Fixtures that take long to make and serve many tests: those tests run in one worker, one after the other."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures they use, and those that wait, poll or measure (`make test-loaded`)."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        for name in fixtures & services.BY_FIXTURE.keys():
            item.add_marker(services.BY_FIXTURE[name])
        if fixtures & DEAR:
            place = "cli" if "cli" in fixtures else item.path.stem
            item.add_marker(pytest.mark.xdist_group(place))
        if _waits(item):
            item.add_marker("waits")


def _waits(item: pytest.Item) -> bool:
    """Return whether a test has an event loop, a program beside it, or helpers that wait or count."""
    known = {
        getattr(thing, "__module__", "") for thing in vars(getattr(item, "module", None) or item).values()
    }
    return (
        inspect.iscoroutinefunction(getattr(item, "obj", None))
        or any(marker.name in services.BY_FIXTURE.values() for marker in item.iter_markers())
        or not known.isdisjoint(("tests.support.waiting", "tests.support.steps", "subprocess"))
    )


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give tests marked `virtual_time` a loop with a time of its own."""
    virtual = item.get_closest_marker("virtual_time") is not None
    return {"loop": VirtualTimeLoop if virtual else asyncio.new_event_loop}


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
