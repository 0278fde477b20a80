"""A status that never grows, costs what changed, and never stands in the way of readings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.contract.envelope import wrap
from gateway.contract.messages import (
    MAX_CHANGES,
    MAX_STATUS,
    Alarm,
    ClockSource,
    ClockStatus,
    FormerJournal,
    MeterStatus,
    Status,
    StatusRequest,
)
from gateway.contract.topics import Topics
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks import status_report
from gateway.edge.sinks.status_report import Row, StatusReporter, fitted, split
from gateway.errors import PeerRefusedData
from gateway.mqtt.connection import connect
from tests.support.check_sink import running, wait_cursor
from tests.support.contract_schemas import validate
from tests.support.edge.health import Health
from tests.support.edge.mqtt_edge import Edge, say
from tests.support.edge.mqtt_sink import billing, sink, status_of
from tests.support.edge.mqtt_sink import settings as mqtt_settings
from tests.support.journal_records import records
from tests.support.mosquitto import Mosquitto
from tests.support.paths import ROOT
from tests.support.waiting import until

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def told(message: Status) -> bytes:
    return wrap(message, id="edge-1/status", source="/gateways/edge-1", time=NOW)


texts = st.text(max_size=2_000)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["disk", "a" * 200, "क" * 200]), texts), max_size=64),
    st.dictionaries(
        st.sampled_from(["ok", "क" * 200, *(f"fault_{n}" for n in range(60))]), st.integers(1, 10**18)
    ),
    texts,
)
@example(
    alarms=[("क" * 200, "क" * 2_000)] * 64,
    counts={f"fault_{n}": 10**16 for n in range(60)},
    detail="क" * 2_000,
)
def test_a_summary_is_never_larger_than_its_bound(
    alarms: list[tuple[str, str]], counts: dict[str, int], detail: str
) -> None:
    status = Status(
        gateway="g" * 64,
        online=True,
        version=detail,
        journal="j" * 200,
        meters=counts,
        lines=counts,
        clock=ClockStatus(
            disciplined=False,
            at=NOW,
            detail=detail,
            sources=(ClockSource(source="central", offset="-86400.123", error="0.250"),) * 6,
            boot="b" * 36,
        ),
        former=(FormerJournal(journal="j" * 36, generation="9007199254740991.9f2c01ab", last_seq=2**62),) * 8,
        acknowledged="a" * 2_048,
        alarms=tuple(Alarm(code=code, text=text) for code, text in alarms),
        at=NOW,
    )
    shown, payload = fitted(status, told)
    assert len(payload) <= MAX_STATUS
    assert len(shown.alarms) + shown.more_alarms == len(alarms)
    assert sum(shown.meters.values()) == sum(counts.values())
    validate(payload)


def test_running_counters_are_no_news() -> None:
    status = Status(gateway="g", online=True, version="1", journal="j", at=NOW)
    running = {"at": NOW + timedelta(1), "last_seq": 9, "backlog": 7, "acknowledged": "x", "status_seq": 3}
    assert status_report._essence(status) == status_report._essence(status.model_copy(update=running))
    assert status_report._essence(status) != status_report._essence(
        status.model_copy(update={"meters": {"ok": 1}})
    )


def test_the_summary_of_ten_thousand_meters_is_as_large_as_that_of_ten() -> None:
    def size(meters: int) -> int:
        counts = {"ok": meters - 5, "meter_silent": 5}
        return len(told(Status(gateway="g", online=True, version="1", journal="j", meters=counts, at=NOW)))

    assert size(10_000) - size(10) <= 3  # digits


@given(st.lists(st.sampled_from(["GEN:1", "GEN:" + "9" * 196, "क" * 200]), min_size=1, max_size=2_000))
@settings(max_examples=20)
def test_changes_are_split_below_their_bound_and_nothing_is_left_out(meters: list[str]) -> None:
    rows: list[tuple[int, Row]] = [
        (n, MeterStatus(meter=meter, line="l" * 200, health="meter_silent", since=NOW, detail="क" * 300))
        for n, meter in enumerate(meters, 1)
    ]
    health = _Rows(rows)
    reporter = StatusReporter(Topics("kanpur"), "edge-1", status=status_of, health=health)
    pieces = list(reporter._listing(health))
    assert [row for piece in split(rows) for _, row in piece] == [row for _, row in rows]
    assert [(piece.part, piece.parts) for piece in pieces] == [
        (n + 1, len(pieces)) for n in range(len(pieces))
    ]
    for piece in pieces:
        assert len(reporter._wrapped(piece)) <= MAX_CHANGES


class _Rows:
    def __init__(self, rows: list[tuple[int, Row]]) -> None:
        self.rows = rows
        self.number = len(rows)

    def since(self, number: int) -> list[tuple[int, Row]]:
        return self.rows[number:]

    def all(self) -> Iterator[tuple[int, Row]]:
        return iter(self.rows)


class _Refuses:
    """A connection to a broker that takes no changes."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def send(self, topic: str, payload: bytes, **_: object) -> asyncio.Future[None]:
        self.asked.append(topic)
        receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if topic.endswith("changes"):
            receipt.set_exception(PeerRefusedData("too large"))
        else:
            receipt.set_result(None)
        return receipt


async def test_changes_that_are_refused_are_not_asked_for_each_second() -> None:
    reporter = StatusReporter(Topics("kanpur"), "edge-1", status=status_of, health=Health(5))
    connection, heartbeat = _Refuses(), status_report._Heartbeat()
    for _ in range(10):
        await reporter._tell(connection, heartbeat)  # type: ignore[arg-type]
    assert sum(topic.endswith("changes") for topic in connection.asked) == 1


async def test_everything_is_told_once_and_then_what_changed(broker: Mosquitto, journal: Journal) -> None:
    health = Health(3_000)
    one = sink(broker, health=health)
    async with billing(broker) as consumer, running(one, journal):
        await until(lambda: consumer.changes and consumer.changes[-1].part == consumer.changes[-1].parts)
        listing = list(consumer.changes)
        assert len(listing) > 1
        assert sum(len(part.meters) for part in listing) == 3_000
        made = health.made
        looked = len(consumer.statuses)
        health.fall_silent(7, 8)
        await until(lambda: len(consumer.changes) > len(listing))
        # Many looks later nothing else was made: a look costs what changed.
        health.fall_silent(9)
        await until(lambda: len(consumer.changes) > len(listing) + 1)
        assert health.made == made + 3
        changes = consumer.changes[len(listing) :]
        assert [[m.meter for m in c.meters] for c in changes] == [["GEN:7", "GEN:8"], ["GEN:9"]]
        assert [(c.from_seq, c.to_seq) for c in changes] == [(3_001, 3_002), (3_003, 3_003)]
        await until(lambda: len(consumer.statuses) > looked or consumer.statuses[-1].run == listing[0].run)
    for topic, payload in consumer.raw:
        assert len(payload) <= (MAX_STATUS if topic.endswith("/status") else MAX_CHANGES)
        validate(payload)


async def test_a_connection_that_comes_back_tells_only_what_changed_meanwhile(
    broker: Mosquitto, journal: Journal
) -> None:
    health = Health(5)
    one = sink(broker, health=health)
    async with running(one, journal):
        await until(lambda: one.reporter.statistics().changes == 1)
        broker.kill()
        await until(lambda: not one.statistics().connected)
        health.fall_silent(3)
        broker.start()
        await until(lambda: one.reporter.statistics().changes == 2)
    assert one.reporter.statistics().listings == 1
    assert health.made == 5 + 1


@pytest.mark.mosquitto
async def test_a_status_that_the_broker_refuses_is_told_and_stops_no_reading(
    tmp_path_factory: pytest.TempPathFactory, journal: Journal
) -> None:
    health = Health(3_000)
    with Mosquitto(tmp_path_factory.mktemp("m"), extra=("max_packet_size 20000",)) as broker:
        one = sink(broker, health=health)
        async with billing(broker) as consumer, running(one, journal):
            await until(lambda: one.reporter.statistics().refused)
            await journal.append(records(300))
            await wait_cursor(journal, "mqtt", 300)
            await until(lambda: len(set(consumer.arrived)) == 300)
        assert one.statistics().failures == 0
        assert "20000 octets" in str(one.reporter.statistics().fault)


async def test_a_status_that_cannot_be_made_stops_no_reading(broker: Mosquitto, journal: Journal) -> None:
    def broken() -> Status:
        raise ZeroDivisionError("a bug")

    await journal.append(records(50))
    one = sink(broker, status=broken)
    async with billing(broker) as consumer, running(one, journal):
        await until(lambda: len(set(consumer.arrived)) == 50)
        await until(lambda: one.reporter.statistics().fault == "a bug")
    assert one.statistics().failures == 0


async def test_central_asks_for_the_list_and_gets_it(
    broker: Mosquitto, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_report, "LISTING_CALM", 0.0)
    edge = Edge(broker, journal, tmp_path / "part", health=Health(3))
    async with (
        billing(broker) as consumer,
        running(edge.sink, journal),
        connect(mqtt_settings(broker, "central")) as central,
    ):
        await until(lambda: consumer.changes)
        topic = Topics("kanpur").status_request("edge-1")
        await say(central, topic, StatusRequest(gateway="edge-1", at=NOW))
        await until(lambda: len(consumer.changes) > 1)
    assert [(c.is_listing, len(c.meters)) for c in consumer.changes] == [(True, 3), (True, 3)]


async def test_an_edge_sees_a_broker_that_hangs(broker: Mosquitto, journal: Journal) -> None:
    """After two keepalives at most, and the status is no exception: 40 s as shipped, shorter here."""
    one = sink(broker, settings=mqtt_settings(broker, keepalive=5))
    async with running(one, journal):
        await until(lambda: one.statistics().connected and one.reporter.statistics().summaries)
        broker.hang()
        try:
            await until(lambda: not one.statistics().connected)
        finally:
            broker.go_on()
        await until(lambda: one.statistics().connected)
    assert one.statistics().failures > 0


@pytest.mark.mosquitto
async def test_access_rules_from_before_the_changes_stop_neither_readings_nor_the_summary(
    tmp_path: Path, journal: Journal
) -> None:
    shipped = (ROOT / "deploy" / "mosquitto.acl").read_text(encoding="utf-8").replace("kesco/", "kanpur/")
    rules = tmp_path / "rules"
    rules.write_text("\n".join(line for line in shipped.splitlines() if "status/changes" not in line) + "\n")
    rules.chmod(0o600)
    health = Health(5)
    with Mosquitto(tmp_path / "m", extra=(f"acl_file {rules}",)) as broker:
        one = sink(broker, health=health)
        async with billing(broker) as consumer, running(one, journal):
            await until(lambda: one.reporter.statistics().refused)
            await journal.append(records(300))
            await until(lambda: len(set(consumer.arrived)) == 300)
            await until(lambda: consumer.statuses)
    assert (one.statistics().failures, consumer.changes) == (0, [])
    assert "access rules" in str(one.reporter.statistics().fault)
