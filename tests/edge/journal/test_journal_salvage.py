"""A damaged journal is put aside and salvaged; a file that goes away under the gateway is noticed."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.journal import file
from gateway.edge.journal.entry import Entry, JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.journal.view import view
from gateway.errors import JournalError
from tests.support.fakes import ManualClock
from tests.support.journal_records import T0, gap_record, record
from tests.support.waiting import until

LIMITS = JournalLimits(sinks=("mqtt",), consumers=("central",))
PAGE = 4096


async def opened(path: Path) -> Journal:
    return await Journal.open(path, clock=ManualClock(T0 + timedelta(days=9)), limits=LIMITS)


async def filled(path: Path, count: int = 300) -> list[Entry]:
    """A journal of `count` captures with two revisions and a gap, delivered up to 200."""
    journal = await opened(path)
    await journal.append(JournalBatch(blocks=tuple(record(n, pad=300) for n in range(count))))
    await journal.append(JournalBatch(blocks=(record(7, value=2), record(8, value=2)), gaps=(gap_record(1),)))
    await journal.append(JournalBatch(watermarks=(("GEN:1", "block_load", T0 + timedelta(days=6)),)))
    await journal.ack("mqtt", 200)
    await journal.consumer_ack("central", 150)
    entries = [e for first in range(1, count + 4, 100) for e in await journal.read(first, first + 99)]
    await journal.close()
    return entries


def pages_of_entries(path: Path) -> list[int]:
    content = path.read_bytes()
    pages = range(len(content) // PAGE)
    return [page for page in pages if b'"captures":[' in content[page * PAGE : (page + 1) * PAGE]]


def damage(path: Path, pages: list[int]) -> None:
    content = bytearray(path.read_bytes())
    for page in pages:
        content[page * PAGE : (page + 1) * PAGE] = random.Random(page).randbytes(PAGE)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_whole_is_taken_over_and_nothing_else(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "j.db"
    entries = await filled(path)
    was = view(path).journal
    pages = path.stat().st_size // PAGE
    damage(path, random.Random(seed).sample(range(1, pages), 1 + seed % 3))
    journal = await opened(path)
    if not journal.statistics().alarms:  # a page that nothing is kept in
        await journal.close()
        pytest.fail("this damage was not noticed: choose another seed")
    [alarm] = journal.statistics().alarms
    assert alarm.code == "journal_quarantined"
    assert journal.uuid != was
    bodies = {entry.body for entry in entries}
    held = [e for first in range(1, 400, 100) for e in await journal.read(first, first + 99)]
    assert [e.seq for e in held] == list(range(1, len(held) + 1))
    assert {e.body for e in held} <= bodies
    assert f"with {len(held)} entries" in alarm.text
    assert (await journal.watermark("GEN:1", "block_load")) is None
    # Read again from the meter: what is among the entries is a repeat, all else is journaled once more.
    kept = {e.body for e in held}
    span = await journal.append(JournalBatch(blocks=tuple(record(n, pad=300) for n in range(9, 300))))
    lost = sum(entry.body not in kept for entry in entries[9:300])
    assert span.last - span.first + 1 >= lost
    await journal.append(JournalBatch(blocks=(record(400),)))
    await journal.close()
    journal = await opened(path)
    assert journal.statistics().alarms == ()
    await journal.close()


async def test_most_of_a_journal_with_one_bad_page_is_salvaged(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await filled(path)
    damage(path, pages_of_entries(path)[-3:-2])
    journal = await opened(path)
    assert 280 < journal.last_seq < 303
    assert journal.statistics().consumers == {"central": 0}
    assert 180 < journal.statistics().cursors["mqtt"] <= 200
    await journal.close()
    assert len(list(tmp_path.glob("j.db.damaged-*"))) >= 1


async def test_a_second_damage_keeps_the_first_file(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    for _ in range(3):
        path.write_bytes(b"no database" * 1000)
        await (await opened(path)).close()
    kept = [p for p in tmp_path.glob("j.db.damaged-*") if p.read_bytes().startswith(b"no database")]
    assert len(kept) == 3


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_goes_away_under_the_gateway_is_noticed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "j.db"
    journal = await opened(path)
    await journal.append(JournalBatch(blocks=(record(1),)))
    was = journal.uuid
    path.unlink()
    if how == "replaced":
        path.write_bytes(b"")
    await until(lambda: "journal_file_lost" in [a.code for a in journal.statistics().alarms])
    with pytest.raises(JournalError, match=how):
        await journal.append(JournalBatch(blocks=(record(2),)))
    assert [e.seq for e in await journal.read(1, 9)] == [1]  # what it holds can still be delivered
    await journal.close()
    for log in ("-wal", "-shm"):
        path.with_name(path.name + log).unlink(missing_ok=True)
    journal = await opened(path)
    assert (journal.uuid != was, journal.last_seq) == (True, 0)
    await journal.append(JournalBatch(blocks=(record(2),)))
    await journal.close()


async def test_damage_found_while_a_large_journal_runs_is_salvaged_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file is not looked through at each start: what failed in the former run says that it must be."""
    monkeypatch.setattr(file, "QUICK_CHECK_BELOW", 0)
    path = tmp_path / "j.db"
    await filled(path)
    journal = await opened(path)
    assert journal.statistics().alarms == ()
    store = journal._writer.store

    def found(*_: object) -> None:
        raise file.damaged(path, "database disk image is malformed")

    monkeypatch.setattr(store, "apply", found)
    with pytest.raises(JournalError, match="restart the gateway"):
        await journal.append(JournalBatch(blocks=(record(500),)))
    await journal.close()
    assert path.with_name("j.db.suspect").exists()
    damage(path, [path.stat().st_size // PAGE // 2])
    journal = await opened(path)
    assert [alarm.code for alarm in journal.statistics().alarms] == ["journal_quarantined"]
    assert journal.last_seq > 250
    await journal.close()
    journal = await opened(path)
    assert journal.statistics().alarms == ()
    await journal.close()


async def test_damage_that_only_loading_finds_in_a_large_journal_is_salvaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "QUICK_CHECK_BELOW", 0)
    path = tmp_path / "j.db"
    await filled(path)
    damage(path, pages_of_entries(path)[-1:])
    journal = await opened(path)
    assert [alarm.code for alarm in journal.statistics().alarms] == ["journal_quarantined"]
    assert journal.last_seq > 280
    await journal.close()
