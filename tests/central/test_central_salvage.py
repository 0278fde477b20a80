"""A batch that breaks the contract: its good entries are kept, a bad one never stops those after it."""

from __future__ import annotations

import json
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.intake.salvage import TakenBatch, salvage
from gateway.central.ledger.ledger import Ledger
from gateway.contract.topics import Topics
from tests.support.central.samples import NOW, batch, capture, octets

TOPICS = Topics("meters")
TOPIC = TOPICS.readings("edge-1", "block_load")
BAD = octets(batch([capture(1), capture(2), capture(3)]))


def spoiled(payload: bytes, seq: int) -> bytes:
    document = json.loads(payload)
    (entry,) = (e for e in document["data"]["captures"] if e["seq"] == seq)
    entry["values"][0]["value"] = "not a number"
    return json.dumps(document).encode()


def test_the_good_entries_of_a_bad_batch_are_stored_and_the_bad_one_is_set_aside(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    outcome = store.handle([ReceivedMessage(TOPIC, spoiled(BAD, 2), NOW)])
    assert (outcome.result.stored, outcome.set_aside) == (2, 1)
    assert outcome.journals["journal-1"].holes == ((2, 2),), "once could be an accident on the way"
    (letter,) = ledger.letters.all()
    assert "values.0.value" in letter.detail

    replayed = octets(batch([capture(2)]))
    store.handle([ReceivedMessage(TOPIC, spoiled(replayed, 2), NOW + timedelta(seconds=5))])
    assert ledger.journals.state("journal-1").contiguous == 3, "the same again: those after it go on"
    assert [(first, last) for _, first, last, *_ in ledger.journals.lost()] == [(2, 2)]
    (letter,) = ledger.letters.all()
    assert letter.times_seen == 2


def test_an_entry_that_is_mended_is_stored_though_it_was_given_up(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    for _ in range(2):
        store.handle([ReceivedMessage(TOPIC, spoiled(BAD, 2), NOW)])
    outcome = store.handle([ReceivedMessage(TOPIC, octets(batch([capture(2)])), NOW)])
    assert outcome.result.stored == 1
    assert ledger.captures.get(capture(2).capture_id) is not None


def test_an_entry_of_another_gateway_is_not_salvaged(ledger: Ledger) -> None:
    topic = TOPICS.readings("edge-2", "block_load")
    outcome = MessageStore(ledger, TOPICS).handle([ReceivedMessage(topic, spoiled(BAD, 2), NOW)])
    assert (outcome.result.stored, outcome.set_aside) == (0, 1)
    assert ledger.letters.all()[0].reason == "wrong_topic"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=100)
@given(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()))
def test_junk_is_none_and_never_an_error(payload: bytes) -> None:
    assert salvage(payload) is None


@settings(max_examples=100)
@given(JSON, st.sampled_from(["captures", "gaps", "journal", "first_seq", "values"]))
def test_junk_in_place_of_a_part_is_none_or_a_salvage(junk: object, part: str) -> None:
    document = json.loads(BAD)
    if part == "values":
        document["data"]["captures"][0]["values"] = junk
    else:
        document["data"][part] = junk
    result = salvage(json.dumps(document).encode())
    assert result is None or isinstance(result, TakenBatch)
