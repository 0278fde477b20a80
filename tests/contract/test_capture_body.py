"""A capture's octets: numbered and revised by splicing, cut out of messages as they came."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.batches import parse_batch
from gateway.contract.capture_body import cut_captures
from gateway.contract.envelope import READINGS_TYPE
from gateway.errors import ContractError
from tests.support.contract_golden import GOLDEN_1
from tests.support.journal_records import capture
from tests.support.version_1 import assemble

BODIES = [capture(n, pad=n).model_dump_json(exclude_defaults=True).encode() for n in range(4)]


def message(bodies: list[bytes]) -> bytes:
    entries = list(enumerate(bodies, start=5))
    return assemble(entries, type=READINGS_TYPE, journal="j", gateway="g", time="2026-11-23T00:00:00Z")


def cut(payload: bytes, leave_out: tuple[str, ...] = ("seq",)) -> list[tuple[int | None, bytes]]:
    return [(one.seq, one.body) for one in cut_captures(payload, leave_out=leave_out)]


def test_what_was_put_into_a_message_is_cut_out_of_it() -> None:
    assert cut(message(BODIES)) == list(enumerate(BODIES, start=5))


@pytest.mark.parametrize("indent", [None, 2])
def test_messages_of_other_makers_keep_what_this_version_does_not_know(indent: int | None) -> None:
    told = json.loads(message(BODIES[:2]))
    one = told["data"]["captures"][0]
    one["value_time"] = {"captures": [1, {"seq": 9}], "text": 'a "seq":1, ü'}
    one["raw"] = "AQID"
    one["seq"] = one.pop("seq")
    payload = json.dumps(told, indent=indent, ensure_ascii=False).encode()
    parse_batch(payload)
    [(seq, body), (_, other)] = cut(payload, ("seq", "raw"))
    assert seq == 5
    assert json.loads(body) == {name: value for name, value in one.items() if name not in ("seq", "raw")}
    assert json.loads(other) == json.loads(BODIES[1])


def test_the_spelling_of_a_member_stays() -> None:
    payload = b'{"data":{"captures":[{"seq":1,"new":1.50,"e":1E2},{"e":"\\u00fc","seq":2}]}}'
    assert cut(payload) == [(1, b'{"new":1.50,"e":1E2}'), (2, b'{"e":"\\u00fc"}')]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"data":{"captures":[]},"data":{"captures":[]}}',
        b'{"data":{"captures":[],"captures":[]}}',
        b'{"data":{"captures":[{"seq":1,"seq":1}]}}',
        b'{"data":{"captures":[{"seq":1,"at":1,"\\u0061t":1}]}}',
        b'{"data":{"captures":[{"seq":1,"values":[{"q":"a","q":"a"}]}]}}',
        b'{"data":{"captures":[{"seq":1,"new":NaN}]}}',
        b'{"data":{"new":-Infinity,"captures":[{"seq":1}]}}',
    ],
)
def test_text_that_can_be_read_in_two_ways_is_not_cut(payload: bytes) -> None:
    json.loads(payload)
    with pytest.raises(ContractError, match=r"twice|is no JSON"):
        cut_captures(payload)


def test_golden_messages_without_captures_give_none() -> None:
    golden = GOLDEN_1
    assert cut_captures(golden["gaps"]) == []
    assert cut_captures(golden["status-online"]) == []
    assert [one.seq for one in cut_captures(golden["readings-block-load"])] == [41, 42]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b'{"data":[]}',
        b'{"data":{"captures":{}}}',
        b'{"data":{"captures":[1]}}',
        b'{"data":{"captures":[{"seq":1}',
        b'{"data":{"captures":[{}{}]}}',
        b'{"data" {}}',
        b'{"data":' + b"[" * 100_000,
        b'{"data":{"captures":[{"seq":' + b"9" * 5_000 + b"}]}}",
    ],
)
def test_octets_that_are_no_batch_are_a_contract_error(payload: bytes) -> None:
    with pytest.raises(ContractError):
        cut_captures(payload)


@settings(max_examples=300)
@given(st.data())
def test_any_cut_or_changed_octets_raise_nothing_else(data: st.DataObject) -> None:
    payload = bytearray(message(BODIES[:2]))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] = data.draw(st.integers(0, 255))
    try:
        cut_captures(bytes(payload[: data.draw(st.integers(place, len(payload)))]))
    except ContractError:
        pass
