"""A consumer that joins late ends with what one has that heard all: page by page, from the ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gateway.central.directory.service import PUBLISHED, DirectoryService
from gateway.central.history.pages import HistoryPages
from gateway.central.history.service import UNREADABLE, HistoryService
from gateway.central.intake.service import Central, CentralOptions
from gateway.central.intake.times import TimeService
from gateway.central.ledger.ledger import Ledger
from gateway.contract.blocks import (
    READINGS_TYPE,
    BlockTemplate,
    EncodedBlock,
    Sender,
    assemble_blocks,
    encode_block,
    interval_of,
    layout_of,
    revised,
)
from gateway.contract.messages import HistoryRequest, TimeVerdict
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics
from gateway.errors import PeerDeniesTopic
from gateway.mqtt.connection import MqttSettings, connect
from mapping.changes import Change, CorrectHoldings, HoldingSpan, Install, MoveIn, MoveOut, Name
from mapping.directory import NumberKind, Role, Unattributed
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from tests.support.blocks import AT, HALF_HOUR, block_load, numbered_block
from tests.support.central.samples import NOW, batch, capture, received
from tests.support.keys import PRIVATE
from tests.support.mosquitto import Mosquitto
from tests.support.statements import statements_sent
from tests.support.text_consumer import TextConsumer
from tests.support.text_late import LIVE, late_consumer
from tests.support.waiting import until

TOPICS = Topics("test")
BEGUN = AT - timedelta(days=100)
METERS = ("GEN:1", "GEN:2", "GEN:3")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with DirectoryStore(tmp_path / "directory.db") as made:
        yield made


def change(store: DirectoryStore, *changes: Change) -> None:
    store.apply(changes, by="test", source="test", at=NOW)


def fit(store: DirectoryStore) -> None:
    for number, meter in enumerate(METERS, start=1):
        change(
            store,
            Install(meter, f"UP-{number}", Role.CONSUMER, BEGUN),
            MoveIn(f"UP-{number}", f"acc-{number}", BEGUN),
            Name(f"acc-{number}", NumberKind.LEGACY, f"KE-{number}"),
        )


class Edge:
    """One gateway's journal: what it sends, each time under the next numbers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sender = Sender(journal=f"journal-of-{name}", generation=Generation(1, "00000001"), gateway=name)
        self.seq = 0

    def send(self, meter: str, numbers: range, *, rev: int = 1, **template: Any) -> bytes:
        readings = [block_load(number) for number in numbers]
        made = encode_block(
            structs.replace(
                BlockTemplate(
                    meter=meter,
                    layout=layout_of(readings[0]),
                    received_at=readings[0].received_at,
                    directory="0.00000000/0",
                    reason=Unattributed.NO_ACCOUNT,
                    interval=interval_of(readings[0]),
                ),
                **template,
            ),
            readings,
        )
        if rev > 1:
            rows = tuple(structs.replace(row, body=revised(row.body, rev)) for row in made.rows)
            made = EncodedBlock(made.template, made.head, rows)
        block = numbered_block(self.seq + 1, made)
        self.seq = block.last
        return assemble_blocks([block], self.sender, type=READINGS_TYPE, time="2026-11-24T18:31:00Z")


class Heard:
    """A consumer that was there from the beginning."""

    def __init__(self) -> None:
        self.consumer = TextConsumer()
        self.messages = 0

    async def hear(self, broker: Mosquitto) -> None:
        settings = MqttSettings(port=broker.port, client_id="heard", username="central", root="test")
        async with connect(settings) as connection:
            await connection.subscribe(*(f"{TOPICS.base}/{topic}" for topic in LIVE))
            async for message in connection.messages():
                self.consumer.take(json.loads(message.payload))
                self.messages += 1


@asynccontextmanager
async def serving(broker: Mosquitto, ledger: Ledger, store: DirectoryStore) -> AsyncIterator[HistoryService]:
    directory = DirectoryService(store=store, ledger=ledger, topics=TOPICS, signing_key=PRIVATE, poll=0.05)
    clock = SystemClock()
    pages = HistoryPages(ledger, directory.present, TOPICS, clock, captures=7)
    history = HistoryService(pages, TOPICS, clock, rest=0.0)
    central = Central(
        settings=MqttSettings(port=broker.port, client_id="central", username="central", root="test"),
        ledger=ledger,
        signing_key=PRIVATE,
        directory=directory,
        verdicts=TimeService(ledger=ledger, topics=TOPICS, clock=clock, standing=directory.standing),
        history=history,
        options=CentralOptions(ack_interval=0.05),
    )
    task = asyncio.create_task(central.run())
    try:
        await until(lambda: central.statistics().connected, "central to connect")
        yield history
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def hearing(broker: Mosquitto) -> AsyncIterator[TextConsumer]:
    heard = Heard()
    task = asyncio.create_task(heard.hear(broker))
    try:
        yield heard.consumer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def deliver(broker: Mosquitto, edge: Edge, *payloads: bytes) -> None:
    settings = MqttSettings(port=broker.port, client_id=edge.name, username=edge.name, root="test")
    async with connect(settings) as connection:
        for payload in payloads:
            await connection.publish(TOPICS.readings(edge.name, "block_load"), payload)


async def half_a_year(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore, heard: TextConsumer
) -> tuple[Edge, Edge]:
    """Readings before their paper, a re-key, a move told late, a correction, a revision, a verdict."""
    one, two = Edge("edge-1"), Edge("edge-2")
    for meters, edge in ((METERS[:2], "edge-1"), (METERS[2:], "edge-2")):
        ledger.allocations.give(meters, edge, since=BEGUN, by="test", note="", at=BEGUN)
    await deliver(broker, one, one.send("GEN:1", range(20)), one.send("GEN:2", range(10)))
    fit(store)
    doubted = two.send("GEN:3", range(5), reason=Unattributed.UNTRUSTED_TIME)
    await deliver(broker, two, doubted, two.send("GEN:3", range(5, 9)))
    await deliver(broker, one, one.send("GEN:1", range(3, 5), rev=2))
    change(store, *(Name(f"acc-{n}", NumberKind.ACCOUNT, f"100000000{n}") for n in (1, 2, 3)))
    moved = AT + 6 * HALF_HOUR + timedelta(minutes=10)
    change(store, MoveOut("UP-1", moved), MoveIn("UP-1", "acc-9", moved))
    change(
        store,
        CorrectHoldings(
            "UP-2",
            (HoldingSpan("acc-2", BEGUN, AT + 4 * HALF_HOUR), HoldingSpan("acc-9", AT + 5 * HALF_HOUR, None)),
        ),
    )
    await until(lambda: ledger.counts().captures == 39, "all readings in the ledger")
    ledger.times.give(
        [
            TimeVerdict(
                verdict_id="-",
                meter="GEN:3",
                journal=two.sender.journal,
                first_seq=1,
                last_seq=5,
                trust="trusted",
                shift="-3600",
                evidence="test",
                version=1,
                at=NOW,
            )
        ]
    )
    await until(lambda: ledger.cursors.get(PUBLISHED) == store.version, "all changes to be told")
    await until(lambda: "GEN:3" in heard.verdicts, "the verdict to be told")
    await until(lambda: sum(map(len, heard.came.values())) == one.seq + two.seq, "all readings to be heard")
    return one, two


async def test_a_late_consumer_ends_with_what_one_has_that_heard_all(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    async with hearing(broker) as heard, serving(broker, ledger, store) as history:
        one, _ = await half_a_year(broker, ledger, store, heard)
        async with late_consumer(broker.port, "billing", "test") as late:
            # What goes on meanwhile is heard as by everybody.
            await deliver(broker, one, one.send("GEN:2", range(10, 14)))
            await late.catch_up()
            whole = one.seq
            await until(lambda: max(late.consumer.came[one.sender.journal]) == whole, "the last readings")
            await until(lambda: max(heard.came[one.sender.journal]) == whole, "the last readings")
            assert late.consumer.ledger() == heard.ledger()
            assert late.pages > 5
            await until(lambda: history.pages_sent >= late.pages, "the last page to be counted")
            assert history.pages_sent <= late.pages + late.repeats
            change(store, Name("acc-9", NumberKind.ACCOUNT, "9999999999"))
            for consumer in (late.consumer, heard):
                await until(partial(named, consumer), "the change to be heard")
            assert late.consumer.ledger() == heard.ledger()


def named(consumer: TextConsumer) -> bool:
    return "9999999999" in json.dumps(consumer.ledger())


async def test_what_was_lost_on_the_way_and_a_central_that_died_are_asked_for_again(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    async with hearing(broker) as heard, late_consumer(broker.port, "billing", "test") as late:
        async with serving(broker, ledger, store):
            await half_a_year(broker, ledger, store, heard)
            dropped: list[str] = []

            def drop(topic: str, message: dict[str, Any]) -> bool:
                if "/history/" in topic and "/readings/" in topic and len(dropped) < 2:
                    dropped.append(message["id"])
                    return True
                return False

            late.consumer = TextConsumer()  # it heard nothing yet
            late.drop, late.rest_at = drop, 4
            asking = asyncio.create_task(late.catch_up())
            await until(lambda: late.pages == 4, "some pages")
        assert not asking.done()
        late.goes_on.set()
        async with serving(broker, ledger, store):  # another process: it knows nothing of the consumer
            await asking
        assert len(dropped) == 2
        assert late.repeats >= 2
        assert late.consumer.ledger() == heard.ledger()


async def test_only_attributions_of_some_meters_and_only_readings_of_a_span(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    async with hearing(broker) as heard, serving(broker, ledger, store):
        await half_a_year(broker, ledger, store, heard)
        async with late_consumer(broker.port, "billing", "test") as late:
            await late.ask("who", what="attributions")
            assert not late.consumer.readings
            assert set(late.consumer.told) == {"GEN:1", "GEN:2", "GEN:3"}
            assert set(late.consumer.allocated) == {"GEN:1", "GEN:2", "GEN:3"}
            since, to = (AT + n * HALF_HOUR for n in (2, 6))
            span = {"from": since.isoformat(), "to": to.isoformat()}
            await late.ask("a-span", what="readings", meters=["GEN:1"], **span)
            of = {
                one["capture_id"]: one for one in heard.ledger()["captures"] if "GEN:1/" in one["capture_id"]
            }
            wanted = [of[f"GEN:1/block_load/{AT + n * HALF_HOUR:%Y-%m-%dT%H:%M:%SZ}/0"] for n in range(3, 7)]
            assert late.consumer.ledger()["captures"] == wanted


async def test_a_consumer_asks_in_its_own_name_only_and_is_told_what_is_wrong(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    async with serving(broker, ledger, store), late_consumer(broker.port, "billing", "test") as late:
        late.drop = lambda topic, message: True

        async def told(**wanted: Any) -> dict[str, Any]:
            return await late.page({"consumer": "billing", "request": "r", "what": "readings", **wanted})

        for wrong in (
            "elsewhere",
            '["GEN:1","2026-11-24T18:00:00"]',
            '["GEN:1",7]',
            '[{},"2026-11-24T18:00:00Z"]',
        ):
            assert (await told(after=wrong))["refused"], wrong
        assert "after" not in await told()
    pages = HistoryPages(
        ledger,
        DirectoryService(store=store, ledger=ledger, topics=TOPICS, signing_key=PRIVATE).present,
        TOPICS,
        SystemClock(),
    )
    service = HistoryService(pages, TOPICS, SystemClock())
    sent: list[tuple[str, dict[str, Any]]] = []

    class Publisher:
        def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
            sent.append((topic, json.loads(payload)["data"]))
            receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            receipt.set_result(None)
            return receipt

    assert not service.requested("test/v2/edge-1/events", b"{}")
    assert service.requested(TOPICS.history_request("billing"), b"{}")
    task = asyncio.create_task(service.serve(Publisher()))
    await until(lambda: len(sent) == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    [(topic, answer)] = sent
    assert topic == "test/v2/history/billing/answer"
    assert answer["request"] == UNREADABLE
    assert "$" in answer["refused"]


async def test_a_login_asks_for_no_other_consumer(
    broker: Mosquitto, ledger: Ledger, store: DirectoryStore
) -> None:
    async with serving(broker, ledger, store) as history:
        for user in ("edge-1", "billing"):
            settings = MqttSettings(port=broker.port, client_id=f"as-{user}", username=user, root="test")
            async with connect(settings) as connection:
                wanted = HistoryRequest(consumer="other", request="r", what="readings")
                with pytest.raises(PeerDeniesTopic):
                    await connection.publish(
                        TOPICS.history_request("other"), wanted.model_dump_json().encode()
                    )
        assert history.pages_sent == 0


def test_a_page_costs_what_it_brings_however_much_is_stored(
    ledger_file: Ledger, store: DirectoryStore
) -> None:
    """Statements of one page: the same with twice the meters, and with a walk that has come far."""
    fit(store)
    directory = DirectoryService(store=store, ledger=ledger_file, topics=TOPICS, signing_key=PRIVATE)
    pages = HistoryPages(ledger_file, directory.present, TOPICS, SystemClock(), captures=50)
    counts = []
    for number in range(2):
        meters = [f"GEN:{10 + number}{n:03d}" for n in range(20)]
        for place, meter in enumerate(meters):
            journal = f"j-{number}-{place}"
            ledger_file.ingest(
                [received(batch([capture(n, meter=meter) for n in range(1, 31)], journal=journal))]
            )
        wanted = HistoryRequest(consumer="late", request="r", what="readings")
        sent, first = pages.page(wanted)
        assert first.after is not None
        consumer = TextConsumer()  # what edges of version 1 sent is told as version 2
        for _, octets in sent:
            consumer.take(json.loads(octets))
        assert [one.values for one in consumer.readings.values()].count(["1.50"]) >= 50
        following = wanted.model_copy(update={"after": first.after})
        pages.page(following)  # what ledger and directory keep at hand is at hand
        with statements_sent() as statements:
            pages.page(following)
        counts.append(len(statements))
    assert counts[0] == counts[1]
