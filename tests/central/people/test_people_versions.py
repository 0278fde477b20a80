"""The people store's versions: the contacts of the first release are taken over; a newer store is refused."""

from __future__ import annotations

import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleFault, PeopleStore
from gateway.central.people.tables import META
from gateway.central.storage.versions import WrongStoreVersion

FIRST = """
CREATE TABLE contacts(account_id TEXT PRIMARY KEY, mobile TEXT NOT NULL, verified_at TEXT) WITHOUT ROWID;
CREATE INDEX contacts_by_mobile ON contacts(mobile);
INSERT INTO contacts VALUES ('a', '9876543210', '2026-11-01T00:00:00Z'), ('b', '9876543211', NULL);
"""
"""As the last program wrote it that knew no versions."""


def test_the_contacts_of_the_first_release_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "contacts.db"
    db = sqlite3.connect(path)
    db.executescript(FIRST)
    db.close()
    path.chmod(0o644)
    store = PeopleStore(path)
    contacts = ContactStore(store)
    one, other = contacts.get("a"), contacts.get("b")
    assert one is not None
    assert other is not None
    assert (one.mobile, one.verified_at) == ("9876543210", datetime(2026, 11, 1, tzinfo=UTC))
    assert (other.mobile, other.verified_at) == ("9876543211", None)
    assert [event.what for event in contacts.history("b")] == ["added"]
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    PeopleStore(path).close()


def test_the_steps_end_at_the_tables_that_the_program_uses(store: PeopleStore) -> None:
    with store.db.reading("comparing") as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "people_version"})
        assert compare_metadata(context, META) == []


def test_a_newer_store_is_refused(store: PeopleStore) -> None:
    with store.db.writing("growing old") as db:
        db.exec_driver_sql("UPDATE people_version SET version_num = '9000'")
    with pytest.raises(WrongStoreVersion, match="made by a newer"):
        PeopleStore(
            Path(store.db.where) if store.db.is_file else store.db._writer.url.render_as_string(False)
        )


def test_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "contacts.db").write_bytes(b"not a database" * 100)
    with pytest.raises(PeopleFault):
        PeopleStore(tmp_path / "contacts.db")
