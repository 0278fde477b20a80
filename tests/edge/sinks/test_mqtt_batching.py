"""The batcher against a naive model: bounds hold, everything goes out once, the cursor is right."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.topics import Topics
from gateway.edge.journal.entry import Entry, EntryKind
from gateway.edge.sinks.batching import Batcher, BatchLimits, OutgoingBatch
from tests.support.journal_records import poll

KINDS = [
    (EntryKind.CAPTURE, "daily"),
    (EntryKind.CAPTURE, "block_load"),
    (EntryKind.EVENT, "events"),
    (EntryKind.GAP, "daily"),
]


def entries_of(rows: list[tuple[tuple[EntryKind, str], int]]) -> list[Entry]:
    """Blocks of so many captures each, numbered from 100 on; gaps of one."""
    found: list[Entry] = []
    seq = 100
    for (kind, profile), count in rows:
        if kind is EntryKind.GAP:
            found.append(Entry(seq, seq, kind, profile, b"x" * 50))
            seq += 1
            continue
        made = poll(seq, count, profile=profile)
        keyed = made.template.layout.keyed, made.template.holders
        found.append(Entry(seq, seq + count - 1, kind, profile, made.body(), *keyed))
        seq += count
    return found


def numbers(entry: Entry) -> range:
    return range(entry.seq, entry.last + 1)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 8)), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
def test_batches_are_bounded_ordered_and_complete(
    rows: list[tuple[tuple[EntryKind, str], int]], seed: int
) -> None:
    rng = random.Random(seed)
    entries = entries_of(rows)
    limits = BatchLimits(count=5, size=1_500, age=1.0)
    batcher = Batcher(Topics("r"), "g", limits, cursor=99)
    now, waiting = 0.0, list(entries)
    flying: list[OutgoingBatch] = []
    unacked = {seq for entry in entries for seq in numbers(entry)}
    sent: dict[str, list[int]] = {}
    for step in range(10_000):
        assert batcher.cursor == min(unacked, default=entries[-1].last + 1) - 1
        if not waiting and batcher.idle:
            break
        choice = rng.random()
        if waiting and choice < 0.4:
            take = rng.randrange(1, len(waiting) + 1)
            batcher.take(waiting[:take], now)
            del waiting[:take]
        elif choice < 0.7:
            now += rng.random()
            if batch := batcher.next(now, flush=step > 5_000):
                assert batch.count <= 5 or len(batch.entries) == 1
                size = sum(len(e.body) for e in batch.entries)
                assert size <= 1_500 or len(batch.entries) == 1
                flying.append(batch)
        elif flying:
            batch = flying.pop(rng.randrange(len(flying)))
            if batch.count > 1 and rng.random() < 0.2:
                batcher.again(batch)
                continue
            batcher.done(batch)
            taken = [seq for entry in batch.entries for seq in numbers(entry)]
            unacked -= set(taken)
            sent.setdefault(batch.topic, []).extend(taken)
    assert batcher.idle
    assert batcher.cursor == entries[-1].last
    assert sorted(seq for seqs in sent.values() for seq in seqs) == [
        seq for e in entries for seq in numbers(e)
    ]


def test_a_batch_waits_for_more_until_its_age_is_over() -> None:
    batcher = Batcher(Topics("r"), "g", BatchLimits())
    batcher.take(entries_of([((EntryKind.CAPTURE, "daily"), 3)]), now=10.0)
    assert batcher.next(11.9) is None
    batcher.take(entries_of([((EntryKind.CAPTURE, "daily"), 3)]), now=11.9)
    assert batcher.due_in(11.9) == pytest.approx(0.1)
    batch = batcher.next(12.0)
    assert batch is not None
    assert batch.count == 6


def test_a_batch_goes_at_once_with_so_many_captures_however_few_its_blocks() -> None:
    batcher = Batcher(Topics("r"), "g", BatchLimits(count=10))
    batcher.take(entries_of([((EntryKind.CAPTURE, "daily"), 8), ((EntryKind.CAPTURE, "daily"), 5)]), now=0.0)
    batch = batcher.next(0.0)
    assert batch is not None
    assert batch.count == 8
    assert batcher.next(0.0) is None
