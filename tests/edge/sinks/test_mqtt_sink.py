"""The MQTT sink with the real journal and a real Mosquitto: nothing lost, nothing claimed too early."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.contract.messages import Status
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from protocols.clock import SystemClock
from tests.support.billing import Billing
from tests.support.check_sink import check_sink, running, wait_cursor
from tests.support.contract_schemas import validate
from tests.support.edge.mqtt_sink import billing, settings, sink, status_of
from tests.support.journal_records import gap_record, record, records
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import PATIENCE, until


@dataclass
class BrokerPeer:
    broker: Mosquitto
    consumer: Billing

    async def stop(self) -> None:
        # In good order: what a killed broker loses is a hole, which consumers close by replays, not sinks.
        await asyncio.to_thread(self.broker.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self.broker.start)

    async def delivered(self) -> list[str]:
        return self.consumer.arrived


async def test_conforms_as_a_sink(broker: Mosquitto, tmp_path: Path) -> None:
    async with billing(broker) as consumer:
        await check_sink(lambda: sink(broker), BrokerPeer(broker, consumer), tmp_path)


async def test_each_kind_has_its_topic_and_its_type(broker: Mosquitto, journal: Journal) -> None:
    await journal.append(
        JournalBatch(
            blocks=(record(1), record(2, profile="daily"), record(3, profile="events")),
            gaps=(gap_record(1),),
        )
    )
    async with billing(broker) as consumer, running(sink(broker), journal):
        await until(lambda: len(consumer.batches) == 4)
        found = {
            (topic.removeprefix("kanpur/v2/edge-1/"), batch.type.split(".")[1])
            for (topic, _), batch in zip(
                [r for r in consumer.raw if not r[0].endswith("status")], consumer.batches, strict=True
            )
        }
    assert found == {
        ("readings/block_load", "meterreadings"),
        ("readings/daily", "meterreadings"),
        ("events", "enddeviceevents"),
        ("gaps", "gaps"),
    }
    for _, payload in consumer.raw:
        validate(payload)
    tracker = consumer.state.journals[journal.uuid]
    assert (tracker.contiguous, tracker.holes()) == (4, [])
    for batch in consumer.batches:
        assert batch.id == f"{journal.uuid}/{batch.data.first_seq}-{batch.data.last_seq}"


@pytest.mark.mosquitto
async def test_refused_login_is_told_and_retried(tmp_path: Path, journal: Journal) -> None:
    await journal.append(records(3))
    with Mosquitto(tmp_path / "m", passwords={"edge-1": "right", "billing": "b"}) as broker:
        use = settings(broker, username="edge-1")
        wrong = sink(broker, settings=use, password=b"wrong-secret")
        async with running(wrong, journal):
            await until(lambda: wrong.statistics().failures >= 2)
        assert "login of 'edge-1': check username and password_ref" in str(wrong.statistics().last_error)
        assert "wrong-secret" not in str(wrong.statistics().last_error)
        assert (await journal.cursors()).get("mqtt", 0) == 0
        right = sink(broker, settings=use, password=b"right")
        async with running(right, journal):
            await wait_cursor(journal, "mqtt", 3)


async def test_status_is_retained_and_says_offline_at_the_end(broker: Mosquitto, journal: Journal) -> None:
    unattributed = 0

    def status() -> Status:
        return status_of(journal).model_copy(update={"unattributed": unattributed})

    async with billing(broker) as consumer:
        async with running(sink(broker, status=status), journal):
            await until(lambda: bool(consumer.statuses))
            assert consumer.statuses[-1].online
            unattributed = 7
            await until(lambda: consumer.statuses[-1].unattributed == 7)
        await until(lambda: not consumer.statuses[-1].online)
    async with Billing(settings(broker, "late")) as late:
        await until(lambda: bool(late.statuses))
        assert not late.statuses[-1].online
        assert late.statuses[-1].journal == journal.uuid


@pytest.mark.mosquitto
async def test_an_entry_that_is_too_large_for_the_broker_is_set_aside(
    tmp_path: Path, journal: Journal
) -> None:
    await journal.append(JournalBatch(blocks=(record(1), record(2, pad=40_000), record(3))))
    with Mosquitto(tmp_path / "m", extra=("max_packet_size 20000",)) as broker:
        async with billing(broker) as consumer:
            one = sink(broker)
            async with running(one, journal):
                await wait_cursor(journal, "mqtt", 3)
            await until(lambda: len(set(consumer.arrived)) == 2)
            assert one.statistics().dead == 1
            [letter] = await journal.dead_letters("mqtt")
            assert letter.seq == 2


async def test_ends_with_the_journal(broker: Mosquitto, tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j2.db", clock=SystemClock())
    await journal.append(records(50))
    one = sink(broker)
    task = asyncio.create_task(one.run(journal))
    await until(lambda: one.statistics().cursor == 50)
    await journal.close()
    await asyncio.wait_for(task, PATIENCE)
