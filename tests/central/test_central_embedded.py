"""Central on the demonstration's own broker, which is not Mosquitto: 3.1.1 only, nothing on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import parse_signed
from gateway.contract.messages import Ack
from gateway.contract.topics import Topics
from gateway.demo.broker import embedded_broker
from gateway.mqtt.connection import MqttSettings, connect
from tests.support.central.samples import batch, capture, octets
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.waiting import PATIENCE

TOPICS = Topics("test")


async def test_stored_and_acknowledged_over_the_embedded_broker(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    async with embedded_broker() as port:
        settings = MqttSettings(port=port, client_id="central", root="test")
        options = CentralOptions(ack_interval=0.05)
        central = Central(settings=settings, ledger=ledger, signing_key=PRIVATE, options=options)
        task = asyncio.create_task(central.run())
        async with asyncio.timeout(PATIENCE):
            while not central.statistics().connected:
                await asyncio.sleep(0.02)
            async with connect(settings.model_copy(update={"client_id": "edge-1"})) as edge:
                await edge.subscribe(TOPICS.acks("edge-1", "central"))
                for number in range(50):
                    rows = batch([capture(n) for n in range(number * 10 + 1, number * 10 + 11)])
                    await edge.publish(TOPICS.readings("edge-1", "block_load"), octets(rows))
                async for message in edge.messages():
                    if parse_signed(message.payload, Ack, [PUBLIC])[0].seq == 500:
                        break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert ledger.counts().captures == 500
    assert ledger.counts().repeated == 0
    ledger.close()
