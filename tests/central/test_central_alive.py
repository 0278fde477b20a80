"""Central says in its ledger whether it hears: a dead or hanging broker is seen by whoever reads only that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.central.intake import listings
from gateway.central.intake.service import SIGN_EVERY, Central
from gateway.central.ledger.ledger import Ledger
from gateway.central.portal.overview import CENTRAL_ALIVE_FOR
from gateway.contract.envelope import parse, wrap
from gateway.contract.messages import Status, StatusRequest
from gateway.contract.topics import Topics
from gateway.mqtt.connection import MqttSettings, connect
from tests.support.central.samples import NOW
from tests.support.keys import PRIVATE
from tests.support.mosquitto import Mosquitto, login
from tests.support.waiting import until

TOPICS = Topics("test")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def settings(broker: Mosquitto, client_id: str, **more: object) -> MqttSettings:
    return MqttSettings.model_validate(
        {"port": broker.port, "client_id": client_id, "username": login(client_id), "root": "test", **more}
    )


@asynccontextmanager
async def running(broker: Mosquitto, ledger: Ledger, **more: object) -> AsyncIterator[Central]:
    central = Central(settings=settings(broker, "central", **more), ledger=ledger, signing_key=PRIVATE)
    task = asyncio.create_task(central.run())
    try:
        await until(lambda: central.statistics().connected or task.done())
        yield central
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hears(ledger: Ledger) -> bool:
    sign = ledger.alive.read()
    return sign is not None and sign.heard_broker_at == sign.at


async def test_a_killed_broker_shows_in_the_ledger_at_once(broker: Mosquitto, ledger: Ledger) -> None:
    async with running(broker, ledger):
        await until(lambda: hears(ledger))
        before = ledger.alive.read()
        broker.kill()
        await until(lambda: not hears(ledger))
        broker.start()
        await until(lambda: hears(ledger))
    assert before is not None
    assert before.fault is None


async def test_a_broker_that_hangs_is_seen_within_two_keepalives(broker: Mosquitto, ledger: Ledger) -> None:
    assert 2 * MqttSettings(client_id="x").keepalive + SIGN_EVERY <= 60
    assert CENTRAL_ALIVE_FOR.total_seconds() > 2 * SIGN_EVERY
    async with running(broker, ledger, keepalive=5):
        await until(lambda: hears(ledger))
        broker.hang()
        try:
            await until(lambda: not hears(ledger))
        finally:
            broker.go_on()


async def test_who_lost_changes_is_asked_for_the_list(
    broker: Mosquitto, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PATIENCE", 0.0)
    async with running(broker, ledger), connect(settings(broker, "edge-1")) as edge:
        await edge.subscribe(TOPICS.status_request("edge-1"))
        told = Status(
            gateway="edge-1", online=True, version="1", journal="j", run="0a0a0a0a", status_seq=7, at=NOW
        )
        await edge.publish(TOPICS.status("edge-1"), wrap(told, id="s", source="/gateways/edge-1", time=NOW))
        message = await anext(edge.messages())
    assert parse(message.payload, StatusRequest).data.gateway == "edge-1"
