"""What an edge tells once and a broker that fell may have told nobody: reserved counters, proved keys, an empty box."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from gateway.contract.envelope import TYPE_OF, event_type, parse
from gateway.contract.messages import (
    CarriedMark,
    CountersReserved,
    DirectoryRequest,
    KeysProven,
    Message,
)
from gateway.edge.keys import link
from gateway.edge.keys.change import Stage
from gateway.edge.keys.link import KeysLink, box_key
from gateway.edge.keys.ring import KeyRing
from gateway.edge.keys.store import Change, KeyStore
from gateway.edge.sinks import carried, part_requests
from gateway.edge.sinks.carried import CarriedLife
from gateway.edge.sinks.part_requests import PartRequests
from gateway.edge.stamping.stored_part import HeldPart, StoredPart
from gateway.mqtt import steady
from gateway.mqtt.connection import MqttConnection
from protocols.dlms.acts.keys import KeySlot
from tests.support.fakes import HandClock, Secrets
from tests.support.keys import PUBLIC
from tests.support.waiting import until

AT = datetime(2026, 11, 30, tzinfo=UTC)


@dataclass
class Heard:
    """A broker that takes all: what was offered, in its order."""

    payloads: list[bytes] = field(default_factory=list)

    async def offer(self, _topic: str, payload: bytes) -> bool:
        self.payloads.append(payload)
        return True

    def count(self, kind: type[Message]) -> int:
        return sum(event_type(one) == TYPE_OF[kind] for one in self.payloads)


@asynccontextmanager
async def connection(*workers: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Let workers share a connection for the block."""
    tasks = [asyncio.create_task(one) for one in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Keeper:
    """Counters that never rise again."""

    def reserved(self) -> Mapping[str, int]:
        return {"key": 64}

    def start_above(self, counters: Mapping[str, int]) -> None:
        pass

    async def begin_at(self, marks: Sequence[CarriedMark]) -> None:
        pass


async def test_reserved_counters_are_told_again_when_central_surely_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Central subscribed after the first telling: without a second, a new box would start at counters already used."""
    monkeypatch.setattr(carried, "TELL_EVERY", 0.001)
    life = CarriedLife("edge-1", root="r", keys=[PUBLIC], keeper=Keeper(), clock=HandClock(AT))
    heard = Heard()
    looks = 0
    real = Keeper.reserved

    def reserved(self: Keeper) -> Mapping[str, int]:
        nonlocal looks
        looks += 1
        return real(self)

    monkeypatch.setattr(Keeper, "reserved", reserved)
    monkeypatch.setattr(steady, "SETTLED", 0)
    async with connection(life.tell(cast("MqttConnection", heard))):
        await until(lambda: looks > 5)
    assert [parse(one, CountersReserved).data.counters for one in heard.payloads] == 2 * [{"key": 64}]


def proved(store: KeyStore) -> None:
    change = Change(
        key_id="a1" * 16,
        meter="GEN:1",
        client=48,
        what="secret",
        stage=Stage.SENT,
        sealed=b"sealed",
        slots=("48/secret",),
        made_at=AT,
        keys={KeySlot.SECRET: b"s" * 16},
    )
    store.make(change)
    store.adopt(change.key_id, [KeySlot.SECRET], AT)


async def test_a_proof_of_keys_is_told_again_until_central_surely_heard_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "TELL_EVERY", 0.001)
    clock = HandClock(AT)
    ring = KeyRing(tmp_path / "keys.db", Secrets({}), clock)
    store = ring.store(make=True)
    assert store is not None
    proved(store)
    keys = KeysLink("edge-1", root="r", keys=[PUBLIC], ring=ring, private=box_key(tmp_path), clock=clock)

    async def told(times: int, *, sure: bool = True) -> None:
        heard = Heard()
        async with connection(*keys.workers(cast("MqttConnection", heard))):
            await until(lambda: heard.count(KeysProven) == times and store.untold() == [])
            if sure:
                await until(lambda: store.unsure() == [])
        assert heard.count(KeysProven) == times

    try:
        await told(1, sure=False)  # and the broker falls
        assert store.unsure() == ["a1" * 16]
        monkeypatch.setattr(steady, "SETTLED", 0)
        await told(1)
        await told(0)
    finally:
        ring.close()


def asking(folder: Path) -> PartRequests:
    async def apply(_part: HeldPart) -> None:
        raise AssertionError("no part comes")

    stored = StoredPart(folder, "edge-1", [PUBLIC])
    return PartRequests("edge-1", root="r", stored=stored, apply=apply, clock=HandClock(AT))


async def test_an_empty_box_asks_as_one_until_all_that_central_knows_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part came and what a dead box left did not: only who asks with nothing in hand is told it again."""
    monkeypatch.setattr(part_requests, "ASK_FIRST", 0.001)
    monkeypatch.setattr(part_requests, "ASK_MOST", 0.002)
    parts = asking(tmp_path)
    parts.begin_anew()
    parts._stored.held, parts._stored._snapshot_only = HeldPart(version=3, number=7), False
    parts._answered = True
    heard = Heard()

    def numbers() -> list[int]:
        return [parse(one, DirectoryRequest).data.number for one in heard.payloads]

    async with connection(parts.ask(cast("MqttConnection", heard))):
        await until(lambda: len(heard.payloads) > 2)
        parts._answered = True
        await until(lambda: len(heard.payloads) > 5)
        assert set(numbers()) == {0}
        parts.begun()
        parts._answered = False
        await until(lambda: numbers()[-1] == 7)


async def test_a_part_is_asked_for_now_and_then_though_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of the broker fell with a part that it had taken, and our node stands: nothing else would tell."""
    monkeypatch.setattr(part_requests, "ASK_ANYWAY", 0.0)
    monkeypatch.setattr(part_requests, "ASK_FIRST", 0.001)
    monkeypatch.setattr(part_requests, "ASK_MOST", 0.002)
    parts = asking(tmp_path)
    heard = Heard()
    async with connection(parts.ask(cast("MqttConnection", heard))):
        await until(lambda: len(heard.payloads) > 0)
        parts._answered = True
        before = len(heard.payloads)
        await until(lambda: len(heard.payloads) > before + 1)
