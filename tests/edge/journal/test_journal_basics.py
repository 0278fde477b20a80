"""The journal's main path: append, repeat, revise, follow, ack, trim, reopen, refuse."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.contract.blocks import EncodedBlock
from gateway.edge.journal.entry import EntryKind, GapRecord, JournalBatch, SeqRange
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import FullPolicy, JournalLimits
from gateway.errors import JournalError, JournalFull
from tests.support.edge.housekeeping import looked_after, quick_housekeeping
from tests.support.fakes import ManualClock
from tests.support.journal_records import ids
from tests.support.journal_records import record as made
from tests.support.waiting import PATIENCE, until

T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)


def record(n: int, value: int = 1, size: int = 0) -> EncodedBlock:
    return made(n, value=value, pad=size)


def batch(*records: EncodedBlock) -> JournalBatch:
    return JournalBatch(blocks=records)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


async def test_append_repeat_revise_reopen(tmp_path: Path, clock: ManualClock) -> None:
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    assert await journal.append(batch(record(1), record(2))) == SeqRange(1, 2)
    assert await journal.append(batch(record(1), record(2))) == SeqRange(3, 2)
    assert await journal.append(batch(record(2, value=9), record(3))) == SeqRange(3, 4)
    name = journal.uuid
    await journal.close()
    await journal.close()
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    assert (journal.uuid, journal.first_seq, journal.last_seq) == (name, 1, 4)
    entries = await journal.read(1, 99)
    assert [e.seq for e in entries] == [1, 2, 3, 4]
    assert ids(entries[2]) == ids(entries[1])
    assert entries[2].body.endswith(b',"value_rev":2}]}')
    assert b"value_rev" not in entries[3].body
    assert await journal.append(batch(record(2, value=9))) == SeqRange(5, 4)
    await journal.close()


async def test_watermark_and_gaps_come_with_the_captures(tmp_path: Path, clock: ManualClock) -> None:
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    gap = GapRecord(
        gap_id="g",
        meter="GEN:1",
        profile="block_load",
        after=T0,
        until=T0 + timedelta(hours=1),
        state="open",
        body=b'{"gap_id":"g"}',
    )
    mark = T0 + timedelta(microseconds=5)
    done = await journal.append(
        JournalBatch(blocks=(record(1),), watermarks=(("GEN:1", "daily", mark),), gaps=(gap,))
    )
    assert done == SeqRange(1, 2)
    assert await journal.append(JournalBatch(gaps=(gap,))) == SeqRange(3, 2)
    assert await journal.watermark("GEN:1", "daily") == mark
    assert await journal.watermark("GEN:2", "daily") is None
    assert [g.gap_id for g in await journal.open_gaps()] == ["g"]
    assert (await journal.read(2, 2))[0].kind is EntryKind.GAP
    await journal.close()


async def test_follow_ack_rewind_and_reopen(tmp_path: Path, clock: ManualClock) -> None:
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    await journal.append(batch(*(record(n) for n in range(10))))
    seen: list[int] = []

    async def sink() -> None:
        async for chunk in journal.follow("mqtt"):
            seen.extend(e.seq for e in chunk)

    task = asyncio.create_task(sink())
    await until(lambda: len(seen) == 10)
    await journal.append(batch(record(11)))
    await until(lambda: len(seen) == 11)
    await journal.ack("mqtt", 7)
    await journal.ack("mqtt", 3)
    assert await journal.cursors() == {"mqtt": 7}
    with pytest.raises(JournalError, match="ends at 11"):
        await journal.ack("mqtt", 12)
    await journal.rewind("mqtt", 4)
    await until(lambda: seen[11:] == [5, 6, 7, 8, 9, 10, 11])
    await journal.ack("mqtt", 6)
    await journal.close()
    await asyncio.wait_for(task, PATIENCE)
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    first = await anext(journal.follow("mqtt"))
    assert [e.seq for e in first] == [7, 8, 9, 10, 11]
    await journal.close()


async def test_entries_that_are_durable_but_not_handed_over_yet_are_waited_for(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The journal's thread knows of a commit a moment before its followers do: none gets an entry twice."""
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    await journal.append(batch(record(1), record(2)))
    journal._writer.last_seq = 3
    assert await journal._chunk(3) == []
    assert [entry.seq for entry in await journal._chunk(2)] == [2]
    await journal.close()


async def test_trim_waits_for_sinks_and_retention(tmp_path: Path, clock: ManualClock) -> None:
    limits = JournalLimits(sinks=("mqtt",), retention=timedelta(days=1))
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    await journal.append(batch(*(record(n) for n in range(5))))
    clock.advance(timedelta(hours=20))
    await journal.append(batch(record(5)))
    await journal.ack("mqtt", 4)
    assert journal.first_seq == 1
    clock.advance(timedelta(hours=5))
    await until(lambda: journal.first_seq == 5)
    await journal.ack("mqtt", 6)
    clock.advance(timedelta(hours=20))
    await until(lambda: journal.first_seq == 7)
    assert journal.statistics().entries == 0
    await journal.close()
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    assert (journal.first_seq, journal.last_seq) == (7, 6)
    assert await journal.append(batch(record(0), record(9))) == SeqRange(7, 7)
    await journal.close()


async def test_what_consumers_acknowledged_stays_until_its_floor(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = quick_housekeeping(monkeypatch)
    limits = JournalLimits(sinks=("mqtt",), consumers=("central",), retention=timedelta(days=45))
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    await journal.append(batch(*(record(n) for n in range(5))))
    await journal.ack("mqtt", 5)
    await journal.consumer_ack("central", 3)
    await journal.append(batch(record(5)))  # with it what was acknowledged is durable, so that it could go
    clock.advance(timedelta(days=44))
    await looked_after(looks)
    assert [e.seq for e in await journal.read(1, 6)] == [1, 2, 3, 4, 5, 6]
    clock.advance(timedelta(days=2))
    await until(lambda: journal.first_seq == 4)
    assert journal.statistics().billing_acked == 3
    assert journal.statistics().backlog("mqtt") == 1
    await journal.close()


@pytest.mark.parametrize("policy", list(FullPolicy))
async def test_full_by_size_refuses_and_recovers(
    tmp_path: Path, clock: ManualClock, policy: FullPolicy
) -> None:
    limits = JournalLimits(max_bytes=200_000, sinks=("mqtt",), policy=policy)
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    appended = await fill(journal)
    assert journal.last_seq == appended > 30
    assert journal.statistics().full
    assert "raise max_bytes" in (journal.statistics().full_reason or "")
    assert journal.statistics().bytes < 220_000
    await journal.ack("mqtt", journal.last_seq)
    if policy is FullPolicy.STOP_READING:
        clock.advance(timedelta(days=46))
    await until(lambda: not journal.statistics().cursors or journal.statistics().backlog("mqtt") == 0)
    await append_when_taken(journal, batch(record(appended, size=2000)))
    stats = journal.statistics()
    assert not stats.full
    assert (stats.dropped > 0) == (policy is FullPolicy.DROP_OLDEST_ACKNOWLEDGED)
    await journal.close()


async def test_dead_letters_are_bounded(tmp_path: Path, clock: ManualClock) -> None:
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=JournalLimits(max_dead_letters=2))
    for seq in (1, 2, 3):
        await journal.dead_letter("influx", seq, "field type conflict", b"{}")
    assert [d.seq for d in await journal.dead_letters("influx")] == [2, 3]
    assert journal.statistics().dead_letters == {"influx": 2}
    assert journal.statistics().dead_letters_dropped == 1
    await journal.close()


async def test_second_user_damage_and_foreign_file(tmp_path: Path, clock: ManualClock) -> None:
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    with pytest.raises(JournalError, match="another gateway"):
        await Journal.open(tmp_path / "j.db", clock=clock)
    await journal.append(batch(*(record(n, size=500) for n in range(50))))
    await journal.close()
    content = bytearray((tmp_path / "j.db").read_bytes())
    content[4096:12288] = b"\xff" * 8192
    (tmp_path / "j.db").write_bytes(content)
    (tmp_path / "k.db").write_bytes(b"not a database at all" * 100)
    for name in ("j.db", "k.db"):
        before = (tmp_path / name).read_bytes()
        journal = await Journal.open(tmp_path / name, clock=clock)
        assert [alarm.code for alarm in journal.statistics().alarms] == ["journal_quarantined"]
        [aside] = (p for p in tmp_path.glob(f"{name}.damaged-*") if p.suffix[-4:] not in ("-wal", "-shm"))
        assert aside.read_bytes() == before
        await journal.close()
    with sqlite3.connect(tmp_path / "l.db") as foreign:
        foreign.execute("create table t (x)")
    foreign.close()
    with pytest.raises(JournalError, match="not a journal"):
        await Journal.open(tmp_path / "l.db", clock=clock)
    with pytest.raises(JournalError, match="cannot be used"):
        await Journal.open(tmp_path / "j.db" / "below", clock=clock)


async def test_bad_body_refused_before_it_is_queued(tmp_path: Path, clock: ManualClock) -> None:
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    with pytest.raises(JournalError, match="longer"):
        await journal.append(batch(record(1, size=2 << 20)))
    assert journal.last_seq == 0
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        await journal.append(batch(record(1)))


async def test_waiting_appends_share_commits(tmp_path: Path, clock: ManualClock) -> None:
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    spans = await asyncio.gather(*(journal.append(batch(record(n))) for n in range(200)))
    assert sorted(s.first for s in spans) == list(range(1, 201))
    assert journal.statistics().commits < 100
    await journal.close()


async def fill(journal: Journal) -> int:
    for n in range(1000):
        try:
            await journal.append(batch(record(n, size=2000)))
        except JournalFull:
            return n
    raise AssertionError("the journal never filled")


async def append_when_taken(journal: Journal, what: JournalBatch) -> None:
    for _ in range(500):
        try:
            await journal.append(what)
        except JournalFull:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("the journal stayed full")
