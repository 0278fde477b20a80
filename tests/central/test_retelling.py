"""What a broker took shortly before it fell is told again in the next connection, once, and no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.central.directory.service import LIFE, PUBLISHED, DirectoryService
from gateway.central.ledger.allocations import TOLD
from gateway.central.ledger.cursors import Cursors
from gateway.central.ledger.ledger import Ledger
from gateway.central.retelling import Retelling
from gateway.contract.envelope import parse_change
from gateway.contract.topics import Topics
from gateway.mqtt import steady
from gateway.mqtt.steady import SETTLED
from mapping.changes import Install
from mapping.directory import Role
from mapping.store import DirectoryStore
from tests.support.central.samples import NOW, T0
from tests.support.keys import PRIVATE
from tests.support.waiting import until

NAME = "told"
TOPICS = Topics("test")


class Numbers(Cursors):
    """Cursors in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def get(self, name: str, unset: int = 0) -> int:
        return self.kept.get(name, unset)

    def set(self, name: str, value: int) -> None:
        self.kept[name] = value


@pytest.fixture
def cursors(tmp_path: Path) -> Iterator[Cursors]:
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger.cursors
    ledger.close()


def test_what_an_older_central_told_is_not_told_again(cursors: Cursors) -> None:
    cursors.set(NAME, 700)
    connection = Retelling(cursors, NAME)
    connection.look(0)
    connection.look(SETTLED)
    assert cursors.get(NAME) == 700


def test_what_was_told_before_the_broker_fell_and_before_its_consumers_came_back_is_told_again(
    cursors: Cursors,
) -> None:
    first = Retelling(cursors, NAME)
    first.look(0)
    cursors.set(NAME, 3)  # and the broker falls
    second = Retelling(cursors, NAME)
    second.look(10)
    cursors.set(NAME, 5)  # nobody has subscribed yet
    second.look(10 + SETTLED - 1)
    assert cursors.get(NAME) == 5
    second.look(10 + SETTLED)
    assert cursors.get(NAME) == 0


def test_an_unset_cursor_and_one_at_zero_are_told_apart(cursors: Cursors) -> None:
    assert cursors.get(NAME, 9) == 9
    cursors.set(NAME, 0)
    assert cursors.get(NAME, 9) == 0


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.floats(1, 2 * SETTLED), st.integers(0, 3)), max_size=8),
            st.floats(0, SETTLED),
        ),
        max_size=6,
    )
)
def test_whoever_comes_back_in_time_misses_nothing_and_an_old_word_is_not_repeated(
    connections: list[tuple[list[tuple[float, int]], float]],
) -> None:
    """A broker that forgets, at each fall, all of the last minute, and has no consumer for some time after it."""
    cursors, now, top = Numbers(), 0.0, 0
    arrived: set[int] = set()
    for looks, away in connections:
        connection, began = Retelling(cursors, NAME), now
        taken: dict[int, float] = {}
        connection.look(now)
        for step, more in looks:
            now += step
            connection.look(now)
            top += more
            for number in range(cursors.get(NAME) + 1, top + 1):
                taken[number] = now  # the broker's receipt
            cursors.set(NAME, top)
        arrived |= {n for n, at in taken.items() if at >= began + away and at <= now - SETTLED}
    last = Retelling(cursors, NAME)
    last.look(now)
    last.look(now + SETTLED)
    told_again = set(range(cursors.get(NAME) + 1, top + 1))
    assert set(range(1, top + 1)) - arrived <= told_again


@dataclass
class Billing:
    """A directory's service without a broker: what was heard of it, by the identity of each message."""

    ledger: Ledger
    store: DirectoryStore
    heard: list[str] = field(default_factory=list)

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        if topic == TOPICS.attributions():
            self.heard.append(parse_change(payload).id)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        """Serve a connection, and cut it."""
        service = DirectoryService(
            store=self.store, ledger=self.ledger, topics=TOPICS, signing_key=PRIVATE, poll=0.01
        )
        task = asyncio.create_task(service.serve(self))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stands(self, name: str) -> None:
        """Wait until what was told counts as sure."""
        settled = f"{name}_settled"
        await until(lambda: self.ledger.cursors.get(settled) == self.told(name))

    def told(self, name: str) -> int:
        return self.ledger.allocations.tellings() if name == TOLD else self.ledger.cursors.get(name)


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Billing]:
    ledger = Ledger(tmp_path / "ledger.db")
    with DirectoryStore(tmp_path / "directory.db") as store:
        yield Billing(ledger, store)
    ledger.close()


async def test_whose_word_counts_is_told_again(billing: Billing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker falls within a minute: an allocation that it took is told again, and one long told is not."""
    allocations = billing.ledger.allocations

    def given(meter: str) -> int:
        return sum(meter in one for one in billing.heard)

    monkeypatch.setattr(steady, "SETTLED", 0)
    async with billing.connection():
        allocations.give(["GEN:1"], "edge-1", by="test", note="", since=T0, at=NOW)
        await until(lambda: given("GEN:1") > 0 and not allocations.untold(10))
        await billing.stands(TOLD)
    long_told = given("GEN:1")
    monkeypatch.setattr(steady, "SETTLED", SETTLED)
    async with billing.connection():
        allocations.give(["GEN:2"], "edge-1", by="test", note="", since=T0, at=NOW)
        await until(lambda: not allocations.untold(10), "that is noted, after the broker's receipt")
    monkeypatch.setattr(steady, "SETTLED", 0)
    async with billing.connection():
        await until(lambda: given("GEN:2") == 2)
        await billing.stands(TOLD)
    assert given("GEN:1") == long_told
    async with billing.connection():
        await billing.stands(TOLD)
    assert given("GEN:2") == 2


async def test_the_whole_of_a_directory_that_was_set_back_is_told_again(
    billing: Billing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its versions are lower than those told before: the number of the version alone would hide the loss."""

    def install(number: int) -> None:
        change = Install(f"GEN:{number}", f"UP-{number}", Role.CONSUMER, T0)
        billing.store.apply([change], by="test", source="test", at=NOW)

    def standing() -> int:
        return sum(one.startswith("standing") for one in billing.heard)

    monkeypatch.setattr(steady, "SETTLED", 0)
    async with billing.connection():
        for number in (1, 2, 3):
            install(number)
        await until(lambda: billing.ledger.cursors.get(PUBLISHED) == 3)
        await billing.stands(PUBLISHED)
    assert standing() == 0
    with DirectoryStore(tmp_path / "other.db") as other:
        billing.store = other
        install(7)
        monkeypatch.setattr(steady, "SETTLED", SETTLED)
        async with billing.connection():
            await until(lambda: billing.ledger.cursors.get(PUBLISHED) == 1)
            await until(lambda: told_life(billing) == other.life.generation)
        first = standing()
        assert first
        monkeypatch.setattr(steady, "SETTLED", 0)
        async with billing.connection():
            await until(lambda: standing() == 2 * first)
            await until(lambda: told_life(billing) == other.life.generation)
            await until(lambda: billing.ledger.cursors.get(f"{LIFE}_settled") == 2)
        async with billing.connection():
            await billing.stands(PUBLISHED)
        assert standing() == 2 * first


def told_life(billing: Billing) -> str:
    seen = billing.ledger.directory_seen.get()
    return "" if seen is None else seen.told
