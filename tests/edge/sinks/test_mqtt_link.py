"""The edge's control side on a real Mosquitto: acks, replays after a broker's death, the signed directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.contract.envelope import DIRECTORY_TYPE, parse
from gateway.contract.messages import (
    Ack,
    DirectoryPart,
    DirectoryRequest,
    ReplayRequest,
    Signed,
)
from gateway.contract.signing import DIRECTORY_TYP, ORDER_TYP, sign
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.sinks import part_requests
from gateway.edge.stamping.stored_part import CheckedPart, StoredPart
from gateway.errors import ConfigError, ContractError
from gateway.mqtt.connection import MqttConnection, connect
from mapping.snapshot_changes import RELATIONS
from protocols.clock import SystemClock
from tests.support.billing import Billing
from tests.support.check_sink import running, wait_cursor
from tests.support.edge.mqtt_edge import NOW, TOPICS, Edge, central_says, say, settings
from tests.support.journal_records import ids_of, record, records
from tests.support.keys import OTHER_PRIVATE, PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until


def part(version: int, previous: int | None = None, **more: object) -> DirectoryPart:
    """A part that says nothing, numbered as its version."""
    nothing: dict[str, list[object]] = {name: [] for name in RELATIONS}
    rows = nothing if previous is None else {"removed": nothing, "added": nothing}
    given: dict[str, object] = {
        "gateway": "edge-1",
        "version": version,
        "number": version,
        "kind": "snapshot" if previous is None else "change",
        "previous": previous,
        "rows": json.dumps({"format": 1, **rows}),
        "issued_at": NOW,
        **more,
    }
    return DirectoryPart.model_validate(given)


async def say_part(
    central: MqttConnection, one: DirectoryPart, *, key: bytes = PRIVATE, typ: str = DIRECTORY_TYP
) -> None:
    jws = sign(one.model_dump_json().encode(), key=key, typ=typ)
    await say(central, TOPICS.directory("edge-1"), Signed(jws=jws), DIRECTORY_TYPE)


@contextlib.asynccontextmanager
async def central_of(broker: Mosquitto) -> AsyncIterator[tuple[MqttConnection, list[DirectoryRequest]]]:
    """A central that hears directory requests."""
    requests: list[DirectoryRequest] = []

    async def hear(connection: MqttConnection) -> None:
        async for message in connection.messages():
            request = parse(message.payload, DirectoryRequest).data
            requests.append(request)

    async with connect(settings(broker, "central")) as connection:
        await connection.subscribe(TOPICS.directory_request("edge-1"))
        task = asyncio.create_task(hear(connection))
        try:
            yield connection, requests
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_acks_of_our_journal_reach_it_and_others_are_refused(
    broker: Mosquitto, journal: Journal, tmp_path: Path
) -> None:
    await journal.append(records(20))
    edge = Edge(broker, journal, tmp_path / "edge")
    async with central_of(broker) as (central, requests), running(edge.sink, journal):
        await until(lambda: bool(requests))
        acks = TOPICS.acks("edge-1", "central")
        await central_says(central, Ack(journal="another", seq=3, consumer="central"))
        await central_says(central, Ack(journal=journal.uuid, seq=999, consumer="central"))
        await until(lambda: edge.link.statistics().refused == 2)
        await say(central, acks, Ack(journal=journal.uuid, seq=12, consumer="billing"))
        await until(lambda: edge.link.statistics().refused == 3)
        await central.publish(acks, b'{"specversion":')
        await central.publish(acks, b"\xff\x00")
        await central_says(central, Ack(journal=journal.uuid, seq=12, consumer="central"))
        await until(lambda: edge.link.statistics().acks == 1)
        await central.publish(TOPICS.orders("edge-1"), b"an order")
        await until(lambda: edge.orders == [b"an order"])
    assert edge.link.statistics().refused == 5
    assert journal.statistics().billing_acked == 12


async def test_broker_killed_in_mid_stream_loses_nothing(
    broker: Mosquitto, journal: Journal, tmp_path: Path
) -> None:
    """Mosquitto, when killed, forgets what it acknowledged: the consumer's rule finds and fills the holes."""
    edge = Edge(broker, journal, tmp_path / "edge")
    profiles = ("block_load", "daily", "instantaneous")
    wanted: set[str] = set()
    consumer = Billing(settings(broker, "billing", session_expiry=3600))
    async with consumer, running(edge.sink, journal):
        for step in range(12):
            batch = records(100, first=step * 100, profiles=profiles)
            wanted |= set(ids_of(batch))
            await journal.append(batch)
            if step in (3, 8):
                await until(lambda: bool(consumer.arrived))
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
        await wait_cursor(journal, "mqtt", journal.last_seq)
        await _fill_holes(broker, consumer, journal)
    assert set(consumer.state.captures) == wanted
    assert consumer.state.journals[journal.uuid].contiguous == 1200


async def _fill_holes(broker: Mosquitto, consumer: Billing, journal: Journal) -> None:
    tracker = consumer.state.journals[journal.uuid]
    async with connect(settings(broker, "asks")) as connection:
        for _ in range(50):
            holes = tracker.holes(journal.last_seq)
            if not holes:
                return
            for first, last in holes:
                request = ReplayRequest(journal=journal.uuid, first=first, last=last, consumer="central")
                await central_says(connection, request)
            with contextlib.suppress(AssertionError):
                await until(lambda: not tracker.holes(journal.last_seq), seconds=2)
    raise AssertionError(f"holes stay: {tracker.holes(journal.last_seq)}")


def wanted(journal: Journal, first: int, last: int) -> ReplayRequest:
    return ReplayRequest(journal=journal.uuid, first=first, last=last, consumer="central")


async def test_replay_sends_the_same_bodies_again(
    broker: Mosquitto, journal: Journal, tmp_path: Path
) -> None:
    await journal.append(records(700, profiles=("block_load", "daily")))
    edge = Edge(broker, journal, tmp_path / "edge")
    async with (
        Billing(settings(broker, "billing", session_expiry=60)) as consumer,
        running(edge.sink, journal),
    ):
        await until(lambda: len(consumer.arrived) == 700)
        once = dict(consumer.state.captures)
        async with connect(settings(broker, "asks")) as connection:
            await central_says(connection, wanted(journal, 101, 650))
            await central_says(connection, wanted(journal, 5000, 6000))
            await until(lambda: len(consumer.arrived) == 700 + 550)
            await until(lambda: edge.link.statistics().refused == 1)
        assert consumer.state.captures == once
        assert "is not held" in str(edge.link.statistics().last_refusal)


async def test_the_directory_is_asked_for_verified_stored_and_loaded(
    broker: Mosquitto, journal: Journal, tmp_path: Path
) -> None:
    folder = tmp_path / "edge"
    edge = Edge(broker, journal, folder)
    async with central_of(broker) as (central, requests), running(edge.sink, journal):
        await until(lambda: bool(requests))
        assert requests[0] == DirectoryRequest(gateway="edge-1", have_version=0, number=0)
        await say_part(central, part(3))
        await say_part(central, part(5, previous=3))
        await until(lambda: edge.link.directory_version == 5)
    assert [p.version for p in edge.parts] == [3, 5]
    [file] = list(folder.iterdir())
    assert file.stat().st_mode & 0o777 == 0o600
    again = Edge(broker, journal, folder)
    await again.link.load()
    assert again.parts == edge.parts[-1:]
    assert again.link.directory_version == 5


async def test_a_stored_directory_that_no_longer_applies_is_asked_for_again(
    broker: Mosquitto, journal: Journal, tmp_path: Path
) -> None:
    folder = tmp_path / "edge"
    edge = Edge(broker, journal, folder)
    async with central_of(broker) as (central, requests), running(edge.sink, journal):
        await until(lambda: bool(requests))
        await say_part(central, part(3))
        await until(lambda: edge.link.directory_version == 3)
    again = Edge(broker, journal, folder)
    again.refuse = True
    await again.link.load()
    again.refuse = False
    async with central_of(broker) as (central, requests), running(again.sink, journal):
        await until(lambda: bool(requests))
        assert requests[0].have_version == 0
        await say_part(central, part(4, previous=3))
        await until(lambda: again.link.statistics().refused == 2)
        await say_part(central, part(4))
        await until(lambda: again.link.directory_version == 4)
    assert [(p.version, p.changes) for p in again.parts] == [(4, 0)], "a snapshot"


def _forged(say_it: Callable[[MqttConnection], object]) -> Callable[[MqttConnection], object]:
    return say_it


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(_forged(lambda c: say_part(c, part(9), key=OTHER_PRIVATE)), id="another key"),
        pytest.param(_forged(lambda c: say_part(c, part(9), typ=ORDER_TYP)), id="another purpose"),
        pytest.param(_forged(lambda c: say_part(c, part(9, gateway="edge-2"))), id="another gateway"),
        pytest.param(_forged(lambda c: say_part(c, part(2))), id="older snapshot"),
        pytest.param(_forged(lambda c: say_part(c, part(9, previous=7))), id="hole"),
        pytest.param(_forged(lambda c: say_part(c, part(4, previous=5))), id="backwards"),
        pytest.param(
            _forged(lambda c: say(c, TOPICS.directory("edge-1"), Signed(jws="a.b.c"), DIRECTORY_TYPE)),
            id="no signature",
        ),
    ],
)
async def test_a_wrong_directory_part_changes_nothing(
    broker: Mosquitto, journal: Journal, tmp_path: Path, forged: Callable[[MqttConnection], object]
) -> None:
    edge = Edge(broker, journal, tmp_path / "edge")
    async with central_of(broker) as (central, requests), running(edge.sink, journal):
        await until(lambda: bool(requests))
        await say_part(central, part(5))
        await until(lambda: edge.link.directory_version == 5)
        await forged(central)  # type: ignore[misc]
        await until(lambda: edge.link.statistics().refused == 1)
        await say_part(central, part(6, previous=5))
        await until(lambda: edge.link.directory_version == 6)
    assert [p.version for p in edge.parts] == [5, 6]


async def test_what_mapping_refuses_is_not_stored(
    broker: Mosquitto, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_requests, "ASK_CALM", 0.0)
    edge = Edge(broker, journal, tmp_path / "edge")
    edge.refuse = True
    async with central_of(broker) as (central, requests), running(edge.sink, journal):
        await until(lambda: bool(requests))
        await say_part(central, part(5))
        await until(lambda: edge.link.statistics().refused == 1)
        assert edge.link.directory_version == 0
        edge.refuse = False
        await until(lambda: len(requests) == 2)
        await say_part(central, part(5))
        await until(lambda: edge.link.directory_version == 5)


def test_a_part_of_version_1_that_comes_again_sets_nothing_back(tmp_path: Path) -> None:
    """Those have no number: only the directory's version tells which is older."""
    stored = StoredPart(tmp_path, "edge-1", [PUBLIC])

    def check(version: int) -> CheckedPart | None:
        one = part(version, number=0)
        return stored.check(sign(one.model_dump_json().encode(), key=PRIVATE, typ=DIRECTORY_TYP))

    for version in (4, 5):
        checked = check(version)
        assert checked is not None
        stored.store(checked)
    with pytest.raises(ContractError, match="snapshot 4 is older than our 5"):
        check(4)


def test_a_stored_part_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="public key"):
        StoredPart(tmp_path, "edge-1", [])


@pytest.mark.mosquitto
async def test_an_ack_above_the_end_is_refused_and_never_renames_the_journal(
    tmp_path: Path, journal: Journal
) -> None:
    """Whoever may publish here can claim any number: it proves nothing about our file."""
    await journal.append(JournalBatch(blocks=(record(1), record(2))))
    was = journal.uuid
    with Mosquitto(tmp_path / "m") as broker:
        edge = Edge(broker, journal, tmp_path / "edge")
        async with running(edge.sink, journal), connect(settings(broker, "asks")) as connection:
            await wait_cursor(journal, "mqtt", 2)
            await central_says(connection, Ack(journal=was, seq=1, consumer="central"))
            await until(lambda: journal.statistics().billing_acked == 1)
            await central_says(connection, Ack(journal=was, seq=9, consumer="central"))
            await until(lambda: edge.link.statistics().acks_refused == 1)
            assert "central acknowledged 9" in (edge.link.statistics().ack_fault or "")
            assert (journal.uuid, journal.statistics().billing_acked) == (was, 1)
            await central_says(connection, Ack(journal=was, seq=2, consumer="central"))
            await until(lambda: journal.statistics().billing_acked == 2)


@pytest.mark.mosquitto
async def test_an_ack_of_what_was_never_sent_counts_up_to_what_was(tmp_path: Path, journal: Journal) -> None:
    await journal.append(JournalBatch(blocks=(record(1), record(2))))
    journal.note_sent("mqtt", 1)
    await journal.consumer_ack("central", 2)
    assert journal.statistics().consumers == {"central": 1}


@pytest.mark.mosquitto
async def test_only_what_every_named_consumer_has_is_released(tmp_path: Path) -> None:
    """Somebody who looks on with `listen --ack` must not release what central lacks."""
    limits = JournalLimits(consumers=("central", "billing"))
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock(), limits=limits)
    await journal.append(JournalBatch(blocks=(record(1), record(2), record(3))))
    with Mosquitto(tmp_path / "m") as broker:
        edge = Edge(broker, journal, tmp_path / "edge", counting=("central", "billing"))
        async with running(edge.sink, journal), connect(settings(broker, "asks")) as connection:
            await wait_cursor(journal, "mqtt", 3)
            await say(
                connection,
                TOPICS.acks("edge-1", "listen"),
                Ack(journal=journal.uuid, seq=3, consumer="listen"),
            )
            await say(
                connection,
                TOPICS.acks("edge-1", "billing"),
                Ack(journal=journal.uuid, seq=3, consumer="billing"),
            )
            await until(lambda: edge.link.statistics().acks == 1)
            assert edge.link.statistics().acks_ignored == 1
            assert journal.statistics().billing_acked == 0
            await central_says(connection, Ack(journal=journal.uuid, seq=2, consumer="central"))
            await until(lambda: journal.statistics().billing_acked == 2)
    await journal.close()
