"""What central knows of each gateway's meters and lines: kept by changes, and asked for where some were missed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.intake.listings import ASK_FIRST, PATIENCE, ListingWatch
from gateway.central.ledger.ledger import Ledger
from gateway.contract.envelope import wrap
from gateway.contract.messages import LineStatus, Message, MeterStatus, Status, StatusChanges
from gateway.contract.topics import Topics
from tests.support.central.samples import NOW
from tests.support.paths import ROOT
from tests.support.statements import statements_sent

TOPICS = Topics("kanpur")
RUN, NEXT_RUN = "0a0a0a0a", "0b0b0b0b"
SECOND = timedelta(seconds=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def meter(number: int, health: str = "ok") -> MeterStatus:
    return MeterStatus(meter=f"GEN:{number}", line="bus", health=health)


def changes(first: int, last: int, *meters: MeterStatus, run: str = RUN, **more: int) -> StatusChanges:
    return StatusChanges(
        gateway="edge-1",
        run=run,
        from_seq=first,
        to_seq=last,
        meters=meters,
        part=more.get("part", 1),
        parts=more.get("parts", 1),
        at=NOW,
    )


def summary(seq: int, *, run: str = RUN, **more: object) -> Status:
    return Status.model_validate(
        {
            "gateway": "edge-1",
            "online": True,
            "version": "1",
            "journal": "j",
            "run": run,
            "status_seq": seq,
            "at": NOW,
            **more,
        }
    )


def take(ledger: Ledger, *told: Status | StatusChanges) -> None:
    ledger.statuses.take([(one, NOW, False) for one in told])


def known(ledger: Ledger) -> dict[str, str]:
    return {one.meter: one.health for one in ledger.statuses.meters()}


def test_changes_follow_a_list(ledger: Ledger) -> None:
    take(ledger, changes(0, 3, meter(1), meter(2)), changes(4, 4, meter(2, "meter_silent")), summary(4))
    assert known(ledger) == {"GEN:1": "ok", "GEN:2": "meter_silent"}
    assert ledger.statuses.behind() == []


def test_missed_changes_show_until_a_list_comes(ledger: Ledger) -> None:
    take(ledger, changes(0, 2, meter(1), meter(2)), changes(4, 4, meter(2, "meter_silent")), summary(4))
    assert known(ledger)["GEN:2"] == "meter_silent"
    assert ledger.statuses.behind() == ["edge-1"]
    take(ledger, changes(0, 4, meter(1, "refused"), meter(2, "meter_silent")))
    assert known(ledger) == {"GEN:1": "refused", "GEN:2": "meter_silent"}
    assert ledger.statuses.behind() == []


def test_another_run_is_not_mixed_with_the_last(ledger: Ledger) -> None:
    take(ledger, changes(0, 9, meter(1)), summary(9), summary(0, run=NEXT_RUN))
    assert ledger.statuses.behind() == ["edge-1"]
    take(ledger, changes(1, 1, meter(1, "meter_silent"), run=NEXT_RUN))
    assert known(ledger) == {"GEN:1": "ok"}
    take(ledger, changes(0, 2, meter(5), run=NEXT_RUN))
    assert known(ledger) == {"GEN:5": "ok"}
    assert ledger.statuses.behind() == []


def test_a_meter_that_a_list_does_not_name_is_gone_when_the_list_is_whole(ledger: Ledger) -> None:
    take(ledger, changes(0, 2, meter(1), meter(2)), summary(2))
    take(ledger, changes(0, 5, meter(2), part=1, parts=2))
    assert known(ledger).keys() == {"GEN:1", "GEN:2"}
    take(ledger, changes(0, 5, meter(3), part=2, parts=2))
    assert known(ledger).keys() == {"GEN:2", "GEN:3"}


def test_a_list_with_a_part_missing_takes_nothing_away(ledger: Ledger) -> None:
    take(ledger, changes(0, 2, meter(1), meter(2)))
    take(
        ledger, changes(0, 5, meter(2), part=1, parts=3), changes(0, 5, meter(4), part=3, parts=3), summary(5)
    )
    assert known(ledger).keys() == {"GEN:1", "GEN:2"}
    assert ledger.statuses.behind() == ["edge-1"]


def test_what_comes_again_changes_nothing(ledger: Ledger) -> None:
    first, second = changes(0, 2, meter(1), meter(2)), changes(3, 3, meter(1, "meter_silent"))
    third = changes(4, 4, meter(1))
    take(ledger, first, second, third, first, second)
    assert known(ledger) == {"GEN:1": "ok", "GEN:2": "ok"}


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["ok", "meter_silent", "refused"])), max_size=25),
    st.sets(st.integers(0, 24)),
)
def test_whatever_is_lost_a_list_puts_it_right(
    tmp_path_factory: pytest.TempPathFactory, notes: list[tuple[int, str]], lost: set[int]
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
    try:
        truth = dict.fromkeys(range(1, 5), "ok")
        take(ledger, changes(0, 4, *(meter(n) for n in truth)))
        for index, (n, health) in enumerate(notes):
            truth[n] = health
            if index not in lost:
                take(ledger, changes(5 + index, 5 + index, meter(n, health)))
        end = 4 + len(notes)
        take(ledger, summary(end))
        assert bool(ledger.statuses.behind()) == any(index in lost for index in range(len(notes)))
        if ledger.statuses.behind():
            take(ledger, changes(0, end, *(meter(n, health) for n, health in truth.items())))
        assert ledger.statuses.behind() == []
        assert known(ledger) == {f"GEN:{n}": health for n, health in truth.items()}
    finally:
        ledger.close()


def test_a_retained_status_is_as_old_as_it_says(ledger: Ledger) -> None:
    def heard() -> object:
        return ledger.statuses.all()[0].received_at

    old = summary(1, at=NOW - timedelta(hours=3))
    ledger.statuses.take([(old, NOW, True)])
    assert heard() == NOW - timedelta(hours=3)
    ledger.statuses.take([(summary(2), NOW + SECOND, False)])
    assert heard() == NOW + SECOND
    ledger.statuses.take([(old, NOW + timedelta(hours=1), True)])
    assert heard() == NOW + SECOND
    ledger.statuses.take([(summary(3, at=NOW + timedelta(days=9)), NOW + timedelta(hours=1), True)])
    assert heard() == NOW + timedelta(hours=1)


def message(kind: Message, topic: str) -> ReceivedMessage:
    payload = wrap(kind, id="edge-1/1", source="/gateways/edge-1", time=NOW)
    return ReceivedMessage(topic, payload, NOW)


def test_statuses_of_version_1_are_read(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    golden = (ROOT / "tests" / "data" / "contract_v1" / "status-online.json").read_bytes()
    handled = store.handle([ReceivedMessage("kanpur/v1/edge-1/status", golden, NOW)])
    assert handled.set_aside == 0
    [held] = ledger.statuses.all()
    read = Status.model_validate_json(held.body)
    assert (read.meters, read.lines, read.role) == ({"ok": 1, "meter_silent": 1}, {"up": 1}, "edge")
    assert known(ledger) == {"GEN:12345678": "ok", "GEN:777": "meter_silent"}
    assert [line.state for line in ledger.statuses.lines()] == ["up"]
    assert ledger.statuses.behind() == []
    gone = (ROOT / "tests" / "data" / "contract_v1" / "status-offline.json").read_bytes()
    store.handle([ReceivedMessage("kanpur/v1/edge-1/status", gone, NOW)])
    assert known(ledger).keys() == {"GEN:12345678", "GEN:777"}


def test_a_hundred_statuses_are_one_transaction(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    one = message(summary(1), TOPICS.status("edge-1"))
    with statements_sent() as sent:
        store.handle([one] * 100)
    assert sum(statement.startswith("COMMIT") for statement in sent) <= 1
    assert len(sent) < 400


def test_changes_on_another_gateways_topic_are_set_aside(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    handled = store.handle([message(changes(0, 1, meter(1)), TOPICS.status_changes("edge-2"))])
    assert handled.set_aside == 1
    assert known(ledger) == {}


def test_statuses_of_an_old_ledger_are_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress((ROOT / "tests" / "data" / "ledger_version_1.db.gz").read_bytes()))
    ledger = Ledger(path)
    try:
        for held in ledger.statuses.all():
            Status.model_validate_json(held.body)
        assert ledger.statuses.behind() == []
    finally:
        ledger.close()


def test_who_is_behind_is_asked_and_asked_again_more_rarely() -> None:
    watch = ListingWatch()
    watch.behind(["edge-1"], 0.0)
    assert watch.requests_due(PATIENCE - 1) == []
    watch.behind(["edge-1"], 1.0)
    assert watch.requests_due(PATIENCE) == ["edge-1"]
    assert watch.requests_due(PATIENCE + ASK_FIRST - 1) == []
    assert watch.requests_due(PATIENCE + ASK_FIRST) == ["edge-1"]
    assert watch.requests_due(PATIENCE + 2 * ASK_FIRST) == []
    watch.behind([], 200.0)
    assert watch.requests_due(10_000.0) == []


def test_lines_are_kept_as_meters_are(ledger: Ledger) -> None:
    listing = changes(0, 1).model_copy(update={"lines": (LineStatus(name="bus", state="up"),)})
    down = changes(2, 2).model_copy(update={"lines": (LineStatus(name="bus", state="down", detail="no"),)})
    take(ledger, listing, down)
    assert [(one.line, one.state, one.detail) for one in ledger.statuses.lines()] == [("bus", "down", "no")]
