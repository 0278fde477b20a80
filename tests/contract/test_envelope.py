"""Envelopes: spliced octets equal parsed messages, and no octets whatever raise anything but ContractError."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.batches import parse_batch
from gateway.contract.envelope import (
    GAPS_TYPE,
    MAX_MESSAGE,
    READINGS_TYPE,
    parse,
    parse_change,
    parse_data,
)
from gateway.contract.golden import golden_messages
from gateway.contract.messages import Ack, Batch, Capture, Gap, Signed, Status, rfc3339
from gateway.errors import ContractError
from tests.support.contract_golden import GOLDEN_1
from tests.support.journal_records import capture, gap_record
from tests.support.version_1 import assemble

GOLDEN = golden_messages() | GOLDEN_1
"""Of both versions; the batches are those of version 1."""


def refusal(read: Callable[[bytes], object], payload: bytes) -> str:
    """Give the text of the refusal, `$` when it was read; any other exception fails the test."""
    try:
        read(payload)
    except ContractError as error:
        return str(error)
    return "$"


def body(one: Capture) -> bytes:
    return one.model_dump_json(exclude_defaults=True).encode()


def test_assembled_batch_is_what_the_models_would_write() -> None:
    captures = [capture(n, pad=n * 3) for n in range(5)]
    entries = [(10 + 2 * n, body(c)) for n, c in enumerate(captures)]
    payload = assemble(
        entries, type=READINGS_TYPE, journal="j-1", gateway="edge-1", time="2026-11-23T00:00:00Z"
    )
    parsed = parse_batch(payload)
    assert parsed.id == "j-1/10-18"
    assert parsed.source == "/gateways/edge-1"
    assert parsed.data == Batch(
        journal="j-1",
        gateway="edge-1",
        first_seq=10,
        last_seq=18,
        captures=tuple(c.model_copy(update={"seq": 10 + 2 * n}) for n, c in enumerate(captures)),
    )


def test_times_are_rfc_3339_in_utc_with_microseconds_only_where_there_are_some() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    assert rfc3339(datetime(2026, 11, 24, tzinfo=india)) == "2026-11-23T18:30:00Z"
    assert rfc3339(datetime(2026, 11, 23, 18, 30, 0, 20, tzinfo=UTC)) == "2026-11-23T18:30:00.000020Z"
    assert rfc3339(datetime(987, 1, 2, tzinfo=UTC)) == "0987-01-02T00:00:00Z"


def test_assembled_gaps() -> None:
    payload = assemble(
        [(3, gap_record(1).body)], type=GAPS_TYPE, journal="j", gateway="g", time="2026-11-23T00:00:00Z"
    )
    [gap] = parse_batch(payload).data.gaps
    assert isinstance(gap, Gap)
    assert gap.seq == 3


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda m: m["data"]["captures"][1].update(at="yesterday"), r"\$\.data\.captures\[1\]\.at"),
        (lambda m: m["data"]["captures"][0].update(at="0001-01-01T00:00:00+23:59"), "outside the years"),
        (lambda m: m["data"]["captures"][0].update(at="2026-11-23T00:00:00"), "needs a zone"),
        (lambda m: m["data"]["captures"][0].update(value_rev=0), r"\$\.data\.captures\[0\]\.value_rev"),
        (lambda m: m["data"]["captures"][0].update(seq=2**63), r"captures\[0\]\.seq"),
        (lambda m: m["data"]["captures"][0].update(seq=42), r"captures\[1\]\.seq: 42 does not rise"),
        (lambda m: m["data"]["captures"][0].pop("seq"), r"captures\[0\]\.seq: missing"),
        (lambda m: m["data"]["captures"][0].update(meter="a\x00b"), r"captures\[0\]\.meter"),
        (lambda m: m["data"]["captures"][0]["values"][0].update(value="1e5"), r"values\[0\]\.value"),
        (lambda m: m["data"]["captures"][0]["values"][0].update(value=412.5), r"values\[0\]\.value"),
        (lambda m: m["data"]["captures"][0]["attributions"][0].update(account_number=1234567890), "number"),
        (lambda m: m["data"].update(captures=[]), "without entries"),
        (lambda m: m.update(specversion="2.0"), r"\$\.specversion"),
        (lambda m: m.update(type="something.else"), r"\$\.type"),
        (lambda m: m.pop("data"), r"\$\.data"),
    ],
)
def test_errors_name_the_path(change: object, path: str) -> None:
    message = json.loads(GOLDEN["readings-block-load"])
    change(message)  # type: ignore[operator]
    with pytest.raises(ContractError, match=path):
        parse_batch(json.dumps(message).encode())


def test_unknown_fields_of_a_newer_sender_are_ignored() -> None:
    message = json.loads(GOLDEN["readings-block-load"])
    message["future"] = {"x": 1}
    message["data"]["captures"][0]["future"] = [1, 2]
    message["data"]["captures"][0]["values"][0]["future"] = None
    assert parse_batch(json.dumps(message).encode()).data == parse_batch(GOLDEN["readings-block-load"]).data


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"specversion":"1.0","id":' + b"9" * 5_000 + b"}",
        b'{"specversion":"1.0","id":"\\ud800"}',
        b"NaN",
        b"\xff\xfe\x00",
        b" " * (MAX_MESSAGE + 1),
    ],
)
def test_hostile_octets(payload: bytes) -> None:
    for read in (parse_batch, parse_change, lambda p: parse(p, Status), lambda p: parse_data(p, Ack)):
        with pytest.raises(ContractError, match=r"^\$"):
            read(payload)


@settings(max_examples=100)
@given(st.sampled_from(sorted(GOLDEN)), st.data())
def test_damaged_messages_raise_contract_errors_only(name: str, data: st.DataObject) -> None:
    octets = bytearray(GOLDEN[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for read in (parse_batch, parse_change, lambda p: parse(p, Status), lambda p: parse(p, Signed)):
        assert refusal(read, bytes(octets)).startswith("$")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.sampled_from(sorted(GOLDEN)), json_values, st.data())
def test_any_value_in_any_place_raises_contract_errors_only(
    name: str, value: object, data: st.DataObject
) -> None:
    message = json.loads(GOLDEN[name])
    at = message
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], (dict, list)) or not at[key] or data.draw(st.booleans()):
            at[key] = value
            break
        at = at[key]
    for read in (parse_batch, parse_change, lambda p: parse(p, Status), lambda p: parse(p, Ack)):
        assert refusal(read, json.dumps(message).encode()).startswith("$")
