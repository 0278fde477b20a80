"""From doubted captures to verdicts, the ledger's answer and a consumer's: both say the same, at the right instant."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.central.directory.messages import standing_messages
from gateway.central.directory.service import sweep
from gateway.central.intake import times
from gateway.central.intake.times import RETOLD, TimeService
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.resolve import attributed, readings
from gateway.central.portal.view_models import IssueKind
from gateway.central.portal.views import Views
from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.envelope import parse, parse_change
from gateway.contract.messages import (
    Capture,
    CaptureClock,
    ClockSource,
    ClockStatus,
    FormerJournal,
    Status,
    TimeVerdict,
)
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics
from gateway.contract.verdicts import last_of
from gateway.mqtt import steady
from mapping.changes import Change, Install, MoveIn, MoveOut, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from mapping.timeline import MeterTimeline
from protocols.clock import SimulatedClock
from tests.support.central.samples import DAY, HALF_HOUR, NOW, T0, batch, capture, received
from tests.support.fakes import HandClock
from tests.support.waiting import until

TOPICS = Topics("test")
BOOT = "9f2c01ab"
BEGAN = T0 - DAY
MOVED = T0 + 5 * DAY
"""When the meter's usage point changed hands."""


@dataclass
class Central:
    """Central without a broker: what it would publish is kept, and a consumer takes it in."""

    ledger: Ledger
    directory: DirectoryStore
    clock: HandClock
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    consumer: ConsumerState = field(default_factory=ConsumerState)

    def __post_init__(self) -> None:
        self.service = TimeService(
            ledger=self.ledger,
            topics=TOPICS,
            clock=self.clock,
            standing=lambda meter: standing_messages(meter, self.directory.snapshot(), self.clock.now()),
        )

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        self.sent.append((topic, payload))
        if topic == TOPICS.verdicts():
            self.consumer.apply_verdict(parse(payload, TimeVerdict).data)
        else:
            self.consumer.apply_change(parse_change(payload).data)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def take(self, captures: list[Capture], at: datetime = NOW) -> None:
        data = batch(captures)
        self.ledger.ingest([received(data, at)])
        self.consumer.apply(data)

    async def settle(self) -> int:
        given = self.service.judge()
        await self.service.publish(self)
        sweep(self.ledger, self.directory.snapshot())
        return given

    def whose(self, capture_id: str) -> tuple[datetime, set[str]]:
        """The instant and accounts of a capture, by the ledger; the consumer must say the same."""
        stored = self.ledger.captures.get(capture_id)
        assert stored is not None
        ours = {
            one.account_id
            for one in attributed(stored, MeterTimeline(self.directory.snapshot(), stored.meter))
        }
        theirs = {one.account_id for one in self.consumer.attribution(capture_id).accounts}
        dated = self.consumer.dated(capture_id)
        assert (ours, stored.at, stored.start) == (theirs, dated.at, dated.start)
        assert (stored.reason == "untrusted_time") == (dated.reason == "untrusted_time")
        assert stored.message.at == stored.at
        return stored.at, ours


@pytest.fixture
def central(tmp_path: Path) -> Iterator[Central]:
    ledger = Ledger(tmp_path / "ledger.db")
    with DirectoryStore(tmp_path / "directory.db") as directory:
        changes: list[Change] = [
            Install("GEN:1", "up-1", Role.CONSUMER, T0 - 100 * DAY),
            MoveIn("up-1", "old", T0 - 100 * DAY),
            Name("old", NumberKind.ACCOUNT, "1000000017"),
            MoveOut("up-1", MOVED),
            MoveIn("up-1", "new", MOVED),
            Name("new", NumberKind.ACCOUNT, "1000000025"),
        ]
        directory.apply(changes, by="test", source="test", at=T0)
        yield Central(ledger, directory, HandClock(NOW))
    ledger.close()


@asynccontextmanager
async def serving(central: Central) -> AsyncIterator[None]:
    """Serve a connection, and cut it."""
    task = asyncio.create_task(central.service.serve(central))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def doubted(seq: int, true: datetime, gateway: timedelta, **more: Any) -> Capture:
    """A live reading at `true`, of a gateway that was `gateway` ahead without knowing."""
    at = true + gateway
    clock = CaptureClock(steady=f"{BOOT}/{(true - BEGAN).total_seconds():.3f}")
    fields: dict[str, Any] = {
        "profile": "instantaneous",
        "start": None,
        "at": at,
        "received_at": at,
        "capture_id": f"GEN:1/instantaneous/{at:%Y-%m-%dT%H:%M:%SZ}/0",
        "reason": "untrusted_time",
        "clock": clock,
    }
    return capture(seq, **(fields | more))


def stored_row(seq: int, true: datetime, gateway: timedelta, meter: timedelta, read: datetime) -> Capture:
    """A block recorded at `true` by a clock that was `meter` ahead, read at `read`."""
    at = true + meter
    known = gateway == timedelta(0)
    clock = CaptureClock(
        steady=None if known else f"{BOOT}/{(read - BEGAN).total_seconds():.3f}",
        drift=f"{(meter - gateway).total_seconds():.3f}",
        held=0,
    )
    return capture(seq, at=at, received_at=read + gateway, reason="untrusted_time", clock=clock)


def status(at: datetime, **clock: Any) -> Status:
    told = ClockStatus.model_validate(
        {"disciplined": True, "at": at, "state": "trusted", "boot": BOOT, "began": BEGAN} | clock
    )
    return Status(gateway="edge-1", online=True, version="2", journal="journal-1", clock=told, at=at)


async def test_live_readings_of_a_gateway_three_days_ahead_go_to_who_held_the_meter_then(
    central: Central,
) -> None:
    """107 readings, half of them before the hand-over, all stamped after it: misattributed for ever, once."""
    true = [MOVED + (n - 50) * HALF_HOUR + timedelta(minutes=1) for n in range(107)]
    sent = [doubted(n + 1, at, timedelta(days=3)) for n, at in enumerate(true)]
    central.take(sent)
    assert await central.settle() == 0  # nobody has told the time yet: honestly waiting
    assert central.whose(sent[0].capture_id) == (sent[0].at, set())
    assert central.ledger.unattributed.groups()[0].reason == "untrusted_time"
    central.service.told(status(NOW), NOW)
    assert await central.settle() == 1
    for one, at in zip(sent, true, strict=True):
        assert central.whose(one.capture_id) == (at, {"old" if at < MOVED else "new"})
    assert central.ledger.unattributed.groups() == []
    mine = readings(central.ledger, "old", T0, MOVED, central.directory)
    assert len(mine) == 50
    assert await central.settle() == 0  # said once


async def test_verdicts_that_a_fallen_broker_took_go_out_again_once_in_a_connection_that_lasts(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "POLL", 0.001)
    central.take([doubted(1, MOVED, timedelta(days=3))])
    central.service.told(status(NOW), NOW)

    def told() -> int:
        return sum(topic == TOPICS.verdicts() for topic, _ in central.sent)

    def settled() -> int:
        return central.ledger.cursors.get(f"{times.PUBLISHED}_settled")

    async with serving(central):  # the broker falls before a minute has passed
        await until(lambda: central.ledger.cursors.get(times.PUBLISHED) == 1)
    assert told() == 1
    monkeypatch.setattr(steady, "SETTLED", 0)
    async with serving(central):
        await until(lambda: settled() == 1)
    assert told() == 2


async def test_592_rows_of_a_slow_gateway_and_a_meter_in_the_wrong_zone(central: Central) -> None:
    """The gateway 25 minutes slow: 592 rows of a right meter; the meter 5:30 ahead: 95 rows of a right gateway."""
    slow, ahead, read = timedelta(minutes=-25), timedelta(hours=5, minutes=30), T0 + 14 * DAY
    true = [read - (592 - n) * HALF_HOUR for n in range(592)]
    central.take([stored_row(n + 1, at, slow, timedelta(0), read) for n, at in enumerate(true)])
    later = [read + (n + 20) * HALF_HOUR for n in range(95)]
    rows = [
        stored_row(600 + n, at, timedelta(0), ahead, later[-1] + HALF_HOUR / 3) for n, at in enumerate(later)
    ]
    central.take(rows)
    central.service.told(status(NOW), NOW)
    await central.settle()
    assert central.ledger.unattributed.groups() == []
    assert [one.at for one in central.ledger.captures.between("GEN:1")] == [*true, *later]
    for one, at in zip(rows, later, strict=True):
        assert central.whose(one.capture_id) == (at, {"new"})


async def test_a_capture_that_comes_after_its_verdict_is_settled_as_it_comes(central: Central) -> None:
    """A ledger that was restored asks for it again; a replay brings it twice."""
    sent = [doubted(n, MOVED - n * HALF_HOUR, timedelta(days=3)) for n in (1, 2, 3)]
    central.take(sent)
    central.service.told(status(NOW), NOW)
    await central.settle()
    again = sent[1].model_copy(update={"value_rev": 2})
    central.take([again])
    assert central.whose(again.capture_id) == (MOVED - 2 * HALF_HOUR, {"old"})
    central.take([again])
    assert central.whose(again.capture_id) == (MOVED - 2 * HALF_HOUR, {"old"})


async def test_a_row_read_again_by_a_gateway_that_knows_the_time_needs_no_verdict(central: Central) -> None:
    row = stored_row(1, MOVED - DAY, timedelta(minutes=-25), timedelta(0), MOVED)
    central.take([row])
    settled = row.model_copy(update={"seq": 9, "value_rev": 2, "reason": "no_account", "clock": None})
    central.take([settled])
    sweep(central.ledger, central.directory.snapshot())
    assert central.ledger.times.groups() == []
    stored = central.ledger.captures.get(row.capture_id)
    assert stored is not None
    assert [
        one.account_id
        for one in attributed(stored, MeterTimeline(central.directory.snapshot(), stored.meter))
    ] == ["old"]


async def test_better_evidence_moves_what_was_settled(central: Central) -> None:
    one = doubted(1, MOVED - HALF_HOUR, timedelta(days=3))
    central.take([one])
    central.clock.good = False
    central.service.told(status(NOW, began=BEGAN + timedelta(hours=1)), NOW)
    await central.settle()
    assert central.whose(one.capture_id) == (MOVED + HALF_HOUR, {"new"})
    central.service.told(status(NOW), NOW)
    await central.settle()
    assert central.whose(one.capture_id) == (MOVED - HALF_HOUR, {"old"})
    assert [v.version for v in central.ledger.times.since(0, 10)] == [1, 2]


async def test_what_a_ledger_that_was_set_back_says_counts_above_what_it_said_before(
    central: Central, tmp_path: Path
) -> None:
    """A copy knows nothing of the last verdicts, and its next ones had their numbers: consumers kept the old word."""
    first, one = (doubted(n, MOVED - HALF_HOUR / n, timedelta(days=3)) for n in (1, 2))
    central.clock.good = False
    central.take([first])
    central.service.told(status(NOW), NOW)
    await central.settle()
    central.ledger.close()
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    central.ledger = Ledger(tmp_path / "ledger.db")
    central.__post_init__()
    central.take([one])
    for hours in (2, 1):  # told twice, the second time rightly by as much as anybody knew
        central.service.told(status(NOW, began=BEGAN + timedelta(hours=hours)), NOW)
        await central.settle()
    assert central.whose(one.capture_id)[1] == {"new"}
    assert [v.version for v in central.ledger.times.since(0, 10)] == [1, 2, 3]
    central.ledger.close()
    for path in tmp_path.with_name("copy").glob("ledger.db*"):
        shutil.copy(path, tmp_path)
    central.ledger = Ledger(tmp_path / "ledger.db")
    central.ledger.identity.begin_anew(central.ledger.identity.generation, "a peer shows it")
    central.__post_init__()
    central.take([one])
    central.service.told(status(NOW), NOW)
    await central.settle()
    assert central.whose(one.capture_id) == (MOVED - HALF_HOUR / 2, {"old"})
    assert central.whose(first.capture_id) == (MOVED - HALF_HOUR, {"old"})
    versions = [v.version for v in central.ledger.times.since(0, 10)]
    assert versions == [1_000_000_001, 1_000_000_002]


async def test_an_edge_that_contradicts_itself_without_end_gets_no_verdicts_without_end(
    central: Central,
) -> None:
    one = doubted(1, MOVED - HALF_HOUR, timedelta(days=3))
    central.take([one])
    central.clock.good = False

    async def swings(count: int, now: datetime) -> None:
        for turn in range(count):
            central.service.told(status(now, began=BEGAN + timedelta(hours=turn % 2)), now)
            await central.settle()

    await swings(100, NOW)
    assert len(central.ledger.times.since(0, 1_000)) == RETOLD + 1
    assert "told more than 20 times" in (central.service.trouble or "")
    await swings(1, NOW + timedelta(days=2))
    assert len(central.ledger.times.since(0, 1_000)) <= RETOLD + 2
    central.service.told(
        status(NOW + timedelta(days=2), began=BEGAN + timedelta(hours=5)), NOW + timedelta(days=2)
    )
    await central.settle()
    assert central.whose(one.capture_id) == (MOVED + 9 * HALF_HOUR, {"new"}), "heard again the day after"
    assert central.service.trouble is None


async def test_an_edge_that_contradicts_a_central_that_knows_the_time_is_not_heard(central: Central) -> None:
    one = doubted(1, MOVED - HALF_HOUR, timedelta(days=3))
    central.take([one])
    wrong = NOW + timedelta(days=3)
    central.service.told(status(wrong), NOW)
    assert await central.settle() == 0
    source = ClockSource(source="central", offset="-259200", error="1")
    central.service.told(status(wrong, state="wrong", disciplined=False, sources=(source,)), NOW)
    assert await central.settle() == 1


async def test_a_reading_of_2099_is_held_named_and_never_makes_a_meter_heard(central: Central) -> None:
    future = capture(1, at=NOW + timedelta(days=26_000), reason=None)
    honest = capture(2, at=NOW - 2 * DAY)
    central.take([future, honest], NOW - DAY)
    await central.settle()
    assert central.whose(future.capture_id) == (future.at, set())
    views = Views(central.ledger, central.directory.snapshot, central.clock)
    found = views.overview()
    (meter,) = [row for row in found.meters if row.meter == "GEN:1"]
    assert (meter.last_at, meter.state.value) == (NOW - DAY, "silent")
    (issue,) = [one for one in found.issues if one.kind is IssueKind.DATED_AHEAD]
    assert (issue.where, issue.count) == ("GEN:1", 1)
    assert await central.settle() == 0


async def test_what_is_dated_ahead_of_a_slow_central_is_believed_when_its_time_has_come(
    central: Central,
) -> None:
    one = capture(1, at=NOW + HALF_HOUR, reason="no_account")
    central.take([one])
    await central.settle()
    assert central.whose(one.capture_id)[1] == set()
    central.clock.at = NOW + HALF_HOUR
    await central.settle()
    assert central.whose(one.capture_id) == (NOW + HALF_HOUR, {"new"})
    views = Views(central.ledger, central.directory.snapshot, central.clock)
    assert IssueKind.DATED_AHEAD not in {issue.kind for issue in views.overview().issues}


@pytest.mark.parametrize(
    ("ahead", "edge", "here", "where", "said"),
    [
        (timedelta(days=3), False, True, "edge-1", "the gateway's is wrong"),
        (timedelta(minutes=-25), True, False, "central", "central's is wrong"),
        (timedelta(hours=1), True, True, "edge-1", "both have evidence"),
        (timedelta(hours=1), False, False, "edge-1", "neither has evidence"),
    ],
)
def test_central_compares_clocks_and_says_whose_is_wrong(
    central: Central, ahead: timedelta, edge: bool, here: bool, where: str, said: str
) -> None:
    central.clock.good = here
    central.service.told(status(NOW + ahead, disciplined=edge), NOW)
    views = Views(central.ledger, central.directory.snapshot, central.clock)
    (issue,) = [one for one in views.overview().issues if one.kind is IssueKind.CLOCKS_DIFFER]
    assert issue.where == where
    assert said in issue.detail
    central.service.told(status(NOW), NOW)
    assert IssueKind.CLOCKS_DIFFER not in {one.kind for one in views.overview().issues}


def test_simulated_time_is_one_for_all_and_compared_with_nobodys(central: Central) -> None:
    """A second on the way is a minute of it."""
    clock = SimulatedClock(start=NOW, anchor=NOW, speed=60.0)
    service = TimeService(ledger=central.ledger, topics=TOPICS, clock=clock, standing=lambda meter: [])
    service.told(status(NOW - timedelta(minutes=1)), NOW)
    views = Views(central.ledger, central.directory.snapshot, central.clock)
    assert IssueKind.CLOCKS_DIFFER not in {one.kind for one in views.overview().issues}


def successor(upto: int) -> Status:
    """The status of a gateway whose journal was set back to `upto` and goes on under another name."""
    ended = FormerJournal(journal="journal-1", generation=Generation(3, "0000000a"), last_seq=upto)
    return status(NOW).model_copy(update={"journal": "journal-2", "former": (ended,)})


def set_back(central: Central) -> None:
    central.ledger.allocations.give_new(["GEN:1"], "edge-1", by="test", at=NOW)
    central.ledger.identity.begin_anew(Generation(7, "0000000b"), "restored from a copy")


def spoken(
    central: Central, seq: int, profile: str = "instantaneous", journal: str = "journal-1"
) -> str | None:
    """What was said last of a number."""
    said = [parse(payload, TimeVerdict).data for topic, payload in central.sent if topic == TOPICS.verdicts()]
    verdict = last_of((one for one in said if one.journal == journal), seq, profile)
    return None if verdict is None else verdict.trust


async def test_what_only_a_consumer_still_has_is_given_up(central: Central) -> None:
    """Ledger and journal were both set back: the end of the journal is nobody's but billing's."""
    alone = [doubted(seq, NOW - HALF_HOUR * (5 - seq), timedelta(0)) for seq in range(1, 5)]
    central.take(alone[:2])
    central.consumer.apply(batch(alone[2:]))
    set_back(central)
    central.service.told(successor(1), NOW)
    await central.settle()
    assert [spoken(central, seq) for seq in (1, 2, 3, 4, 10**9)] == ["trusted", "trusted", *["untrusted"] * 3]
    assert spoken(central, 3, "block_load") is None, "what the meter remembers comes again"
    assert spoken(central, 3, journal="journal-2") is None
    assert await central.settle() == 0
    central.ledger.allocations.give_new(["GEN:2"], "edge-1", by="test", at=NOW)
    assert await central.settle() == 3, "a meter that became known later, with three live profiles"


async def test_what_comes_under_the_next_name_is_not_given_up(central: Central) -> None:
    set_back(central)
    central.service.told(successor(3), NOW)
    await central.settle()
    assert [spoken(central, seq) for seq in (1, 3, 4)] == [None, None, "untrusted"]


async def test_ranges_declared_lost_are_given_up_and_what_lies_between_is_not(central: Central) -> None:
    central.take([doubted(seq, NOW - HALF_HOUR * (9 - seq), timedelta(0)) for seq in (1, 5, 8)])
    set_back(central)
    central.ledger.journals.declare_lost("journal-1", 2, 7, "the journal no longer holds them", NOW)
    assert central.service.judge() == 0, "nobody knows yet whether they come under another name"
    central.service.told(status(NOW), NOW)
    await central.settle()
    assert [spoken(central, seq) for seq in range(1, 9)] == [
        "trusted",
        *["untrusted"] * 3,
        "trusted",
        *["untrusted"] * 2,
        "trusted",
    ]


async def test_what_was_given_up_and_comes_after_all_is_judged_by_what_it_brings(central: Central) -> None:
    set_back(central)
    central.service.told(successor(0), NOW)
    await central.settle()
    late = doubted(2, NOW - HALF_HOUR, timedelta(0))
    assert spoken(central, 2) == "untrusted"
    central.take([late])
    await central.settle()
    assert spoken(central, 2) == "trusted"
    assert central.whose(late.capture_id)[1] == {"new"}


async def test_a_central_that_was_never_set_back_gives_nothing_up(central: Central) -> None:
    """What it never had no consumer has: each gets what the other gets."""
    central.ledger.allocations.give_new(["GEN:1"], "edge-1", by="test", at=NOW)
    central.service.told(successor(0), NOW)
    assert await central.settle() == 0
