"""Contacts are imported whole or row by row refused; limits stay bounded."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.portal.contacts import MAX_ACCOUNTS_PER_MOBILE, Contact, ContactStore
from gateway.central.portal.limits import SlidingLimit
from gateway.errors import ConfigError, UsageError

AT = datetime(2026, 11, 1, tzinfo=UTC)
HEAD = "legacy_number,mobile,verified_at\r\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContactStore]:
    made = ContactStore(tmp_path / "contacts.sqlite3")
    yield made
    made.close()


def test_import_keeps_good_rows_and_names_bad_ones(store: ContactStore, tmp_path: Path) -> None:
    text = (
        "\ufeff" + HEAD + "KE1,+919876543210,2026-11-01T05:30:00+05:30\r\n"
        "KE2,09876543211,\r\n"
        "KE3,12345,\r\n"
        "KE4,9876543213,yesterday\r\n"
        "KE5,9876543213,2026-11-01T05:30:00\r\n"
        "NOPE,9876543214,\r\n"
        "KE6\r\n"
    )
    done = store.import_csv(text, lambda n: n.lower() if n.startswith("KE") else None)
    assert done.applied == 2
    assert [(r.line, r.code) for r in done.refused] == [
        (4, "MOBILE"), (5, "VERIFIED_AT"), (6, "VERIFIED_AT"), (7, "UNKNOWN"), (8, "COLUMNS"),
    ]  # fmt: skip
    assert store.get("ke1") == Contact(account_id="ke1", mobile="9876543210", verified_at=AT)
    assert store.get("ke2") == Contact(account_id="ke2", mobile="9876543211", verified_at=None)
    assert "98765" not in str(done)
    assert stat.S_IMODE((tmp_path / "contacts.sqlite3").stat().st_mode) == 0o600


def test_row_71_a_mobile_of_many_accounts_is_left_for_review(store: ContactStore) -> None:
    rows = "".join(f"KE{i},9876543210,\n" for i in range(MAX_ACCOUNTS_PER_MOBILE + 3))
    done = store.import_csv(HEAD + rows, lambda n: n)
    assert done.applied == MAX_ACCOUNTS_PER_MOBILE
    assert {r.code for r in done.refused} == {"SHARED_MOBILE"}
    assert store.import_csv(HEAD + rows, lambda n: n).applied == MAX_ACCOUNTS_PER_MOBILE


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", HEAD + "x" * 200_000 + ",1,2\n", "\x00"])
def test_a_file_of_another_kind_is_refused(store: ContactStore, text: str) -> None:
    with pytest.raises(UsageError):
        store.import_csv(text, lambda n: n)


def test_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "contacts.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError):
        ContactStore(tmp_path / "contacts.sqlite3")


def test_limit_slides_and_stays_bounded() -> None:
    limit = SlidingLimit(2, timedelta(minutes=10), max_keys=3)
    assert limit.hit("a", AT) is None
    assert limit.hit("a", AT + timedelta(minutes=4)) is None
    assert limit.hit("a", AT + timedelta(minutes=5)) == timedelta(minutes=5)
    assert limit.hit("a", AT + timedelta(minutes=10)) is None
    assert limit.hit("a", AT + timedelta(minutes=11)) == timedelta(minutes=3)
    for index in range(100):
        limit.hit(f"k{index}", AT)
    assert len(limit) == 3
