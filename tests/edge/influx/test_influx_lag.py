"""An InfluxDB that is away for long holds a bounded part of the journal: reading goes on, what is given up is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.config.file import load
from gateway.edge.influx import sink as sinks
from gateway.edge.influx.sink import SINK, InfluxSink
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.errors import PeerUnavailable
from gateway.roles.journal import ENTRY_OCTETS, influx_lag, journal_needs
from protocols.clock import SystemClock
from tests.support.check_sink import running
from tests.support.journal_records import records
from tests.support.waiting import until


class Server:
    """Away, until it is there."""

    def __init__(self) -> None:
        self.away = True
        self.lines: list[str] = []

    def write(self, lines: list[str]) -> None:
        if self.away:
            raise PeerUnavailable("away")
        self.lines += lines


async def test_a_server_that_is_away_for_long_never_stops_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(sinks, "LONGEST_WAIT", 0.002)
    limits = JournalLimits(retention=timedelta(0), sinks=(SINK,), max_bytes=500_000)
    journal = await Journal.open(tmp_path / "journal.db", clock=SystemClock(), limits=limits)
    server, one = (
        Server(),
        InfluxSink(InfluxTarget(url="http://127.0.0.1:9", org="o", bucket="b"), "e", max_lag=100),
    )
    monkeypatch.setattr(one._writer, "write", server.write)
    try:
        async with running(one, journal):
            for step in range(60):  # several times what the journal holds
                await journal.append(records(100, first=step * 100))
                await until(lambda: journal.last_seq - journal.statistics().cursors[SINK] <= 200)
            assert journal.statistics().full_reason is None
            assert journal.first_seq > 1
            await until(lambda: one.statistics().skipped > 3_000)
            assert one.statistics().skipped_span is not None
            server.away = False
            await until(lambda: journal.statistics().cursors[SINK] == journal.last_seq)
        told = one.statistics()
        assert told.skipped + len(server.lines) == journal.last_seq, "each entry is written or counted"
        assert len(server.lines) >= 100
    finally:
        await journal.close()


def test_check_says_where_the_lag_is_more_than_the_journal_holds(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    text = '[gateway]\nname = "e"\ndata = "d"\n[journal]\nmax_bytes = {}\n[influx]\nurl = "http://x"\n'
    path.write_text(text.format(10_000_000))
    small = load(path)
    assert small.influx is not None
    assert influx_lag(small, small.influx) == 10_000_000 // 2 // ENTRY_OCTETS
    assert any("[influx] max_lag = 1000000" in line for line in journal_needs(small).warnings(small))
    path.write_text(text.format(10_000_000_000))
    large = load(path)
    assert not any("[influx]" in line for line in journal_needs(large).warnings(large))
