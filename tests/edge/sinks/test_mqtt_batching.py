"""The batcher against a naive model: bounds hold, everything goes out once, the cursor is right."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.topics import Topics
from gateway.edge.journal.entry import Entry, EntryKind
from gateway.edge.sinks.batching import Batcher, BatchLimits, OutgoingBatch

KINDS = [
    (EntryKind.CAPTURE, "daily"),
    (EntryKind.CAPTURE, "block_load"),
    (EntryKind.EVENT, "events"),
    (EntryKind.GAP, "daily"),
]


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 400)), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
def test_batches_are_bounded_ordered_and_complete(
    rows: list[tuple[tuple[EntryKind, str], int]], seed: int
) -> None:
    rng = random.Random(seed)
    entries = [Entry(100 + n, kind, profile, b"x" * size) for n, ((kind, profile), size) in enumerate(rows)]
    limits = BatchLimits(count=5, size=600, age=1.0)
    batcher = Batcher(Topics("r"), "g", limits, cursor=99)
    now, waiting = 0.0, list(entries)
    flying: list[OutgoingBatch] = []
    unacked = {entry.seq for entry in entries}
    sent: dict[str, list[int]] = {}
    for step in range(10_000):
        assert batcher.cursor == min(unacked, default=entries[-1].seq + 1) - 1
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
                assert len(batch.entries) <= 5
                size = sum(len(e.body) for e in batch.entries)
                assert size <= 600 or len(batch.entries) == 1
                flying.append(batch)
        elif flying:
            batch = flying.pop(rng.randrange(len(flying)))
            if len(batch.entries) > 1 and rng.random() < 0.2:
                batcher.again(batch)
                continue
            batcher.done(batch)
            unacked -= {e.seq for e in batch.entries}
            sent.setdefault(batch.topic, []).extend(e.seq for e in batch.entries)
    assert batcher.idle
    assert batcher.cursor == entries[-1].seq
    assert sorted(seq for seqs in sent.values() for seq in seqs) == [e.seq for e in entries]
