"""The list of captures, packed by block: one row a poll, and every question answered as by a row a capture."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import structs

from gateway.contract.blocks import EncodedBlock
from gateway.edge.journal.captures import USUAL_OCTETS
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.journal.packed import PACKED_OCTETS, last_key, unpack
from gateway.edge.journal.store import Applied, JournalStore
from tests.support.fakes import ManualClock
from tests.support.journal_records import T0, block, ids, poll, reading, record

DAY = timedelta(days=1)
HALF_HOUR = timedelta(minutes=30)
MEMORY = {"": 10 * DAY}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[JournalStore]:
    made = JournalStore(tmp_path / "j.db", now=T0)
    yield made
    made.close()


def take(file: JournalStore, *blocks: EncodedBlock, revise: bool = True) -> Applied:
    return file.apply([JournalBatch(blocks=blocks, revise=revise)], {}, T0)


def rows_of(file: JournalStore) -> tuple[int, int]:
    """How many rows the list has for single captures and for blocks; what is counted must be there."""
    singles = file._db.execute("select count(*) from capture").fetchone()[0]
    packs = file._db.execute("select key, body from packed order by key").fetchall()
    packed = [key for row in packs for key, _ in unpack(*row)]
    assert packed == sorted(set(packed)), "in order, and no row overlaps another"
    for (key, body), (following, _) in pairwise(packs):
        assert last_key(key, body) < following
    assert file._db.execute(
        "select count(*) from capture where key in (select key from packed)"
    ).fetchone() == (0,)
    assert (singles + len(packed), len(packed)) == (file.captures.count, file.captures.packed)
    meta = dict(file._db.execute("select key, value from meta where key in ('captures', 'packed')"))
    assert meta == {"captures": file.captures.count, "packed": file.captures.packed}
    return singles, len(packs)


def test_a_poll_takes_one_row_of_the_list(file: JournalStore) -> None:
    take(file, poll(0, 20))
    take(file, poll(20, 20), poll(40, 30))
    assert rows_of(file) == (0, 3)
    octets = file._db.execute("select sum(length(key) + length(body)) from packed").fetchone()[0]
    assert octets / 70 <= PACKED_OCTETS < USUAL_OCTETS
    assert file.captures.octets == 70 * PACKED_OCTETS
    take(file, record(70))
    assert rows_of(file) == (1, 3)


def test_repeats_of_a_packed_poll_are_known_and_what_is_new_beside_them_is_taken(file: JournalStore) -> None:
    take(file, poll(0, 20))
    assert take(file, poll(0, 20)).repeats == 20
    done = take(file, poll(15, 10))
    assert (done.repeats, len(ids(done.entries[0]))) == (5, 5)
    assert take(file, *(record(n) for n in range(25))).repeats == 25
    # Between two packed polls lay a hole; what fills it is new.
    take(file, poll(40, 5))
    assert (take(file, poll(24, 17)).repeats, take(file, poll(24, 17)).repeats) == (2, 17)
    rows_of(file)


def test_a_revision_of_one_of_a_poll_unpacks_it_and_counts_on(file: JournalStore) -> None:
    take(file, poll(0, 20))
    for value, rev in ((7, 2), (8, 3)):
        done = take(file, record(5, value=value))
        assert json.loads(done.entries[0].body)["captures"][0]["value_rev"] == rev
    assert rows_of(file) == (20, 0)
    assert take(file, poll(0, 5), poll(6, 14), record(5, value=8)).repeats == 20
    assert take(file, poll(0, 20), revise=False).repeats == 20


def test_blocks_of_one_transaction_know_each_other(file: JournalStore) -> None:
    batches = [JournalBatch(blocks=(poll(0, 20),)), JournalBatch(blocks=(poll(0, 20), record(3, value=9)))]
    done = file.apply([*batches, JournalBatch(blocks=(poll(20, 5), poll(18, 5)))], {}, T0)
    assert (done.repeats, done.revisions) == (20 + 5, 1)
    assert take(file, poll(0, 3), record(3, value=9), poll(4, 21)).repeats == 25
    rows_of(file)


def test_nothing_of_a_transaction_that_failed_is_known(file: JournalStore) -> None:
    broken = structs.replace(poll(20, 5), template=structs.replace(poll(20, 5).template, meter=None))
    with pytest.raises(Exception, match="NOT NULL"):
        file.apply([JournalBatch(blocks=(poll(0, 20), broken))], {}, T0)
    assert rows_of(file) == (0, 0)
    assert len(take(file, poll(0, 20)).entries) == 1
    assert take(file, poll(0, 20)).repeats == 20


def test_what_is_read_again_gets_the_next_revision(file: JournalStore) -> None:
    take(file, poll(0, 20), poll(20, 20))
    file.read_again(("GEN:1", "block_load"), T0 + 25 * HALF_HOUR, T0 + 30 * HALF_HOUR, "order")
    done = take(file, poll(0, 40))
    assert (done.repeats, done.revisions) == (34, 6)
    assert take(file, poll(0, 40)).repeats == 40
    rows_of(file)


@pytest.mark.parametrize("seed", range(12))
def test_polls_against_a_model(tmp_path: Path, seed: int) -> None:
    """Polls that overlap, revisions, orders to read again, restarts; in half of the runs old ones are forgotten."""
    chance, forgets = random.Random(seed), seed % 2 == 1
    file = JournalStore(tmp_path / "j.db", now=T0)
    known: dict[str, tuple[int, int]] = {}
    doubted: set[str] = set()
    given: set[tuple[str, int]] = set()
    head = [0, 0, 0]
    refused = forgotten = 0
    for _ in range(150):
        meter = chance.randrange(3)
        first = max(0, head[meter] - chance.choice([0, 0, 0, 1, 5, 40]) + chance.choice([0, 0, 3]))
        polled = [
            (n, chance.choice([0, 0, 0, 0, 1]))
            for n in range(first, first + chance.randrange(1, 30))
            if chance.random() < 0.9
        ] or [(first, 0)]
        if chance.random() < 0.1:
            chance.shuffle(polled)
        head[meter] = max(head[meter], first + 30)
        now = T0 + max(head) * HALF_HOUR
        rows = [replace(reading(n, value=value), received_at=now) for n, value in polled]
        one = block(*rows, meter=f"GEN:{meter}")
        done = file.apply([JournalBatch(blocks=(one,))], {}, now)
        refused += done.forgotten
        news = 0
        for (_, value), taken in zip(polled, one.rows, strict=True):
            old = known.get(taken.capture_id)
            if old is not None and old[0] == value and taken.capture_id not in doubted:
                continue
            known[taken.capture_id] = (value, 1 if old is None else old[1] + 1)
            doubted.discard(taken.capture_id)
            news += 1
        found = [
            (name, row.get("value_rev", 1))
            for entry in done.entries
            for name, row in zip(ids(entry), json.loads(entry.body)["captures"], strict=True)
        ]
        assert given.isdisjoint(found), "one revision of one capture, journaled twice"
        given |= set(found)
        if not forgets:
            assert len(found) == news
            assert all(known[name][1] >= rev for name, rev in found)
        assert len(found) + done.repeats + done.forgotten == len(rows)
        if chance.random() < 0.05:
            low = T0 + max(0, head[meter] - 60) * HALF_HOUR
            file.read_again((f"GEN:{meter}", "block_load"), low, now, "order")
            doubted |= {
                name for name in known if name.startswith(f"GEN:{meter}/") and low <= _at(name) <= now
            }
        if forgets:
            forgotten += file.forget(list(file.captures.streams), MEMORY, now, chance.choice([0, 0, 3]), 100)
        if chance.random() < 0.1:
            file.close()
            file = JournalStore(tmp_path / "j.db", now=T0)
        rows_of(file)
    assert (forgotten > 0) == forgets
    file.close()


def _at(capture_id: str) -> datetime:
    return datetime.fromisoformat(capture_id.split("/")[2])


async def test_a_salvaged_journal_knows_what_was_packed(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    limits = JournalLimits(sinks=("mqtt",))
    journal = await Journal.open(path, clock=ManualClock(T0 + 9 * DAY), limits=limits)
    for first in range(0, 200, 20):
        await journal.append(JournalBatch(blocks=(poll(first, 20, pad=300),)))
    await journal.append(JournalBatch(blocks=(record(7, value=2, pad=300),)))
    await journal.close()
    content = bytearray(path.read_bytes())
    page = next(at for at in range(4096, len(content), 4096) if b'"captures":[' in content[at : at + 4096])
    content[page : page + 100] = bytes(100)
    path.write_bytes(content)
    journal = await Journal.open(path, clock=ManualClock(T0 + 9 * DAY), limits=limits)
    assert [alarm.code for alarm in journal.statistics().alarms] == ["journal_quarantined"]
    entries = await journal.read(1, journal.last_seq)
    held = [name for entry in entries for name in ids(entry)]
    assert len(set(held)) >= 100
    before = journal.last_seq
    await journal.append(JournalBatch(blocks=tuple(poll(first, 20, pad=300) for first in range(0, 200, 20))))
    again = [name for entry in await journal.read(before + 1, journal.last_seq) for name in ids(entry)]
    of_the_revision = block(reading(7)).rows[0].capture_id
    assert set(again) & set(held) <= {of_the_revision}, "what is whole is a repeat, packed or not"
    assert len(again) <= 21
    await journal.close()
