"""The MQTT wrapper against a real Mosquitto and an in-process amqtt: versions, logins, TLS, receipts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest
from amqtt.broker import Broker

from gateway.backoff import Backoff
from gateway.errors import PeerRefusedData, PeerRefusedLogin, PeerUnavailable
from gateway.mqtt.connection import MqttSettings, TlsSettings, Will, connect
from tests.support.mosquitto import Mosquitto, free_port, make_certificates
from tests.support.waiting import PATIENCE


def settings(port: int, client_id: str = "test", **more: object) -> MqttSettings:
    return MqttSettings.model_validate(
        {"port": port, "client_id": client_id, "username": "central", "timeout": 5.0, **more}
    )


@pytest.fixture
async def amqtt_port() -> AsyncIterator[int]:
    port = free_port()
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    yield port
    await broker.shutdown()


async def exchange(use: MqttSettings, **how: object) -> str:
    async with connect(use, **how) as connection:  # type: ignore[arg-type]
        await connection.subscribe("kesco/v2/t/#")
        await connection.publish("kesco/v2/t/x", b"hello")
        async for message in connection.messages():
            assert (message.topic, message.payload) == ("kesco/v2/t/x", b"hello")
            break
        return connection.version


async def test_version_5_is_spoken_where_the_broker_does(broker: Mosquitto) -> None:
    assert await exchange(settings(broker.port)) == "5"
    assert await exchange(settings(broker.port, version="3.1.1")) == "3.1.1"


async def test_falls_back_to_3_1_1_against_amqtt(amqtt_port: int) -> None:
    assert await exchange(settings(amqtt_port)) == "3.1.1"


@pytest.mark.mosquitto
async def test_wrong_password_says_what_to_check(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "m", passwords={"central": "right"}) as broker:
        assert await exchange(settings(broker.port, username="central"), password=b"right") == "5"
        for version in ("auto", "3.1.1"):
            with pytest.raises(PeerRefusedLogin, match="login of 'central': check username and password_ref"):
                await exchange(
                    settings(broker.port, username="central", version=version), password=b"wrong-secret"
                )


@pytest.mark.mosquitto
async def test_tls_with_password_and_with_client_certificate(tmp_path: Path) -> None:
    certs = make_certificates(tmp_path / "certs", client_name="central")
    with Mosquitto(tmp_path / "a", passwords={"central": "right"}, certificates=certs) as broker:
        use = settings(broker.port, username="central", tls=TlsSettings(ca_file=certs.ca))
        assert await exchange(use, password=b"right") == "5"
        with pytest.raises(PeerUnavailable, match="certificate verify failed"):
            await exchange(settings(broker.port, username="central", tls=TlsSettings()), password=b"right")
    with Mosquitto(tmp_path / "b", certificates=certs, require_client_certificate=True) as broker:
        ours = TlsSettings(ca_file=certs.ca, cert_file=certs.client_cert, key_file=certs.client_key)
        assert await exchange(settings(broker.port, tls=ours)) == "5"
        with pytest.raises(PeerUnavailable):
            await exchange(settings(broker.port, tls=TlsSettings(ca_file=certs.ca)))


async def test_nobody_there_and_silence_are_unavailable() -> None:
    with pytest.raises(PeerUnavailable):
        await exchange(settings(free_port()))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(PeerUnavailable):
            await exchange(settings(silent.getsockname()[1], timeout=0.3))


async def test_receipts_fail_when_the_broker_dies(broker: Mosquitto) -> None:
    async with connect(settings(broker.port)) as connection:
        await connection.publish("kesco/v2/t/1", b"x")
        broker.kill()
        with pytest.raises(PeerUnavailable):
            async for _ in connection.messages():
                pass
        with pytest.raises(PeerUnavailable):
            await connection.send("kesco/v2/t/2", b"x")


async def test_a_publish_that_is_not_allowed_is_no_success(broker: Mosquitto) -> None:
    async with connect(settings(broker.port, username="edge-1")) as connection:
        await connection.publish("kesco/v2/edge-1/gaps", b"x")
        with pytest.raises(PeerRefusedLogin, match="access rules"):
            await connection.publish("kesco/v2/edge-2/gaps", b"x")


async def test_a_bad_topic_is_refused_data(broker: Mosquitto) -> None:
    async with connect(settings(broker.port)) as connection:
        with pytest.raises(PeerRefusedData):
            await connection.send("kesco/v2/t/#", b"x")


async def test_the_will_is_published_when_we_vanish(broker: Mosquitto) -> None:
    async with connect(settings(broker.port, "watcher")) as watcher:
        await watcher.subscribe("kesco/v2/t/#")
        lost = connect(settings(broker.port, "lost"), will=Will("kesco/v2/t/will", b"gone"))
        async with lost as connection:
            connection._client.abandon()
            async for message in watcher.messages():
                assert (message.topic, message.payload) == ("kesco/v2/t/will", b"gone")
                break


async def test_manual_ack_holds_messages_until_they_are_stored(broker: Mosquitto) -> None:
    lasting = settings(broker.port, "central", session_expiry=3600)
    async with connect(lasting, manual_ack=True) as connection:
        await connection.subscribe("kesco/v2/t/#")
        for i in range(3):
            await connection.publish(f"kesco/v2/t/{i}", b"x")
        async for message in connection.messages():
            connection.ack(message)
            break
    async with connect(lasting, manual_ack=True) as connection:
        again = []
        async for message in connection.messages():
            again.append(message.topic)
            if len(again) == 2:
                break
    assert again == ["kesco/v2/t/1", "kesco/v2/t/2"]


async def test_a_cancelled_attempt_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        attempt = asyncio.create_task(exchange(settings(silent.getsockname()[1], timeout=0.5)))
        peer, _ = await asyncio.to_thread(silent.accept)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        peer.settimeout(PATIENCE)
        with peer:
            while await asyncio.to_thread(peer.recv, 4096):
                pass


@pytest.mark.parametrize("opened", [False, True])
def test_a_program_that_ends_while_it_connects_leaves_nothing_behind(
    opened: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A one-shot command ends before, or just after, the thread has opened the socket."""
    connect_in_thread = aiomqtt.Client._client_connect
    reached, unraisable = threading.Event(), list[object]()

    def slowly(client: aiomqtt.Client) -> None:
        if opened:
            connect_in_thread(client)
        reached.set()
        time.sleep(0.2)
        if not opened:
            connect_in_thread(client)

    async def program(port: int) -> None:
        attempt = asyncio.create_task(exchange(settings(port)))
        await asyncio.to_thread(reached.wait)
        attempt.cancel()

    monkeypatch.setattr(aiomqtt.Client, "_client_connect", slowly)
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(program(silent.getsockname()[1]))
        gc.collect()
        peer, _ = silent.accept()
        peer.settimeout(5)
        with peer:
            while peer.recv(4096):
                pass
    assert not unraisable
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("step", ["__aenter__", "subscribe", "__aexit__"])
async def test_a_cancellation_is_not_lost_in_the_library(
    step: str, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asyncio.wait_for` of Python 3.11 swallows one that comes together with the answer."""
    reached, works = asyncio.Event(), getattr(aiomqtt.Client, step)

    async def swallow(*arguments: object) -> object:
        reached.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)
        return await works(*arguments)

    monkeypatch.setattr(aiomqtt.Client, step, swallow)
    program = asyncio.create_task(exchange(settings(broker.port)))
    await reached.wait()
    program.cancel()
    done, _ = await asyncio.wait([program], timeout=10)
    assert done
    assert program.cancelled()


def test_backoff_grows_with_jitter_and_begins_anew() -> None:
    backoff = Backoff(first=1.0, most=8.0)
    delays = [backoff.next() for _ in range(6)]
    for delay, whole in zip(delays, (1, 2, 4, 8, 8, 8), strict=True):
        assert whole / 2 <= delay <= whole
    backoff.reset()
    assert backoff.next() <= 1.0
    assert backoff.next(at_least=backoff.most) >= 4.0
