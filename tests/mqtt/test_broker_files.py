"""The shipped access rules on a real broker: each login says and hears its own, field work too, a stranger nothing."""

from __future__ import annotations

import pytest

from gateway.contract.topics import TopicKind, Topics
from gateway.errors import PeerError
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from tests.support.mosquitto import Mosquitto
from tests.support.paths import DEPLOY

TOPICS = Topics("kanpur")
EDGE_SAYS = (
    TopicKind.EVENTS,
    TopicKind.GAPS,
    TopicKind.STATUS,
    TopicKind.STATUS_CHANGES,
    TopicKind.DIRECTORY_REQUEST,
    TopicKind.ORDER_RESULTS,
    TopicKind.TIME_REQUEST,
    TopicKind.COUNTERS,
)
EDGE_HEARS = (TopicKind.DIRECTORY, TopicKind.ORDERS, TopicKind.STATUS_REQUEST, TopicKind.TIME)


def settings(broker: Mosquitto, user: str) -> MqttSettings:
    return MqttSettings(port=broker.port, client_id=user, username=user, root="kanpur", timeout=5.0)


async def takes(connection: MqttConnection, topic: str) -> bool:
    try:
        await connection.publish(topic, b"{}")
    except PeerError:
        return False
    return True


async def hears(connection: MqttConnection, topic: str) -> bool:
    try:
        await connection.subscribe(topic)
    except PeerError:
        return False
    return True


def said_by(gateway: str) -> list[str]:
    """Every topic on which a gateway speaks."""
    return [TOPICS.readings(gateway, "daily"), *(TOPICS.of(gateway, kind) for kind in EDGE_SAYS)]


@pytest.mark.parametrize("gateway", ["edge-1", "edge-1-field"])
async def test_an_edge_and_its_field_work_speak_for_themselves_only(broker: Mosquitto, gateway: str) -> None:
    async with connect(settings(broker, gateway)) as connection:
        assert [topic for topic in said_by(gateway) if not await takes(connection, topic)] == []
        assert [topic for topic in said_by("edge-2") if await takes(connection, topic)] == []
        own = [TOPICS.of(gateway, kind) for kind in EDGE_HEARS] + [*TOPICS.from_consumers(gateway)]
        assert [topic for topic in own if not await hears(connection, topic)] == []
        for topic in (TOPICS.directory(gateway), TOPICS.orders(gateway), TOPICS.acks(gateway, "central")):
            assert not await takes(connection, topic), "only central says this"


async def test_a_consumer_acknowledges_and_asks_in_its_own_name_only(broker: Mosquitto) -> None:
    async with connect(settings(broker, "billing")) as billing:
        for build in (TOPICS.acks, TOPICS.replay):
            assert await takes(billing, build("edge-1", "billing"))
            assert not await takes(billing, build("edge-1", "central"))
        assert await takes(billing, TOPICS.balance("acc-1"))
        assert [topic for topic in said_by("edge-1") if await takes(billing, topic)] == []
        assert await hears(billing, TOPICS.filter(TopicKind.READINGS))


async def test_who_is_not_named_says_nothing(broker: Mosquitto) -> None:
    async with connect(settings(broker, "stranger")) as stranger:
        assert [topic for topic in said_by("edge-1") if await takes(stranger, topic)] == []
        assert not await takes(stranger, TOPICS.acks("edge-1", "stranger"))


def test_the_store_is_never_rewritten_at_each_message() -> None:
    shipped = (DEPLOY / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    assert "autosave_on_changes false" in shipped
    assert "autosave_interval 30" in shipped
