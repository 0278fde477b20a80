"""What a gateway's login may say to central without stopping it, or anybody else's acknowledgements."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.intake.carrying import CALM, Carrying
from gateway.central.intake.journals import JournalWatch
from gateway.central.intake.times import TimeService
from gateway.central.ledger import carried
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.times import MAX_RUNS
from gateway.contract.central_word import CENTRAL
from gateway.contract.envelope import EVENTS_TYPE, TYPE_OF, wrap
from gateway.contract.messages import (
    MAX_SEQ,
    Ack,
    Alarm,
    ClockSource,
    ClockStatus,
    DirectoryRequest,
    LineStatus,
    MeterStatus,
    Status,
    StatusChanges,
    StatusVersion1,
    rfc3339,
)
from gateway.contract.replay import ReplayPlanner
from gateway.contract.topics import Topics
from tests.support.central.samples import DAY, NOW, batch, capture, gap, octets, received
from tests.support.fakes import HandClock
from tests.support.keys import PRIVATE

TOPICS = Topics("meters")
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def status(gateway: str, **more: object) -> Status:
    told = {"gateway": gateway, "online": True, "version": "2", "journal": f"of-{gateway}", "at": NOW, **more}
    return Status.model_validate(told)


def old_status(gateway: str, alarms: int) -> bytes:
    told = StatusVersion1(
        gateway=gateway,
        online=True,
        version="1",
        journal=f"of-{gateway}",
        alarms=tuple(Alarm(code="journal_full", text=f"alarm {number}") for number in range(alarms)),
        at=NOW,
    )
    envelope = {
        "specversion": "1.0",
        "id": "status/1",
        "source": f"/{gateway}",
        "type": TYPE_OF[StatusVersion1],
        "time": rfc3339(NOW),
        "data": told.model_dump(mode="json"),
    }
    return json.dumps(envelope).encode()


def test_a_status_of_version_1_may_have_more_alarms_than_a_summary(ledger: Ledger) -> None:
    """Central ended, and again at each start: the message is retained."""
    store = MessageStore(ledger, TOPICS)
    handled = store.handle(
        [
            ReceivedMessage(TOPICS.of_version(1).status("edge-1"), old_status("edge-1", 70), NOW),
            ReceivedMessage(
                TOPICS.status("edge-2"), wrap(status("edge-2"), id="s", source="/e", time=NOW), NOW
            ),
        ]
    )
    assert handled.set_aside == 0
    kept = {one.gateway: Status.model_validate_json(one.body) for one in ledger.statuses.all()}
    assert (len(kept["edge-1"].alarms), kept["edge-1"].more_alarms) == (64, 6)
    assert "edge-2" in kept


def test_a_status_that_cannot_be_kept_is_set_aside_alone(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.central.ledger.statuses.MAX_ALARMS", 1_000)
    store = MessageStore(ledger, TOPICS)
    handled = store.handle(
        [
            ReceivedMessage(TOPICS.of_version(1).status("edge-1"), old_status("edge-1", 70), NOW),
            ReceivedMessage(
                TOPICS.status("edge-2"), wrap(status("edge-2"), id="s", source="/e", time=NOW), NOW
            ),
        ]
    )
    assert handled.set_aside == 1
    assert [one.reason for one in ledger.letters.newest()] == ["cannot_be_stored"]
    assert [one.gateway for one in ledger.statuses.all()] == ["edge-2"]


@pytest.mark.parametrize("offset", ["9" * 400, "-99999999999999999999", "300000000000"])
def test_a_clock_that_is_off_by_ages_is_not_heard(ledger: Ledger, offset: str) -> None:
    service = TimeService(ledger=ledger, topics=TOPICS, clock=HandClock(NOW), standing=lambda _: [])
    source = ClockSource(source="ntp", offset=offset, error="0.1")
    clock = ClockStatus(disciplined=True, at=NOW, sources=(source,), boot="9f2c01ab", began=NOW - DAY)
    service.told(status("edge-1", clock=clock), NOW)
    assert ledger.times.runs("edge-1") == {}


def test_a_machine_that_will_start_in_the_future_is_not_believed(ledger: Ledger) -> None:
    service = TimeService(ledger=ledger, topics=TOPICS, clock=HandClock(NOW), standing=lambda _: [])
    clock = ClockStatus(disciplined=True, at=NOW, boot="9f2c01ab", began=LAST)
    service.told(status("edge-1", clock=clock), NOW)
    assert ledger.times.runs("edge-1") == {}


def test_a_box_that_asks_without_end_is_given_its_things_at_a_pace(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Central answered it, and did nothing else: nobody was acknowledged any more."""
    now = 100.0
    monkeypatch.setattr("gateway.central.intake.carrying.monotonic", lambda: now)
    carrying = Carrying(ledger, TOPICS, PRIVATE, HandClock(NOW))
    request = DirectoryRequest(gateway="edge-1", have_version=0)
    carrying.asked(request)
    assert carrying.next() == "edge-1"
    carrying.asked(request)
    carrying.asked(DirectoryRequest(gateway="edge-2", have_version=0))
    assert [carrying.next(), carrying.next()] == ["edge-2", None]
    now += CALM
    assert [carrying.next(), carrying.next()] == ["edge-1", None]


def test_ranges_declared_lost_may_be_of_any_size(ledger: Ledger) -> None:
    """Two journals that begin at the highest numbers made the operator's page fail."""
    store = MessageStore(ledger, TOPICS)
    for number, journal in enumerate(["j-1", "j-2", "j-3"]):
        late = batch([capture(MAX_SEQ, number=number)], journal=journal)
        store.handle([ReceivedMessage(TOPICS.readings("edge-1", "block_load"), octets(late), NOW)])
        ledger.journals.declare_lost(journal, 1, MAX_SEQ - 1, "the journal no longer holds them", NOW)
    (found,) = ledger.journals.faults(NOW - DAY)
    assert found.lost >= 3 * (MAX_SEQ - 1)


def test_a_gap_under_the_id_of_another_meter_s_gives_way_to_the_one_that_it_names(ledger: Ledger) -> None:
    """Whoever guessed the id kept the other's gap in quarantine for ever."""
    name = "GEN:1/block_load/2026-11-01T00:00:00Z/2026-11-02T00:00:00Z"
    theirs = gap(1, gap_id=name, state="filled").model_copy(update={"meter": "GEN:2"})
    ledger.ingest([received(batch(gaps=[theirs], journal="of-2", gateway="edge-2"))])
    assert ledger.ingest([received(batch(gaps=[gap(1, gap_id=name)]))]).quarantined == 0
    assert [(one.meter, one.state) for one in ledger.gaps.all()] == [("GEN:1", "open")]
    assert ledger.ingest([received(batch(gaps=[theirs], journal="of-2", gateway="edge-2"))]).quarantined == 1


def test_a_gateway_lists_no_more_meters_than_one_may_have(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change may name another meter: the tables grew for ever."""
    monkeypatch.setattr("gateway.central.ledger.statuses.MAX_LISTED", 3)

    def changes(gateway: str, first: int, *meters: str) -> StatusChanges:
        return StatusChanges(
            gateway=gateway,
            run="0a0a0a0a",
            from_seq=first,
            to_seq=first,
            meters=tuple(MeterStatus(meter=one, health="ok") for one in meters),
            lines=tuple(LineStatus(name=one, state="up") for one in meters),
            at=NOW,
        )

    told = [changes("edge-1", 0, "a"), *(changes("edge-1", n, f"m{n}", f"n{n}") for n in range(1, 9))]
    for one in [*told, changes("edge-2", 0, "b"), changes("edge-1", 9, "a")]:
        ledger.statuses.take([(one, NOW, False)])
    assert [one.meter for one in ledger.statuses.meters()] == ["a", "b", "m1", "n1"]
    assert len(ledger.statuses.lines()) == 4
    assert {one.meter for one in ledger.statuses.meters()} >= {"a"}


def test_a_journal_of_nothing_but_holes_stays_small_and_loses_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second number made each message of everybody as slow as there were holes."""
    monkeypatch.setattr("gateway.central.ledger.journals.MAX_ISLANDS", 3)
    for seq in (20, 18, 16, 14, 12):
        ledger.ingest([received(batch([capture(seq)]))])
    state = ledger.journals.state("journal-1")
    assert (state.contiguous, state.holes) == (0, ((1, 11), (13, 13), (15, 15)))
    ledger.ingest([received(batch([capture(seq)])) for seq in range(1, 21)])
    assert ledger.journals.state("journal-1").contiguous == 20
    assert ledger.counts().captures == 20


def test_a_gateway_has_no_more_journals_than_one_may_have(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.central.ledger.ingest.MAX_JOURNALS", 2)
    stored = [ledger.ingest([received(batch([capture(1)], journal=f"j-{n}"))]) for n in range(4)]
    assert [one.quarantined for one in stored] == [0, 0, 1, 1]
    assert len(ledger.journals.all()) == 2
    assert ledger.ingest([received(batch([capture(2)], journal="j-1"))]).stored == 1


def test_journals_of_which_only_a_status_tells_are_forgotten_for_the_next(ledger: Ledger) -> None:
    """Each was kept in memory and asked for its entries for ever."""
    watch = JournalWatch(ReplayPlanner(), lost_after=60.0)
    for number in range(5):
        told = status("edge-1", journal=f"j-{number}", last_seq=9)
        watch.stored(replace(ledger.journals.state(told.journal), gateway=""), 0.0)
        watch.announced(told, 0.0)
    assert {request.journal for _, request in watch.replays_due(100.0)} == {"j-4"}
    watch.acknowledged(Ack(journal="j-0", seq=0, consumer=CENTRAL))
    assert (watch.lost("j-0", 100.0), watch.version_of("j-0")) == (None, 2)


def test_a_profile_with_a_slash_cannot_name_another_meter_s_capture(ledger: Ledger) -> None:
    """A/B with profile C and A with profile B/C had one capture_id."""
    store = MessageStore(ledger, TOPICS)
    odd = capture(1).model_copy(update={"meter": "GEN", "profile": "1/block_load"})
    name = odd.capture_id.replace("GEN:1/block_load", "GEN/1/block_load")
    data = batch([odd.model_copy(update={"capture_id": name})])
    events = wrap(data, id="e", source="/e", time=NOW, type=EVENTS_TYPE)
    handled = store.handle([ReceivedMessage(TOPICS.of_version(1).events("edge-1"), events, NOW)])
    assert (handled.result.stored, handled.result.quarantined) == (0, 1)


def test_a_gateway_has_no_more_counters_kept_than_one_may_have(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(carried, "MAX_KEYS", 10)
    for number in range(4):
        ledger.carried.note("edge-1", {f"key-{number}-{n}": 256 for n in range(4)})
    assert len(ledger.carried.counters("edge-1")) == 10
    assert "counters_not_kept" in capsys.readouterr().out
    ledger.carried.note("edge-1", {"key-0-0": 512})
    assert ledger.carried.counters("edge-1")["key-0-0"] == 512, "those that are kept still rise"
    ledger.carried.note("edge-2", {"key": 256})
    assert ledger.carried.counters("edge-2") == {"key": 256}, "and another gateway's are its own"


def test_a_gateway_has_no_more_runs_of_its_machine_kept_than_one_may_have(ledger: Ledger) -> None:
    ledger.times.run_began("edge-2", "boot", NOW, NOW)
    for number in range(MAX_RUNS + 20):
        at = NOW + number * timedelta(minutes=1)
        assert ledger.times.run_began("edge-1", f"{number:08x}", at, at)
    runs = ledger.times.runs("edge-1")
    assert sorted(runs) == [f"{number:08x}" for number in range(20, MAX_RUNS + 20)]
    assert ledger.times.runs("edge-2") == {"boot": NOW}
