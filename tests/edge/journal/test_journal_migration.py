"""A journal file of version 1, made by the program before numbered steps, opens and goes on."""

from __future__ import annotations

import gzip
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.journal import schema
from gateway.edge.journal.entry import JournalBatch, SeqRange
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.journal.view import view
from gateway.errors import JournalError
from tests.support.fakes import ManualClock
from tests.support.journal_records import T0, record
from tests.support.paths import ROOT

VERSION_1 = ROOT / "tests" / "data" / "journal_version_1.db.gz"
"""Entries 31 to 44, acknowledged up to 30, taken by the broker up to 42; a revision, gaps, a dead letter."""
LIMITS = JournalLimits(sinks=("mqtt",), consumers=("central", "billing"))


async def test_a_file_of_version_1_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    before = view(path)
    clock = ManualClock(T0 + timedelta(days=31))
    journal = await Journal.open(path, clock=clock, limits=LIMITS)
    assert (journal.uuid, journal.first_seq, journal.last_seq) == (before.journal, 31, 44)
    statistics = journal.statistics()
    assert statistics.consumers == {"central": 30, "billing": 30}
    assert (statistics.captures, statistics.cursors, statistics.alarms) == (40, {"mqtt": 42}, ())
    assert [letter.seq for letter in await journal.dead_letters("mqtt")] == [38]
    assert [gap.gap_id for gap in await journal.open_gaps()] == ["gap-1"]
    mark = await journal.watermark("GEN:1", "block_load")
    assert mark == T0 + timedelta(minutes=30 * 39)
    # What was known is known: a repeat, a repeat of the revision, and something new.
    again = JournalBatch(captures=(record(5), record(3, value=7), record(40)))
    assert await journal.append(again) == SeqRange(45, 45)
    await journal.ack("mqtt", 45)
    await journal.consumer_ack("central", 45)
    assert journal.statistics().consumers == {"central": 45, "billing": 30}
    await journal.close()
    journal = await Journal.open(path, clock=clock, limits=LIMITS)
    assert (journal.uuid, journal.last_seq) == (before.journal, 45)
    assert journal.statistics().alarms == ()
    await journal.close()
    with sqlite3.connect(path) as db:
        assert db.execute("pragma user_version").fetchone()[0] == schema.VERSION
    db.close()


async def test_a_step_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "create table once (x); create table once (x)"))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(JournalError, match="once"):
        await Journal.open(path, clock=ManualClock(T0))
    monkeypatch.undo()
    journal = await Journal.open(path, clock=ManualClock(T0), limits=LIMITS)
    assert journal.last_seq == 44
    await journal.close()


async def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await Journal.open(path, clock=ManualClock(T0))).close()
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="use the program that wrote it"):
        await Journal.open(path, clock=ManualClock(T0))
