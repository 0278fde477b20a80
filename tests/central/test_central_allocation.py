"""Whose word counts for a meter: any other gateway's is kept in quarantine, and released when it is allocated."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.central.directory.messages import allocation_message
from gateway.central.intake.batches import HandledMessages, MessageStore, ReceivedMessage
from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ingest import MAX_CLAIMED_EPOCH
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import IngestResult, QuarantinedEntry
from gateway.central.ledger.revisions import store_captures
from gateway.central.portal.authority_issues import authority_issues
from gateway.central.portal.view_models import IssueKind, Severity
from gateway.contract.blocks import EncodedBlock
from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.envelope import parse_change, wrap
from gateway.contract.messages import MAX_SEQ, Batch, Capture, Gap, Status
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import ConfigError, PeerError
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from tests.support.blocks import batch_of, block_load, encoded
from tests.support.central.samples import DAY, HALF_HOUR, NOW, T0, batch, capture, gap, octets, received
from tests.support.keys import PRIVATE
from tests.support.mosquitto import Mosquitto, login
from tests.support.paths import ROOT
from tests.support.waiting import until

TOPICS = Topics("meters")


@pytest.fixture
def store(ledger: Ledger) -> MessageStore:
    return MessageStore(ledger, TOPICS)


def send(store: MessageStore, data: Batch, *, gateway: str | None = None) -> HandledMessages:
    """Deliver a batch on the topic of a gateway, by default its own."""
    topic = TOPICS.readings(gateway or data.gateway, "block_load")
    if data.gaps:
        topic = TOPICS.gaps(data.gateway)
    return store.handle([ReceivedMessage(topic, octets(data), NOW)])


def of(gateway: str, *captures: Capture, gaps: tuple[Gap, ...] = ()) -> Batch:
    return batch(captures, gaps, journal=f"journal-of-{gateway}", gateway=gateway)


def give(ledger: Ledger, gateway: str, *meters: str, since: timedelta = DAY) -> None:
    ledger.allocations.give(meters, gateway, by="asha", note="", since=T0 + since, at=NOW)


def test_any_edge_s_login_cannot_rewrite_another_s_meter(ledger: Ledger, store: MessageStore) -> None:
    """It could: a higher value_rev from anywhere replaced the reading, and was acknowledged."""
    send(store, of("edge-1", capture(1, value="308")))
    forged = of("edge-2", capture(1, value="908", value_rev=9))
    outcome = send(store, forged)
    assert (outcome.result.stored, outcome.result.revised, outcome.result.quarantined) == (0, 0, 1)
    kept = ledger.captures.get(capture(1).capture_id)
    assert kept is not None
    assert (kept.message.values[0].value, kept.gateway) == ("308", "edge-1")
    (group,) = ledger.quarantine.groups()
    assert (group.gateway, group.meter, group.reason) == ("edge-2", "GEN:1", "not_allocated")
    assert "allocated to edge-1" in group.detail
    (entry,) = ledger.quarantine.entries("edge-2")
    assert json.loads(entry.payload)["data"] == json.loads(octets(forged))["data"], "as it came"


def test_a_meter_that_nobody_has_goes_to_the_first_gateway_that_delivers_it(
    ledger: Ledger, store: MessageStore
) -> None:
    assert send(store, of("edge-1", capture(1), capture(2))).result.stored == 2
    (allocation,) = ledger.allocations.history("GEN:1")
    assert (allocation.gateway, allocation.epoch, allocation.origin) == ("edge-1", 1, "claimed")
    assert [(name, count) for name, count, _ in ledger.allocations.claims()] == [("edge-1", 1)]
    give(ledger, "edge-1", "GEN:1")
    assert ledger.allocations.claims() == [], "a person has confirmed it"
    assert [one.epoch for one in ledger.allocations.history("GEN:1")] == [1]


def test_what_field_work_delivers_counts_as_the_visited_gateway_s(
    ledger: Ledger, store: MessageStore
) -> None:
    assert send(store, of("edge-1-field", capture(1))).result.stored == 1
    assert ledger.allocations.history("GEN:1")[-1].gateway == "edge-1"
    assert send(store, of("edge-1", capture(2))).result.stored == 1
    assert send(store, of("edge-2-field", capture(3))).result.quarantined == 1


def test_an_older_gateway_s_late_delivery_of_its_own_time_is_believed(
    ledger: Ledger, store: MessageStore
) -> None:
    send(store, of("edge-1", capture(1)))
    give(ledger, "edge-2", "GEN:1", since=10 * HALF_HOUR)
    before, after = capture(10), capture(11)
    outcome = send(store, of("edge-1", before, after))
    assert (outcome.result.stored, outcome.result.quarantined) == (1, 1)
    assert ledger.captures.get(before.capture_id) is not None
    assert ledger.captures.get(after.capture_id) is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_revisions_compare_by_allocation_first_and_may_have_gaps(
    ledger: Ledger, order: tuple[int, ...]
) -> None:
    """A new gateway counts from 1; what it reads again outranks all that the former one said of that time."""
    told = [("first", 0, 1), ("seventh", 1, 7), ("of the new gateway", 2, 1)]
    rows = [
        row._replace(epoch=epoch)
        for seq, (text, epoch, rev) in enumerate(told, start=1)
        for row in received(batch([capture(seq, number=1, value=str(len(text)), value_rev=rev)])).rows
    ]
    for number in order:
        with ledger.database.writing("storing") as connection:
            _, conflicts = store_captures(connection, [rows[number]], 0, str)
        assert conflicts == []
    held = ledger.captures.revisions(capture(1).capture_id)
    assert [(one.epoch, one.value_rev) for one in held] == [(0, 1), (1, 7), (2, 1)]
    last = ledger.captures.get(capture(1).capture_id)
    assert last == held[-1]


def test_one_revision_with_two_values_keeps_the_first_and_quarantines_the_other(
    ledger: Ledger, store: MessageStore
) -> None:
    send(store, of("edge-1", capture(1, value="1.0")))
    again = batch([capture(1, value="2.0")], journal="another-of-edge-1")
    assert send(store, again).result.quarantined == 1
    held = ledger.captures.get(capture(1).capture_id)
    assert held is not None
    assert held.message.values[0].value == "1.0"
    assert [one.reason for one in ledger.quarantine.groups()] == ["conflict"]


def test_a_revision_that_was_superseded_keeps_its_first_values_too(
    ledger: Ledger, store: MessageStore
) -> None:
    """The second of three, told once more with other values: neither the newest nor the superseded one is touched."""
    revisions = [capture(n, number=1, value=f"{n}.0", value_rev=n) for n in (1, 2, 3)]
    send(store, of("edge-1", *revisions))
    other = batch([capture(1, value="9.0", value_rev=2)], journal="another-of-edge-1")
    assert send(store, other).result.quarantined == 1
    assert [one.reason for one in ledger.quarantine.groups()] == ["conflict"]
    held = ledger.captures.revisions(capture(1).capture_id)
    assert [one.message.values[0].value for one in held] == ["1.0", "2.0", "3.0"]


def test_a_journal_read_anew_that_knows_only_the_corrected_value_is_a_repeat(
    ledger: Ledger, store: MessageStore
) -> None:
    send(store, of("edge-1", capture(1, value="1.0"), capture(2, number=1, value="2.0", value_rev=2)))
    anew = batch([capture(1, value="2.0")], journal="another-of-edge-1")
    assert send(store, anew).result.repeated == 1


@pytest.mark.parametrize(
    "identity",
    [
        "GEN:2/block_load/2026-11-01T00:30:00Z/0",
        "GEN:1/daily/2026-11-01T00:30:00Z/0",
        "GEN:1/block_load/2026-11-01T01:00:00Z/0",
        "GEN:1/block_load/2026-11-01T00:30:00Z/x",
        "GEN:1/block_load/2026-11-01T00:30:00Z",
        "before",
    ],
)
def test_a_capture_whose_id_speaks_of_another_is_not_believed(
    ledger: Ledger, store: MessageStore, identity: str
) -> None:
    outcome = send(store, of("edge-1", capture(1, capture_id=identity), capture(2)))
    assert (outcome.result.stored, outcome.result.quarantined) == (1, 1)
    assert [one.reason for one in ledger.quarantine.groups()] == ["disagrees"]
    assert ledger.allocations.history("GEN:2") == []


def test_another_s_journal_is_neither_believed_nor_counted_nor_acknowledged(
    ledger: Ledger, store: MessageStore
) -> None:
    send(store, batch([capture(1), capture(2)]))
    stolen = batch([capture(3, meter="GEN:9"), capture(4, meter="GEN:9")], gateway="edge-2")
    outcome = send(store, stolen)
    assert outcome.result.quarantined == 2
    state = outcome.journals["journal-1"]
    assert (state.gateway, state.contiguous, state.highest) == ("edge-1", 2, 2)
    assert [one.reason for one in ledger.quarantine.groups()] == ["foreign_journal"]
    assert ledger.captures.between("GEN:9") == []


def test_a_status_that_names_another_s_journal_leads_nothing_astray(
    ledger: Ledger, store: MessageStore
) -> None:
    send(store, batch([capture(1)]))
    status = Status(gateway="edge-2", online=True, version="1", journal="journal-1", last_seq=900, at=NOW)
    payload = wrap(status, id="s", source="/gateways/edge-2", time=NOW)
    outcome = store.handle([ReceivedMessage(TOPICS.of("edge-2", TopicKind.STATUS), payload, NOW)])
    assert outcome.statuses == []
    assert [letter.reason for letter in ledger.letters.newest()] == ["foreign_journal"]


def test_gaps_are_believed_like_readings_and_claim_nothing(ledger: Ledger, store: MessageStore) -> None:
    assert send(store, of("edge-2", gaps=(gap(1),))).result.gaps == 1
    assert ledger.allocations.history("GEN:1") == []
    send(store, of("edge-1", capture(1)))
    outcome = send(store, of("edge-2", gaps=(gap(2, state="filled"),)))
    assert outcome.result.quarantined == 1
    assert [one.state for one in ledger.gaps.all()] == ["open"]


def test_a_gap_s_id_cannot_be_another_meter_s(ledger: Ledger) -> None:
    ledger.ingest([received(batch(gaps=[gap(1)]))])
    other = gap(2, state="filled").model_copy(update={"meter": "GEN:2"})
    assert ledger.ingest([received(batch(gaps=[other]))]).quarantined == 1
    assert [(one.meter, one.state) for one in ledger.gaps.all()] == [("GEN:1", "open")]


def test_quarantine_counts_as_stored_until_its_bound_then_nothing_more_is_acknowledged(
    ledger: Ledger, store: MessageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(store, of("edge-1", capture(1)))
    assert send(store, of("edge-2", capture(1), capture(2))).journals["journal-of-edge-2"].contiguous == 2
    assert ledger.quarantine.full() == []
    held = sum(group.octets for group in ledger.quarantine.groups())
    monkeypatch.setattr("gateway.central.ledger.quarantine.MAX_OCTETS", held)
    monkeypatch.setattr("gateway.central.ledger.quarantine.MARGIN", 0)
    outcome = send(store, of("edge-2", capture(3), capture(4, meter="GEN:2")))
    assert outcome.result.turned_away == 1
    assert outcome.result.stored == 1, "what it may say is still taken"
    state = outcome.journals["journal-of-edge-2"]
    assert (state.contiguous, state.holes) == (2, ((3, 3),))
    assert [group.entries for group in ledger.quarantine.groups()] == [2], "nothing was evicted"
    assert ledger.quarantine.full() == ["edge-2"]
    assert send(store, of("edge-1", capture(2))).journals["journal-of-edge-1"].contiguous == 2


def test_entries_of_one_message_share_the_room_that_quarantine_has(
    ledger: Ledger, store: MessageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(store, of("edge-1", capture(1)))
    send(store, of("edge-2", capture(1)))
    one = sum(group.octets for group in ledger.quarantine.groups())
    monkeypatch.setattr("gateway.central.ledger.quarantine.MAX_OCTETS", 3 * one)
    outcome = send(store, of("edge-2", *(capture(seq) for seq in range(2, 7))))
    assert (outcome.result.quarantined, outcome.result.turned_away) == (2, 3)
    assert [group.octets for group in ledger.quarantine.groups()] == [3 * one]


def test_a_gateway_claims_no_more_meters_than_one_may_have(
    ledger: Ledger, store: MessageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.central.ledger.ingest.MAX_CLAIMS", 2)
    rows = [capture(n, meter=f"GEN:{n}") for n in range(1, 5)]
    assert send(store, of("edge-1", *rows)).result.quarantined == 2
    assert {one.reason for one in ledger.quarantine.groups()} == {"too_many_claims"}


def settings(broker: Mosquitto, client: str) -> MqttSettings:
    return MqttSettings(
        port=broker.port, client_id=client, username=login(client), root="meters", session_expiry=3600
    )


@asynccontextmanager
async def running(broker: Mosquitto, ledger: Ledger) -> AsyncIterator[tuple[Central, MqttConnection]]:
    """Central, and a connection that plays the edges."""
    options = CentralOptions(ack_interval=0.05)
    central = Central(
        settings=settings(broker, "central"), ledger=ledger, signing_key=PRIVATE, options=options
    )
    task = asyncio.create_task(central.run())
    try:
        await until(lambda: central.statistics().connected or task.done(), "central to connect")
        async with connect(settings(broker, "edges")) as connection:
            yield central, connection
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_stranger_s_login_changes_nothing_of_another_s_meter_under_the_shipped_rules(
    broker: Mosquitto, ledger: Ledger
) -> None:
    """On the victim's topic the broker refuses it; on its own, central does, in the victim's name and in its own."""
    victim = TOPICS.readings("edge-1", "block_load")
    own = TOPICS.readings("edge-2", "block_load")
    forged = batch([capture(1, value="908", value_rev=9), capture(2, value="1")])
    async with (
        running(broker, ledger) as (central, _),
        connect(settings(broker, "edge-1")) as honest,
        connect(settings(broker, "edge-2")) as stranger,
    ):
        await honest.publish(victim, octets(batch([capture(1, value="308")])))
        await until(lambda: central.statistics().result.stored == 1, "the reading")
        with pytest.raises(PeerError, match="does not allow"):
            await stranger.publish(victim, octets(forged))
        async with connect(settings(broker, "edge-2")) as again:
            await again.publish(own, octets(forged))
            await until(lambda: central.statistics().set_aside == 1, "the name that is not its own")
            for journal in ("journal-1", "journal-2"):
                renamed = forged.model_copy(update={"gateway": "edge-2", "journal": journal})
                await again.publish(own, octets(renamed))
            await until(lambda: central.statistics().result.quarantined == 4, "what it says of the meter")
    kept = ledger.captures.get(capture(1).capture_id)
    assert kept is not None
    assert (kept.message.values[0].value, kept.gateway) == ("308", "edge-1")
    assert ledger.captures.get(capture(2).capture_id) is None
    state = ledger.journals.state("journal-1")
    assert (state.gateway, state.contiguous, state.highest) == ("edge-1", 1, 1), "and nothing is acknowledged"
    assert {one.reason for one in ledger.quarantine.groups()} == {"foreign_journal", "not_allocated"}


async def test_a_later_allocation_releases_what_waited(broker: Mosquitto, ledger: Ledger) -> None:
    async with running(broker, ledger) as (central, edges):
        await edges.publish(TOPICS.readings("edge-1", "block_load"), octets(of("edge-1", capture(1))))
        await until(lambda: ledger.allocations.history("GEN:1"), "the claim")
        waiting = of("edge-2", *(capture(n) for n in range(60, 70)))
        await edges.publish(TOPICS.readings("edge-2", "block_load"), octets(waiting))
        await until(lambda: central.statistics().result.quarantined == 10, "quarantine")
        give(ledger, "edge-2", "GEN:1")
        await until(lambda: central.statistics().result.stored == 11, "the release")
    assert ledger.quarantine.groups() == []
    assert len(ledger.captures.between("GEN:1")) == 11


async def test_what_an_older_program_could_not_read_is_tried_again_at_the_start(
    broker: Mosquitto, ledger: Ledger
) -> None:
    payload = octets(batch([capture(1)]))
    topic = TOPICS.readings("edge-1", "block_load")
    entry = QuarantinedEntry(
        gateway="edge-1", journal="journal-1", seq=1, meter="GEN:1", reason="unreadable", detail="", topic=topic,
        payload=payload, size=len(payload), received_at=NOW,
    )  # fmt: skip
    ledger.set_apart(entry)
    async with running(broker, ledger) as (central, _):
        await until(lambda: central.statistics().result.stored == 1, "the entry")
    assert ledger.quarantine.groups() == []


def test_a_meter_given_before_it_is_read_is_nobody_s_claim(ledger: Ledger, store: MessageStore) -> None:
    give(ledger, "edge-2", "GEN:1")
    assert send(store, of("edge-1", capture(1))).result.quarantined == 1
    assert send(store, of("edge-2", capture(2))).result.stored == 1
    assert ledger.allocations.claims() == []


def test_a_gateway_s_name_must_be_one(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="cannot name a gateway"):
        give(ledger, "edge 2", "GEN:1")


def test_migration_allocates_each_meter_to_the_gateway_that_last_delivered_it(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress((ROOT / "tests/data/ledger_version_1.db.gz").read_bytes()))
    ledger = Ledger(path)
    assert [(one.meter, one.gateway, one.epoch, one.origin) for one in ledger.allocations.current()] == [
        ("GEN:1", "edge-1", 1, "migrated"),
        ("GEN:2", "edge-2", 1, "migrated"),
        ("GEN:3", "edge-2", 1, "migrated"),
        ("GEN:4", "edge-1", 1, "migrated"),
    ]
    assert ledger.allocations.claims() == []
    ledger.close()


def test_the_operator_s_page_names_claims_quarantine_and_its_bound(
    ledger: Ledger, store: MessageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(store, of("edge-1", capture(1), capture(2, meter="GEN:2")))
    send(store, of("edge-2", capture(1), capture(3)))
    monkeypatch.setattr("gateway.central.ledger.quarantine.MAX_OCTETS", 1)
    found = list(
        authority_issues(ledger.allocations.claims(), ledger.quarantine.groups(), ledger.quarantine.full())
    )
    assert [(one.kind, one.severity, one.where, one.count) for one in found] == [
        (IssueKind.QUARANTINE_FULL, Severity.CRITICAL, "edge-2", 1),
        (IssueKind.QUARANTINED, Severity.WARNING, "edge-2", 2),
        (IssueKind.METERS_CLAIMED, Severity.NOTICE, "edge-1", 2),
    ]
    assert "not_allocated: GEN:1 is allocated to edge-1" in found[1].detail
    assert (ledger.counts().quarantined, ledger.counts().full_quarantines) == (2, 1)


def test_the_captures_of_a_block_are_judged_by_its_epoch_and_each_by_its_instant(
    ledger: Ledger, store: MessageStore
) -> None:
    topic = TOPICS.readings("edge-1", "block_load")

    def tell(block: EncodedBlock, first: int) -> IngestResult:
        return store.handle([ReceivedMessage(topic, batch_of(block, first=first), NOW)]).result

    give(ledger, "edge-1", "GEN:1")
    assert tell(encoded(block_load(0), epoch=1), 1).stored == 1
    assert tell(encoded(block_load(1), epoch=5), 2).quarantined == 1
    assert [group.reason for group in ledger.quarantine.groups()] == ["wrong_epoch"]
    moved = block_load(3).at
    ledger.allocations.give(["GEN:1"], "edge-2", by="asha", note="", since=moved, at=NOW)
    late = tell(encoded(*(block_load(number) for number in range(2, 6)), epoch=1), 3)
    assert (late.stored, late.quarantined) == (2, 2), "what it had read before the move is believed"
    assert [one.epoch for one in ledger.captures.between()] == [1, 1, 1]
    # Given back: each capture that waited is a message of its own, and is taken as it came.
    ledger.allocations.give(["GEN:1"], "edge-1", by="asha", note="", since=moved, at=NOW)
    for group in store.waiting({"not_allocated"}):
        taken, _ = store.take_again(group)
        assert taken.result.stored == 2
    assert [group.reason for group in ledger.quarantine.groups()] == ["wrong_epoch"]
    assert all(one.is_sound() for one in ledger.captures.between())


def test_a_ledger_that_lost_its_allocations_goes_on_with_the_epochs_that_edges_stamp(
    ledger: Ledger, store: MessageStore
) -> None:
    """The first batch claimed the meter as epoch 1, and all that followed waited for ever under the wrong epoch."""
    topic = TOPICS.readings("edge-1", "block_load")

    def tell(number: int, epoch: int) -> IngestResult:
        block = encoded(block_load(number), epoch=epoch)
        return store.handle([ReceivedMessage(topic, batch_of(block, first=number + 1), NOW)]).result

    assert [tell(number, 3).stored for number in range(3)] == [1, 1, 1]
    (claimed,) = ledger.allocations.history("GEN:1")
    assert (claimed.gateway, claimed.epoch, claimed.origin) == ("edge-1", 3, "claimed")
    (given,) = ledger.allocations.give(["GEN:1"], "edge-2", by="asha", note="", since=T0, at=NOW)
    assert given.epoch == 4
    assert ledger.allocations.history("GEN:1")[0].until == T0


def test_a_claim_does_not_take_an_epoch_that_no_ledger_gives(ledger: Ledger, store: MessageStore) -> None:
    block = encoded(block_load(0), epoch=MAX_SEQ)
    topic = TOPICS.readings("edge-1", "block_load")
    assert store.handle([ReceivedMessage(topic, batch_of(block, first=1), NOW)]).result.quarantined == 1
    assert ledger.allocations.history("GEN:1") == []


def test_after_a_set_back_a_meter_s_own_gateway_brings_the_epoch_that_was_lost(
    ledger: Ledger, store: MessageStore
) -> None:
    """A meter that had gone and come back (epoch 3) was epoch 1 in the copy: its readings waited for ever."""
    topic = TOPICS.readings("edge-1", "block_load")

    def tell(number: int, epoch: int) -> IngestResult:
        block = encoded(block_load(number), epoch=epoch)
        return store.handle([ReceivedMessage(topic, batch_of(block, first=number + 1), NOW)]).result

    give(ledger, "edge-1", "GEN:1")
    assert tell(0, 3).quarantined == 1, "nothing was lost yet"
    ledger.identity.begin_anew(ledger.identity.generation, "a copy was restored")
    assert [tell(number, 3).stored for number in (1, 2)] == [1, 1]
    assert tell(3, MAX_CLAIMED_EPOCH + 1).quarantined == 1
    assert tell(4, 1).stored == 1
    first, second = ledger.allocations.history("GEN:1")
    assert (first.epoch, first.until, second.epoch, second.until) == (1, NOW, 3, None)
    assert [one.epoch for one in ledger.allocations.untold(9)] == [1, 3]
    assert [one.meter for one in ledger.allocations.current("edge-1")] == ["GEN:1"]
    (group,) = [one for one in store.waiting({"wrong_epoch"}) if one.entries == 2]
    assert store.take_again(group)[0].result.stored == 1


def test_no_epoch_that_was_lost_with_the_ledger_is_given_to_another(tmp_path: Path) -> None:
    """Consumers keep what they were told of an epoch: another gateway's under the same number never counted."""
    consumer = ConsumerState()

    def tell(ledger: Ledger) -> None:
        for one in ledger.allocations.untold(9):
            consumer.apply_change(parse_change(allocation_message(one, NOW)).data)

    first = Ledger(tmp_path / "ledger.db")
    give(first, "edge-1", "GEN:1")
    give(first, "edge-2", "GEN:1")
    give(first, "edge-2", "GEN:5")
    tell(first)
    first.close()
    copy = Ledger(tmp_path / "copy.db")
    give(copy, "edge-1", "GEN:1")
    copy.identity.begin_anew(copy.identity.generation, "a copy was restored")
    give(copy, "edge-3", "GEN:1", "GEN:5")
    tell(copy)
    for meter in ("GEN:1", "GEN:5"):
        epoch = copy.allocations.history(meter)[-1].epoch
        assert epoch > 2
        data = batch([capture(1, meter=meter, epoch=epoch)], gateway="edge-3", journal=f"of-{meter}")
        consumer.apply(data)
        assert data.captures[0].capture_id in consumer.captures
    outcome = send(MessageStore(copy, TOPICS), of("edge-3", capture(9, meter="GEN:9")))
    assert outcome.result.stored == 1
    assert copy.allocations.history("GEN:9")[0].epoch > 2, "a claim may have been lost, too"
    copy.close()
