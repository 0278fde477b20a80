"""A directory that was restored from a copy and went on otherwise: every consumer converges to what it says now."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.central.directory.lives import DirectoryLives
from gateway.central.directory.service import PUBLISHED, DirectoryService
from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import parse_signed
from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.envelope import parse_change, wrap
from gateway.contract.messages import Ack, Status
from gateway.contract.messages.generation import DirectoryVersion, Generation
from gateway.contract.signing import ACK_TYP, sign
from gateway.contract.topics import Topics
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from mapping.store_life import SUFFIX
from tests.support.central.samples import DAY, NOW, T0, batch, capture, octets, received
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

TOPICS = Topics("test")


def fit(store: DirectoryStore, number: int) -> None:
    point, account = f"UP-{number}", f"acc-{number}"
    changes: list[Change] = [
        Install(f"GEN:{number}", point, Role.CONSUMER, T0 - DAY),
        MoveIn(point, account, T0 - DAY),
        Name(account, NumberKind.LEGACY, f"KE-{number}"),
    ]
    store.apply(changes, by="test", source="directory.csv", at=NOW)


def rekey(store: DirectoryStore, at: timedelta, **numbers: str) -> None:
    changes = [Name(account.replace("_", "-"), NumberKind.ACCOUNT, text) for account, text in numbers.items()]
    store.apply(changes, by="test", source="rekey.csv", at=NOW + at)


@asynccontextmanager
async def billing(broker: Mosquitto) -> AsyncIterator[ConsumerState]:
    """A consumer that hears every change and keeps the rule."""
    state = ConsumerState()
    state.apply(batch([capture(n, meter=f"GEN:{n}") for n in (1, 2, 3)]))

    async def hear(connection: MqttConnection) -> None:
        async for message in connection.messages():
            state.apply_change(parse_change(message.payload).data)

    settings = MqttSettings(
        port=broker.port, client_id="billing", username="billing", root="test", session_expiry=600
    )
    async with connect(settings) as connection:
        await connection.subscribe(TOPICS.attributions())
        task = asyncio.create_task(hear(connection))
        try:
            yield state
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def central(broker: Mosquitto, folder: Path) -> AsyncIterator[tuple[Ledger, DirectoryStore]]:
    ledger = Ledger(folder / "ledger.db")
    with DirectoryStore(folder / "directory.db") as store:
        service = DirectoryService(store=store, ledger=ledger, topics=TOPICS, signing_key=PRIVATE, poll=0.05)
        made = Central(
            settings=MqttSettings(port=broker.port, client_id="central", username="central", root="test"),
            ledger=ledger,
            signing_key=PRIVATE,
            directory=service,
            options=CentralOptions(ack_interval=0.05),
        )
        task = asyncio.create_task(made.run())
        try:
            yield ledger, store
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            ledger.close()


def numbers(state: ConsumerState) -> dict[str, str | None]:
    """Which number each meter's reading stands under; None for nobody."""
    found = {}
    for capture_id in state.captures:
        accounts = state.attribution(capture_id).accounts
        found[capture_id.partition("/")[0]] = accounts[0].account_number if accounts else None
    return found


@pytest.mark.parametrize("how", ["file", "folder", "as many", "all"])
async def test_a_directory_restored_then_rekeyed_otherwise_leaves_no_crossed_number(
    broker: Mosquitto, tmp_path: Path, how: str
) -> None:
    """Every way of putting a copy back ends right.

    `file`: the database alone; `folder`: with what lies beside it, so that the ledger alone can tell; `as many`: and as
    many change sets came after it as were lost, so that only the last one that the ledger saw tells; `all`: all that
    central has, so that only what an edge keeps of central's own words can tell.
    """
    copies = tmp_path / "copies"
    async with billing(broker) as state:
        async with central(broker, tmp_path) as (ledger, store):
            ledger.ingest([received(batch([capture(n, meter=f"GEN:{n}") for n in (1, 2, 3)]))])
            fit(store, 1)
            fit(store, 2)
            await until(lambda: len(state.attribution(capture(1).capture_id).accounts) == 1)
            await until(lambda: seen_version(ledger) == store.version)
        copies.mkdir()
        for path in tmp_path.glob("*.db*"):
            shutil.copy(path, copies)
        async with central(broker, tmp_path) as (ledger, store):
            fit(store, 3)
            rekey(store, DAY, acc_1="1111111111", acc_2="2222222222", acc_3="3333333333")
            await until(lambda: numbers(state)["GEN:3"] == "3333333333")
            before = Generation.parse(store.life.generation)
            assert numbers(state) == {"GEN:1": "1111111111", "GEN:2": "2222222222", "GEN:3": "3333333333"}
            shown = await acknowledgement(broker)
            assert shown.directory == DirectoryVersion(before, 4)
        shutil.copy(copies / "directory.db", tmp_path)
        if how != "file":
            shutil.copy(copies / f"directory.db{SUFFIX}", tmp_path)
        if how == "all":
            shutil.copytree(copies, tmp_path, dirs_exist_ok=True)
        with DirectoryStore(tmp_path / "directory.db") as store:
            if how == "as many":
                fit(store, 4)
            rekey(store, 2 * DAY, acc_1="2222222222", acc_2="1111111111")
            assert store.version == (4 if how == "as many" else 3)
        right = {"GEN:1": "2222222222", "GEN:2": "1111111111", "GEN:3": None}
        async with central(broker, tmp_path) as (ledger, store):
            if how == "all":
                await show(broker, shown)
            await until(lambda: numbers(state) == right, lambda: f"{numbers(state)}")
            await until(lambda: store.life.generation == told(ledger))
            assert store.life.generation.startswith("2.")
            (found,) = (one for one in ledger.identity.set_backs() if one.store == "directory")
            assert ("the ledger has seen" in found.why) == (how != "file"), found.why
            rekey(store, 3 * DAY, acc_1="4444444444")
            await until(lambda: numbers(state)["GEN:1"] == "4444444444")
            await until(lambda: unattributed(ledger) == {"GEN:3": "no_account"})
            late = capture(9, meter="GEN:3", reason=None, directory_version=4, directory_generation=before)
            ledger.ingest([received(batch([late]))])
            await until(
                lambda: ledger.unattributed.groups()[0].count == 2, "a stamp of the life before is judged"
            )
        assert state.attribution(capture(1).capture_id).accounts[0].account_id == "acc-1"


def unattributed(ledger: Ledger) -> dict[str, str]:
    return {group.meter: group.reason for group in ledger.unattributed.groups()}


async def acknowledgement(broker: Mosquitto) -> Ack:
    """What central signs for an edge that delivers something now."""
    settings = MqttSettings(port=broker.port, client_id="edge-1", username="edge-1", root="test")
    async with connect(settings) as edge:
        await edge.subscribe(TOPICS.from_consumers("edge-1")[0])
        data = batch([capture(n, meter=f"GEN:{n}") for n in (1, 2, 3)])
        await edge.publish(TOPICS.readings("edge-1", "block_load"), octets(data))
        return parse_signed((await anext(edge.messages())).payload, Ack, [PUBLIC])[0]


async def show(broker: Mosquitto, ack: Ack) -> None:
    """Show it to central, as an edge does in its status."""
    proof = sign(ack.model_dump_json(exclude_none=True).encode(), key=PRIVATE, typ=ACK_TYP)
    status = Status(
        gateway="edge-1", online=True, version="2", journal="journal-1", acknowledged=proof, at=NOW
    )
    settings = MqttSettings(port=broker.port, client_id="edge-1", username="edge-1", root="test")
    async with connect(settings) as edge:
        payload = wrap(status, id="s", source="/gateways/edge-1", time=NOW)
        await edge.publish(TOPICS.status("edge-1"), payload, retain=True)


def test_what_an_edge_shows_while_the_directory_is_compared_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is looked at in one thread, and statuses are taken in another."""
    ledger = Ledger(tmp_path / "ledger.db")
    with DirectoryStore(tmp_path / "directory.db") as store:
        lives = DirectoryLives(store, ledger)
        before = lives.look()
        fit(store, 1)
        mark = DirectoryLives._mark

        def shown_meanwhile(self: DirectoryLives, version: int) -> str:
            ledger.directory_seen.shown(DirectoryVersion(before, 7))
            return mark(self, version)

        monkeypatch.setattr(DirectoryLives, "_mark", shown_meanwhile)
        after = lives.look()
        assert before.is_before(after)
        (found,) = ledger.identity.set_backs()
        assert "the ledger has seen version 7" in found.why
    ledger.close()


def seen_version(ledger: Ledger) -> int:
    seen = ledger.directory_seen.get()
    return -1 if seen is None else seen.version


def told(ledger: Ledger) -> str:
    seen = ledger.directory_seen.get()
    return "" if seen is None else seen.told


def is_noted(ledger: Ledger, store: DirectoryStore) -> bool:
    return ledger.cursors.get(PUBLISHED) == store.version


def has(heard: list[str], count: int) -> bool:
    return len(heard) == count


async def test_a_directory_that_was_not_set_back_is_not_told_anew(broker: Mosquitto, tmp_path: Path) -> None:
    heard: list[str] = []
    async with connect(
        MqttSettings(port=broker.port, client_id="listens", username="billing", root="test")
    ) as connection:
        await connection.subscribe(TOPICS.attributions())

        async def hear() -> None:
            async for message in connection.messages():
                heard.append(parse_change(message.payload).id)  # noqa: PERF401 - it never ends

        task = asyncio.create_task(hear())
        for number in (1, 2, 3):
            async with central(broker, tmp_path) as (ledger, store):
                fit(store, number)
                await until(partial(has, heard, 2 * number))
                # Only then is it told for good: what was told and not noted is told again, as it should be.
                await until(partial(is_noted, ledger, store))
                assert ledger.identity.set_backs() == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not any(identity.startswith("standing") for identity in heard)
