"""One gateway that is closed to central, or sends what nobody can answer, delays no other and ends no connection."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.contract.topics import Topics
from gateway.mqtt.connection import MqttSettings, connect
from tests.support.central.samples import batch, capture, octets
from tests.support.keys import PRIVATE
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

TOPICS = Topics("test")


def settings(broker: Mosquitto, user: str) -> MqttSettings:
    return MqttSettings(port=broker.port, client_id=user, username=user, root="test", session_expiry=3600)


@pytest.mark.mosquitto
async def test_a_gateway_that_central_may_not_answer_delays_no_other(tmp_path: Path, ledger: Ledger) -> None:
    rules = tmp_path / "acl"
    rules.write_text(
        "pattern readwrite test/v2/%u/#\nuser central\ntopic read test/v2/#\ntopic write test/v2/edge-2/#\n"
    )
    rules.chmod(0o600)
    with Mosquitto(tmp_path / "m", extra=(f"acl_file {rules}",)) as broker:
        options = CentralOptions(ack_interval=0.05)
        central = Central(
            settings=settings(broker, "central"), ledger=ledger, signing_key=PRIVATE, options=options
        )
        serving = asyncio.create_task(central.run())
        await until(lambda: central.statistics().connected, "central to connect")
        async with connect(settings(broker, "edge-1")) as one, connect(settings(broker, "edge-2")) as other:
            await other.subscribe(TOPICS.acks("edge-2", "central"))
            for connection, gateway, meter in ((one, "edge-1", "GEN:1"), (other, "edge-2", "GEN:2")):
                sent = batch([capture(1, meter=meter)]).model_copy(
                    update={"gateway": gateway, "journal": f"journal-{gateway}"}
                )
                await connection.publish(TOPICS.readings(gateway, "block_load"), octets(sent))
            message = await anext(other.messages())
            assert message.topic == TOPICS.acks("edge-2", "central")
            await until(lambda: central.statistics().refused > 0, "the refusal")
            told = central.statistics()
        assert told.connected
        assert TOPICS.acks("edge-1", "central") in str(told.fault)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert ledger.counts().captures == 2
