"""Edge and central together: what a broker forgot of the changes is asked for, and central knows every meter again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.central.intake import listings
from gateway.central.intake.service import Central
from gateway.central.ledger.ledger import Ledger
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks import status_report
from tests.support.check_sink import running
from tests.support.edge.health import Health
from tests.support.edge.mqtt_edge import Edge, settings
from tests.support.keys import PRIVATE
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until


@asynccontextmanager
async def central(broker: Mosquitto, ledger: Ledger) -> AsyncIterator[None]:
    one = Central(
        settings=settings(broker, "central", session_expiry=3600), ledger=ledger, signing_key=PRIVATE
    )
    task = asyncio.create_task(one.run())
    try:
        await until(lambda: one.statistics().connected or task.done())
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.mosquitto
async def test_changes_that_the_broker_forgot_are_asked_for(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PATIENCE", 0.0)
    monkeypatch.setattr(status_report, "LISTING_CALM", 0.0)
    health = Health(400)
    ledger = Ledger(tmp_path / "ledger.db")

    def known() -> dict[str, str]:
        return {one.meter: one.health for one in ledger.statuses.meters()}

    with Mosquitto(tmp_path / "m", persistence=False) as broker:
        edge = Edge(broker, journal, tmp_path / "part", health=health)
        async with running(edge.sink, journal):
            async with central(broker, ledger):
                await until(lambda: len(known()) == 400 and set(known().values()) == {"new"})
            told = edge.sink.reporter.statistics().changes
            health.fall_silent(*range(100))
            await until(lambda: edge.sink.reporter.statistics().changes > told)
            broker.kill()
            broker.start()
            async with central(broker, ledger):
                await until(lambda: sum(one == "meter_silent" for one in known().values()) == 100)
                await until(lambda: ledger.statuses.behind() == [])
    assert edge.sink.reporter.statistics().listings >= 2
    ledger.close()
