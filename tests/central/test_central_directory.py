"""A change of the directory: signed parts for edges, spans for billing, no reading sent again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.central.directory.service import PUBLISHED, DirectoryService, sweep
from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.resolve import readings
from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.envelope import parse_change
from gateway.contract.messages import (
    AllocationChanged,
    AttributionChanged,
    NamingChanged,
)
from gateway.contract.topics import TopicKind, Topics
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from mapping.changes import Change, Install, MoveIn, MoveOut, Name
from mapping.directory import NumberKind, Role
from mapping.errors import NumberRefused
from mapping.store import DirectoryStore
from tests.support.central.samples import DAY, HALF_HOUR, NOW, T0, batch, capture, octets, received, snapshot
from tests.support.keys import PRIVATE
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

TOPICS = Topics("test")
MOVED = T0 + 2 * DAY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with DirectoryStore(tmp_path / "directory.db") as made:
        yield made


def fit(store: DirectoryStore, meter: str = "GEN:1", account: str = "acc-1", point: str = "UP-1") -> int:
    return store.apply(
        [
            Install(meter, point, Role.CONSUMER, T0 - DAY),
            MoveIn(point, account, T0 - DAY),
            Name(account, NumberKind.LEGACY, f"KE-{account[-1]}"),
        ],
        by="test",
        source="directory.csv",
        at=NOW,
    )


def rekey(store: DirectoryStore, account: str = "acc-1", number: str = "0123456789") -> int:
    change = Name(account, NumberKind.ACCOUNT, number)
    return store.apply([change], by="test", source="rekey.csv", at=NOW + DAY)


def move(store: DirectoryStore) -> int:
    changes: list[Change] = [
        MoveOut("UP-1", MOVED),
        MoveIn("UP-1", "acc-2", MOVED),
        Name("acc-2", NumberKind.ACCOUNT, "2222222222"),
    ]
    return store.apply(changes, by="test", source="moves.csv", at=NOW + 2 * DAY)


class Listener:
    """Billing: what central publishes of the directory."""

    def __init__(self, connection: MqttConnection) -> None:
        self.connection = connection
        self.state = ConsumerState()
        self.changes: list[AttributionChanged | NamingChanged] = []
        self.allocations: list[AllocationChanged] = []
        self.readings = 0

    async def listen(self) -> None:
        async for message in self.connection.messages():
            kind = TOPICS.parse(message.topic).kind
            if kind is TopicKind.ATTRIBUTIONS:
                change = parse_change(message.payload).data
                self.state.apply_change(change)
                if isinstance(change, AllocationChanged):
                    self.allocations.append(change)
                else:
                    self.changes.append(change)
            elif kind is TopicKind.READINGS:
                self.readings += 1


@asynccontextmanager
async def serving(broker: Mosquitto, ledger: Ledger, store: DirectoryStore) -> AsyncIterator[None]:
    directory = DirectoryService(store=store, ledger=ledger, topics=TOPICS, signing_key=PRIVATE, poll=0.05)
    central = Central(
        settings=MqttSettings(port=broker.port, client_id="central", username="central", root="test"),
        ledger=ledger,
        signing_key=PRIVATE,
        directory=directory,
        options=CentralOptions(ack_interval=0.05),
    )
    task = asyncio.create_task(central.run())
    try:
        await until(lambda: central.statistics().connected, "central to connect")
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def listening(broker: Mosquitto) -> AsyncIterator[Listener]:
    settings = MqttSettings(
        port=broker.port, client_id="billing", username="central", root="test", session_expiry=600
    )
    async with connect(settings) as connection:
        await connection.subscribe(TOPICS.attributions(), TOPICS.filter(TopicKind.READINGS))
        listener = Listener(connection)
        task = asyncio.create_task(listener.listen())
        try:
            yield listener
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_readings_before_their_numbers_then_the_rekey(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    """The demo's story: delivered without an account, right afterwards, and no reading sent twice."""
    data = batch([capture(n) for n in range(1, 11)])
    async with listening(broker) as billing, serving(broker, ledger, store):
        await billing.connection.publish(TOPICS.readings("edge-1", "block_load"), octets(data))
        await until(
            lambda: sum(g.count for g in ledger.unattributed.groups()) == 10, "the unattributed readings"
        )
        fit(store)
        await until(lambda: len(billing.changes) == 2, "the span and the legacy name")
        assert sum(g.count for g in ledger.unattributed.groups()) == 10, (
            "without a 10-digit number they still wait"
        )
        rekey(store)
        await until(lambda: len(billing.changes) == 3, "the naming")
        await until(lambda: ledger.unattributed.groups() == [], "the view to follow")
        assert billing.readings == 1
    span, _, naming = billing.changes
    assert isinstance(span, AttributionChanged)
    assert (span.meter, span.old, [a.account_id for a in span.new]) == ("GEN:1", (), ["acc-1"])
    assert span.new[0].usage_point == "UP-1"
    assert isinstance(naming, NamingChanged)
    assert (naming.kind, naming.old, naming.new) == ("account_number", None, "0123456789")
    found = readings(ledger, "0123456789", T0, NOW, store)
    assert [r.capture.seq for r in found] == list(range(1, 11))
    # What billing holds by the three-line rule is what the ledger answers.
    billing.state.apply(data)
    for one in found:
        (theirs,) = billing.state.attribution(one.capture.capture_id).accounts
        assert (theirs.account_id, theirs.account_number) == ("acc-1", "0123456789")


async def test_changes_made_while_central_was_away_come_once_in_order(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    async with listening(broker) as billing:
        async with serving(broker, ledger, store):
            fit(store)
            await until(lambda: ledger.cursors.get(PUBLISHED) == 1, "the first change")
        rekey(store)
        move(store)
        async with serving(broker, ledger, store):
            await until(lambda: ledger.cursors.get(PUBLISHED) == 3, "the rest")
            await until(lambda: len(billing.changes) == 5, "all messages")
    versions = [change.directory.version for change in billing.changes]
    assert versions == sorted(versions) == [1, 1, 2, 3, 3]


async def test_a_change_by_another_process_is_seen(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    script = (
        "import sys; from datetime import datetime, UTC; from mapping.store import DirectoryStore;"
        "from mapping.changes import Install; from mapping.directory import Role;"
        "store = DirectoryStore(sys.argv[1]); at = datetime(2026, 11, 1, tzinfo=UTC);"
        "store.apply([Install('GEN:9', 'UP-9', Role.FEEDER, at)], by='cli', source='x.csv', at=at)"
    )
    async with serving(broker, ledger, store):
        arguments = [sys.executable, "-c", script, str(tmp_path / "directory.db")]
        await asyncio.to_thread(subprocess.run, arguments, check=True)
        await until(lambda: ledger.cursors.get(PUBLISHED) == 1, "the other process's change")


def test_a_move_gives_each_account_its_own_and_can_be_asked_as_known_then(
    ledger: Ledger, store: DirectoryStore
) -> None:
    # users.md C-04
    fit(store)
    rekey(store)
    before, after = MOVED - timedelta(minutes=15), MOVED + timedelta(minutes=15)
    rows = [
        capture(1, at=before, start=before - HALF_HOUR),
        capture(2, at=after, start=after - HALF_HOUR),
        capture(3, at=after + HALF_HOUR, start=after),
        snapshot(4, at=MOVED),
    ]
    called = dict(
        zip((row.capture_id for row in rows), ("before", "across", "after", "register"), strict=True)
    )
    ledger.ingest([received(batch(rows))])
    move(store)

    def held(account: str, known: timedelta | None) -> dict[str, str]:
        known_at = None if known is None else NOW + known
        found = readings(ledger, account, T0, NOW, store, known_at=known_at)
        return {called[r.capture.capture_id]: r.role for r in found}

    assert held("0123456789", None) == {"before": "normal", "across": "partial", "register": "final"}
    assert held("2222222222", None) == {"across": "partial", "after": "normal", "register": "opening"}
    everything = dict.fromkeys(("before", "across", "after", "register"), "normal")
    assert held("acc-1", DAY) == everything
    assert held("KE-1", DAY) == everything
    assert held("2222222222", DAY) == {}
    assert held("acc-1", -DAY) == {}


def test_untrusted_time_stays_under_no_account(ledger: Ledger, store: DirectoryStore) -> None:
    # users.md row 54
    fit(store)
    rekey(store)
    ledger.ingest([received(batch([capture(1, reason="untrusted_time", quality="1.1.9")]))])
    sweep(ledger, store.snapshot())
    assert [(g.reason, g.count) for g in ledger.unattributed.groups()] == [("untrusted_time", 1)]
    assert readings(ledger, "acc-1", T0, NOW, store) == []
    ledger.unattributed.recheck([("GEN:1", None, None)])
    sweep(ledger, store.snapshot())
    assert [(g.reason, g.count) for g in ledger.unattributed.groups()] == [("untrusted_time", 1)]


def test_stamps_of_an_old_directory_are_judged_by_the_new(ledger: Ledger, store: DirectoryStore) -> None:
    fit(store)
    rekey(store)
    sweep(ledger, store.snapshot())
    late = capture(1, reason=None, directory_version=1)
    ledger.ingest([received(batch([late, capture(2, meter="GEN:8", reason=None, directory_version=1)]))])
    assert ledger.unattributed.groups() == [], "not judged yet"
    assert sweep(ledger, store.snapshot()) == 2
    assert [(g.meter, g.reason) for g in ledger.unattributed.groups()] == [("GEN:8", "no_account")]
    assert sweep(ledger, store.snapshot()) == 0


def test_a_correction_can_take_readings_away(ledger: Ledger, store: DirectoryStore) -> None:
    fit(store)
    rekey(store)
    sweep(ledger, store.snapshot())
    stamped: dict[str, Any] = {"reason": None, "directory_version": 2}
    ledger.ingest([received(batch([capture(1, **stamped), capture(200, **stamped)]))])
    assert ledger.unattributed.groups() == []
    version = store.apply([MoveOut("UP-1", MOVED)], by="test", source="x", at=NOW + 3 * DAY)
    spans, _ = store.differences(version - 1, version)
    ledger.unattributed.recheck([(s.meter, s.start, s.end) for s in spans])
    sweep(ledger, store.snapshot())
    assert [(g.reason, g.count) for g in ledger.unattributed.groups()] == [("not_a_consumer", 1)]


def test_a_number_with_two_meanings_is_asked_back(ledger: Ledger, store: DirectoryStore) -> None:
    # users.md row 11
    fit(store)
    fit(store, "GEN:2", "acc-2", "UP-2")
    changes = [
        Name("acc-1", NumberKind.LEGACY, "5555555555"),
        Name("acc-2", NumberKind.ACCOUNT, "5555555555"),
    ]
    store.apply(changes, by="test", source="x", at=NOW)
    with pytest.raises(NumberRefused) as refused:
        readings(ledger, "5555555555", T0, NOW, store)
    assert refused.value.code == "AMBIGUOUS"
    with pytest.raises(NumberRefused) as refused:
        readings(ledger, "9999999999", T0, NOW, store)
    assert refused.value.code == "UNKNOWN_ACCOUNT"
    ledger.ingest([received(batch([capture(1, meter="GEN:2")]))])
    assert len(readings(ledger, "acc-2", T0, NOW, store)) == 1


@pytest.mark.mosquitto
async def test_billing_hears_whose_word_counts(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    """A meter that nobody knew goes to the first that delivers it; a stranger's word on it counts nowhere."""
    data = batch([capture(n) for n in range(1, 4)])
    async with listening(broker) as billing, serving(broker, ledger, store):
        await billing.connection.publish(TOPICS.readings("edge-1", "block_load"), octets(data))
        await until(lambda: len(billing.allocations) == 1, "the first allocation")
        [first] = billing.allocations
        assert (first.meter, first.epoch, first.gateway, first.until) == ("GEN:1", 1, "edge-1", None)
        now = datetime.now(UTC)
        ledger.allocations.give(["GEN:1"], "edge-2", by="test", note="", since=now, at=now)
        await until(lambda: len(billing.allocations) == 3, "the end of the first, and the second")
        told = {(one.epoch, one.gateway, one.until is None) for one in billing.allocations[1:]}
        assert told == {(1, "edge-1", False), (2, "edge-2", True)}
        await until(lambda: not ledger.allocations.untold(10), "that is noted, after the broker's receipt")
    async with listening(broker) as billing, serving(broker, ledger, store):
        now = datetime.now(UTC)
        ledger.allocations.give(["GEN:2"], "edge-2", by="test", note="", since=now, at=now)
        await until(lambda: len(billing.allocations) == 1, "only what is new")
        assert billing.allocations[0].meter == "GEN:2"
