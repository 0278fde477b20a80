"""Receipts: what a broker may say in a PUBACK, read in whichever way, and what messages cost on their way out."""

from __future__ import annotations

import asyncio
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes

from gateway.errors import PeerDeniesTopic, PeerRefusedData, PeerUnavailable
from gateway.mqtt.client import PackedProperties, make_properties
from gateway.mqtt.connection import MqttSettings, connect
from gateway.mqtt.receipts import read_receipts_fast
from tests.support.mqtt_broker import Manners, picky

WORDS = b"\x00\x0b\x1f\x00\x08no room!"
"""A reason string, in the properties of a PUBACK."""


@pytest.mark.parametrize("said", [b"", b"\x00", b"\x10", b"\x10\x00", b"\x00\x0b\x1f\x00\x08thank u!"])
async def test_every_spelling_of_taken_is_a_receipt(said: bytes) -> None:
    async with picky(Manners(receipt=lambda: said)) as broker:
        async with connect(MqttSettings(port=broker.port, client_id="x", version="5")) as connection:
            await asyncio.gather(*(connection.send("t", b"x") for _ in range(30)))
            assert connection.refusals.total == 0


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"\x87", PeerDeniesTopic),
        (b"\x87\x00", PeerDeniesTopic),
        (b"\x99", PeerRefusedData),
        (b"\x97" + WORDS[1:], PeerUnavailable),
    ],
)
async def test_every_spelling_of_a_refusal_is_one(said: bytes, error: type[Exception]) -> None:
    async with picky(Manners(receipt=lambda: said)) as broker:
        async with connect(MqttSettings(port=broker.port, client_id="x", version="5")) as connection:
            with pytest.raises(error):
                await connection.publish("t", b"x")


async def test_receipts_of_the_older_protocol() -> None:
    async with picky() as broker:
        async with connect(MqttSettings(port=broker.port, client_id="x", version="3.1.1")) as connection:
            await asyncio.gather(*(connection.send("t", b"x") for _ in range(30)))
        assert len(broker.published) == 30


async def test_what_is_sent_at_once_arrives_whole_and_in_order() -> None:
    async with picky() as broker:
        async with connect(MqttSettings(port=broker.port, client_id="x", window=1000)) as connection:
            sent = [(f"t/{n}", bytes(n * 37 % 5_000)) for n in range(300)]
            await asyncio.gather(*(connection.send(topic, payload) for topic, payload in sent))
        assert broker.published == sent


def test_properties_that_are_packed_once_are_those_of_paho() -> None:
    made: Any = make_properties(PacketTypes.PUBLISH, ContentType="text/plain", PayloadFormatIndicator=1)
    assert PackedProperties(made).pack() == made.pack()


def test_a_client_reads_usual_receipts_without_making_objects_of_them() -> None:
    """Paho is asked for what is unusual only: this fails when another paho names its handler otherwise."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    usual = client._handle_pubackcomp
    read_receipts_fast(client)
    assert client._handle_pubackcomp is not usual
