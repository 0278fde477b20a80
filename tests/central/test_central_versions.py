"""The ledger's versions: an old file is brought up to date, a newer one is refused, a failed step changes nothing."""

from __future__ import annotations

import gzip
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select

from gateway.central.ledger import versions
from gateway.central.ledger.database import Database, LedgerError
from gateway.central.ledger.ledger import VERSIONS, Ledger
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import metadata
from gateway.central.ledger.state_tables import meter_states
from mapping.instants import micros
from tests.support.central.ledgers import LedgerDatabase
from tests.support.central.samples import DAY, HALF_HOUR, NOW, T0, batch, capture, received
from tests.support.paths import ROOT

STEPS = Path(versions.__file__).parent
FIRST = ROOT / "tests" / "data" / "ledger_version_1.db.gz"
"""Written by the last program that knew no versions: three edges, a meter moved between two of them."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(FIRST.read_bytes()))
    return path


def tables(path: Path) -> list[tuple[str, str]]:
    """What SQLite says of a file's tables and indexes, spaces and quotes apart."""
    db = sqlite3.connect(path)
    found = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    db.close()
    return [(name, re.sub(r'[\s"]+', " ", sql)) for name, sql in found]


def set_version(path: Path, version: str) -> None:
    db = sqlite3.connect(path)
    db.execute("UPDATE ledger_version SET version_num = ?", (version,))
    db.commit()
    db.close()


def test_a_ledger_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds(old: Path) -> None:
    ledger = Ledger(old)
    held = ledger.captures.between()
    assert {(one.meter, one.gateway) for one in held} == {
        ("GEN:1", "edge-1"),
        ("GEN:2", "edge-1"),
        ("GEN:2", "edge-2"),
        ("GEN:3", "edge-2"),
        ("GEN:4", "edge-1-field"),
    }
    assert len(held) == 14
    assert [
        one.value_rev for one in ledger.captures.revisions("GEN:1/block_load/2026-11-01T00:30:00Z/0")
    ] == [1, 2]
    assert [(row.journal, row.first, row.last) for row in ledger.journals.missing() if row.lost_at] == [
        ("journal-2", 1, 3)
    ]
    ledger.close()
    Ledger(old, read_only=True).close()


def test_captures_under_no_account_become_spans_with_their_number(old: Path) -> None:
    db = sqlite3.connect(old)
    listed = db.execute(
        "SELECT meter, profile, reason, count(*), min(at), max(at) FROM unattributed"
        " WHERE reason <> 'pending' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    ).fetchall()
    db.close()
    assert listed
    ledger = Ledger(old)
    groups = ledger.unattributed.groups()
    assert [
        (g.meter, g.profile, g.reason, g.count, micros(g.first_at), micros(g.last_at)) for g in groups
    ] == listed
    assert ledger.counts().unattributed == sum(row[3] for row in listed)
    ledger.close()


def texts_of(path: Path) -> dict[tuple[str, int, int], dict[str, object]]:
    """What a ledger of version 14 holds of each revision, column by column, as its own SQL says it."""
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    found = {
        (row["capture_id"], row["epoch"], row["value_rev"]): {
            name: value for name, value in dict(row).items() if name != "id"
        }
        for name in ("captures", "superseded")
        for row in db.execute(f"SELECT * FROM {name}")
    }
    db.close()
    return found


def test_every_capture_of_version_14_is_kept_to_the_last_digit(tmp_path: Path) -> None:
    """Both versions of the contract, every kind of value, raw octets, revisions, moved times, an id of another kind."""
    path = tmp_path / "old.db"
    db = sqlite3.connect(path)
    db.executescript((Path(__file__).parent / "ledger_schema_14.sql").read_text(encoding="utf-8"))
    db.close()
    before = texts_of(path)
    assert len(before) == 17
    with closing(Ledger(path)) as ledger:
        after = {}
        for one in ledger.captures.each():
            row = {name: getattr(one, name) for name in CaptureRow._fields}
            for name in ("at", "start", "received_at", "ingested_at"):
                row[name] = None if row[name] is None else micros(row[name])
            after[one.capture_id, one.epoch, one.value_rev] = row
            assert one.is_sound()
            assert ledger.captures.revisions(one.capture_id)[-1].capture_id == one.capture_id
        assert after == before
        (moved,) = [one for one in ledger.captures.between("GEN:9") if "T04:30" in one.capture_id]
        assert f"{moved.at:%H:%M}" == "05:30", "where the verdict put it"
        assert ledger.captures.latest(["GEN:9"], ["block_load"])["GEN:9"]["block_load"] == moved
        assert ledger.captures.get("GEN:9/events/other/201/17") is not None


@pytest.mark.postgres
def test_the_steps_end_at_the_same_tables_in_postgresql(ledger_in_postgresql: LedgerDatabase) -> None:
    database = Database(ledger_in_postgresql.url, read_only=True)

    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not str(name).startswith("captures_")

    with database.reading("comparing") as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "ledger_version", "include_name": ours}
        )
        assert compare_metadata(context, metadata) == []
    database.close()


@pytest.mark.postgres
def test_captures_lie_in_the_partitions_of_their_months(ledger_in_postgresql: LedgerDatabase) -> None:
    far = NOW.replace(year=2031)
    with closing(Ledger(ledger_in_postgresql.emptied())) as ledger:
        ledger.ingest([received(batch([capture(1), capture(2, at=T0 - 40 * DAY), capture(3, at=far)]))])
        assert lies_in(ledger) == ["captures_2026_09", "captures_2026_11", "captures_other"]
        ledger.ingest([received(batch([capture(4, at=far + HALF_HOUR)]), far + DAY)])
        assert lies_in(ledger) == [
            *("captures_2026_09", "captures_2026_11"),
            *("captures_2031_11", "captures_2031_11"),
        ], "what waited for its month is there, too"


def lies_in(ledger: Ledger) -> list[str]:
    with ledger.database.reading("looking at partitions") as connection:
        names = connection.exec_driver_sql("SELECT tableoid::regclass::text FROM captures ORDER BY at")
        return list(names.scalars())


def test_what_was_told_and_heard_of_each_meter_becomes_one_row(old: Path) -> None:
    db = sqlite3.connect(old)
    [(meters,)] = db.execute("SELECT count(DISTINCT meter) FROM captures").fetchall()
    db.close()
    ledger = Ledger(old)
    with ledger.database.reading("looking") as connection:
        rows = connection.execute(select(meter_states)).all()
    assert ledger.counts().meters == meters
    told = {one.meter for one in ledger.statuses.meters()}
    assert {row.meter for row in rows if row.told} == told
    owners = {one.meter: one.gateway for one in ledger.allocations.current()}
    assert owners
    assert {row.meter: row.gateway for row in rows if row.meter in owners} == owners
    assert ledger.counts().open_gaps == len(ledger.gaps.all(state="open"))
    ledger.close()


def test_an_old_file_and_a_new_one_end_with_the_same_tables(old: Path, tmp_path: Path) -> None:
    Ledger(old).close()
    Ledger(tmp_path / "new.db").close()
    assert tables(old) == tables(tmp_path / "new.db")


def test_the_steps_end_at_the_tables_that_the_program_uses(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").close()
    database = Database(tmp_path / "ledger.db", read_only=True)
    with database.reading("comparing") as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "ledger_version"})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_the_steps_are_one_chain_in_the_order_of_their_names() -> None:
    script = ScriptDirectory(str(STEPS), version_locations=[str(STEPS)])
    chain = [(one.revision, one.down_revision) for one in reversed(list(script.walk_revisions()))]
    names = sorted(path.name for path in STEPS.glob("v*.py"))
    assert [revision for revision, _ in chain] == [name[1:5] for name in names]
    assert [before for _, before in chain] == [None, *(revision for revision, _ in chain[:-1])]
    assert script.get_current_head() == VERSIONS.newest


def test_an_old_file_opened_for_reading_says_what_to_do(old: Path) -> None:
    db = sqlite3.connect(old)
    db.executescript(
        "CREATE TABLE ledger_version (version_num TEXT); INSERT INTO ledger_version VALUES ('0000')"
    )
    db.close()
    before = old.read_bytes()
    with pytest.raises(LedgerError, match=r"old\.db is of version 0000 .*start the central role"):
        Ledger(old, read_only=True)
    assert old.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_file_is_refused(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    set_version(path, "9000")
    with pytest.raises(
        LedgerError, match=r"of version 9000, made by a newer meter-gateway; .*install the newer"
    ):
        Ledger(path, read_only=read_only)


def test_a_file_that_says_a_version_before_there_were_any_is_refused(old: Path) -> None:
    db = sqlite3.connect(old)
    db.execute("UPDATE cursors SET value = 9000 WHERE name = 'schema_version'")
    db.commit()
    db.close()
    with pytest.raises(LedgerError, match="of version 9000, made by a newer"):
        Ledger(old)


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = ScriptDirectory(str(STEPS), version_locations=[str(STEPS)])
    newest = script.get_revision("head")
    assert newest is not None
    step = newest.module

    def upgrade() -> None:
        step.op.execute("CREATE TABLE half_done (id INTEGER)")
        step.op.execute("this is no SQL")

    monkeypatch.setattr(step, "upgrade", upgrade)
    monkeypatch.setattr("gateway.central.storage.versions._steps", lambda _package: script)
    with pytest.raises(LedgerError, match="while opening"):
        Ledger(tmp_path / "ledger.db")
    assert tables(tmp_path / "ledger.db") == []


def test_programs_that_open_an_old_file_at_once_both_find_it_up_to_date(old: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(Ledger, [old] * 4))
    assert [len(one.captures.between()) for one in opened] == [14] * 4
    for one in opened:
        one.close()


def test_a_reader_waits_for_a_ledger_that_is_just_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    sqlite3.connect(path).close()
    path.touch()
    monkeypatch.setattr("gateway.central.ledger.ledger.time.sleep", lambda _seconds: Ledger(path).close())
    Ledger(path, read_only=True).close()


def test_a_ledger_that_stays_empty_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    monkeypatch.setattr("gateway.central.ledger.ledger.time.sleep", lambda _seconds: None)
    with pytest.raises(LedgerError, match=r"ledger\.db is empty: start the central role"):
        Ledger(path, read_only=True)
