"""Pushes that gurux-dlms writes, in a process of its own, are taken: its framings, its ciphering, its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from protocols.dlms.companion import companion
from protocols.dlms.data import cosem_time
from protocols.dlms.push.body import PushedValues
from protocols.dlms.push.framing import PushStream
from protocols.dlms.push.receiver import PushReceiver
from protocols.dlms.push.senders import PLAIN
from protocols.dlms.push.values import value_set
from protocols.reading import Number, Text
from tests.support.dlms.pushes import KEYS, METER, Memory, Ring, apdus_of
from tests.support.interop.peers import PeerProcess
from tests.support.interop.table import PUSHES, PushCase

TITLE = b"GRX\x00\x00\x00\x00\x07"
SERIAL = "1234"


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_push.py")
    yield process
    process.close()


@pytest.mark.parametrize("case", PUSHES, ids=str)
async def test_a_push_of_a_foreign_client_is_read_with_its_values_and_scales(
    peer: PeerProcess, case: PushCase
) -> None:
    values = [5, 4_294_967_295]
    said = await peer.ask(
        {
            "framing": case.framing,
            "ciphered": case.ciphered,
            "blocks": case.blocks,
            "serial": SERIAL,
            "values": values,
            "title": TITLE.hex(),
            "encryption_key": KEYS.encryption.hex(),
            "authentication_key": KEYS.authentication.hex(),
            "counter": 7,
        }
    )
    assert "error" not in said, said
    known = replace(
        METER,
        title=TITLE,
        devices=frozenset({SERIAL}),
        grammar=companion("spodes").push,
        required=METER.required if case.ciphered else PLAIN,
    )
    taker, stream = PushReceiver(Ring(known), Memory()), PushStream()
    sent = b"".join(map(bytes.fromhex, said["frames"]))
    assert (len(said["frames"]) > 1) == case.blocks
    (apdu,) = apdus_of(sent, stream)
    found = taker.receive(apdu)
    assert found is not None, taker.statistics()
    assert (found.counter, found.control) == ((7, 0x30) if case.ciphered else (None, PLAIN))
    assert isinstance(found.payload, PushedValues)
    now = datetime(2026, 11, 30, tzinfo=UTC)
    one = value_set(found.body, found.payload, zone=cosem_time.INDIA, received_at=now)
    assert one.value("0-0:96.1.0*255") == Text(SERIAL)
    for number, value in enumerate(values, 1):
        assert one.value(f"1-0:1.8.{number}*255") == Number(value, 1, "Wh")
    assert one.meter_time is not None
    assert one.meter_time.wall == "2026-11-30 10:00:00"
    assert bool(stream.take_answers()) == case.blocks
