"""Captures of version 1 become blocks of version 2 with nothing lost: what an older journal still holds."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.contract.blocks import from_version_1
from gateway.contract.messages import rfc3339
from gateway.errors import ContractError
from mapping.directory import Unattributed
from protocols.reading import MeterTime, Quality, ReadingSet
from tests.support.blocks import AT, EVERY_KIND, HOLDER, block_load, encoded, strangers_checksum
from tests.support.version_1 import encode_capture, with_value_rev
from tests.support.version_1_values import values_json


def version_1(reading: ReadingSet, **changed: Any) -> bytes:
    at = rfc3339(reading.at)
    members: dict[str, Any] = {
        "capture_id": f"GEN:1/block_load/{at}/{reading.occurrence}",
        "meter": "GEN:1",
        "profile": "block_load",
        "at": at,
        "start": reading.start,
        "meter_time": reading.meter_time,
        "received_at": reading.received_at,
        "quality": reading.quality.value,
        "values": values_json(reading.values),
        "accounts": (HOLDER,),
        "reason": None,
        "directory_version": 7,
        "raw": reading.raw,
    }
    return encode_capture(**{**members, **changed})


@pytest.mark.parametrize(
    "reading",
    [
        block_load(),
        block_load(values=EVERY_KIND, occurrence=3, quality=Quality.SUSPECT, raw=b"\x01"),
        block_load(meter_time=None),
        block_load(meter_time=MeterTime(wall="24/11", trusted=False)),
        block_load(start=AT - timedelta(minutes=30, microseconds=1)),
    ],
)
def test_an_old_capture_has_the_octets_that_a_new_one_would_have(reading: ReadingSet) -> None:
    made = from_version_1(version_1(reading))
    assert made.rows == encoded(reading).rows
    block = json.loads(made.body())
    assert block == json.loads(encoded(reading, directory="0.00000000/7").body())
    assert block["captures"][0]["checksum"] == strangers_checksum(block, block["captures"][0])


def test_revision_identity_and_reason_stay() -> None:
    body = with_value_rev(version_1(block_load(), capture_id="GEN:1/events/other/17"), 3)
    row = json.loads(from_version_1(body).body())["captures"][0]
    assert (row["capture_id"], row["value_rev"]) == ("GEN:1/events/other/17", 3)
    untrusted = version_1(block_load(), accounts=(), reason=Unattributed.UNTRUSTED_TIME)
    block = json.loads(from_version_1(untrusted).body())
    assert (block["reason"], "holders" in block) == ("untrusted_time", False)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", version_1(block_load())[:-9]])
def test_what_is_no_capture_is_refused(body: bytes) -> None:
    with pytest.raises(ContractError):
        from_version_1(body)
