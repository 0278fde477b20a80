"""What central owes and wants because of a journal: acknowledgements, replays, entries given up."""

from __future__ import annotations

from dataclasses import replace

from gateway.central.intake.journals import HeardJournal, JournalWatch
from gateway.central.ledger.records import JournalState
from gateway.contract.messages import Ack, Status
from gateway.contract.messages.generation import Generation
from gateway.contract.replay import ReplayPlanner
from tests.support.central.samples import NOW

STATE = JournalState(
    journal="j",
    gateway="edge-1",
    contiguous=4,
    highest=4,
    holes=(),
    stored=4,
    repeated=0,
    revised=0,
    first_seen=NOW,
    last_seen=NOW,
)


def watch(*, lost_after: float = 60.0) -> JournalWatch:
    return JournalWatch(ReplayPlanner(patience=3.0, most=60.0), lost_after=lost_after)


def status(**over: object) -> Status:
    told = {"gateway": "edge-1", "online": True, "version": "1", "journal": "j", "at": NOW}
    return Status.model_validate(told | over)


def acks(watching: JournalWatch) -> list[tuple[str, int]]:
    due = list(watching.acks_due())
    for _, ack in due:
        watching.acknowledged(ack)
    return [(gateway, ack.seq) for gateway, ack in due]


def test_what_is_stored_is_acknowledged_once() -> None:
    watching = watch()
    watching.stored(replace(STATE, contiguous=0, highest=0), 0.0)
    assert acks(watching) == [], "nothing is stored: there is nothing to say"
    watching.stored(STATE, 0.0)
    assert acks(watching) == [("edge-1", 4)]
    assert acks(watching) == []
    watching.stored(replace(STATE, contiguous=6, highest=6), 1.0)
    assert acks(watching) == [("edge-1", 6)]


def test_an_edge_that_may_have_missed_it_is_told_again() -> None:
    watching = watch()
    watching.stored(STATE, 0.0)
    acks(watching)
    watching.stored(replace(STATE, repeated=1), 1.0)
    assert acks(watching) == [("edge-1", 4)], "it sent again what we have"
    watching.announced(status(last_seq=4), 2.0)
    assert acks(watching) == [("edge-1", 4)], "it has just come back"
    watching.announced(status(last_seq=4, online=False), 3.0)
    assert acks(watching) == [], "it is away"
    watching.owe_all()
    assert acks(watching) == [("edge-1", 4)], "our own connection was lost"


def test_an_acknowledgement_says_what_is_stored_when_it_is_its_turn() -> None:
    watching = watch()
    watching.stored(STATE, 0.0)
    watching.stored(replace(STATE, journal="k", contiguous=1, highest=1), 0.0)
    due = watching.acks_due()
    assert next(due)[1] == Ack(journal="j", seq=4, consumer="central")
    watching.stored(replace(STATE, journal="k", contiguous=9, highest=9), 0.1)
    assert next(due)[1] == Ack(journal="k", seq=9, consumer="central")


def test_holes_and_a_tail_that_was_announced_are_asked_for() -> None:
    watching = watch()
    watching.stored(replace(STATE, highest=9, holes=((5, 6),)), 0.0)
    watching.announced(status(last_seq=14, backlog=2), 0.0)
    assert watching.replays_due(2.9) == []
    asked = [(gateway, one.first, one.last) for gateway, one in watching.replays_due(3.1)]
    assert asked == [("edge-1", 5, 6), ("edge-1", 10, 12)], "what waits at the edge is no hole"


def test_what_the_edge_no_longer_holds_is_lost_only_after_long() -> None:
    watching = watch(lost_after=60.0)
    watching.stored(replace(STATE, highest=20, holes=((5, 9),)), 0.0)
    assert watching.lost("j", 1_000.0) is None, "the edge did not say that it is gone"
    watching.announced(status(last_seq=20, first_seq=8), 10.0)
    assert watching.lost("j", 59.0) is None
    assert watching.lost("j", 61.0) == (5, 7)
    watching.stored(replace(STATE, contiguous=7, highest=20, holes=((8, 9),), gateway=""), 61.0)
    assert watching.lost("j", 62.0) is None
    assert [gateway for gateway, _ in watching.acks_due()] == ["edge-1"]


def test_what_is_missing_of_a_journal_that_another_succeeds_is_lost_after_long() -> None:
    """It was asked for each five minutes for ever: the edge that was set back gives nothing of the former uuid."""
    watching = watch()
    watching.stored(replace(STATE, highest=9, holes=((5, 7),)), 0.0)
    watching.stored(replace(STATE, journal="other's", gateway="edge-2", highest=9, holes=((5, 7),)), 0.0)
    watching.stored(replace(STATE, journal="k", contiguous=3, highest=3), 1.0)
    former = [{"journal": name, "generation": "1.00000001", "last_seq": 8} for name in ("j", "k", "other's")]
    watching.announced(status(journal="k", last_seq=3, former=former), 1.0)
    assert watching.lost("j", 59.0) is None, "it may be on the way"
    assert watching.lost("j", 61.0) == (5, 9)
    assert watching.lost("k", 61.0) is None, "its own run before this one"
    assert watching.lost("other's", 61.0) is None
    watching.announced(status(journal="j", last_seq=9), 62.0)
    assert watching.lost("j", 63.0) is None, "it lives: the other was a copy"


def test_only_the_owner_of_a_journal_says_how_it_is_answered() -> None:
    """Our signature under a generation that a stranger named would make the owner's journal change its name."""
    watching = watch()
    watching.stored(STATE, 0.0)
    life = Generation(3, "9f2c01ab")
    stranger = HeardJournal(journal="j", gateway="edge-2", version=1, generation=replace(life, counter=99))
    watching.heard(stranger)
    assert watching.version_of("j") == 2
    assert next(watching.acks_due())[1].generation is None
    watching.heard(replace(stranger, gateway="edge-1", version=2, generation=life))
    watching.heard(replace(stranger, gateway="edge-1", version=1, generation=replace(life, counter=2)))
    assert next(watching.acks_due())[1].generation == life
    assert watching.version_of("j") == 1
