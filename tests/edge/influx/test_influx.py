"""The InfluxDB sink against real servers: written, read back, refused points set aside, points moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from msgspec import structs

from gateway.contract.blocks import Keyed
from gateway.edge.influx.points import nanoseconds, points
from gateway.edge.influx.sink import InfluxSink
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.entry import Entry, EntryKind
from gateway.edge.sinks.base import JournalReader
from tests.support.influx_servers import export, free_port, influxdb1, influxql, v2_path, victoria_metrics
from tests.support.waiting import until

START = datetime(2026, 11, 1, tzinfo=UTC)


class ListJournal:
    """A journal in memory that ends when it is read to its end."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.cursor = 0
        self.dead: list[tuple[int, str]] = []

    @property
    def last_seq(self) -> int:
        return max(entry.seq for entry in self.entries)

    async def follow(self, sink: str) -> AsyncIterator[list[Entry]]:
        while rest := [e for e in self.entries if e.seq > self.cursor]:
            yield rest

    async def ack(self, sink: str, seq: int) -> None:
        self.cursor = seq

    async def dead_letter(self, sink: str, seq: int, reason: str, body: bytes) -> None:
        self.dead.append((seq, reason))


def entry(seq: int, *, voltage: str = "230.1", account: str | None = None, field: str = "voltage") -> Entry:
    at = START + timedelta(minutes=30 * seq)
    columns = [
        {"name": field, "q": "1-0:12.7.0*255", "unit": "V"},
        {"name": "current", "q": "1-0:11.7.0*255"},
    ]
    holders = [{"account_id": "a1", "account_number": account, "usage_point": "UP-1", "role": "normal"}]
    body = {
        "meter": "GEN:1",
        "captures": [{"at": at.isoformat(), "values": [voltage, {"missing": "sentinel"}]}],
    }
    return Entry(
        seq,
        seq,
        EntryKind.CAPTURE,
        "instantaneous",
        json.dumps(body, separators=(",", ":")).encode(),
        Keyed.of({"profile": "instantaneous", "columns": columns}),
        Keyed.of(holders) if account else None,
    )


def target(url: str) -> InfluxTarget:
    return InfluxTarget(url=url, org="kesco", bucket="meters", timeout=5)


def test_a_point_has_tags_fields_and_time_and_no_field_for_what_is_missing() -> None:
    [made] = points(entry(1, account="1234567890"), "edge-1")
    at = nanoseconds(START + timedelta(minutes=30))
    expected = f"instantaneous,account=1234567890,gateway=edge-1,meter=GEN:1 voltage=230.1 {at}"
    assert made.line == expected


def test_a_value_that_is_not_believed_is_no_part_of_its_series() -> None:
    told = entry(1)
    body = json.loads(told.body)
    body["captures"][0] |= {"quality": "2.5.258", "suspect": [0]}
    [made] = points(structs.replace(told, body=json.dumps(body).encode()), "edge-1")
    assert " voltage_suspect=230.1 " in made.line


@pytest.mark.influx
async def test_victoriametrics_holds_what_was_written(tmp_path: Path) -> None:
    with victoria_metrics(tmp_path) as url:
        journal = ListJournal([entry(i) for i in range(1, 51)])
        await InfluxSink(target(url), "edge-1").run(cast("JournalReader", journal))
        assert journal.cursor == 50
        series = export(url, '{__name__="instantaneous_voltage",account="unassigned"}')
        assert [len(s["values"]) for s in series] == [50]


@pytest.mark.influx
async def test_influxdb_refuses_some_points_and_they_are_set_aside_with_its_reason(tmp_path: Path) -> None:
    with influxdb1(tmp_path, "meters") as upstream, v2_path(upstream) as (url, writes):
        good = [entry(i) for i in range(1, 41)]
        await InfluxSink(target(url), "edge-1").run(cast("JournalReader", ListJournal(good)))
        # 1.6 fixes the type of a field: make `strange` a string, so that its floats are a partial-write 400.
        writer = InfluxSink(target(url), "edge-1")._writer
        writer.write([f'instantaneous,meter=x strange="text" {nanoseconds(START + timedelta(days=2))}'])
        writer.close()
        writes.clear()
        journal = ListJournal(
            [entry(i, field="strange" if i in (57, 71) else "voltage") for i in range(41, 81)]
        )
        sink = InfluxSink(target(url), "edge-1")
        await sink.run(cast("JournalReader", journal))
        assert journal.cursor == 80
        assert [seq for seq, _ in journal.dead] == [57, 71]
        assert "field type conflict" in journal.dead[0][1]
        assert sink.statistics().dead == 2
        assert writes.count(400) >= 2
        assert len(writes) < 40, "bisection, not one write a point"
        (series,) = influxql(url, "meters", "SELECT count(voltage) FROM instantaneous")
        assert series["values"][0][1] == 78


async def test_an_absent_server_holds_the_cursor_and_is_tried_again(tmp_path: Path) -> None:
    journal = ListJournal([entry(1)])
    sink = InfluxSink(target(f"http://127.0.0.1:{free_port()}"), "edge-1")
    task = asyncio.create_task(sink.run(cast("JournalReader", journal)))
    await until(lambda: sink.statistics().failures >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert journal.cursor == 0
    assert "cannot be reached" in (sink.statistics().last_error or "")
