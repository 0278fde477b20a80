"""What a change of the directory costs central: the edges concerned alone are looked at, and nothing is piled up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.central.directory.messages import change_messages
from gateway.central.directory.part_publisher import PartPublisher, touched_meters
from gateway.central.directory.service import MARKED, PUBLISHED, DirectoryService
from gateway.central.ledger.ledger import Ledger
from gateway.contract.topics import Topics
from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from tests.support.central.samples import DAY, NOW, T0
from tests.support.keys import PRIVATE
from tests.support.statements import statements_sent

TOPICS = Topics("test")
METERS = 20
"""Meters of each edge."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with DirectoryStore(tmp_path / "directory.db") as made:
        yield made


class Broker:
    """Confirms each message a moment later; `waiting` are the topics of those that it has not confirmed."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.most_topics = 0

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        self.sent[topic] += 1
        self.waiting[topic] += 1
        self.most_topics = max(self.most_topics, len(+self.waiting))
        loop = asyncio.get_running_loop()
        receipt: asyncio.Future[None] = loop.create_future()
        loop.call_soon(self._confirm, topic, receipt)
        return receipt

    def _confirm(self, topic: str, receipt: asyncio.Future[None]) -> None:
        self.waiting[topic] -= 1
        receipt.set_result(None)


def meter(number: int) -> str:
    return f"GEN:{number:05d}"


def add_edges(store: DirectoryStore, ledger: Ledger, edges: range) -> None:
    for edge in edges:
        changes: list[Change] = []
        for n in range(edge * METERS, (edge + 1) * METERS):
            changes += [Install(meter(n), f"UP-{n}", Role.CONSUMER, T0), MoveIn(f"UP-{n}", f"acc-{n}", T0)]
        store.apply(changes, by="test", source="fill", at=NOW)
        own = [meter(n) for n in range(edge * METERS, (edge + 1) * METERS)]
        ledger.allocations.give(own, f"edge-{edge}", by="test", note="", since=T0 - DAY, at=NOW)


def rekey(store: DirectoryStore, accounts: range, begin: int) -> None:
    names = [Name(f"acc-{n}", NumberKind.ACCOUNT, f"{begin + n}") for n in accounts]
    store.apply(names, by="test", source="rekey", at=NOW)


def publisher(store: DirectoryStore, ledger: Ledger) -> PartPublisher:
    return PartPublisher(
        store=store, ledger=ledger, topics=TOPICS, key=PRIVATE, clock=SystemClock(), calm=0.0
    )


async def test_one_change_costs_the_same_in_a_town_of_any_size(
    ledger_file: Ledger, store: DirectoryStore
) -> None:
    parts = publisher(store, ledger_file)
    asked: list[tuple[int, int]] = []
    for edges in (range(3), range(3, 24)):
        add_edges(store, ledger_file, edges)
        await parts.publish(Broker())
        broker = Broker()
        rekey(store, range(1), 1_000_000_000 * (1 + len(asked)))
        with statements_sent("ledger") as of_ledger, statements_sent("directory") as of_directory:
            await parts.publish(broker)
        assert broker.sent == {TOPICS.directory("edge-0"): 1}
        asked.append((len(of_ledger), len(of_directory)))
    assert asked[0] == asked[1]


def test_whom_a_change_of_all_concerns_is_found_with_few_questions(
    ledger_file: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    """As many statements for all accounts as for half of them: not one an account."""
    add_edges(store, ledger_file, range(8))
    asked: list[int] = []
    for accounts in (range(4 * METERS), range(8 * METERS)):
        rekey(store, accounts, 1_000_000_000 * (1 + len(asked)))
        # A directory of which nothing is at hand, as of a city where what was asked last has long gone.
        with DirectoryStore(tmp_path / "directory.db") as fresh:
            snapshot = fresh.snapshot()
            with statements_sent("directory") as statements:
                concerned = touched_meters(snapshot, snapshot.version - 1)
        assert concerned == [meter(n) for n in accounts]
        asked.append(len(statements))
    assert asked[0] == asked[1]


async def test_the_parts_of_a_rekey_of_all_are_made_one_after_the_other(
    ledger_file: Ledger, store: DirectoryStore
) -> None:
    add_edges(store, ledger_file, range(6))
    parts = publisher(store, ledger_file)
    await parts.publish(Broker())
    rekey(store, range(6 * METERS), 1_000_000_000)
    broker = Broker()
    await parts.publish(broker)
    assert set(broker.sent) == {TOPICS.directory(f"edge-{n}") for n in range(6)}
    assert broker.most_topics == 1


async def test_what_billing_is_told_of_a_rekey_of_all_is_made_as_it_is_sent(
    ledger_file: Ledger, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3 * MARKED + 7
    changes: list[Change] = []
    for n in range(count):
        changes += [Install(meter(n), f"UP-{n}", Role.CONSUMER, T0), MoveIn(f"UP-{n}", f"acc-{n}", T0)]
    store.apply(changes, by="test", source="fill", at=NOW)
    rekey(store, range(count), 1_000_000_000)
    told = DirectoryService(store=store, ledger=ledger_file, topics=TOPICS, signing_key=PRIVATE)
    broker = Broker()
    made, most = [0], [0]

    def counted(*args: Any, **named: Any) -> list[bytes]:
        messages = change_messages(*args, **named)
        made[0] += len(messages)
        most[0] = max(most[0], made[0] - broker.sent[TOPICS.attributions()])
        return messages

    monkeypatch.setattr("gateway.central.directory.service.change_messages", counted)
    await told.catch_up(broker)
    assert broker.sent == {TOPICS.attributions(): 2 * count}
    assert most[0] <= MARKED
    assert ledger_file.cursors.get(PUBLISHED) == 2
