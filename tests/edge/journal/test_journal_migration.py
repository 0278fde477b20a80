"""Journal files of earlier versions, made by the programs of then, open and go on."""

from __future__ import annotations

import gzip
import json
import sqlite3
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path

import pytest

from gateway.contract.batches import parse_batch
from gateway.contract.blocks import READINGS_TYPE, NumberedBlock, Sender, assemble_blocks
from gateway.edge.journal import schema
from gateway.edge.journal.entry import EntryKind, JournalBatch, SeqRange
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.journal.view import view
from gateway.errors import JournalError
from tests.support.fakes import ManualClock
from tests.support.journal_records import T0, poll, record
from tests.support.paths import ROOT

VERSION_1 = ROOT / "tests" / "data" / "journal_version_1.db.gz"
"""Entries 31 to 44, acknowledged up to 30, taken by the broker up to 42; a revision, gaps, a dead letter."""
VERSION_4 = ROOT / "tests" / "data" / "journal_version_4.db.gz"
"""Made by the program of the day before captures were packed."""
VERSION_5 = ROOT / "tests" / "data" / "journal_version_5.db.gz"
"""Made by the program of the day before packed captures stood in the order they came in."""
LIMITS = JournalLimits(sinks=("mqtt",), consumers=("central", "billing"))


def with_real_hashes(path: Path) -> None:
    """The file was filled by a test, with hashes of its own; these are the program's of then."""
    db = sqlite3.connect(path)
    for value in (1, 7):
        known = {
            "q": "1-0:1.29.0*255",
            "name": "interval_energy_import",
            "unit": "Wh",
            "value": f"{value}.50",
        }
        real = blake2b(json.dumps([known], separators=(",", ":")).encode(), digest_size=16).digest()
        db.execute("update capture set hash = ? where hash = ?", (real, value.to_bytes(16, "big")))
    db.commit()
    db.close()


async def test_a_file_of_version_1_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    before = view(path)
    with_real_hashes(path)
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
    again = JournalBatch(blocks=(record(5), record(3, value=7), record(40)))
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


async def test_undelivered_entries_of_version_1_go_out_as_blocks_with_their_ids_and_numbers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    db = sqlite3.connect(path)
    old = {
        seq: json.loads(body)
        for seq, kind, body in db.execute("select seq, kind, body from entry")
        if kind == "capture"
    }
    db.close()
    journal = await Journal.open(path, clock=ManualClock(T0), limits=LIMITS)
    [chunk] = [await anext(journal.follow("mqtt"))]
    assert [entry.seq for entry in chunk] == [43, 44]
    entries = await journal.read(31, 44)
    assert [entry.seq for entry in entries] == list(range(31, 45))
    for entry in entries:
        if entry.kind is EntryKind.GAP:
            continue
        assert entry.layout is not None
        block = NumberedBlock(
            first=entry.seq, last=entry.last, body=entry.body, layout=entry.layout, holders=entry.holders
        )
        sender = Sender(journal=journal.uuid, generation=journal.generation, gateway="edge-1")
        octets = assemble_blocks([block], sender, type=READINGS_TYPE, time="2026-08-01T00:00:00Z")
        [capture] = parse_batch(octets).data.captures  # its checksum was compared
        was = old.pop(entry.seq)
        assert (capture.seq, capture.capture_id, capture.value_rev) == (
            entry.seq,
            was["capture_id"],
            was["value_rev"],
        )
        assert capture.values[0].value == was["values"][0]["value"]
        assert capture.attributions[0].account_id == was["attributions"][0]["account_id"]
    assert old == {}
    await journal.close()


async def test_a_file_of_version_4_knows_its_captures_and_packs_new_ones(tmp_path: Path) -> None:
    """A poll of 20, one of 10 with a revision of the sixth, a gap, a live row; delivered up to 31."""
    path = tmp_path / "j.db"
    path.write_bytes(gzip.decompress(VERSION_4.read_bytes()))
    limits = JournalLimits(sinks=("mqtt",), consumers=("central",))
    clock = ManualClock(T0 + timedelta(days=3))
    journal = await Journal.open(path, clock=clock, limits=limits)
    statistics = journal.statistics()
    assert (journal.first_seq, journal.last_seq, statistics.captures) == (1, 33, 31)
    # Without the file beside it, it counts as a copy: another uuid, of which central has acknowledged nothing.
    assert (statistics.cursors, statistics.consumers) == ({"mqtt": 31}, {"central": 0})
    assert await journal.watermark("GEN:1", "block_load") == T0 + timedelta(minutes=30 * 29)
    again = JournalBatch(
        blocks=(
            poll(0, 5),
            record(5, value=7),
            poll(6, 14),
            record(0, profile="instantaneous", meter="GEN:2"),
        )
    )
    assert await journal.append(again) == SeqRange(34, 33)
    assert await journal.append(JournalBatch(blocks=(poll(20, 10), poll(30, 20)))) == SeqRange(34, 53)
    assert await journal.append(JournalBatch(blocks=(record(5, value=8),))) == SeqRange(54, 54)
    entries = await journal.read(34, 54)
    assert json.loads(entries[-1].body)["captures"][0]["value_rev"] == 3
    await journal.close()
    journal = await Journal.open(path, clock=clock, limits=limits)
    assert journal.statistics().captures == 51
    assert await journal.append(JournalBatch(blocks=(poll(20, 30),))) == SeqRange(55, 54)
    await journal.close()
    with sqlite3.connect(path) as db:
        assert db.execute("pragma user_version").fetchone()[0] == schema.VERSION
        assert db.execute("select count(*) from packed").fetchone()[0] == 1
    db.close()


async def test_a_file_of_version_5_knows_what_it_packed(tmp_path: Path) -> None:
    """Polls of 0..19, 20..29 and 40..49, the sixth of the second revised, then 30..39 between them."""
    path = tmp_path / "j.db"
    path.write_bytes(gzip.decompress(VERSION_5.read_bytes()))
    clock = ManualClock(T0 + timedelta(days=3))
    journal = await Journal.open(path, clock=clock, limits=LIMITS)
    assert (journal.last_seq, journal.statistics().captures) == (51, 50)
    again = JournalBatch(blocks=(poll(0, 25), record(25, value=7), poll(26, 24)))
    assert await journal.append(again) == SeqRange(52, 51)
    assert await journal.append(JournalBatch(blocks=(record(3, value=9), poll(50, 10)))) == SeqRange(52, 62)
    await journal.close()
    with sqlite3.connect(path) as db:
        assert db.execute("select id, length(body) / 24 from packed order by key").fetchall() == [
            (2, 10),
            (3, 10),
        ]
        plan = db.execute("explain query plan select body from packed where key <= x'00' order by key desc")
        assert "packed_key" in plan.fetchone()[3]
    db.close()
