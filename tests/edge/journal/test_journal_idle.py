"""A journal in which nothing happens costs next to nothing, and sleeps through nothing that is due."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.journal import writer
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.journal.view import view
from protocols.clock import SystemClock
from tests.support.journal_records import T0, gap_record, record
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


async def test_what_a_poll_asks_is_answered_without_the_thread(tmp_path: Path) -> None:
    """Where it is read on from, and its open gaps, of which there are mostly none: two waits a profile otherwise."""
    path = tmp_path / "j.db"
    journal = await Journal.open(path, clock=SystemClock(), limits=JournalLimits(sinks=("mqtt",)))
    mark = T0 + timedelta(hours=1)
    batch = JournalBatch(blocks=(record(0),), gaps=(gap_record(1),), watermarks=(("GEN:2", "daily", mark),))
    await journal.append(batch)
    asked = journal.turns
    for _ in range(50):
        assert await journal.watermark("GEN:2", "daily") == mark
        assert await journal.open_gaps("GEN:2", "daily") == []
    assert journal.turns <= asked + 5
    assert [gap.gap_id for gap in await journal.open_gaps("GEN:1", "block_load")] == ["gap-1"]
    await journal.append(JournalBatch(gaps=(gap_record(1, "filled"),)))
    assert await journal.open_gaps("GEN:1", "block_load") == []
    await journal.append(JournalBatch(gaps=(gap_record(2),)))
    await journal.close()
    journal = await Journal.open(path, clock=SystemClock())
    assert [gap.gap_id for gap in await journal.open_gaps("GEN:1", "block_load")] == ["gap-2"]
    await journal.close()
