"""Batches of both versions are read into one form; what version 1 said, its re-encoded captures say too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.contract.batches import parse_batch, parse_sound
from gateway.contract.blocks import GAPS_TYPE, assemble_gaps, from_version_1
from gateway.contract.capture_body import cut_captures
from gateway.contract.messages import Batch, Capture
from gateway.contract.messages.generation import Generation
from gateway.errors import ContractError
from protocols.reading import MeterTime
from tests.support.blocks import AT, EVERY_KIND, HALF_HOUR, SENDER, batch_of, block_load, encoded
from tests.support.contract_golden import GOLDEN_1

OLD = sorted(name for name in GOLDEN_1 if name.startswith("readings"))


def parsed(payload: bytes) -> Batch:
    return parse_batch(payload).data


def test_blocks_become_captures_that_say_all_that_the_block_says() -> None:
    odd = block_load(values=EVERY_KIND, raw=b"\x01", meter_time=MeterTime(wall="24/11", trusted=False))
    batch = parsed(batch_of(encoded(block_load(), block_load(1), epoch=4), encoded(odd, meter="GEN:2")))
    assert (batch.journal, batch.generation, batch.gateway) == ("j-1", Generation(3, "9f2c01ab"), "edge-1")
    one, two, other = batch.captures
    assert (one.seq, two.seq, other.seq) == (17, 18, 19)
    assert (two.meter, two.profile, two.at, two.start) == ("GEN:1", "block_load", AT + HALF_HOUR, AT)
    assert (two.epoch, two.directory_generation, two.directory_version) == (4, Generation(3, "9f2c01ab"), 7)
    assert [(v.q, v.name, v.unit, v.value) for v in two.values] == [
        ("1-0:1.29.0*255", "interval_energy_import", "Wh", "413"),
        ("1-0:12.27.0*255", "average_voltage", "V", "231.40"),
    ]
    assert two.attributions[0].account_number == "0012345678"
    assert two.meter_time is not None
    assert (two.meter_time.deviation, two.meter_time.trusted) == (-330, True)
    assert [v.model_dump(exclude_none=True, exclude={"q", "name", "unit"}) for v in other.values] == [
        {"value": "-0.412"},
        {"missing": "not_supported"},
        {"text": '"क"\n'},
        {"bits": "0101"},
        {"instant": AT},
    ]
    assert other.meter_time is not None
    assert (other.raw, other.meter_time.wall, other.meter_time.trusted) == ("AQ==", "24/11", False)
    assert other.checksum is not None


@pytest.mark.parametrize("name", OLD)
def test_a_capture_says_in_a_block_what_it_said_in_version_1(name: str) -> None:
    payload = GOLDEN_1[name]
    old = parsed(payload)
    blocks = [from_version_1(body) for _, body, _ in cut_captures(payload)]
    new = parsed(batch_of(*blocks, first=old.first_seq))

    def plain(capture: Capture) -> Capture:
        return capture.model_copy(update={"checksum": None})

    assert [plain(one) for one in new.captures] == list(old.captures)


def test_one_wrong_capture_refuses_the_batch_of_a_strict_reader() -> None:
    with pytest.raises(ContractError, match="checksum"):
        parsed(batch_of(encoded(block_load(), block_load(1))).replace(b'"413"', b'"913"'))


def test_a_reader_of_what_is_sound_gets_the_others_by_their_numbers() -> None:
    payload = batch_of(encoded(block_load(), block_load(1), block_load(2))).replace(b'"413"', b'"913"')
    batch, refused = parse_sound(payload)
    assert [capture.seq for capture in batch.data.captures] == [17, 19]
    assert [(one.seq, one.reason, one.meter) for one in refused] == [(18, "checksum", "GEN:1")]


GAP = {
    "gap_id": "GEN:1/block_load/a",
    "meter": "GEN:1",
    "profile": "block_load",
    "after": "2026-11-23T12:00:00Z",
    "until": "2026-11-23T13:30:00Z",
    "state": "open",
    "reason": "not_in_meter",
    "noticed_at": "2026-11-23T13:30:00Z",
}


def gaps(**changed: Any) -> bytes:
    bodies = [GAP, {**GAP, "gap_id": "b", **changed}]
    entries = [(seq, json.dumps(body).encode()) for seq, body in zip((3, 5), bodies, strict=True)]
    return assemble_gaps(entries, SENDER, time="2026-11-23T18:30:00Z")


def test_gaps_are_read() -> None:
    read = parse_batch(gaps(state="unfillable", reason="a_new_reason"))
    assert (read.type, read.source) == (GAPS_TYPE, "/gateways/edge-1")
    assert [(gap.seq, gap.state, gap.reason) for gap in read.data.gaps] == [
        (3, "open", "not_in_meter"),
        (5, "unfillable", "a_new_reason"),
    ]


@pytest.mark.parametrize("changed", [{"state": "closed"}, {"reason": None}, {"seq": 3}, {"after": "today"}])
def test_a_wrong_gap_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        parsed(gaps(**changed))
