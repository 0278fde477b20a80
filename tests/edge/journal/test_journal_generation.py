"""A journal that was set back is known by the file beside it; no message is evidence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.contract.messages.generation import Generation
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from protocols.clock import SystemClock
from tests.support.journal_records import record

LIMITS = JournalLimits(sinks=("mqtt",), consumers=("central",))


async def opened(path: Path) -> Journal:
    return await Journal.open(path, clock=SystemClock(), limits=LIMITS)


async def append(journal: Journal, first: int, count: int) -> None:
    await journal.append(JournalBatch(blocks=tuple(record(n) for n in range(first, first + count))))


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


async def copied(path: Path, target: Path) -> None:
    """What a backup of the running journal's folder copies."""
    target.mkdir()
    for name in ("j.db", "j.db.generation", "j.db.lock"):
        shutil.copy2(path.with_name(name), target / name)


async def test_a_copy_restored_within_the_last_minute_of_a_run_that_was_killed_is_noticed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j.db"
    journal = await opened(path)
    await append(journal, 0, 5)
    await journal._writer.call(lambda store: store.checkpoint())
    copy = path.read_bytes()
    await append(journal, 5, 1)
    beside = (tmp_path / "j.db.generation").read_bytes()  # as a SIGKILL leaves it
    was = journal.uuid
    await journal.close()
    path.write_bytes(copy)
    (tmp_path / "j.db.generation").write_bytes(beside)
    journal = await opened(path)
    assert (journal.uuid != was, codes(journal)) == (True, ["journal_set_back"])
    await journal.close()


async def test_a_run_that_was_killed_without_a_copy_keeps_the_name(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await opened(path)
    await append(journal, 0, 5)
    beside = (tmp_path / "j.db.generation").read_bytes()
    await append(journal, 5, 5)
    was = journal.uuid
    await journal.close()
    (tmp_path / "j.db.generation").write_bytes(beside)  # a power cut lost what was written last
    journal = await opened(path)
    assert (journal.uuid, codes(journal)) == (was, [])
    await journal.close()


async def test_a_copy_of_the_whole_folder_goes_on_under_another_name(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    journal = await opened(first / "j.db")
    await append(journal, 0, 5)
    await journal._writer.call(lambda store: store.checkpoint())
    await copied(first / "j.db", tmp_path / "second")
    clone = await opened(tmp_path / "second" / "j.db")
    assert (clone.uuid != journal.uuid, codes(clone)) == (True, ["journal_set_back"])
    assert [(end.journal, end.last_seq) for end in clone.former] == [(journal.uuid, 5)]
    await clone.close()
    await journal.close()
    again = await opened(first / "j.db")
    assert (again.uuid, codes(again)) == (journal.uuid, [])
    await again.close()


async def test_a_folder_that_was_moved_keeps_the_name(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    journal = await opened(tmp_path / "here" / "j.db")
    await append(journal, 0, 5)
    was = journal.uuid
    await journal.close()
    (tmp_path / "here").rename(tmp_path / "there")
    journal = await opened(tmp_path / "there" / "j.db")
    assert (journal.uuid, codes(journal)) == (was, [])
    await journal.close()


async def test_under_another_gateways_name_it_is_another_journal(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    names = list[str]()
    for gateway in ("edge-1", "edge-1", "edge-2", ""):
        journal = await Journal.open(path, clock=SystemClock(), limits=LIMITS, gateway=gateway)
        await append(journal, len(names), 1)
        names.append(journal.uuid)
        alarms = codes(journal)
        assert alarms == (["journal_set_back"] if len(names) == 3 else [])
        former = journal.former
        await journal.close()
    assert names[0] == names[1] != names[2] == names[3]
    assert {(end.journal, end.last_seq) for end in former} == {(names[0], 2), (names[2], 3)}


async def test_the_end_of_a_journal_whose_file_is_gone_is_known(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await opened(path)
    await append(journal, 0, 7)
    was = journal.uuid
    await journal.close()
    path.unlink()
    journal = await opened(path)
    assert codes(journal) == ["journal_set_back"]
    assert [(end.journal, end.last_seq) for end in journal.former] == [(was, 7)]
    await journal.close()


async def test_each_run_knows_where_the_run_before_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await opened(path)
    first = journal.generation
    await append(journal, 0, 3)
    await journal.close()
    journal = await opened(path)
    assert first.is_before(journal.generation)
    assert [(end.generation, end.last_seq) for end in journal.former] == [(first, 3)]
    await journal.close()


@pytest.mark.parametrize(
    ("counter", "random", "seq", "another"),
    [
        (9, "00000001", 0, True),  # a later run of this journal: this file was set back
        (2, "00000001", 0, True),  # a twin of this run
        (1, None, 9, True),  # the run before this one had come further than this file shows
        (1, None, 3, False),
        (2, None, 99, False),  # beyond our end, said of this very run: no proof of anything
    ],
)
async def test_what_a_peer_proves_of_a_whole_machine_set_back(
    tmp_path: Path, counter: int, random: str | None, seq: int, another: bool
) -> None:
    path = tmp_path / "j.db"
    runs = list[Generation]()
    for _ in range(2):
        journal = await opened(path)
        runs.append(journal.generation)
        if len(runs) == 1:
            await append(journal, 0, 3)
            await journal.close()
    await append(journal, 3, 4)
    await journal.ack("mqtt", 7)
    await journal.consumer_ack("central", 7)
    was = journal.uuid
    heard = Generation(counter, random) if random else runs[counter - 1]
    assert await journal.heard(heard, seq) is another
    assert (journal.uuid != was) is another
    assert codes(journal) == (["journal_set_back"] if another else [])
    assert journal.statistics().consumers == {"central": 0 if another else 7}
    if another:
        assert heard.is_before(journal.generation)
        assert (journal.former[0].journal, journal.former[0].last_seq) == (was, 7)
    name = journal.uuid
    await append(journal, 20, 1)
    await journal.close()
    journal = await opened(path)
    assert (journal.uuid, journal.last_seq, codes(journal)) == (name, 8, [])
    await journal.close()
