"""Every table of the journal has a bound, and each bound is passed here: what goes, what stays, what is told."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.contract.blocks import EncodedBlock, Keyed
from gateway.contract.messages import Gap
from gateway.contract.messages.generation import Generation
from gateway.edge.journal import captures, cursors, housekeeping, letters, store, templates, writer
from gateway.edge.journal.captures import CAPTURE_OCTETS, horizon, merged
from gateway.edge.journal.entry import EntryKind, GapRecord, JournalBatch
from gateway.edge.journal.generation import MAX_FORMER
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.journal.store import JournalStore
from gateway.errors import JournalFull, PeerUnavailable
from tests.support.edge.housekeeping import looked_after, quick_housekeeping
from tests.support.fakes import HandClock, ManualClock
from tests.support.journal_records import T0, block, gap_record, ids, reading, record
from tests.support.waiting import until

DAY = timedelta(days=1)
MEMORY = {"": 10 * DAY, "instantaneous": 3 * DAY}


@pytest.fixture(autouse=True)
def busy_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "KEEP_HOUSE_EVERY", 0.02)
    monkeypatch.setattr(writer, "IDLE_HOUSE_EVERY", 0.02)
    monkeypatch.setattr(housekeeping, "FORGET_EVERY", 0.0)
    monkeypatch.setattr(housekeeping, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(housekeeping, "ACK_PATIENCE_REAL", 0.1)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[JournalStore]:
    made = JournalStore(tmp_path / "j.db", now=T0)
    yield made
    made.close()


def capture(meter: int, at: datetime, value: int = 0, profile: str = "block_load") -> EncodedBlock:
    start = at - timedelta(minutes=30) if profile == "block_load" else None
    taken = replace(reading(0, profile=profile, value=value), at=at, start=start)
    return block(taken, meter=f"GEN:{meter}")


def forget_all(file: JournalStore, now: datetime, pressure: int = 0) -> int:
    return file.forget(list(file.captures.streams), MEMORY, now, pressure, 100_000)


# -- the list of captures


def test_a_long_soak_of_the_list_stays_within_what_meters_remember(file: JournalStore) -> None:
    """150 days of two meters: the list holds the last ten days, and every repeat within them is known."""
    longest = 0
    for day in range(150):
        now = T0 + day * DAY
        rows = [capture(m, now + k * timedelta(hours=1)) for m in (1, 2) for k in range(24)]
        marks = tuple((f"GEN:{m}", "block_load", now + timedelta(hours=23)) for m in (1, 2))
        done = file.apply([JournalBatch(blocks=tuple(rows), watermarks=marks)], {}, now + DAY)
        assert len(done.entries) == 48
        back = [capture(m, now - 9 * DAY) for m in (1, 2)]
        again = file.apply([JournalBatch(blocks=tuple(rows + back[: 2 * (day > 9)]))], {}, now + DAY)
        assert (again.entries, again.forgotten) == ([], 0)
        forget_all(file, now + DAY)
        longest = max(longest, file.captures.count)
    assert longest <= 48 * 12
    assert file._db.execute("select count(*) from capture").fetchone()[0] == file.captures.count
    assert file._db.execute("select count(*) from forgotten").fetchone()[0] == 2


def test_what_was_forgotten_is_refused_and_an_odd_date_is_not(file: JournalStore) -> None:
    marks = (("GEN:1", "block_load", T0 + 40 * DAY),)
    rows = tuple(capture(1, T0 + n * DAY) for n in range(40))
    file.apply([JournalBatch(blocks=rows, watermarks=marks)], {}, T0 + 5 * DAY)
    assert forget_all(file, T0 + 41 * DAY) == 30
    old = file.apply([JournalBatch(blocks=rows[:30])], {}, T0 + 41 * DAY)
    assert (len(old.entries), old.forgotten) == (0, 30)
    # A meter whose clock fell back to the year 2000 was never heard at that date.
    lost_clock = tuple(capture(1, datetime(2000, 1, 1, tzinfo=UTC) + n * DAY) for n in range(3))
    new = file.apply([JournalBatch(blocks=lost_clock)], {}, T0 + 41 * DAY)
    assert len(new.entries) == 3
    # Journaled today, it is not forgotten today, however old it says it is.
    assert forget_all(file, T0 + 42 * DAY) in (0, 1)
    repeat = file.apply([JournalBatch(blocks=lost_clock)], {}, T0 + 42 * DAY)
    assert (repeat.repeats, repeat.forgotten, len(repeat.entries)) == (3, 0, 0)


def test_an_open_gap_and_a_watermark_that_stands_still_hold_the_list(file: JournalStore) -> None:
    rows = tuple(capture(m, T0 + n * DAY) for m in (1, 2, 3) for n in range(40))
    gap = GapRecord(
        gap_id="g",
        meter="GEN:1",
        profile="block_load",
        after=T0 + 5 * DAY,
        until=T0 + 6 * DAY,
        state="open",
        body=b"{}",
    )
    marks = (("GEN:1", "block_load", T0 + 39 * DAY), ("GEN:2", "block_load", T0 + 20 * DAY))
    file.apply([JournalBatch(blocks=rows, watermarks=marks, gaps=(gap,))], {}, T0)
    assert forget_all(file, T0 + 40 * DAY) == 5 + 10 + 30
    filled = file.apply([JournalBatch(blocks=(capture(1, T0 + 5.5 * DAY),))], {}, T0 + 40 * DAY)
    assert len(filled.entries) == 1


@pytest.mark.parametrize("seed", range(12))
def test_the_list_against_a_model_never_delivers_twice(tmp_path: Path, seed: int) -> None:
    """Random rows, repeats, revisions, old pushes, clock set-backs, forgetting at any pressure, restarts."""
    chance = random.Random(seed)
    file = JournalStore(tmp_path / "j.db", now=T0)
    seen: dict[str, set[int]] = {}
    now, refused, journaled = T0, 0, 0
    for _ in range(250):
        now += timedelta(hours=chance.choice([0, 1, 6, 30]))
        rows = []
        for _ in range(chance.randrange(12)):
            age = chance.choice([0, 0, 0, 1, 5, 12, 30, 60])
            at = (now - age * DAY).replace(minute=0, second=0, microsecond=0)
            profile = chance.choice(["block_load", "instantaneous"])
            rows.append(capture(chance.randrange(3), at, chance.choice([0, 0, 0, 1]), profile))
        marks = tuple(
            (f"GEN:{m}", "block_load", now - chance.randrange(3) * DAY)
            for m in range(3)
            if chance.random() < 0.5
        )
        done = file.apply([JournalBatch(blocks=tuple(rows), watermarks=marks)], {}, now)
        refused += done.forgotten
        journaled += len(done.entries)
        for entry in done.entries:
            [row] = json.loads(entry.body)["captures"]
            [capture_id] = ids(entry)
            revisions = seen.setdefault(capture_id, set())
            revision = row.get("value_rev", 1)
            assert revision not in revisions, "one revision of one capture, journaled twice"
            revisions.add(revision)
        assert len(rows) == len(done.entries) + done.repeats + done.forgotten
        forget_all(file, now, chance.choice([0, 0, 0, 1, 3]))
        assert all(len(spans) <= captures.MAX_SPANS for spans in file.captures._spans.values())
        if chance.random() < 0.1:
            file.close()
            file = JournalStore(tmp_path / "j.db", now=T0)
        assert file._db.execute("select count(*) from capture").fetchone()[0] == file.captures.count
    assert refused > 0
    assert journaled > 200
    file.close()


async def test_a_list_over_its_bound_forgets_harder_and_says_so(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    limits = JournalLimits(max_capture_bytes=200 * CAPTURE_OCTETS, memory={"": 100 * DAY})
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    for day in range(60):
        await journal.append(
            JournalBatch(blocks=tuple(capture(1, T0 + day * DAY + k * timedelta(hours=2)) for k in range(12)))
        )
        clock.advance(DAY)
        await until(lambda: journal.statistics().captures <= 200)
    statistics = journal.statistics()
    assert statistics.captures_dropped > 0
    assert statistics.last_seq == 60 * 12
    span = await journal.append(JournalBatch(blocks=(capture(1, T0),)))
    assert span.last < span.first
    assert journal.statistics().captures_refused == 1
    await journal.close()


async def test_a_list_that_cannot_forget_stops_reading_at_twice_its_bound(tmp_path: Path) -> None:
    limits = JournalLimits(max_capture_bytes=50 * CAPTURE_OCTETS)
    journal = await Journal.open(tmp_path / "j.db", clock=ManualClock(T0), limits=limits)
    for n in range(100):
        await journal.append(JournalBatch(blocks=(capture(1, T0 + n * timedelta(hours=1)),)))
    with pytest.raises(JournalFull, match="raise max_capture_bytes"):
        await journal.append(JournalBatch(blocks=(capture(1, T0 + DAY * 9),)))
    assert journal.statistics().captures == 100
    assert "capture_list_full" in [a.code for a in journal.statistics().alarms]
    await journal.close()


async def test_the_list_does_not_count_against_the_entries(tmp_path: Path) -> None:
    """All is acknowledged and trimmed, and only the list is left: reading goes on."""
    clock = ManualClock(T0)
    limits = JournalLimits(max_bytes=200_000, sinks=("mqtt",), consumers=("central",), retention=DAY)
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    for n in range(100):
        rows = tuple(capture(1, T0 + (100 * n + k) * timedelta(minutes=30)) for k in range(100))
        await journal.append(JournalBatch(blocks=rows))
        await journal.ack("mqtt", journal.last_seq)
        await journal.consumer_ack("central", journal.last_seq)
    assert journal.statistics().captures == 10_000
    assert journal.statistics().bytes > 400_000
    assert not journal.statistics().full
    await journal.close()


def test_spans_are_few_and_cover_what_was_forgotten() -> None:
    chance = random.Random(3)
    spans = [(at, at + chance.randrange(100)) for at in (chance.randrange(10**10) for _ in range(200))]
    found = merged(spans)
    assert len(found) <= captures.MAX_SPANS
    assert all(any(a <= first and last <= b for a, b in found) for first, last in spans)
    assert found == sorted(found)


def test_the_horizon() -> None:
    now = T0 + 100 * DAY
    assert horizon(now, 10 * DAY, None, None, 0) == now - 10 * DAY
    assert horizon(now, 10 * DAY, now - 5 * DAY, None, 0) == now - 15 * DAY
    assert horizon(now, 10 * DAY, now + 5 * DAY, None, 0) == now - 10 * DAY
    assert horizon(now, 10 * DAY, now, T0, 0) == T0
    assert horizon(now, 10 * DAY, now - 50 * DAY, T0, 1) == now - 5 * DAY
    assert horizon(now, 10 * DAY, None, None, 16) == now - DAY


# -- entries


async def test_at_the_bound_acknowledged_entries_go_oldest_first_and_are_told(tmp_path: Path) -> None:
    limits = JournalLimits(max_bytes=300_000, sinks=("mqtt",), consumers=("central", "billing"))
    journal = await Journal.open(tmp_path / "j.db", clock=ManualClock(T0), limits=limits)
    number = 0
    for _ in range(3):
        error = ""
        while not error:
            try:
                await journal.append(JournalBatch(blocks=(record(number, pad=2_000),)))
            except JournalFull as full:
                error = str(full)
            else:
                number += 1
                await journal.ack("mqtt", journal.last_seq)
                await journal.consumer_ack("central", journal.last_seq)
        assert "billing has not acknowledged" in error
        acked = journal.last_seq - 10
        await journal.consumer_ack("billing", acked)
        await journal.append(JournalBatch(blocks=(record(number, pad=2_000),)))
        number += 1
        assert journal.first_seq <= acked + 1
        held = await journal.read(acked + 1, journal.last_seq)
        assert [e.seq for e in held] == list(range(acked + 1, journal.last_seq + 1))
    statistics = journal.statistics()
    assert statistics.dropped == journal.first_seq - 1 > 0
    assert "journal_floor_short" in [a.code for a in statistics.alarms]
    await journal.close()


async def test_a_clock_that_may_be_wrong_ends_no_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that woke up in another year deletes nothing by that year."""
    looks, clock = quick_housekeeping(monkeypatch), HandClock(T0)
    limits = JournalLimits(sinks=("mqtt",), consumers=("central",), retention=45 * DAY)
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    await journal.append(JournalBatch(blocks=tuple(record(n) for n in range(5))))
    await journal.ack("mqtt", 5)
    await journal.consumer_ack("central", 5)
    await journal.append(JournalBatch(blocks=(record(5),)))  # with it what was acknowledged is durable
    clock.at, clock.good = T0 + 400 * DAY, False
    await looked_after(looks)
    assert journal.first_seq == 1
    clock.good = True
    await until(lambda: journal.first_seq == 6)
    await journal.close()


async def test_who_does_not_acknowledge_is_named_long_before_reading_stops(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    limits = JournalLimits(sinks=("mqtt",), consumers=("central", "billing"))
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    await journal.append(JournalBatch(blocks=(record(1), record(2))))
    await journal.ack("mqtt", 2)
    await journal.consumer_ack("central", 2)
    await journal.consumer_ack("billing", 1)
    await until(lambda: journal._writer.store.cursors.get("@ack/billing") == 1)

    def alarms() -> dict[str, str]:
        return {a.code: a.text for a in journal.statistics().alarms}

    clock.advance(timedelta(minutes=59))
    assert "not_acknowledged" not in alarms()
    clock.advance(timedelta(minutes=2))
    await until(lambda: "not_acknowledged" in alarms())
    text = alarms()["not_acknowledged"]
    assert "billing has not acknowledged since 2026-08-01T00:00:00Z (1 entries)" in text
    assert "central" not in text
    await journal.consumer_ack("billing", 2)
    await until(lambda: "not_acknowledged" not in alarms())
    await journal.close()


# -- the other tables


async def test_gaps_are_bounded_closed_ones_go_first_and_open_ones_are_given_up(tmp_path: Path) -> None:
    limits = JournalLimits(max_gaps=20)
    journal = await Journal.open(tmp_path / "j.db", clock=ManualClock(T0 + 9 * DAY), limits=limits)
    closed = tuple(gap_record(n, "filled") for n in range(15))
    await journal.append(JournalBatch(gaps=closed + tuple(gap_record(n) for n in range(15, 40))))
    await until(lambda: journal.statistics().gaps_dropped >= 20 and journal.last_seq == 45)
    still = await journal.open_gaps()
    assert [gap.gap_id for gap in still] == [f"gap-{n}" for n in range(20, 40)]
    told = [Gap.model_validate_json(e.body) for e in await journal.read(41, 45)]
    assert {(gap.gap_id, gap.state) for gap in told} == {(f"gap-{n}", "unfillable") for n in range(15, 20)}
    chunk = await anext(journal.follow("mqtt"))
    assert [e.seq for e in chunk] == list(range(1, 46))  # what the journal appends itself is followed too
    await journal.close()


def test_closed_gaps_are_forgotten_when_no_read_goes_back_to_them(file: JournalStore) -> None:
    gaps = (gap_record(1, "filled"), gap_record(2), gap_record(90, "unfillable"))
    file.apply([JournalBatch(gaps=gaps)], {}, T0)
    file.bound_gaps(T0 + timedelta(hours=10), 100, 100)
    assert {row[0] for row in file._db.execute("select gap_id from gap")} == {"gap-2", "gap-90"}


def test_cursors_that_nobody_names_go_oldest_first(file: JournalStore) -> None:
    for n in range(100):
        file.apply([], {f"@ack/stranger-{n}": n}, T0 + n * DAY)
    file.apply([], {"mqtt": 5}, T0)
    file.bound_cursors({"mqtt", "@ack/stranger-1"})
    assert len(file.cursors) == cursors.MAX_CURSORS
    assert {"mqtt", "@ack/stranger-1", "@ack/stranger-99"} <= set(file.cursors)
    assert file._db.execute("select count(*) from cursor").fetchone()[0] == cursors.MAX_CURSORS


async def test_housekeeping_looks_after_cursors_and_templates(tmp_path: Path) -> None:
    file, layout = JournalStore(tmp_path / "j.db", now=T0), Keyed.of({"profile": "of no entry"})
    for n in range(100):
        file.apply([], {f"@ack/stranger-{n}": n}, T0 + n * DAY)
    file._db.execute("insert into template values (?, ?, ?)", (layout.key, layout.text, -2 * templates.SLACK))
    file.close()
    journal = await Journal.open(tmp_path / "j.db", clock=ManualClock(T0))
    held = journal._writer.store
    await until(lambda: len(held.cursors) == cursors.MAX_CURSORS)
    await until(lambda: held.templates.get(layout.key) is None)
    await journal.close()


async def test_dead_letters_are_bounded_by_octets_too(tmp_path: Path) -> None:
    limits = JournalLimits(max_dead_letter_bytes=10_000)
    journal = await Journal.open(tmp_path / "j.db", clock=ManualClock(T0), limits=limits)
    for seq in range(1, 30):
        await journal.dead_letter("influx", seq, "too large", b"x" * 3_000)
    assert [letter.seq for letter in await journal.dead_letters("influx")] == [27, 28, 29]
    await journal.dead_letter("influx", 30, "too large", b"x" * 50_000)
    assert [letter.seq for letter in await journal.dead_letters("influx")] == [30]
    assert journal.statistics().dead_letters_dropped == 29
    await journal.close()


async def test_tombstones_are_bounded_and_go_with_their_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_TOMBSTONES", 3)
    clock = ManualClock(T0)
    limits = JournalLimits(sinks=("mqtt",), retention=DAY)
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    await journal.append(JournalBatch(blocks=tuple(record(n) for n in range(6))))
    entries = await journal.read(1, 6)
    for entry in entries[:3]:
        made = await journal.bury("mqtt", entry, "too large")
        assert made is not None
        gap = Gap.model_validate_json(made.body)
        assert (made.seq, made.kind, gap.state, gap.reason) == (
            entry.seq,
            EntryKind.GAP,
            "unfillable",
            letters.REFUSED,
        )
        assert (gap.meter, gap.until - gap.after) == ("GEN:1", timedelta(minutes=30))
        assert await journal.bury("mqtt", made, "too large") is None
    with pytest.raises(PeerUnavailable, match="3 entries for good"):
        await journal.bury("mqtt", entries[3], "too large")
    assert await journal.read(1, 6) == entries  # the entries themselves stay
    assert [e.kind for e in journal.deliverable(entries)] == [EntryKind.GAP] * 3 + [EntryKind.CAPTURE] * 3
    await journal.close()
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=limits)
    assert [e.kind for e in journal.deliverable(entries)][:3] == [EntryKind.GAP] * 3
    await journal.ack("mqtt", 6)
    clock.advance(2 * DAY)
    await until(lambda: journal.first_seq == 7)
    assert journal._writer.store.letters.tombstones == {}
    await journal.close()


def test_streams_are_bounded(file: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "MAX_STREAMS", 3)
    rows = tuple(capture(m, T0) for m in range(3))
    file.apply([JournalBatch(blocks=rows)], {}, T0)
    with pytest.raises(JournalFull, match="3 streams"):
        file.apply([JournalBatch(blocks=(capture(9, T0),))], {}, T0)
    assert file.apply([JournalBatch(blocks=(capture(1, T0 + DAY),))], {}, T0).entries


async def test_former_names_are_bounded(tmp_path: Path) -> None:
    """A machine that is restored again and again: the oldest names go, the status that tells them stays small."""
    journal = await Journal.open(tmp_path / "j.db", clock=ManualClock(T0))
    names = [journal.uuid]
    for life in range(MAX_FORMER + 4):
        heard = Generation(journal.generation.counter + 1, f"{life:08x}")
        assert await journal.heard(heard, 0)
        names.append(journal.uuid)
    assert len(set(names)) == MAX_FORMER + 5
    assert sorted(one.journal for one in journal.former) == sorted(names[-MAX_FORMER - 1 : -1])
    await journal.close()


ACROSS = {
    "entry": test_at_the_bound_acknowledged_entries_go_oldest_first_and_are_told,
    "capture": test_a_long_soak_of_the_list_stays_within_what_meters_remember,
    "packed": test_a_long_soak_of_the_list_stays_within_what_meters_remember,
    "forgotten": test_spans_are_few_and_cover_what_was_forgotten,
    "stream": test_streams_are_bounded,
    "gap": test_gaps_are_bounded_closed_ones_go_first_and_open_ones_are_given_up,
    "cursor": test_cursors_that_nobody_names_go_oldest_first,
    "dead_letter": test_dead_letters_are_bounded_by_octets_too,
    "tombstone": test_tombstones_are_bounded_and_go_with_their_entries,
    "template": test_housekeeping_looks_after_cursors_and_templates,
    "former": test_former_names_are_bounded,
    "meta": None,  # one row for each name that the program uses
}
"""The soak across each table's bound."""


def test_every_table_has_a_soak_across_its_bound(tmp_path: Path) -> None:
    """Whoever adds a table says here how it is bounded."""
    JournalStore(tmp_path / "j.db", now=T0).close()
    with closing(sqlite3.connect(tmp_path / "j.db")) as file:
        tables = {name for (name,) in file.execute("select name from sqlite_master where type = 'table'")}
    assert tables == ACROSS.keys()
