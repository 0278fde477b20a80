"""A flipped digit in the journal's file is found by the checksum before anything is sent."""

from __future__ import annotations

import json
import random
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.contract.messages import Gap
from gateway.edge.journal import journal as journal_module
from gateway.edge.journal.entry import Entry, EntryKind, JournalBatch, SeqRange
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from tests.support.fakes import ManualClock
from tests.support.journal_records import T0, gap_record, poll

LIMITS = JournalLimits(sinks=("mqtt",), consumers=("central",))
HALF = timedelta(minutes=30)


async def opened(path: Path) -> Journal:
    return await Journal.open(path, clock=ManualClock(T0 + timedelta(days=9)), limits=LIMITS)


async def filled(path: Path) -> list[Entry]:
    """Three blocks of five captures and a gap."""
    journal = await opened(path)
    for n in range(3):
        await journal.append(JournalBatch(blocks=(poll(5 * n, 5),)))
    mark = ("GEN:1", "block_load", T0 + 14 * HALF)
    await journal.append(JournalBatch(gaps=(gap_record(1),), watermarks=(mark,)))
    entries = await journal.read(1, 16)
    await journal.close()
    return entries


def change(path: Path, sql: str, *values: object) -> None:
    db = sqlite3.connect(path)
    db.execute(sql, values)
    db.commit()
    db.close()


async def test_a_flipped_digit_is_never_delivered(tmp_path: Path) -> None:
    """308 Wh must not become 908 Wh: the block goes aside, gaps stand for it, and the meter is read again."""
    path = tmp_path / "j.db"
    entries = await filled(path)
    change(path, "update entry set body = cast(replace(body, '1.50', '9.50') as blob) where seq = 6")
    journal = await opened(path)
    chunk = await anext(journal.follow("mqtt"))
    assert [(e.seq, e.last, e.kind) for e in chunk] == [
        (1, 5, EntryKind.CAPTURE),
        *((seq, seq, EntryKind.GAP) for seq in range(6, 11)),
        (11, 15, EntryKind.CAPTURE),
        (16, 16, EntryKind.GAP),
    ]
    assert (chunk[0], chunk[6]) == (entries[0], entries[2])
    gaps = [Gap.model_validate_json(e.body) for e in chunk[1:6]]
    assert {(g.meter, g.profile, g.state, g.reason) for g in gaps} == {
        ("GEN:1", "block_load", "unfillable", "damaged_entry")
    }
    assert {(g.after < T0 + 5 * HALF, g.until) for g in gaps} == {(True, T0 + 9 * HALF)}
    assert len({g.gap_id for g in gaps}) == 5
    [alarm] = [a for a in journal.statistics().alarms if a.code == "journal_entry_damaged"]
    assert "read again from GEN:1" in alarm.text
    [letter] = await journal.dead_letters("journal")
    assert (letter.seq, b"9.50" in letter.body) == (6, True)
    # Read again: the watermark went back, and what was damaged comes as the next revision.
    mark = await journal.watermark("GEN:1", "block_load")
    assert mark is not None
    assert mark < T0 + 5 * HALF
    assert await journal.append(JournalBatch(blocks=(poll(0, 15),))) == SeqRange(17, 21)
    [again] = await journal.read(17, 21)
    assert [row["value_rev"] for row in json.loads(again.body)["captures"]] == [2] * 5
    await journal.close()
    journal = await opened(path)
    assert await journal.read(1, 16) == chunk
    assert journal.statistics().alarms == ()
    await journal.close()


@pytest.mark.parametrize(
    "sql",
    [
        "update entry set last = 9 where seq = 6",
        "update entry set last = 12 where seq = 6",
        "update entry set holders = layout where seq = 6",
        "update entry set profile = 'daily' where seq = 6",
        "update entry set kind = 'gap' where seq = 6",
        "update entry set low = high where seq = 6",
        "update entry set checksum = null where seq = 6",
        "update entry set checksum = null, last = null where seq = 6",
        "update entry set body = x'' where seq = 6",
        "update entry set stream = 9 where seq = 6",
        "delete from entry where seq = 6",
    ],
)
async def test_whatever_is_damaged_of_an_entry_its_numbers_stay(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "j.db"
    entries = await filled(path)
    change(path, sql)
    journal = await opened(path)
    found = await journal.read(1, 16)
    assert [seq for e in found for seq in range(e.seq, e.last + 1)] == list(range(1, 17))
    assert [e for e in found if e.kind is EntryKind.CAPTURE] == [entries[0], entries[2]]
    assert "journal_entry_damaged" in [a.code for a in journal.statistics().alarms]
    await journal.close()


@pytest.mark.parametrize("table", ["layout", "holders"])
async def test_a_damaged_layout_or_list_of_holders_takes_its_blocks_along(tmp_path: Path, table: str) -> None:
    path = tmp_path / "j.db"
    await filled(path)
    where = f"key = (select {table} from entry where seq = 6)"
    change(path, f"update template set text = cast(replace(text, 'a', 'b') as blob) where {where}")
    journal = await opened(path)
    found = await journal.read(1, 16)
    assert [(e.seq, e.kind) for e in found] == [(seq, EntryKind.GAP) for seq in range(1, 17)]
    assert (await journal.append(JournalBatch(blocks=(poll(0, 15),)))).last == 31
    [again] = await journal.read(17, 31)
    assert again.count == 15
    await journal.close()


@pytest.mark.parametrize("seed", range(25))
async def test_a_bit_that_flips_anywhere_in_the_file_changes_no_reading(tmp_path: Path, seed: int) -> None:
    """What is delivered was written so, or it is not delivered: it may be missing, never another."""
    path = tmp_path / "j.db"
    entries = await filled(path)
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    begin, end = content.index(b'{"directory"'), content.rindex(b"]}")
    content[chance.randrange(begin, end)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    journal = await opened(path)
    found = await journal.read(1, journal.last_seq)
    bodies = {e.body for e in entries}
    assert {e.body for e in found if e.kind is EntryKind.CAPTURE} <= bodies
    assert [seq for e in found for seq in range(e.seq, e.last + 1)] == list(range(1, journal.last_seq + 1))
    await journal.close()


async def test_an_entry_in_the_way_of_a_long_file_is_mended_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CHUNK_ENTRIES", 2)
    path = tmp_path / "j.db"
    await filled(path)
    change(path, "update entry set body = x'00' where seq in (6, 11)")
    journal = await opened(path)
    seen: list[int] = []
    async for chunk in journal.follow("mqtt"):
        seen += [seq for e in chunk for seq in range(e.seq, e.last + 1)]
        if seen[-1] == 16:
            break
    assert seen == list(range(1, 17))
    assert journal.statistics().damaged == 2
    await journal.close()


async def test_a_damaged_end_of_what_was_delivered_does_not_stop_trimming(tmp_path: Path) -> None:
    """While the disk is full less is trimmed at once than a block has, and nobody reads a delivered block again."""
    path = tmp_path / "j.db"
    await filled(path)
    change(path, "update entry set last = 900000 where seq = 1")
    journal = await opened(path)
    assert await journal._writer.call(lambda store: store.trim(12, None, 3)) == 5
    assert (await journal.read(1, 16))[0].seq == 6
    await journal.close()


@pytest.mark.parametrize("change_to", ["body = 5", "body = 1.5", "last = -3", "last = 2"])
async def test_what_cannot_stand_in_an_entry_is_mended_as_well(tmp_path: Path, change_to: str) -> None:
    path = tmp_path / "j.db"
    await filled(path)
    change(path, f"update entry set {change_to} where seq = 6")
    journal = await opened(path)
    entries = await journal.read(1, 16)
    assert [n for e in entries for n in range(e.seq, e.last + 1)] == list(range(1, 17))
    assert {e.kind for e in entries if 6 <= e.seq <= 10} == {EntryKind.GAP}
    await journal.close()


@pytest.mark.parametrize("last", ["text", 2**40, -3])
async def test_a_newest_entry_whose_end_is_damaged_gives_no_number_twice(
    tmp_path: Path, last: object
) -> None:
    path = tmp_path / "j.db"
    await filled(path)
    journal = await opened(path)
    was = journal.uuid
    await journal.append(JournalBatch(blocks=(poll(40, 5),)))
    await journal.close()
    change(path, "update entry set last = ? where seq = 17", last)
    journal = await opened(path)
    assert journal.uuid != was or journal.last_seq == 21
    span = await journal.append(JournalBatch(blocks=(poll(60, 2),)))
    assert span.first < 100
    assert [e.seq for e in await journal.read(1, 15)] == [1, 6, 11]
    await journal.close()
