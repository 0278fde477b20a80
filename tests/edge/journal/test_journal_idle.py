"""A journal in which nothing happens costs next to nothing, and sleeps through nothing that is due."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.edge.journal import writer
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.journal.view import view
from protocols.clock import SystemClock
from tests.support.journal_records import record
from tests.support.waiting import until


async def test_a_thread_that_sleeps_is_woken_by_a_cursor_that_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "KEEP_HOUSE_EVERY", 3_600.0)
    monkeypatch.setattr(writer, "IDLE_HOUSE_EVERY", 3_600.0)
    path = tmp_path / "j.db"
    journal = await Journal.open(path, clock=SystemClock(), limits=JournalLimits(sinks=("mqtt",)))
    await journal.append(JournalBatch(blocks=tuple(record(n) for n in range(9))))
    for seq in range(1, 10):
        await journal.ack("mqtt", seq)
    await until(lambda: view(path).cursors.get("mqtt") == 9)
    assert journal.statistics().commits == 2, "nine moves, one commit"
    assert journal.turns <= 6, "the opening, the append, the first move, the moment when moves are due"
    await journal.close()
