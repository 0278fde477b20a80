"""A batch that breaks the contract: its good entries are kept, a bad one never stops those after it."""

from __future__ import annotations

import json
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.intake.salvage import SalvagedBatch, salvage
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


def test_the_good_entries_of_a_bad_batch_are_stored_and_the_bad_one_is_kept(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    outcome = store.handle([ReceivedMessage(TOPIC, spoiled(BAD, 2), NOW)])
    assert (outcome.result.stored, outcome.result.quarantined, outcome.set_aside) == (2, 1, 0)
    assert outcome.journals["journal-1"].holes == ((2, 2),), "once could be an accident on the way"
    (group,) = ledger.quarantine.groups()
    assert (group.gateway, group.meter, group.reason, group.entries) == ("edge-1", "GEN:1", "unreadable", 1)
    assert "values.0.value" in group.detail


def test_an_entry_that_is_never_understood_is_kept_as_it_came_and_never_lost(ledger: Ledger) -> None:
    """A newer sender's unknown word: it waits for a newer central, the entries after it go on."""
    store = MessageStore(ledger, TOPICS)
    store.handle([ReceivedMessage(TOPIC, spoiled(BAD, 2), NOW)])
    replayed = spoiled(octets(batch([capture(2)])), 2)
    store.handle([ReceivedMessage(TOPIC, replayed, NOW + timedelta(seconds=5))])
    assert ledger.journals.state("journal-1").contiguous == 3, "the same again: those after it go on"
    assert ledger.journals.missing() == []
    (entry,) = ledger.quarantine.entries("edge-1")
    assert (entry.journal, entry.seq) == ("journal-1", 2)
    assert json.loads(entry.payload)["data"]["captures"] == json.loads(replayed)["data"]["captures"]


def test_an_entry_that_comes_whole_is_stored_and_leaves_quarantine(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    for _ in range(2):
        store.handle([ReceivedMessage(TOPIC, spoiled(BAD, 2), NOW)])
    outcome = store.handle([ReceivedMessage(TOPIC, octets(batch([capture(2)])), NOW)])
    assert outcome.result.stored == 1
    assert ledger.captures.get(capture(2).capture_id) is not None
    assert ledger.quarantine.groups() == []


def test_an_entry_of_another_gateway_is_not_salvaged(ledger: Ledger) -> None:
    topic = TOPICS.readings("edge-2", "block_load")
    outcome = MessageStore(ledger, TOPICS).handle([ReceivedMessage(topic, spoiled(BAD, 2), NOW)])
    assert (outcome.result.stored, outcome.set_aside) == (0, 1)
    assert ledger.letters.newest()[0].reason == "wrong_topic"


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
    assert result is None or isinstance(result, SalvagedBatch)
