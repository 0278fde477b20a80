"""Batches of blocks from hostile senders: read as the models say, capture by capture; nothing but ContractError."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.blocks import BlocksRead, RefusedRow, read_blocks, tables
from gateway.contract.messages.generation import Generation
from gateway.errors import ContractError
from mapping.directory import Unattributed
from protocols.reading import MeterTime, ProfileName, Quality
from tests.support.block_reference import accepts
from tests.support.blocks import (
    AT,
    EVERY_KIND,
    HALF_HOUR,
    batch_of,
    block_load,
    canonical_key,
    encoded,
    strangers_checksum,
)

LIMIT = 1 << 20
ODD = block_load(
    3,
    values=EVERY_KIND,
    occurrence=3,
    quality=Quality.SUSPECT,
    suspect=(EVERY_KIND[1][0],),
    raw=b"\x01\x02",
    start=AT - timedelta(microseconds=1),
    meter_time=MeterTime(wall="24/11", trusted=False),
)
WHOLE = batch_of(
    encoded(block_load(), block_load(1), epoch=4),
    encoded(ODD, holders=None, reason=Unattributed.NO_ACCOUNT, meter="GEN:2"),
)
DOUBTED = batch_of(
    encoded(
        block_load(),
        holders=None,
        reason=Unattributed.UNTRUSTED_TIME,
        clock='{"steady":"9f2c01ab/12345.678","drift":"-0.200"}',
    )
)


def test_what_speaks_of_a_time_is_read_with_care() -> None:
    (block,) = read(DOUBTED).blocks
    assert block.clock == '{"steady":"9f2c01ab/12345.678","drift":"-0.200"}'
    for wrong in ("{}x", None, 1, {"steady": "x"}, {"drift": 1.5}, {"held": -1}, {"former": None}):
        payload = changed(lambda m, w=wrong: m["data"]["blocks"][0].update(clock=w), DOUBTED)  # type: ignore[misc]
        assert [one.reason for one in read(payload).refused] == ["malformed"]


def read(payload: bytes) -> BlocksRead:
    return read_blocks(payload, limit=LIMIT)


def changed(change: Callable[[dict[str, Any]], None], payload: bytes = WHOLE) -> bytes:
    message = json.loads(payload)
    change(message)
    return json.dumps(message).encode()


def test_what_was_encoded_is_read() -> None:
    batch = read(WHOLE)
    assert (batch.journal, batch.generation, batch.gateway) == ("j-1", Generation(3, "9f2c01ab"), "edge-1")
    assert (batch.first_seq, batch.last_seq, batch.refused) == (17, 19, ())
    one, other = batch.blocks
    assert (one.meter, one.profile, one.interval, one.epoch, one.reason) == (
        "GEN:1",
        "block_load",
        1800,
        4,
        None,
    )
    assert (one.generation, one.directory_version) == (Generation(3, "9f2c01ab"), 7)
    assert one.received_at == AT + timedelta(days=1)
    assert [row.seq for row in one.rows] == [17, 18]
    assert [row.at for row in one.rows] == [AT, AT + HALF_HOUR]
    assert one.rows[0].start == AT - HALF_HOUR
    assert one.rows[0].capture_id == "GEN:1/block_load/2026-11-23T18:30:00Z/0"
    (row,) = other.rows
    assert (other.reason, other.holders, other.interval) == ("no_account", None, None)
    assert (row.capture_id, row.quality, row.raw) == (
        "GEN:2/block_load/2026-11-23T20:00:00Z/3",
        "2.5.258",
        "AQI=",
    )
    assert row.start == AT - timedelta(microseconds=1)
    assert json.loads(row.body)["wall"] == "24/11"
    assert batch.layouts[one.layout].layout.profile == ProfileName.BLOCK_LOAD
    assert one.holders is not None
    assert batch.holders[one.holders].holders[0].account_id == "acc-17"


def test_a_flipped_digit_is_refused_by_its_number_and_the_others_go_on() -> None:
    batch = read(WHOLE.replace(b'"413"', b'"913"'))
    assert [(one.seq, one.reason) for one in batch.refused] == [(18, "checksum")]
    assert [row.seq for block in batch.blocks for row in block.rows] == [17, 19]


@pytest.mark.parametrize(
    ("member", "other"),
    [("meter", "GEN:9"), ("received_at", "2026-11-24T18:30:01Z"), ("interval", 900)],
)
def test_the_checksum_covers_what_the_block_says_of_its_captures(member: str, other: object) -> None:
    batch = read(changed(lambda m: m["data"]["blocks"][0].update({member: other})))
    assert [(one.seq, one.reason) for one in batch.refused] == [(17, "checksum"), (18, "checksum")]


def test_unknown_members_of_newer_senders_are_kept_and_checked() -> None:
    def newer(message: dict[str, Any]) -> None:
        for block in message["data"]["blocks"]:
            block["newer"] = {"a": None}
            for row in block["captures"]:
                row["newer"] = [1.5e300, "é", None]
                row["checksum"] = strangers_checksum(block, row)

    batch = read(changed(newer))
    assert batch.refused == ()
    assert json.loads(batch.blocks[0].rows[0].body)["newer"] == [1.5e300, "é", None]


def test_a_capture_within_a_capture_is_none() -> None:
    def wrap(message: dict[str, Any]) -> None:
        block = message["data"]["blocks"][0]
        row = block["captures"][0]
        inner = row | {"values": ["1", "2"]}
        inner["checksum"] = strangers_checksum(block, inner)
        row["newer"] = inner
        row["checksum"] = strangers_checksum(block, row)

    message = json.loads(WHOLE)
    wrap(message)
    payload = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    outer, _ = read(payload).blocks[0].rows
    assert json.loads(outer.body)["values"] == json.loads(WHOLE)["data"]["blocks"][0]["captures"][0]["values"]


def test_words_of_newer_senders_lose_no_reading() -> None:
    def newer(message: dict[str, Any]) -> None:
        block = message["data"]["blocks"][1]
        block["reason"] = "some_new_reason"
        row = block["captures"][0]
        row["quality"] = "9.9.9"
        row["values"][1] = {"missing": "some_new_word"}
        row["checksum"] = strangers_checksum(block, row)

    assert read(changed(newer)).refused == ()


def test_a_block_that_cannot_be_read_is_refused_with_all_its_numbers() -> None:
    def spoil(message: dict[str, Any]) -> None:
        message["data"]["blocks"][0]["received_at"] = "yesterday"

    batch = read(changed(spoil))
    assert [one.seq for one in batch.refused] == [17, 18]
    assert "$.data.blocks[0].received_at" in batch.refused[0].detail
    assert [row.seq for block in batch.blocks for row in block.rows] == [19]


@pytest.mark.parametrize(
    ("path", "value", "wrong"),
    [
        (("specversion",), "0.3", "$.specversion"),
        (("type",), "meter-gateway.meterreadings.created.v1", "$.type"),
        (("time",), "2026-11-24T18:31:00+00:00", "$.time"),
        (("data", "generation"), "3", "generation"),
        (("data", "journal"), "a\nb", "$.data.journal"),
        (("data", "first_seq"), 18, "$.data.blocks[0].seq"),
        (("data", "last_seq"), 18, "$.data.blocks[1].seq"),
        (("data", "blocks"), [], "$.data.blocks"),
        (("data", "blocks", 1, "seq"), 18, "$.data.blocks[1].seq"),
        (("data", "blocks", 0, "captures"), [], "captures"),
    ],
)
def test_a_wrong_frame_refuses_the_batch_and_names_the_place(
    path: tuple[str | int, ...], value: object, wrong: str
) -> None:
    def put(message: Any) -> None:
        for step in path[:-1]:
            message = message[step]
        message[path[-1]] = value

    with pytest.raises(ContractError) as caught:
        read(changed(put))
    assert wrong in str(caught.value)


def refused_first(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> RefusedRow:
    """Change a block and its first row, put the checksum right, and return how the row was refused."""

    def put(message: dict[str, Any]) -> None:
        block = message["data"]["blocks"][0]
        row = block["captures"][0]
        change(block, row)
        row["checksum"] = strangers_checksum(block, row)

    return read(changed(put)).refused[0]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("values", ["412"]),
        ("values", ["412", "1e3"]),
        ("values", ["412", "1,2"]),
        ("values", ["412,231"]),
        ("values", ["412", None]),
        ("values", ["412", 231]),
        ("values", ["412", {}]),
        ("values", ["412", {"missing": "sentinel", "text": "7"}]),
        ("values", ["412", {"missing": None}]),
        ("values", ["412", {"value": "7"}]),
        ("values", ["412", {"bits": "012"}]),
        ("values", ["412", {"instant": "2026-11-23"}]),
        ("at", "2026-11-23T18:30:00.000000Z"),
        ("at", "2026-11-23T24:00:00Z"),
        ("at", "2026-W48-1T18:30:00Z"),
        ("start", "2026-11-23T18:30:00Z"),
        ("start", None),
        ("quality", "VALID"),
        ("occurrence", -1),
        ("value_rev", 0),
        ("status", 256),
        ("trusted", 1),
        ("raw", "%"),
        ("capture_id", ""),
        ("capture_id", "x" * 201),
    ],
)
def test_a_wrong_member_refuses_the_capture(member: str, value: object) -> None:
    refused = refused_first(lambda _, row: row.update({member: value}))
    assert (refused.seq, refused.reason) == (17, "malformed")


def test_a_table_entry_under_another_key_refuses_what_names_it() -> None:
    def rename(message: dict[str, Any]) -> None:
        layouts = message["data"]["layouts"]
        (layout,) = [one for one in layouts.values() if len(one["columns"]) == 2]
        layout["columns"][0]["unit"] = "kWh"

    batch = read(changed(rename))
    assert [(one.seq, "the key is not" in one.detail) for one in batch.refused] == [(17, True), (18, True)]


def test_a_wrong_table_entry_that_nothing_names_refuses_the_batch() -> None:
    def add(message: dict[str, Any]) -> None:
        message["data"]["layouts"]["0" * 16] = {"profile": "block_load", "columns": []}

    with pytest.raises(ContractError, match="the key is not"):
        read(changed(add))


def test_too_many_wrong_captures_refuse_the_batch() -> None:
    many = batch_of(encoded(*(block_load(number) for number in range(501))))
    with pytest.raises(ContractError, match="more than 500"):
        read(many.replace(b'"231.40"', b'"231.41"'))


def test_large_entries_of_strangers_are_not_kept_in_memory() -> None:
    before = (tables._kept_layout.cache_info(), tables._kept_holders.cache_info())
    column = {"q": "1-0:1.8.0*255", "name": "n" * 100}
    text = json.dumps({"profile": "x", "columns": [column] * 100}).encode()
    key = canonical_key(json.loads(text))
    assert tables.layout_entry(key, text).layout.profile == "x"
    assert (tables._kept_layout.cache_info(), tables._kept_holders.cache_info()) == before


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["1.0", "412", "2026-11-23T18:30:00Z", "0.00000000/0", "normal", "f" * 16, "", "a\x7fb"]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.dictionaries(st.sampled_from(["missing", "text", "bits", "instant"]), st.text(max_size=3), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        found += places(inner, (*path, step))
    return found


MESSAGE = json.loads(WHOLE)
PLACES = places(MESSAGE)


def put_right(message: Any) -> None:
    """Give rows and tables the checksums and keys that they would have if they were meant so."""
    try:
        data = message["data"]
        for table in ("layouts", "holders"):
            for key, value in list(data.get(table, {}).items()):
                right = canonical_key(value)
                data[table][right] = data[table].pop(key)
                for block in data["blocks"]:
                    if table == "layouts" and block.get("layout") == key:
                        block["layout"] = right
                    if table == "holders" and block.get("holders") == key:
                        block["holders"] = right
        for block in data["blocks"]:
            for row in block["captures"]:
                row["checksum"] = strangers_checksum(block, row)
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # what cannot be put right stays wrong


@settings(max_examples=600)
@given(
    st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(["put", "drop", "add"]), JUNK), max_size=3),
    st.booleans(),
)
def test_the_reader_and_the_models_take_the_same_messages(
    changes: list[tuple[tuple[Any, ...], str, Any]], righted: bool
) -> None:
    message = copy.deepcopy(MESSAGE)
    for path, how, value in changes:
        inner = message
        try:
            for step in path[:-1]:
                inner = inner[step]
            if how == "put":
                inner[path[-1]] = copy.deepcopy(value)
            elif how == "drop":
                del inner[path[-1]]
            else:
                inner[path[-1]]["newer"] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue
    if righted:
        put_right(message)
    # With white space, and as the edge writes it: those rows are read by another way.
    for separators in ((", ", ": "), (",", ":")):
        payload = json.dumps(message, separators=separators, ensure_ascii=False).encode("utf-8", "replace")
        try:
            taken = read(payload).refused == ()
        except ContractError:
            taken = False
        assert taken == accepts(payload)


ROW = encoded(block_load()).rows[0].body


BESIDE = (batch_of(encoded(block_load())), batch_of(encoded(block_load(), block_load(1))))
"""A row alone, and one with a neighbour: the rows of a block are read together where all are usual."""


@settings(max_examples=600)
@given(
    st.integers(0, len(ROW) - 1),
    st.one_of(st.binary(max_size=3), st.sampled_from([b"},{", b",", b"]", b'"', b'","', b'{"at":"', ROW])),
    st.integers(0, 3),
    st.sampled_from(BESIDE),
)
def test_a_row_that_differs_by_some_octets_is_taken_as_the_models_say(
    at: int, put: bytes, over: int, batch: bytes
) -> None:
    """Its checksum is put right wherever JSON can be read at all."""
    row = ROW[:at] + put + ROW[at + over :]
    payload = batch.replace(ROW, row)
    try:
        message = json.loads(payload)
        block = message["data"]["blocks"][0]
        right = strangers_checksum(block, block["captures"][0])
        payload = payload.replace(block["captures"][0]["checksum"].encode(), right.encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    try:
        taken = read(payload).refused == ()
    except ContractError:
        taken = False
    if taken:
        assert accepts(payload)
    elif accepts(payload):
        # Only where two readers could read two things: a member that stands twice.
        names = [name for name, _ in json.loads(row, object_pairs_hook=list)]
        assert len(names) != len(set(names))


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4))))
def test_no_octets_raise_anything_but_contract_errors(octets: bytes | tuple[int, bytes]) -> None:
    if isinstance(octets, tuple):
        at, put = octets
        octets = WHOLE[:at] + put + WHOLE[at + len(put) :]
    try:
        read(octets)
    except ContractError:
        pass


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'{"data":' * 50_000,
        WHOLE.replace(b'"GEN:2"', b'"\xff"'),
        WHOLE.replace(b'"24/11"', b'"\\ud800"'),
        WHOLE.replace(b'"status":0', b'"newer":1e999'),
        WHOLE.replace(b'"status":0', b'"newer":' + b"9" * 5_000),
        WHOLE.replace(b'"status":0', b'"newer":' + b"[" * 5_000),
        WHOLE + b" " * LIMIT,
    ],
)
def test_spoilt_octets_are_refused(payload: bytes) -> None:
    try:
        assert read(payload).refused
    except ContractError:
        pass


def test_the_year_1_has_no_half_hour_before_it() -> None:
    refused = refused_first(lambda _, row: row.update({"at": "0001-01-01T00:00:00Z"}))
    assert "year 1" in refused.detail
