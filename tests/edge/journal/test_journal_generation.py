"""A journal that was set back is known by the file beside it; no message is evidence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from protocols.clock import SystemClock
from tests.support.journal_records import record

LIMITS = JournalLimits(sinks=("mqtt",), consumers=("central",))


async def opened(path: Path) -> Journal:
    return await Journal.open(path, clock=SystemClock(), limits=LIMITS)


async def append(journal: Journal, first: int, count: int) -> None:
    await journal.append(JournalBatch(captures=tuple(record(n) for n in range(first, first + count))))


def codes(journal: Journal) -> list[str]:
    return [alarm.code for alarm in journal.statistics().alarms]


async def test_runs_in_order_keep_the_name(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    names = set[str]()
    for run in range(4):
        journal = await opened(path)
        await append(journal, run * 5, 5)
        names.add(journal.uuid)
        assert codes(journal) == []
        await journal.close()
    assert len(names) == 1


@pytest.mark.parametrize("runs_between", [0, 1, 3])
async def test_a_restored_copy_goes_on_under_another_name(tmp_path: Path, runs_between: int) -> None:
    """The copy was taken while it ran; entries were added after it, in the same run or in later ones."""
    path = tmp_path / "j.db"
    journal = await opened(path)
    was = journal.uuid
    await append(journal, 0, 5)
    await journal.ack("mqtt", 5)
    await journal.consumer_ack("central", 5)
    await journal.rewind("mqtt", 5)  # durable: the copy holds what was acknowledged
    await journal._writer.call(lambda store: store.checkpoint())
    shutil.copy(path, tmp_path / "copy.db")
    await append(journal, 5, 5)
    await journal.close()
    for run in range(runs_between):
        journal = await opened(path)
        await append(journal, 10 + run, 1)
        await journal.close()
    path.write_bytes((tmp_path / "copy.db").read_bytes())
    journal = await opened(path)
    assert journal.uuid != was
    assert codes(journal) == ["journal_set_back"]
    assert journal.last_seq == 5
    assert journal.statistics().billing_acked == 0
    assert (await journal.cursors())["mqtt"] == 5
    await append(journal, 20, 1)
    name = journal.uuid
    await journal.close()
    journal = await opened(path)
    assert (journal.uuid, codes(journal)) == (name, [])
    await journal.close()


async def test_a_copy_without_the_file_beside_it_takes_another_name(tmp_path: Path) -> None:
    journal = await opened(tmp_path / "j.db")
    await append(journal, 0, 1)
    was = journal.uuid
    await journal.close()
    (tmp_path / "j.db.generation").unlink()
    journal = await opened(tmp_path / "j.db")
    assert journal.uuid != was
    await journal.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"journal": "x"}'])
async def test_an_unreadable_file_beside_it_is_no_proof_that_all_is_well(
    tmp_path: Path, content: bytes
) -> None:
    journal = await opened(tmp_path / "j.db")
    was = journal.uuid
    await journal.close()
    (tmp_path / "j.db.generation").write_bytes(content)
    journal = await opened(tmp_path / "j.db")
    assert journal.uuid != was
    await journal.close()


async def test_a_start_cut_short_between_the_two_files_is_no_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.db"
    journal = await opened(path)
    await append(journal, 0, 3)
    was = journal.uuid
    await journal.close()
    beside = (tmp_path / "j.db.generation").read_bytes()
    await (await opened(path)).close()
    (tmp_path / "j.db.generation").write_bytes(beside)
    journal = await opened(path)
    assert (journal.uuid, codes(journal)) == (was, [])
    await journal.close()


async def test_an_older_uuid_restored_after_a_renaming_is_renamed_again(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await opened(path)
    await append(journal, 0, 3)
    await journal.close()
    copy = path.read_bytes()
    journal = await opened(path)
    await append(journal, 3, 3)
    await journal.close()
    names = set[str]()
    for _ in range(2):
        path.write_bytes(copy)
        journal = await opened(path)
        names.add(journal.uuid)
        assert codes(journal) == ["journal_set_back"]
        await append(journal, 9, 1)
        await journal.close()
    assert len(names) == 2
