"""The ledger keeps a capture's octets: members of a newer edge too, and never two readings of one capture."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.central.intake.arrivals import Arrival, TakenBatch
from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.intake.messages import take
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from gateway.contract.envelope import READINGS_TYPE
from gateway.contract.messages import Capture
from gateway.contract.topics import Topics
from mapping.instants import micros
from tests.support.central.samples import NOW, T0, batch, capture, gap, received
from tests.support.central.samples import octets as batch_octets
from tests.support.version_1 import assemble

TOPICS = Topics("meters")
TOPIC = TOPICS.readings("edge-1", "block_load")
STAMPED: dict[str, Any] = {
    "attributions": [
        {"account_id": "a-1", "account_number": "0123456789", "legacy_number": None, "usage_point": "UP-1",
         "role": "normal"}
    ],
    "meter_time": {"wall": "2026-11-01T06:00:00", "deviation": 330, "status": 0, "trusted": True},
    "reason": None,
}  # fmt: skip


def body(seq: int, **over: Any) -> bytes:
    """A capture as an edge encodes it: without seq, defaults left out."""
    return (
        capture(seq, **(STAMPED | over))
        .model_copy(update={"seq": None})
        .model_dump_json(exclude_defaults=True)
        .encode()
    )


def message(*bodies: bytes) -> bytes:
    entries = list(enumerate(bodies, start=1))
    return assemble(
        entries, type=READINGS_TYPE, journal="journal-1", gateway="edge-1", time="2026-11-20T06:00:00Z"
    )


def stored(ledger: Ledger, payload: bytes) -> list[StoredCapture]:
    handled = MessageStore(ledger, TOPICS).handle([ReceivedMessage(TOPIC, payload, NOW)])
    assert handled.set_aside == 0
    return ledger.captures.between()


def test_the_ledger_holds_the_octets_that_the_edge_encoded(ledger: Ledger) -> None:
    sent = [body(1), body(2, raw="CgsM")]
    first, second = stored(ledger, message(*sent))
    assert first.body.encode() == sent[0]
    assert second.body.encode() == sent[1].replace(b',"raw":"CgsM"', b"")
    assert (second.seq, second.raw) == (2, None), "octets are evidence of billing captures only"
    assert second.message == capture(2, **STAMPED)


def test_members_of_a_newer_edge_are_kept_at_each_level(ledger: Ledger) -> None:
    told = json.loads(message(body(1), body(2)))
    one = told["data"]["captures"][0]
    one["season"] = {"name": "Kharif", "factor": 1.5}
    one["values"][0]["uncertainty"] = "0.5"
    one["attributions"][0]["tariff"] = ["LMV-1", None]
    one["meter_time"]["source"] = "gps"
    told["data"]["layouts"] = [{"captures": [1]}]
    payload = json.dumps(told).replace("1.5}", "1.50e0}").encode()
    first, second = stored(ledger, payload)
    assert json.loads(first.body) == {k: v for k, v in one.items() if k != "seq"}
    assert '"factor": 1.50e0}' in first.body, "the spelling, too"
    assert first.message == capture(1, **STAMPED)
    assert second.message == capture(2, **STAMPED)


def test_a_repeat_is_told_by_its_values_whatever_stands_beside_them(ledger: Ledger) -> None:
    """Rows of a first ledger name every member, a newer edge adds some: the values are the same values."""
    old = received(batch([capture(1)]))
    (row,) = old.rows
    old = replace(old, rows=(row._replace(body=capture(1).model_dump_json(exclude={"seq", "raw"})),))
    assert ledger.ingest([old]).stored == 1
    told = json.loads(message(body(1, reason="no_account")))
    told["data"]["captures"][0]["values"][0]["uncertainty"] = "0.5"
    newer = take(TOPICS, Arrival(TOPIC, json.dumps(told).encode(), NOW))
    assert isinstance(newer, TakenBatch)
    result = ledger.ingest([newer.received])
    assert (result.repeated, result.revised) == (1, 0)
    changed = received(batch([capture(1, value="1.51")]))
    assert ledger.ingest([changed]).quarantined == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"at":"2026-11-01T00:30:00Z"', '"at":"2026-11-01 06:00:00+05:30"'),
        ('"at":"2026-11-01T00:30:00Z"', '"at":1793493000'),
        ('"start":"2026-11-01T00:00:00Z"', '"start":"1793491200"'),
        ('"received_at":"2026-11-01T00:31:00Z"', '"received_at" : "2026-11-01T00:31:00.0000000Z"'),
        ('"value_rev":1', '"value_rev":true'),
        ('"value_rev":1', '"value_rev":"1"'),
        ('"directory_version":0', '"directory_version":0.0'),
    ],
)
def test_what_the_contract_reads_from_another_spelling_is_spelled_as_the_columns(
    ledger: Ledger, before: str, after: str
) -> None:
    text = message(body(1)).decode()
    assert before in text
    odd = text.replace(before, after).replace('"quality"', '"new":{"kept":"1.0"},"quality"')
    (one,) = stored(ledger, odd.encode())
    assert json.loads(one.body) == json.loads(body(1)) | {"new": {"kept": "1.0"}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"meter":"GEN:1"', '"meter":"GEN:666","meter":"GEN:1"'),
        ('"meter":"GEN:1"', '"\\u006deter":"GEN:666","meter":"GEN:1"'),
        ('"value":"1.50"', '"value":"9.99","value":"1.50"'),
        ('"seq":1,', '"seq":7,"seq":1,'),
        ('"quality"', '"new":NaN,"quality"'),
        ('"captures":[', '"captures":[{"seq":1}],"captures":['),
    ],
)
def test_octets_with_two_readings_are_not_kept(ledger: Ledger, before: str, after: str) -> None:
    text = message(body(1)).decode()
    assert before in text
    (one,) = stored(ledger, text.replace(before, after, 1).encode())
    assert one.message == capture(1, **STAMPED)
    said = json.loads(one.body, object_pairs_hook=lambda pairs: [name for name, _ in pairs])
    assert len(said) == len(set(said))
    assert "666" not in one.body
    assert "9.99" not in one.body
    assert "NaN" not in one.body


def test_numbers_beyond_all_bounds_hurt_nobody(ledger: Ledger) -> None:
    text = message(body(1)).decode().replace('"quality"', '"new":1e999999,"quality"')
    (one,) = stored(ledger, text.encode())
    assert '"new":1e999999' in one.body, "a number is text until somebody reads it"
    odd = text.replace('"at":"2026-11-01T00:30:00Z"', '"at":1793493000')
    assert [c.message for c in stored(ledger, odd.encode())] == [capture(1, **STAMPED)]


def test_the_good_entries_of_a_bad_batch_keep_their_members(ledger: Ledger) -> None:
    told = json.loads(message(body(1), body(2)))
    good, bad = told["data"]["captures"]
    good["values"][0]["uncertainty"] = "0.5"
    bad["values"][0]["value"] = "not a number"
    MessageStore(ledger, TOPICS).handle([ReceivedMessage(TOPIC, json.dumps(told).encode(), NOW)])
    (one,) = ledger.captures.between()
    assert json.loads(one.body) == {k: v for k, v in good.items() if k != "seq"}


def test_halves_keep_each_body_with_its_capture() -> None:
    whole = received(batch([capture(n) for n in range(1, 4)], [gap(n, gap_id=str(n)) for n in range(4, 8)]))
    parts, todo = [], [whole]
    while todo:
        one = todo.pop()
        if len(one.entries) > 1:
            todo += reversed(one.halves())
        else:
            parts.append(one)
    assert [p.rows for p in parts] == [(row,) for row in whole.rows] + [()] * 4
    assert [g.gap_id for p in parts for g in p.gaps] == ["4", "5", "6", "7"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PIECES = [
    b'"at":',
    b'"meter":',
    b'"seq":1,',
    b'"seq":2,',
    b"NaN",
    b" ",
    b"{",
    b"}",
    b",",
    b'"',
    b"\\u0061",
    b"1e5",
    b"null",
]


@settings(max_examples=300)
@given(st.data())
def test_a_body_and_its_columns_never_disagree(data: st.DataObject) -> None:
    """Whatever the octets: what is stored says, read by the contract, what the columns say."""
    told = json.loads(message(body(1), body(2)))
    one = told["data"]["captures"][0]
    for name in data.draw(st.lists(st.sampled_from([*sorted(one), "new"]), max_size=3)):
        one[name] = data.draw(JUNK)
    payload = bytearray(json.dumps(told, indent=data.draw(st.sampled_from([None, 1]))).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(payload)))
        payload[place:place] = data.draw(st.sampled_from(PIECES))
    taken = take(TOPICS, Arrival(TOPIC, bytes(payload), NOW))
    if not isinstance(taken, TakenBatch):
        return
    columns = [f.name for f in fields(StoredCapture) if f.name in Capture.model_fields]
    for row in taken.received.rows:
        again = Capture.model_validate_json(row.body)
        read = again.model_copy(update={"seq": row.seq, "raw": row.raw})
        for name in columns:
            told_by = getattr(read, name)
            value = micros(told_by) if isinstance(told_by, datetime) else told_by
            assert str(getattr(row, name)) == str(value), name
        plain = json.loads(row.body)
        assert not {"seq", "raw"} & set(plain)
        for name, value in read.model_dump(mode="json", include=set(columns) - {"seq", "raw"}).items():
            if name not in plain:
                assert value in (0, "0.00000000", None), "an edge of version 1 names none"
            elif name in ("at", "start", "received_at") and plain[name] is not None:
                assert plain[name].endswith("Z")
                assert datetime.fromisoformat(plain[name]) == datetime.fromisoformat(value)
            else:
                assert plain[name] == value
                assert type(plain[name]) is type(value)


def test_a_batch_of_gaps_has_no_bodies() -> None:
    taken = take(TOPICS, Arrival(TOPICS.gaps("edge-1"), batch_octets(batch(gaps=[gap(1)])), NOW))
    assert isinstance(taken, TakenBatch)
    assert (taken.received.rows, len(taken.received.gaps)) == ((), 1)
    assert taken.received.gaps[0].after == T0
