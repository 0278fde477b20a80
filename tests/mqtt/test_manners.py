"""One send path that survives slow, picky and forgetful brokers: nothing that concerns one message ends the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config.file import load
from gateway.contract.topics import Topics
from gateway.errors import ConfigError, ContractError, PeerDeniesTopic, PeerRefusedData, PeerUnavailable
from gateway.mqtt import connection as connections
from gateway.mqtt import opening
from gateway.mqtt.connection import MqttSettings, Will, connect
from gateway.mqtt.refusals import Refusals
from gateway.roles.mqtt_settings import login_warnings, mqtt_settings
from tests.support.mosquitto import free_port
from tests.support.mqtt_broker import DENIED, UNSPECIFIED, Manners, PickyBroker, picky
from tests.support.waiting import until


def settings(broker: PickyBroker, **more: object) -> MqttSettings:
    return MqttSettings.model_validate({"port": broker.port, "client_id": "x", "timeout": 5.0, **more})


async def test_a_message_above_a_limit_is_told_and_never_sent() -> None:
    packet = (40_000).to_bytes(4, "big")
    async with picky(Manners(properties=b"\x27" + packet)) as broker:
        refusals = Refusals()
        async with connect(settings(broker), refusals=refusals) as connection:
            with pytest.raises(PeerRefusedData, match="the broker takes 40000 octets"):
                await connection.publish("t/large", bytes(40_000))
            assert not await connection.offer("t/large", bytes(40_000))
            assert await connection.offer("t/small", b"x")
            assert str(refusals.fault).startswith("t/large: 2 not taken")
            assert await connection.offer("t/large", b"x")
            assert refusals.fault is None
        assert [topic for topic, _ in broker.published] == ["t/small", "t/large"]
    async with picky() as broker, connect(settings(broker)) as connection:
        with pytest.raises(PeerRefusedData, match="the contract takes 1048576 octets"):
            await connection.publish("t", bytes((1 << 20) + 1))


async def test_a_broker_that_takes_a_message_now_and_then_keeps_its_session() -> None:
    """Twenty before ours, and each takes nearly as long as a whole receipt may."""
    manners = Manners(receipt=lambda: asyncio.sleep(0.15))
    async with picky(manners) as broker, connect(settings(broker, timeout=0.4)) as connection:
        before = [connection.send("t/data", b"x") for _ in range(20)]
        await connection.publish("t/status", b"last")
        assert all(receipt.done() for receipt in before)
        assert broker.ended == 0


async def test_a_broker_that_acknowledges_nothing_is_given_up() -> None:
    manners = Manners(receipt=asyncio.Event().wait)
    async with picky(manners) as broker, connect(settings(broker, timeout=0.2)) as connection:
        with pytest.raises(PeerUnavailable, match=r"no receipt for t in 0\.2 s"):
            await connection.publish("t", b"x")


async def test_a_refused_subscription_leaves_the_others_and_says_whose_fault_it_may_be() -> None:
    def granted(wanted: str) -> int:
        return {"denied": DENIED, "odd": UNSPECIFIED}.get(wanted, 1)

    async with picky(Manners(granted=granted)) as broker:
        refusals = Refusals()
        async with connect(settings(broker), refusals=refusals) as connection:
            assert await connection.subscribe("a", "denied", "odd", "b") == ("denied", "odd")
            told = {one.topic: one.reason for one in refusals.all()}
            assert "check its access rules" in told["denied"]
            assert "look whether the cluster is whole" in told["odd"]
            with pytest.raises(PeerDeniesTopic, match="access rules"):
                await connection.subscribe("denied")
            with pytest.raises(PeerUnavailable, match="reason 128"):
                await connection.subscribe("odd")
        async with connect(settings(broker, version="3.1.1")) as connection:
            with pytest.raises(PeerUnavailable, match="does not say why"):
                await connection.subscribe("odd")


async def test_what_was_not_granted_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ASK_AGAIN", 0.01)
    codes = {"a": DENIED}
    async with picky(Manners(granted=lambda wanted: codes.get(wanted, 1))) as broker:
        refusals = Refusals()
        async with connect(settings(broker), refusals=refusals) as connection:
            asking = asyncio.create_task(connection.keep_asking(await connection.subscribe("a", "b")))
            await until(lambda: broker.subscribed.count("a") > 3)
            codes.clear()
            await until(lambda: refusals.fault is None)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def test_a_broker_that_retains_nothing_is_told_all_the_same() -> None:
    async with picky(Manners(retains=False)) as broker:
        async with connect(settings(broker), will=Will("t/status", b"gone")) as connection:
            assert connection.version == "5"
            await connection.publish("t/status", b"here", retain=True)
        assert broker.published == [("t/status", b"here")]


async def test_the_next_broker_of_a_cluster_is_taken_when_one_is_lost() -> None:
    async with picky() as first, picky() as second:
        cluster = settings(first, brokers=(("127.0.0.1", first.port), ("127.0.0.1", second.port)))
        async with connect(cluster) as connection:
            await connection.publish("t", b"1")
        async with connect(cluster) as connection:
            await connection.publish("t", b"2")
        assert [payload for _, payload in first.published] == [b"1"]
        assert [payload for _, payload in second.published] == [b"2"], (
            "the one that we had may be the one that fails"
        )
        dead = settings(first, brokers=(("127.0.0.1", free_port()), ("127.0.0.1", first.port)))
        async with connect(dead) as connection:
            await connection.publish("t", b"3")
        nobody = settings(first, brokers=(("127.0.0.1", free_port()), ("127.0.0.1", free_port())))
        with pytest.raises(PeerUnavailable, match="; broker"):
            async with connect(nobody):
                pass


async def test_one_slow_answer_does_not_downgrade_a_broker_that_speaks_5() -> None:
    manners = Manners()
    async with picky(manners) as broker:
        async with connect(settings(broker)) as connection:
            assert connection.version == "5"
        manners.answer_connect = lambda level: asyncio.sleep(60) if level == 5 else None
        with pytest.raises(PeerUnavailable, match="does not answer"):
            async with connect(settings(broker, timeout=0.2)):
                pass
        manners.answer_connect = lambda level: None
        async with connect(settings(broker)) as connection:
            assert connection.version == "5"
    assert broker.levels == [5, 5, 5]


async def test_a_broker_that_was_mute_once_is_asked_for_5_again(monkeypatch: pytest.MonkeyPatch) -> None:
    manners = Manners(answer_connect=lambda level: asyncio.sleep(60) if level == 5 else None)
    async with picky(manners) as broker:
        for _ in range(2):
            async with connect(settings(broker, timeout=0.2)) as connection:
                assert connection.version == "3.1.1"
        assert broker.levels == [5, 4, 4], "known to be old for a while"
        monkeypatch.setattr(opening, "_old_until", {})  # the while is over
        monkeypatch.setattr(opening, "OLD_FOR", 0.0)  # and the next is none
        async with connect(settings(broker, timeout=0.2)) as connection:
            assert connection.version == "3.1.1"
        manners.answer_connect = lambda level: None
        async with connect(settings(broker)) as connection:
            assert connection.version == "5"
        assert broker.levels == [5, 4, 4, 5, 4, 5]


async def test_a_gateway_whose_name_has_a_dot_is_taken_by_a_broker_that_hangs_up_at_one() -> None:
    """NATS 2.9 does: a `.` separates its subjects."""
    topics = Topics("kesco")
    async with picky(Manners(hang_up=lambda topic: "." in topic)) as broker:
        async with connect(settings(broker)) as connection:
            for topic in (topics.readings("kanpur.s-7", "daily"), topics.status("kanpur.s-7")):
                await connection.publish(topic, b"x")
                assert topics.parse(topic).gateway == "kanpur.s-7"
        assert broker.published[0][0] == "kesco/v2/kanpur~s-7/readings/daily"
    with pytest.raises(ContractError):
        topics.parse("kesco/v2/kanpur.s-7/status")
    assert topics.of_version(1).parse("kesco/v1/kanpur.s-7/status").gateway == "kanpur.s-7"


def test_check_says_under_which_name_such_a_gateway_logs_in(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    text = '[gateway]\nname = "kanpur.s-7"\ndata = "d"\n[mqtt]\nusername = "{}"\n'
    path.write_text(text.format("kanpur.s-7"))
    assert 'username = "kanpur~s-7"' in login_warnings(load(path))[0]
    path.write_text(text.format("kanpur~s-7"))
    assert login_warnings(load(path)) == []


def test_brokers_of_a_cluster_are_named_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    text = '[gateway]\nname = "e"\ndata = "d"\n[mqtt]\nbrokers = {}\n'
    path.write_text(text.format('["mq1.internal:8883", "[::1]:1883"]'))
    assert mqtt_settings(load(path).mqtt, "e-edge").places == (("mq1.internal", 8883), ("::1", 1883))
    path.write_text(text.format('["mq1.internal"]'))
    with pytest.raises(ConfigError, match="brokers"):
        load(path)
