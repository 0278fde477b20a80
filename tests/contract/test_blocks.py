"""Blocks of captures as the edge writes them: canonical, small, and what a stranger can compute again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import blake2b

import pytest

from gateway.contract.batches import parse_batch
from gateway.contract.blocks import (
    assemble_blocks,
    assemble_gaps,
    block_prefix,
    canonical,
    holders_of,
    layout_of,
    numbered,
    revised,
)
from gateway.contract.blocks.hashes import is_repeat
from gateway.contract.blocks.wire import BlockClock
from mapping.directory import Unattributed
from protocols.reading import MeterTime, Number, ProfileName, Quality, ReadingSet
from tests.support.blocks import (
    AT,
    EIGHT,
    ENERGY,
    EVERY_KIND,
    HALF_HOUR,
    HOLDER,
    SENDER,
    batch_of,
    block_load,
    encoded,
    numbered_block,
    strangers_checksum,
)


@pytest.mark.parametrize(
    "reading",
    [
        block_load(),
        block_load(meter_time=None),
        block_load(values=EVERY_KIND),
        block_load(occurrence=3, quality=Quality.SUSPECT, raw=b"\x01\x02"),
        block_load(quality=Quality.SUSPECT, suspect=(EVERY_KIND[0][0],)),
        block_load(meter_time=MeterTime(wall="24/11 \x07", deviation=None, status=None, trusted=False)),
        block_load(start=AT - timedelta(minutes=30, microseconds=1)),
        block_load(received_at=AT + timedelta(microseconds=7)),
    ],
)
def test_a_row_is_canonical_and_a_stranger_computes_its_checksum(reading: ReadingSet) -> None:
    made = encoded(reading)
    block = json.loads(made.body())
    (row,) = block["captures"]
    assert row["checksum"] == strangers_checksum(block, row)
    assert (
        made.body()
        == canonical({**block, "captures": "?"})[:-1].replace(b'"captures":"?",', b"")
        + b',"captures":['
        + made.rows[0].body
        + b"]}"
    )
    assert "null" not in made.body().decode()


def test_unusual_members_stand_and_usual_ones_are_left_out() -> None:
    row = json.loads(encoded(block_load(occurrence=3, quality=Quality.SUSPECT, raw=b"\x01")).rows[0].body)
    assert (row["occurrence"], row["quality"], row["raw"]) == (3, "2.5.258", "AQ==")
    assert (row["wall"], row["deviation"], row["status"]) == ("2026-11-24T00:00:00", -330, 0)
    usual = json.loads(encoded(block_load(meter_time=None)).rows[0].body)
    assert set(usual) == {"at", "values", "checksum"}


def test_the_places_of_values_that_are_not_believed_stand_beside_them() -> None:
    doubted = (EVERY_KIND[3][0], EVERY_KIND[0][0])
    made = encoded(block_load(values=EVERY_KIND, quality=Quality.SUSPECT, suspect=doubted))
    row = json.loads(made.rows[0].body)
    assert (row["quality"], row["suspect"]) == ("2.5.258", [0, 3])
    (capture,) = parse_batch(batch_of(made)).data.captures
    assert [capture.is_doubted(place) for place in range(5)] == [True, False, False, True, False]
    whole = parse_batch(
        batch_of(encoded(block_load(values=EVERY_KIND, quality=Quality.SUSPECT)))
    ).data.captures[0]
    assert all(whole.is_doubted(place) for place in range(5)), "who does not say which doubts all"
    other = parse_batch(
        batch_of(encoded(block_load(values=EVERY_KIND, quality=Quality.CLOCK_ERROR)))
    ).data.captures[0]
    assert not any(other.is_doubted(place) for place in range(5)), "a doubt of the time is none of the values"


def test_values_are_decimals_or_objects_of_one_member() -> None:
    row = json.loads(encoded(block_load(values=EVERY_KIND)).rows[0].body)
    assert row["values"] == [
        "-0.412",
        {"missing": "not_supported"},
        {"text": '"क"\n'},
        {"bits": "0101"},
        {"instant": "2026-11-23T18:30:00Z"},
    ]


def test_the_head_of_a_block_says_what_its_captures_share() -> None:
    head = json.loads(encoded(block_load()).body([]))
    holders = holders_of((HOLDER,))
    assert holders is not None
    assert head == {
        "meter": "GEN:1",
        "layout": layout_of(block_load()).keyed.key,
        "received_at": "2026-11-24T18:30:00Z",
        "interval": 1800,
        "holders": holders.key,
        "directory": "3.9f2c01ab/7",
        "captures": [],
    }
    other = json.loads(encoded(block_load(), holders=None, reason=Unattributed.NO_ACCOUNT, epoch=4).body([]))
    assert (other["reason"], other["epoch"], "holders" in other) == ("no_account", 4, False)


def test_a_layout_follows_from_the_row_alone_and_is_one_object() -> None:
    whole, lacking = block_load(), block_load(values=((ENERGY, Number(1, 0, "Wh")), EVERY_KIND[1]))
    assert layout_of(block_load(1)) is layout_of(whole) is layout_of(block_load(2))
    assert layout_of(whole).fits(block_load(1))
    assert not layout_of(whole).fits(lacking)
    assert layout_of(lacking) is not layout_of(whole)
    other_unit = block_load(values=((ENERGY, Number(1, 0, "kWh")), whole.values[1]))
    assert layout_of(other_unit).keyed.key != layout_of(whole).keyed.key
    assert not layout_of(whole).fits(other_unit)


def test_keys_are_those_of_the_canonical_text() -> None:
    layout = layout_of(block_load()).keyed
    assert layout.key == blake2b(layout.text, digest_size=8).hexdigest()
    assert layout.text == canonical(json.loads(layout.text))
    assert json.loads(layout.text)["columns"][1] == {
        "q": "1-0:12.27.0*255",
        "name": "average_voltage",
        "unit": "V",
    }


def test_a_hash_of_values_tells_repeats_from_revisions() -> None:
    made = (
        encoded(block_load()),
        encoded(block_load(received_at=AT), directory="3.9f2c01ab/8"),
        encoded(block_load(1, at=AT, start=AT - HALF_HOUR)),
        encoded(block_load(), holders=None, reason=Unattributed.UNTRUSTED_TIME),
        encoded(block_load(), holders=None, reason=Unattributed.UNTRUSTED_TIME, provisional=True),
    )
    trusted, again, other, untrusted, provisional = (one.rows[0].value_hash for one in made)
    assert is_repeat(trusted, again)
    assert not is_repeat(trusted, other)
    assert is_repeat(untrusted, trusted)  # a meter's wrong clock is not put right by reading again
    assert is_repeat(trusted, provisional)  # what was settled stays settled
    assert not is_repeat(provisional, trusted)  # and what was not is settled by a gateway that knows the time


def test_what_speaks_of_an_untrusted_time_goes_with_the_block() -> None:
    said = '{"steady":"9f2c01ab/12345.678","drift":"19800.200","held":3600}'
    block = json.loads(encoded(block_load(), reason=Unattributed.UNTRUSTED_TIME, clock=said).body())
    assert block["clock"] == json.loads(said)
    assert BlockClock.model_validate(block["clock"]).held == 3600


def test_rows_are_taken_revised_and_numbered_by_splicing() -> None:
    made = encoded(block_load(), block_load(1), block_load(2))
    body = numbered(made.body([made.rows[0].body, revised(made.rows[2].body, 2)]), 17)
    block = json.loads(body)
    assert block["seq"] == 17
    assert [row.get("value_rev", 1) for row in block["captures"]] == [1, 2]
    assert block["captures"][1]["checksum"] == strangers_checksum(block, block["captures"][1])


def test_a_batch_is_spliced_with_each_table_once() -> None:
    first, other = encoded(block_load(), block_load(1)), encoded(block_load(meter_time=None), meter="GEN:2")
    nobody = encoded(block_load(), holders=None, reason=Unattributed.NO_ACCOUNT, meter="GEN:3")
    blocks = [numbered_block(seq, one) for seq, one in ((17, first), (19, other), (25, nobody))]
    payload = assemble_blocks(blocks, SENDER, type="t.v2", time="2026-11-23T18:30:00Z")
    message = json.loads(payload)
    assert message["id"] == "j-1/17-25"
    assert (message["source"], message["dataschema"]) == ("/gateways/edge-1", "v2/batch.json")
    data = message["data"]
    assert (data["journal"], data["generation"], data["gateway"]) == ("j-1", "3.9f2c01ab", "edge-1")
    assert (data["first_seq"], data["last_seq"]) == (17, 25)
    assert [len(data["layouts"]), len(data["holders"])] == [1, 1]
    assert [block["seq"] for block in data["blocks"]] == [17, 19, 25]
    layout = layout_of(block_load()).keyed
    assert data["layouts"] == {layout.key: json.loads(layout.text)}
    alone = json.loads(assemble_blocks(blocks[2:], SENDER, type="t.v2", time="2026-11-23T18:30:00Z"))
    assert "holders" not in alone["data"]


def test_gaps_are_spliced_too() -> None:
    payload = assemble_gaps(
        [(3, b'{"gap_id":"a"}'), (4, b'{"gap_id":"b"}')], SENDER, time="2026-01-01T00:00:00Z"
    )
    message = json.loads(payload)
    assert message["dataschema"] == "v2/gaps.json"
    assert message["data"]["gaps"] == [{"seq": 3, "gap_id": "a"}, {"seq": 4, "gap_id": "b"}]


@pytest.mark.parametrize("rows_of_a_poll", [4, 20, 48])
def test_a_set_of_eight_values_takes_at_most_400_octets_of_a_message(rows_of_a_poll: int) -> None:
    """All counted: envelope, tables, and another account for each meter; 200 sets in a message."""
    rows = [block_load(number, values=EIGHT) for number in range(rows_of_a_poll)]
    blocks = []
    for number in range(200 // len(rows)):
        holders = holders_of((replace(HOLDER, account_id=f"acc-{number}"),))
        made = encoded(*rows, meter=f"GEN:{number:08}", holders=holders)
        blocks.append(numbered_block(1 + number * len(rows), made))
    payload = assemble_blocks(blocks, SENDER, type="t.v2", time="2026-11-23T18:30:00Z")
    assert len(payload) / (len(blocks) * len(rows)) <= 400


def test_a_live_set_alone_in_its_block_takes_at_most_400_octets_of_the_journal() -> None:
    live = ReadingSet(profile=ProfileName.INSTANTANEOUS, at=AT, received_at=AT, values=EIGHT)
    assert len(encoded(live).body()) <= 400


def test_the_beginning_of_what_is_checked_is_canonical_for_every_meter() -> None:
    for meter in ("GEN:1", 'a"b', "é", "क"):
        made = encoded(block_load(), meter=meter)
        block = json.loads(made.body())
        prefix = block_prefix(block["layout"], meter, block["received_at"], block["interval"])
        assert prefix == canonical([block["layout"], meter, block["received_at"], 1800, 0]).removesuffix(
            b"0]"
        )
        assert block["captures"][0]["checksum"] == strangers_checksum(block, block["captures"][0])
