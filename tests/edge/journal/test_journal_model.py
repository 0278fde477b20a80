"""The journal against a list: any order of append, repeat, revision, ack, trim, rewind and reopen."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from gateway.contract.blocks import EncodedBlock
from gateway.edge.journal.entry import Entry, EntryKind, GapRecord, JournalBatch, SeqRange
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from protocols.reading import Number, ProfileName, ReadingSet
from tests.support.fakes import ManualClock
from tests.support.journal_records import ENERGY, block, ids
from tests.support.waiting import PATIENCE

Result = TypeVar("Result")
T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)
DAY = timedelta(days=1)
LIMITS = JournalLimits(retention=DAY, sinks=("a", "b"))


Told = tuple[str, int, int] | bytes
"""A capture's id, value and revision, or a gap's body."""


def row(number: int, value: int) -> ReadingSet:
    """Two captures share a second, and are told apart by their occurrence."""
    return ReadingSet(
        profile=ProfileName.DAILY,
        at=T0 + timedelta(seconds=number // 2),
        occurrence=number % 2,
        received_at=T0,
        values=((ENERGY, Number(value, 0, "Wh")),),
    )


def poll(meter: int, rows: list[tuple[int, int]]) -> EncodedBlock:
    return block(*(row(number, value) for number, value in rows), meter=f"GEN:{meter}")


def told(entry: Entry) -> list[Told]:
    """What an entry holds under each of its numbers."""
    if entry.kind is EntryKind.GAP:
        return [entry.body]
    rows = json.loads(entry.body)["captures"]
    return [
        (name, int(row["values"][0]), row.get("value_rev", 1))
        for name, row in zip(ids(entry), rows, strict=True)
    ]


def numbered(entries: list[Entry]) -> list[tuple[int, Told]]:
    return [pair for entry in entries for pair in enumerate(told(entry), entry.seq)]


def gap(number: int, state: str) -> GapRecord:
    return GapRecord(
        gap_id=str(number),
        meter="GEN:0",
        profile="block_load",
        after=T0,
        until=T0 + DAY,
        state=state,
        body=f'{{"gap_id":"{number}","state":"{state}"}}'.encode(),
    )


rows = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=5)
blocks = st.lists(st.builds(poll, st.integers(0, 2), rows), max_size=3).map(tuple)
gap_records = st.lists(
    st.builds(gap, st.integers(0, 3), st.sampled_from(["open", "filled"])), max_size=2
).map(tuple)
batches = st.builds(JournalBatch, blocks=blocks, gaps=gap_records, revise=st.booleans())


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "j.db"
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(T0)
        self.journal = self.run(Journal.open(self.path, clock=self.clock, limits=LIMITS))
        self.uuid = self.journal.uuid
        self.entries: list[Told] = []
        self.times: list[datetime] = []
        self.known: dict[str, tuple[int, int]] = {}
        self.gaps: dict[str, str] = {}
        self.cursors = {"a": 0, "b": 0}
        self.marks: dict[str, datetime] = {}

    def run(self, what: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(what)

    def teardown(self) -> None:
        self.run(self.journal.close())
        self.loop.close()
        self.folder.cleanup()

    def expect(self, batch: JournalBatch) -> int:
        before = len(self.entries)
        for one in batch.blocks:
            for capture, row in zip(one.rows, json.loads(one.body())["captures"], strict=True):
                value, old = int(row["values"][0]), self.known.get(capture.capture_id)
                if old is not None and (old[0] == value or not batch.revise):
                    continue
                rev = 1 if old is None else old[1] + 1
                self.known[capture.capture_id] = (value, rev)
                self.entries.append((capture.capture_id, value, rev))
        for gap in batch.gaps:
            if self.gaps.get(gap.gap_id) != gap.state:
                self.gaps[gap.gap_id] = gap.state
                self.entries.append(gap.body)
        self.times += [self.clock.now()] * (len(self.entries) - before)
        return len(self.entries) - before

    @rule(batch=batches, mark=st.none() | st.integers(0, 99))
    def append(self, batch: JournalBatch, mark: int | None) -> None:
        if mark is not None:
            self.marks["GEN:9"] = T0 + timedelta(microseconds=mark)
            batch = structs.replace(batch, watermarks=(("GEN:9", "daily", self.marks["GEN:9"]),))
        first = len(self.entries) + 1
        added = self.expect(batch)
        span = self.run(self.journal.append(batch))
        assert (span.first, span.last) == (first, first + added - 1)

    @rule(several=st.lists(batches, min_size=2, max_size=4))
    def append_together(self, several: list[JournalBatch]) -> None:
        async def all_at_once() -> list[SeqRange]:
            return await asyncio.gather(*(self.journal.append(b) for b in several))

        spans = self.run(all_at_once())
        assert [s.last - s.first + 1 for s in spans] == [self.expect(b) for b in several]

    @rule(sink=st.sampled_from("ab"), part=st.integers(0, 10))
    def ack(self, sink: str, part: int) -> None:
        seq = len(self.entries) * part // 10
        self.run(self.journal.ack(sink, seq))
        self.cursors[sink] = max(self.cursors[sink], seq)

    @rule(sink=st.sampled_from("ab"), back=st.integers(0, 5))
    def rewind(self, sink: str, back: int) -> None:
        seq = max(0, self.cursors[sink] - back)
        self.run(self.journal.rewind(sink, seq))
        self.cursors[sink] = seq

    @rule(hours=st.sampled_from([1, 20, 30]))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))

    @rule()
    def reopen(self) -> None:
        self.run(self.journal.close())
        self.journal = self.run(Journal.open(self.path, clock=self.clock, limits=LIMITS))
        assert self.journal.uuid == self.uuid

    @precondition(lambda self: self.entries)
    @rule(sink=st.sampled_from("ab"))
    def follow(self, sink: str) -> None:
        async def first_chunk() -> list[Entry]:
            follower = self.journal.follow(sink)
            try:
                return await asyncio.wait_for(anext(follower), PATIENCE)
            finally:
                await follower.aclose()

        start = max(self.cursors[sink] + 1, self.journal.first_seq)
        if start <= len(self.entries):
            chunk = self.run(first_chunk())
            assert chunk[0].seq <= start <= chunk[0].last
            for seq, what in numbered(chunk):
                assert what == self.entries[seq - 1]

    @invariant()
    def everything_that_may_be_wanted_is_there(self) -> None:
        assert self.journal.last_seq == len(self.entries)
        held = self.run(self.journal.read(1, len(self.entries)))
        found = numbered(held)
        first = self.journal.first_seq
        assert [seq for seq, _ in found] == list(range(first, len(self.entries) + 1))
        for seq, what in found:
            assert what == self.entries[seq - 1]
        for seq in range(1, held[0].seq if held else len(self.entries) + 1):
            assert self.times[seq - 1] <= self.clock.now() - DAY
        assert self.run(self.journal.cursors()) == self.cursors
        assert self.run(self.journal.watermark("GEN:9", "daily")) == self.marks.get("GEN:9")
        open_now = {g.gap_id for g in self.run(self.journal.open_gaps())}
        assert open_now == {g for g, state in self.gaps.items() if state == "open"}
        of_the_stream = self.run(self.journal.open_gaps("GEN:0", "block_load"))
        assert {g.gap_id for g in of_the_stream} == open_now


JournalMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestJournalAgainstList = JournalMachine.TestCase
