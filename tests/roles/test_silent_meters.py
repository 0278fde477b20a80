"""An outage of thousands of meters: the readings that the edge has go out under the shipped limits of the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.contract.messages import MAX_CHANGES, MAX_STATUS, Status
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.changes import Subject
from gateway.roles.edge_status import EdgeHealth
from protocols.errors import MeterSilent
from tests.support.check_sink import running
from tests.support.edge.mqtt_sink import billing, sink, status_of
from tests.support.edge.poller_bench import LIVE, T0, Bench
from tests.support.fakes import JumpClock
from tests.support.journal_records import records
from tests.support.mosquitto import Mosquitto
from tests.support.paths import ROOT
from tests.support.waiting import until

METERS, READINGS = 3_000, 4_000
SHIPPED = tuple(
    line
    for line in (ROOT / "deploy" / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    if line.startswith(("message_size_limit", "max_packet_size", "max_inflight_messages", "max_queued_bytes"))
)
"""What the shipped broker takes; at 1,860 silent meters the status of version 1 was larger than that."""


@pytest.mark.mosquitto
async def test_three_thousand_silent_meters_hold_back_no_reading(tmp_path: Path, journal: Journal) -> None:
    clock = JumpClock(T0)
    bench = Bench(journal, clock)
    for n in range(METERS):
        bench.add(f"{n:08}").error = lambda: MeterSilent("no answer from the meter in 3 tries of 5 s each")
    poller = bench.poller(LIVE, lines=30)

    def status() -> Status:
        counts = poller.changes.counts
        found = {"meters": counts(Subject.METER), "lines": counts(Subject.LINE)}
        return status_of(journal).model_copy(update=found)

    assert SHIPPED
    await journal.append(records(READINGS))
    with Mosquitto(tmp_path / "m", extra=SHIPPED) as broker:
        one = sink(broker, status=status, health=EdgeHealth(poller))
        async with billing(broker) as consumer, running(one, journal):
            await until(lambda: consumer.statuses)
            await poller.poll_once()
            await until(lambda: len(set(consumer.arrived)) == READINGS)
            await until(lambda: consumer.statuses[-1].meters == {"meter_silent": METERS})
            health: dict[str, str] = {}
            for piece in consumer.changes:
                health |= {meter.meter: meter.health for meter in piece.meters}
            await until(lambda: consumer.changes[-1].to_seq == poller.changes.number)
            for piece in consumer.changes:
                health |= {meter.meter: meter.health for meter in piece.meters}
    assert (len(health), set(health.values())) == (METERS, {"meter_silent"})
    assert one.statistics().failures == 0
    largest = {True: 0, False: 0}
    for topic, payload in consumer.raw:
        if "/status" in topic:
            summary = topic.endswith("/status")
            largest[summary] = max(largest[summary], len(payload))
    assert 0 < largest[True] <= MAX_STATUS
    assert 0 < largest[False] <= MAX_CHANGES
