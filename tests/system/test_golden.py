"""Golden transcripts: recorded wire bytes in, the exact MQTT payload out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.golden_record import KINDS, replayed
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


@pytest.mark.parametrize("kind", KINDS)
async def test_wire_bytes_in_payload_out(tmp_path: Path, kind: str) -> None:
    broker = Mosquitto(tmp_path / "broker").start()
    try:
        recorded, published, faults = await replayed(kind, tmp_path / "edge", broker)
    finally:
        broker.stop()
    assert faults == []
    assert published == recorded["published"]
    assert published[0]["data"]["blocks"][0]["meter"] == recorded["meter"]
