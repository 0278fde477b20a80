"""`listen` as a consumer on a real broker: accounts, changes, acknowledgements, replays, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cli.service.consumer import Consumer, listen
from gateway.cli.service.history import HistoryWalk
from gateway.contract.envelope import parse, wrap
from gateway.contract.messages import (
    Ack,
    AttributedAccount,
    AttributionChanged,
    HistoryAnswer,
    HistoryRequest,
    JournalStored,
    NamingChanged,
    ReplayRequest,
)
from gateway.contract.messages.generation import NO_GENERATION, DirectoryVersion
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import PeerRefusedData
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from tests.support.blocks import batch_of, block_load, encoded
from tests.support.central.samples import NOW, T0, batch, capture, octets
from tests.support.contract_schemas import FOLDER
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.mosquitto

TOPICS = Topics("test")
READINGS = TOPICS.readings("edge-1", "block_load")


@asynccontextmanager
async def listening(broker: Mosquitto, lines: list[str], *, ack: bool) -> AsyncIterator[MqttConnection]:
    settings = MqttSettings(port=broker.port, client_id="billing-1", username="billing", root="test")
    task = asyncio.create_task(listen(settings, "test", lines.append, ack=ack))
    try:
        async with connect(settings.model_copy(update={"client_id": "edge-1", "username": "edge-1"})) as edge:
            await edge.subscribe(*TOPICS.from_consumers("edge-1"))
            await seen(lines, "listening")
            yield edge
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seen(lines: list[str], text: str) -> str:
    async with asyncio.timeout(PATIENCE):
        while True:
            for line in lines:
                if text in line:
                    return line
            await asyncio.sleep(0.02)


async def test_listen_prints_accounts_and_answers(tmp_path: Path) -> None:
    lines: list[str] = []
    with Mosquitto(tmp_path / "broker") as broker:
        as_central = MqttSettings(port=broker.port, client_id="central", username="central", root="test")
        async with listening(broker, lines, ack=True) as edge, connect(as_central) as central:
            await edge.publish(READINGS, octets(batch([capture(7)])))
            assert "no account (no_account)  GEN:1 block_load 2026-11-01T03:30:00Z" in await seen(
                lines, "reading"
            )
            await edge.publish(READINGS, b"rubbish")
            await seen(lines, "refused")
            account = AttributedAccount(
                account_id="acc-1", account_number=None, legacy_number="KE-1", usage_point="UP-1"
            )
            span = AttributionChanged(
                meter="GEN:1", since=T0, new=(account,), directory=DirectoryVersion(NO_GENERATION, 1)
            )
            await central.publish(TOPICS.attributions(), wrap(span, id="1", source="/central", time=NOW))
            assert "GEN:1 2026-11-01T00:00:00Z .. open: nobody -> acc-1" in await seen(lines, "belongs")
            assert "acc-1 (normal)" in await seen(lines, "now ")
            name = NamingChanged(
                account_id="acc-1",
                kind="account_number",
                new="0123456789",
                directory=DirectoryVersion(NO_GENERATION, 2),
            )
            await central.publish(TOPICS.attributions(), wrap(name, id="2", source="/central", time=NOW))
            assert "now       0123456789 (normal)" in await seen(lines, "now       0123456789")
            await edge.publish(READINGS, octets(batch([capture(9)])))
            acks, replays = await answers(edge)
    assert [(a.seq, a.consumer) for a in acks] == [(7, "billing")]
    assert [(r.first, r.last, r.consumer) for r in replays] == [(8, 8, "billing")]


async def answers(edge: MqttConnection) -> tuple[list[Ack], list[ReplayRequest]]:
    """What the listener sends until it has asked for a replay."""
    acks: list[Ack] = []
    async with asyncio.timeout(PATIENCE):
        async for message in edge.messages():
            if TOPICS.parse(message.topic).kind is TopicKind.ACKS:
                acks.append(parse(message.payload, Ack).data)
            else:
                return acks, [parse(message.payload, ReplayRequest).data]
    raise AssertionError("the connection ended")


async def test_listen_asks_central_for_what_was_before(tmp_path: Path) -> None:
    lines: list[str] = []
    own = TOPICS.history("billing")
    pages = {  # by what is asked and from where: messages of the page, and where the next begins
        ("journals", None): ([], None),
        ("readings", None): ([batch_of(encoded(block_load(0)), first=1)], "there"),
        ("readings", "there"): ([batch_of(encoded(block_load(1)), first=2)], None),
    }
    lost = ["there"]  # the second page's reading does not come at first
    with Mosquitto(tmp_path / "broker") as broker:
        as_central = MqttSettings(port=broker.port, client_id="central", username="central", root="test")
        as_billing = MqttSettings(port=broker.port, client_id="late", username="billing", root="test")
        async with connect(as_central) as central:
            await central.subscribe(TOPICS.filter(TopicKind.HISTORY_REQUEST))
            walk = HistoryWalk("billing", meters=["GEN:1"])
            listening = asyncio.create_task(listen(as_billing, "test", lines.append, walk=walk))
            asked = []
            async for message in central.messages():
                wanted = parse(message.payload, HistoryRequest).data
                asked.append((wanted.what, wanted.after, wanted.meters))
                messages, after = pages[wanted.what, wanted.after]
                for payload in messages:
                    if wanted.after not in lost:
                        await central.publish(own.readings("edge-1", "block_load"), payload)
                journals = (
                    ()
                    if wanted.what == "readings"
                    else (JournalStored(journal="j-1", gateway="edge-1", seq=5),)
                )
                answer = HistoryAnswer(
                    consumer="billing",
                    request=wanted.request,
                    messages=tuple(json.loads(payload)["id"] for payload in messages),
                    journals=journals,
                    after=after,
                )
                if wanted.after in lost:
                    lost.clear()
                    # It does not go on to the next page, and asks for this one again.
                    walk.request = walk.request.model_copy(update={"request": "once-more"})
                await central.publish(
                    TOPICS.history_answer("billing"), wrap(answer, id="a", source="/central", time=NOW)
                )
                if after is None and wanted.what == "readings" and wanted.request == "once-more":
                    break
            await seen(lines, "caught up 3 pages, 2 captures")
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    assert asked == [
        ("journals", None, ()),
        ("readings", None, ("GEN:1",)),
        ("readings", "there", ("GEN:1",)),
        ("readings", "there", ("GEN:1",)),
    ]
    assert sum(line.startswith("reading") for line in lines) == 2


def test_a_page_is_done_when_all_of_it_has_come() -> None:
    walk = HistoryWalk("billing")
    assert walk.answered(HistoryAnswer(consumer="billing", request="listen-journals")) == ()
    walk.heard("a")
    missing = HistoryAnswer(consumer="billing", request="listen-readings", messages=("a", "b"))
    walk.answered(missing)
    assert (walk.pages, walk.done) == (1, False)
    walk.heard("b")
    walk.answered(missing)
    assert (walk.pages, walk.done) == (2, True)
    with pytest.raises(PeerRefusedData, match="no such meter"):
        walk.answered(HistoryAnswer(consumer="billing", request="r", refused="no such meter"))


def test_repeats_and_revisions_are_named_and_memory_is_bounded(monkeypatch: object) -> None:
    import gateway.cli.service.consumer as module

    lines: list[str] = []
    consumer = Consumer(lines.append, "billing")
    consumer.take(TOPICS, READINGS, octets(batch([capture(1)])))
    consumer.take(TOPICS, READINGS, octets(batch([capture(1)])))
    consumer.take(TOPICS, READINGS, octets(batch([capture(2, number=1, value="9", value_rev=2)])))
    assert [line.split()[0] for line in lines] == ["reading", "repeat", "revision"]
    assert consumer.acks()[0].seq == 2
    assert consumer.acks() == []
    monkeypatch.setattr(module, "MAX_CAPTURES", 3)  # type: ignore[attr-defined]
    consumer.take(TOPICS, READINGS, octets(batch([capture(n) for n in range(3, 8)])))
    assert lines[-1].startswith("forgot")
    assert consumer.state.captures == {}
    assert consumer.acks()[0].seq == 7


def test_an_altered_capture_is_a_hole_and_its_neighbours_are_taken() -> None:
    lines: list[str] = []
    consumer = Consumer(lines.append, "billing")
    sound = batch_of(encoded(block_load(), block_load(1), block_load(2)), first=1)
    consumer.take(TOPICS, READINGS, sound.replace(b'"413"', b'"913"'))
    assert [line.split()[0] for line in lines] == ["refused", "reading", "reading"]
    assert "entry 2" in lines[0]
    assert [ack.seq for ack in consumer.acks()] == [1]
    consumer.note_holes(0.0)
    assert [(one.first, one.last) for one in consumer.planner.due(60.0)] == [(2, 2)]
    consumer.take(TOPICS, READINGS, sound)
    assert [ack.seq for ack in consumer.acks()] == [3]


def test_the_golden_scenarios_are_told_line_by_line() -> None:
    """A verdict dates the reading, and what contradicts a reading is named."""
    told: dict[str, list[str]] = {}
    for name in ("verdict-on-time", "quarantine"):
        told[name] = []
        consumer = Consumer(told[name].append, "billing")
        for step in json.loads((FOLDER / "scenarios" / f"{name}.json").read_bytes())["steps"]:
            for message in step["messages"]:
                consumer.take(Topics("kanpur"), message["topic"], json.dumps(message["payload"]).encode())
    doubted, *_, judged, now = told["verdict-on-time"]
    assert "no account (untrusted_time)  GEN:12345678 block_load 2026-11-23T16:00:00Z" in doubted
    assert judged.startswith("judged    GEN:12345678 1..1 of journal ")
    assert judged.endswith("trusted by -18000 s")
    assert now.startswith("now       1009876543 (normal)  GEN:12345678 block_load 2026-11-23T11:00:00Z")
    words = [line.split()[0] for line in told["quarantine"]]
    assert words == ["refused", "reading", "reading", "conflict"]
    assert "999" in told["quarantine"][-1]
