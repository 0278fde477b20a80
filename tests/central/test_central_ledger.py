"""The ledger against a naive model: any order, repetition and splitting gives the same."""

from __future__ import annotations

import itertools
import random
import sqlite3
from contextlib import closing
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from gateway.central.ledger import schema
from gateway.central.ledger.capture_rows import NAMES
from gateway.central.ledger.captures import newest_of_each
from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import captures as table
from gateway.central.storage.versions import StoreVersions
from gateway.contract.messages import Capture
from gateway.errors import ContractError
from gateway.seqset import SeqSet
from tests.support.central.ledgers import FreshLedger
from tests.support.central.samples import DAY, HALF_HOUR, NOW, T0, batch, capture, gap, received, snapshot
from tests.support.statements import statements_sent


def model(sent: list[Capture]) -> dict[str, tuple[int, str]]:
    """The rule in one line: the highest value_rev per capture_id."""
    best: dict[str, tuple[int, str]] = {}
    for one in sent:
        value = one.values[0].value or ""
        best[one.capture_id] = max(best.get(one.capture_id, (0, "")), (one.value_rev, value))
    return best


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=30),
    data=st.data(),
)
def test_any_order_repetition_and_splitting_ends_the_same(
    fresh_ledger: FreshLedger, entries: list[tuple[int, int]], data: st.DataObject
) -> None:
    # What a journal gives: entry n is revision r of a capture, with a value of its own; some revisions never come.
    journal = [
        capture(seq, number=number, value_rev=rev, value=f"{number}.{rev}")
        for seq, (number, rev) in enumerate(entries, start=1)
    ]
    sent = data.draw(st.permutations(journal)) + data.draw(st.lists(st.sampled_from(journal), max_size=10))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent)), max_size=5)) | {0, len(sent)})
    with closing(Ledger(fresh_ledger())) as ledger:
        counted = 0
        for begin, end in itertools.pairwise(cuts):
            result = ledger.ingest([received(batch([one])) for one in sent[begin:end]])
            counted += result.stored + result.repeated + result.revised
            assert result.quarantined == 0
        assert counted == len(sent)
        held = {c.capture_id: (c.value_rev, c.message.values[0].value) for c in ledger.captures.between()}
        assert held == model(sent)
        for capture_id in held:
            revisions = {one.value_rev for one in sent if one.capture_id == capture_id}
            assert [r.value_rev for r in ledger.captures.revisions(capture_id)] == sorted(revisions)
        state = ledger.journals.state("journal-1")
        assert (state.contiguous, state.highest, state.holes) == (len(journal), len(journal), ())


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=40))
def test_seq_set_is_a_set(ranges: list[tuple[int, int]]) -> None:
    seqs, naive = SeqSet(), set()
    for first, more in ranges:
        seqs.add_range(first, first + more)
        naive |= set(range(first, first + more + 1))
    expected = next(n for n in range(1, 100) if n not in naive) - 1
    assert seqs.contiguous == expected
    assert seqs.highest == max(naive, default=0)
    missing = {n for low, high in seqs.holes(70) for n in range(low, high + 1)}
    assert missing == set(range(1, 71)) - naive
    assert all((n in seqs) == (n in naive) for n in range(1, 80))
    islands = seqs.islands
    assert SeqSet.of(seqs.contiguous, islands).islands == islands
    assert all(b + 1 < c for (_, b), (c, _) in itertools.pairwise(islands))


def test_ten_thousand_sent_three_times(ledger: Ledger) -> None:
    # users.md C-01
    captures = [capture(n) for n in range(1, 10_001)]
    batches = [batch(captures[i : i + 200]) for i in range(0, len(captures), 200)]
    shuffled = random.Random(7).sample(batches, len(batches))
    first = ledger.ingest([received(one) for one in batches])
    again = ledger.ingest([received(one) for one in batches])
    third = ledger.ingest([received(one) for one in shuffled])
    assert (first.stored, again.repeated, third.repeated) == (10_000, 10_000, 10_000)
    counts = ledger.counts()
    assert (counts.captures, counts.repeated, counts.superseded) == (10_000, 20_000, 0)


def test_a_capture_comes_back_as_it_was_sent(ledger: Ledger) -> None:
    sent = snapshot(
        3,
        at=T0 + DAY,
        value="00123.4500",
        raw="0a0b",
        profile="billing",
        capture_id="GEN:1/billing/2026-11-02T00:00:00Z/0",
    )
    ledger.ingest([received(batch([sent]))])
    found = ledger.captures.latest(["GEN:1"], ["daily", "billing"])
    kept = found["GEN:1"].get("billing")
    assert kept is not None
    assert kept.message == sent
    assert kept.raw == "0a0b"
    assert [(v.q, v.value) for v in kept.message.values] == [("1-0:1.29.0*255", "00123.4500")]
    assert (kept.ingested_at, kept.gateway, kept.journal, kept.seq) == (NOW, "edge-1", "journal-1", 3)
    assert "daily" not in found["GEN:1"]


def test_what_was_known_at_an_instant(ledger: Ledger) -> None:
    ledger.ingest([received(batch([capture(1, value="1.0")]))])
    ledger.ingest([received(batch([capture(2, number=1, value="1.7", value_rev=2)]), NOW + DAY)])
    ledger.ingest([received(batch([capture(3, number=3)]), NOW + 2 * DAY)])

    def known(at: timedelta) -> list[str | None]:
        return [c.message.values[0].value for c in ledger.captures.between(known_at=NOW + at)]

    assert known(-DAY) == []
    assert known(timedelta(0)) == ["1.0"]
    assert known(DAY) == ["1.7"]
    assert known(3 * DAY) == ["1.7", "1.50"]


def test_bounds_of_a_span(ledger: Ledger) -> None:
    midnight = T0 + DAY
    rows = [capture(n, number=47 + n) for n in range(1, 4)]  # ends at 24:00, 00:30, 01:00
    rows.append(snapshot(4, at=midnight))
    ledger.ingest([received(batch(rows))])
    found = ledger.captures.between("GEN:1", start=midnight, end=midnight + HALF_HOUR)
    assert [(c.profile, c.at) for c in found] == [("daily", midnight), ("block_load", midnight + HALF_HOUR)]
    newest = ledger.captures.between("GEN:1", limit=2)
    assert [c.at for c in newest] == [midnight + HALF_HOUR, midnight + 2 * HALF_HOUR]


def test_journal_state_holes_and_lost_entries(ledger: Ledger) -> None:
    ledger.ingest([received(batch([capture(n) for n in (1, 2, 5, 9)]))])
    state = ledger.journals.state("journal-1")
    assert (state.contiguous, state.highest, state.holes) == (2, 9, ((3, 4), (6, 8)))
    ledger.journals.declare_lost("journal-1", 1, 6, "trimmed", NOW)
    state = ledger.journals.state("journal-1")
    assert (state.contiguous, state.holes) == (6, ((7, 8),))
    missing = [(one.first, one.last, one.reason, one.lost_at) for one in ledger.journals.missing()]
    assert missing == [(3, 4, "trimmed", NOW), (6, 6, "trimmed", NOW), (7, 8, "asked for again", None)]
    assert ledger.ingest([received(batch([capture(3)]))]).stored == 1, "what comes late after all is kept"


def test_gaps_go_forward_in_any_order(ledger: Ledger) -> None:
    ledger.ingest([received(batch(gaps=[gap(2, state="filled")]))])
    ledger.ingest([received(batch(gaps=[gap(1, state="open")]))])
    assert [g.state for g in ledger.gaps.all()] == ["filled"]
    ledger.ingest([received(batch(gaps=[gap(3, gap_id="gap-2")]))])
    assert [g.gap_id for g in ledger.gaps.all(state="open")] == ["gap-2"]
    assert ledger.journals.state("journal-1").contiguous == 3


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    bad = batch([capture(2)]).model_copy(update={"captures": (capture(2).model_copy(update={"seq": None}),)})
    with pytest.raises(ContractError):
        ledger.ingest([received(batch([capture(1)])), received(bad)])
    assert ledger.captures.between() == []
    assert ledger.journals.state("journal-1").contiguous == 0


def test_a_second_process_reads_while_one_writes(ledger: Ledger, tmp_path: Path) -> None:
    ledger.ingest([received(batch([capture(1)]))])
    other = Ledger(ledger.database.where, read_only=True)
    with ledger.database.writing("testing"):
        assert len(other.captures.between()) == 1
    with pytest.raises(LedgerError, match="reading only"):
        other.cursors.set("x", 1)
    other.close()
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(tmp_path / "none.db", read_only=True)


def test_a_damaged_file_is_a_ledger_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="opening"):
        Ledger(path)


def test_the_schema_is_taken_by_postgresql() -> None:
    from sqlalchemy.dialects.postgresql.base import PGDialect
    from sqlalchemy.schema import CreateTable

    text = "\n".join(str(CreateTable(t).compile(dialect=PGDialect())) for t in table.metadata.sorted_tables)
    assert "BIGSERIAL" in text
    assert "BYTEA" in text


def test_dead_letters_are_counted_and_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.central.ledger.dead_letters.MAX_LETTERS", 3)
    for _ in range(4):
        ledger.letters.put("t", b"\xff", "malformed", "$: bad", NOW)
    (line,) = ledger.letters.newest()
    letter = ledger.letters.get(line.id)
    assert letter is not None
    assert (letter.times_seen, letter.payload, letter.reason) == (4, b"\xff", "malformed")
    for number in range(5):
        ledger.letters.put("t", b"%d" % number, "malformed", "$", NOW + DAY)
    kept = [ledger.letters.get(line.id) for line in ledger.letters.newest()]
    assert [one.payload for one in kept if one] == [b"4", b"3", b"2"]


def test_balances_keep_the_latest(ledger: Ledger) -> None:
    assert ledger.balances.get("a") is None
    assert ledger.balances.put("a", NOW, "{}", NOW)
    assert not ledger.balances.put("a", NOW - DAY, "late", NOW)
    kept = ledger.balances.get("a")
    assert kept is not None
    assert kept.body == "{}"


def test_a_record_of_a_capture_has_the_columns_of_its_table() -> None:
    names = [field.name for field in fields(StoredCapture)]
    assert names == [*CaptureRow._fields, "layout_text", "holders_text"]
    assert list(NAMES) == [c.name for c in schema.captures.c]
    assert list(NAMES) == [c.name for c in schema.superseded.c if c.name != "id"]


def test_a_ledger_of_the_first_release_opens_and_answers(tmp_path: Path) -> None:
    """`ledger_schema_1.sql` was written by the release that made schema 1: same columns, same values."""
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    old.executescript((Path(__file__).parent / "ledger_schema_1.sql").read_text())
    old.close()
    ledger = Ledger(path)
    first, third, daily = ledger.captures.between()
    assert (first.at, first.start, first.received_at) == (
        T0 + HALF_HOUR,
        T0,
        T0 + HALF_HOUR + timedelta(minutes=1),
    )
    assert (first.ingested_at, first.value_rev) == (NOW + DAY + timedelta(microseconds=250), 2)
    assert (daily.start, daily.raw, third.message) == (None, "0a0b", capture(5))
    assert [r.message.values[0].value for r in ledger.captures.revisions(first.capture_id)] == ["1.0", "1.7"]
    state = ledger.journals.state("journal-1")
    assert (state.contiguous, state.holes) == (3, ((4, 4),))
    assert (state.first_seen, state.last_seen) == (NOW, NOW + DAY + timedelta(microseconds=250))
    [lost] = [one for one in ledger.journals.missing() if one.lost_at]
    assert (lost.journal, lost.first, lost.last, lost.reason, lost.lost_at) == (
        "journal-1", 3, 3, "trimmed", NOW,
    )  # fmt: skip
    assert [(g.after, g.until) for g in ledger.gaps.all()] == [(T0, T0 + DAY)]
    assert [(s.gateway, s.received_at) for s in ledger.statuses.all()] == [("edge-1", NOW)]
    balance = ledger.balances.get("acc-1")
    assert balance is not None
    assert (balance.as_of, balance.body) == (NOW, '{"amount":"1.00"}')
    [line] = ledger.letters.newest()
    letter = ledger.letters.get(line.id)
    assert letter is not None
    assert (letter.payload, letter.first_seen) == (b"\xff", NOW)
    assert ledger.edges.part("edge-1") is None, "it gets its part anew"
    assert ledger.cursors.get("attributions_published") == 4
    assert ledger.ingest([received(batch([capture(1, value="1.0")]))]).repeated == 1
    ledger.close()


def test_an_instant_is_kept_to_the_microsecond_and_a_naive_time_is_refused(ledger: Ledger) -> None:
    for at in (
        datetime.min.replace(tzinfo=UTC),
        T0 - timedelta(microseconds=1),
        datetime.max.replace(tzinfo=UTC),
    ):
        ledger.balances.put(f"a-{at.year}", at, "{}", at)
        kept = ledger.balances.get(f"a-{at.year}")
        assert kept is not None
        assert kept.as_of == at
    with pytest.raises(LedgerError, match="has no zone"):
        ledger.balances.put("b", T0.replace(tzinfo=None), "{}", NOW)


def test_the_latest_captures_of_many_meters_are_one_statement(ledger_file: Ledger) -> None:
    meters = [f"GEN:{n}" for n in range(1, 41)]
    rows: list[Capture] = []
    for meter in meters:
        for number in (3, 9, 4):
            rows.append(capture(len(rows) + 1, meter=meter, number=number))
        rows.append(snapshot(len(rows) + 1, meter=meter, at=T0 + DAY))
    ledger_file.ingest([received(batch(rows))])
    with statements_sent() as sent:
        found = ledger_file.captures.latest([*meters, "GEN:none"], ["daily", "block_load", "billing"])
    assert len([statement for statement in sent if "captures" in statement]) == 1
    assert found.pop("GEN:none") == {}
    assert {m: {p: c.at for p, c in of.items()} for m, of in found.items()} == {
        m: {"daily": T0 + DAY, "block_load": T0 + 9 * HALF_HOUR} for m in meters
    }
    literal = newest_of_each([1], [2]).compile(
        compile_kwargs={"literal_binds": True}, dialect=sqlite.dialect()
    )
    with ledger_file.database.reading("explaining") as connection:
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {literal}")]
    assert not any(
        "SCAN captures" in step or "SCAN other" in step or "TEMP B-TREE" in step for step in plan
    ), plan


def test_a_reader_finds_no_ledger_or_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that looked while central made the file found it without tables."""
    path, seen = tmp_path / "ledger.db", []
    real = StoreVersions.bring_up_to_date

    def looked_at(*arguments: Any) -> None:
        seen.append(path.exists())
        real(*arguments)

    monkeypatch.setattr(StoreVersions, "bring_up_to_date", looked_at)
    (tmp_path / "ledger.db.new").write_bytes(b"left by a crash")
    Ledger(path).close()
    assert seen[0] is False
    with closing(Ledger(path, read_only=True)) as ledger:
        assert ledger.counts().captures == 0
    assert [one.name for one in tmp_path.glob("*.new*")] == []


def test_a_limit_counts_no_interval_that_ends_where_the_span_begins(ledger: Ledger) -> None:
    """Pages of the past end where there are fewer than were asked for: the register of that instant was left out."""
    interval = capture(1, at=T0, start=T0 - HALF_HOUR)
    again = capture(
        2, at=T0, start=T0 - HALF_HOUR, capture_id=interval.capture_id.removesuffix("0") + "1", value="2.5"
    )
    register, later = snapshot(3, at=T0), capture(4, number=1)
    ledger.ingest([received(batch([interval, again, register, later]))])
    for limit in (1, 2, 3):
        found = ledger.captures.between("GEN:1", None, T0, limit=limit)
        assert [one.capture_id for one in found] == [register.capture_id, later.capture_id][-limit:]
    known = ledger.captures.between("GEN:1", None, T0, known_at=NOW)
    assert [one.capture_id for one in known] == [register.capture_id, later.capture_id]
    ledger.ingest([received(batch([snapshot(5, at=T0, value="101", value_rev=2)]), NOW + DAY)])
    known = ledger.captures.between("GEN:1", None, T0, known_at=NOW)
    assert [one.values[0].value for one in (one.message for one in known)] == ["100", "1.50"]


def test_numbers_of_a_transaction_whose_commit_fails_are_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk may refuse the commit itself: what was numbered in it was never there."""
    dialect = ledger.database._writer.dialect

    def refused(_connection: object) -> None:
        raise dialect.loaded_dbapi.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(dialect, "do_commit", refused)
        with pytest.raises(LedgerError):
            ledger.ingest([received(batch([capture(1, meter="GEN:1")]))])
    ledger.ingest([received(batch([capture(1, meter="GEN:2")]))])
    ledger.ingest([received(batch([capture(2, meter="GEN:1")]))])
    assert [one.meter for one in ledger.captures.between()] == ["GEN:1", "GEN:2"]
    assert [len(ledger.captures.between(meter)) for meter in ("GEN:1", "GEN:2")] == [1, 1]
