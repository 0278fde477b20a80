"""Mobiles of accounts: several with history, the last verified one is used; files row by row, in both languages."""

from __future__ import annotations

import os
import stat
import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from openpyxl import Workbook

from gateway.central.people.contacts import (
    MAX_ACCOUNTS_PER_MOBILE,
    MAX_CONTACTS,
    ContactRefused,
    ContactStore,
    parse_mobile,
)
from gateway.central.people.database import PeopleStore
from gateway.central.people.imports import TEXTS, ContactImport, import_contacts
from gateway.central.people.verification import VERIFIED_FOR, masked_number, may_have_whole_number
from mapping.directory import NumberKind
from mapping.errors import FileRefused
from mapping.row_verdicts import Verdict
from tests.support.steps import steps_of

AT = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HEAD = "legacy_number,mobile,verified_at\r\n"


@pytest.fixture
def contacts(store: PeopleStore) -> ContactStore:
    return ContactStore(store)


def find(kind: NumberKind, number: str) -> str | None:
    """Old numbers KE…, and the new number 1234567890 of KE1."""
    if kind is NumberKind.ACCOUNT:
        return "ke1" if number == "1234567890" else None
    return number.lower() if number.startswith("KE") else None


def put(folder: Path, text: str, name: str = "c.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_mobile_verified_last_is_used_and_all_are_kept(contacts: ContactStore) -> None:
    old = contacts.add("a", "9876543210", by="asha", source="counter", at=AT, verified_at=AT - 300 * DAY)
    new = contacts.add("a", "+91 98765-43211", by="asha", source="form", at=AT + DAY)
    assert contacts.get("a") == old
    contacts.verify(new.id, by="birju", how="otp", at=AT + DAY)
    assert (contacts.get("a") or old).mobile == "9876543211"
    assert contacts.of_accounts(["a", "b"])["a"].id == new.id
    contacts.remove(new.id, by="birju", why="not theirs", at=AT + 2 * DAY)
    assert [one.id for one in contacts.of_account("a")] == [old.id]
    assert [(one.what, one.by, one.detail) for one in contacts.history("a")] == [
        ("added", "asha", "counter"), ("added", "asha", "form"), ("verified", "birju", "otp"),
        ("removed", "birju", "not theirs"),
    ]  # fmt: skip
    with pytest.raises(ContactRefused, match="no such contact"):
        contacts.verify(new.id, by="birju", how="otp", at=AT)


def test_an_older_verification_takes_nothing_back(contacts: ContactStore) -> None:
    contacts.add("a", "9876543210", by="t", source="t", at=AT, verified_at=AT)
    again = contacts.add("a", "9876543210", by="t", source="t", at=AT, verified_at=AT - DAY)
    assert again.verified_at == AT


@pytest.mark.parametrize(
    "text", ["5876543210", "987654321", "98765432101", "+1 9876543210", "९८७६५४३२१०", "", "9" * 99]
)
def test_what_is_no_mobile(text: str) -> None:
    with pytest.raises(ContactRefused) as refused:
        parse_mobile(text)
    assert refused.value.code == "MOBILE"


def test_bounds_are_refused_with_what_to_do(contacts: ContactStore) -> None:
    for index in range(MAX_CONTACTS):
        contacts.add("a", f"987654321{index}", by="t", source="t", at=AT)
    with pytest.raises(ContactRefused, match="remove one first"):
        contacts.add("a", "9876543219", by="t", source="t", at=AT)
    for index in range(MAX_ACCOUNTS_PER_MOBILE):
        contacts.add(f"b{index}", "9000000000", by="t", source="t", at=AT)
    with pytest.raises(ContactRefused, match="review by hand"):
        contacts.add("c", "9000000000", by="t", source="t", at=AT)


def test_opting_out_and_back(contacts: ContactStore) -> None:
    contacts.opt_out("+919876543210", source="STOP", at=AT)
    contacts.opt_out("9876543210", source="counter", at=AT + DAY)
    assert contacts.opted_out("9876543210") == AT + DAY
    assert contacts.opt_in("9876543210")
    assert not contacts.opt_in("9876543210")
    assert contacts.opted_out("9876543210") is None


@pytest.mark.parametrize(
    ("age", "whole"),
    [
        (None, False),
        (timedelta(0), True),
        (VERIFIED_FOR, True),
        (VERIFIED_FOR + timedelta(seconds=1), False),
        (-DAY, False),
    ],
)
def test_who_may_be_told_the_whole_number(age: timedelta | None, whole: bool) -> None:
    """users.md row 70."""
    assert may_have_whole_number(None if age is None else AT - age, AT) is whole


def test_masks_show_the_end_and_never_most_of_a_number() -> None:
    assert [masked_number(n) for n in ("KE0012345", "12345", "1", "")] == ["XXXXX2345", "XXX45", "X", ""]


# Files


def test_import_keeps_good_rows_and_names_bad_ones(store: PeopleStore, tmp_path: Path) -> None:
    rows = (
        "\ufeff" + HEAD + "KE1,+919876543210,2026-11-01T05:30:00+05:30\r\n"
        "KE2,09876543211,\r\n"
        "KE3,12345,\r\n"
        "KE4,9876543213,yesterday\r\n"
        "KE5,9876543213,2026-11-01T05:30:00\r\n"
        "NOPE,9876543214,\r\n"
        "KE6\r\n"
        "KE7,9.87654E+09,\r\n"
        "KE8,9876543218,2027-01-01T00:00:00Z\r\n"
        ",9876543219,\r\n"
        '"=""KE9""",9876543219,\r\n'
    )
    done = load(store, put(tmp_path, rows))
    assert [(one.line, one.code, one.column) for one in done.not_applied] == [
        (4, "MOBILE", "mobile"), (5, "VERIFIED_AT", "verified_at"), (6, "VERIFIED_AT", "verified_at"),
        (7, "UNKNOWN", "legacy_number"), (8, "COLUMNS", ""), (9, "EXCEL_SCIENTIFIC", "mobile"),
        (10, "FUTURE", "verified_at"), (11, "NO_NUMBER", "legacy_number"),
    ]  # fmt: skip
    assert (done.counts[Verdict.APPLIED], done.counts[Verdict.REPAIRED]) == (2, 1)
    held = ContactStore(store).get("ke1")
    assert held is not None
    assert (held.mobile, held.verified_at, held.source) == ("9876543210", AT, "c.csv")
    assert "98765" not in str(done)
    again = load(store, tmp_path / "c.csv")
    assert (again.counts[Verdict.UNCHANGED], again.counts[Verdict.APPLIED]) == (3, 0)


def test_rows_of_one_file_know_of_each_other(store: PeopleStore, tmp_path: Path) -> None:
    rows = "KE1,9876543210,\r\nKE1,9876543210,2026-10-01T00:00:00Z\r\nKE1,9876543210,2026-09-01T00:00:00Z\r\n"
    more = "".join(f"KE1,900000000{i},\r\n" for i in range(MAX_CONTACTS))
    done = load(store, put(tmp_path, HEAD + rows + more))
    assert (done.counts[Verdict.APPLIED], done.counts[Verdict.UNCHANGED]) == (MAX_CONTACTS + 1, 1)
    assert [(one.line, one.code) for one in done.not_applied] == [(9, "TOO_MANY")]
    (held,) = [one for one in ContactStore(store).of_account("ke1") if one.verified_at]
    assert (held.mobile, held.verified_at) == ("9876543210", datetime(2026, 10, 1, tzinfo=UTC))
    history = [one.what for one in ContactStore(store).history("ke1")]
    assert (history[:2], history.count("added")) == (["added", "verified"], MAX_CONTACTS)


def load(store: PeopleStore, path: Path) -> ContactImport:
    return import_contacts(store, path, find, by="clerk", now=AT)


def test_new_numbers_languages_and_workbooks(store: PeopleStore, tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    for row in (
        ["account_number", "legacy_number", "mobile", "language"],
        ["1234567890", "", 9876543210, "hi"],
        ["1234567890", "KE2", "9876543211"],
        ["", "KE3", "9876543212", "fr"],
        ["12345", "", "9876543213"],
    ):
        sheet.append(row)
    book.save(tmp_path / "c.xlsx")
    done = load(store, tmp_path / "c.xlsx")
    assert [(one.line, one.code) for one in done.not_applied] == [
        (3, "TWO_ACCOUNTS"),
        (4, "LANGUAGE"),
        (5, "NUMBER"),
    ]
    held = ContactStore(store).get("ke1")
    assert held is not None
    assert (held.language, held.mobile) == ("hi", "9876543210")


def test_row_71_a_mobile_of_many_accounts_is_left_for_review(store: PeopleStore, tmp_path: Path) -> None:
    rows = "".join(f"KE{i},9876543210,\n" for i in range(MAX_ACCOUNTS_PER_MOBILE + 3))
    path = put(tmp_path, HEAD + rows)
    done = load(store, path)
    assert done.counts[Verdict.APPLIED] == MAX_ACCOUNTS_PER_MOBILE
    assert {(r.code, r.verdict) for r in done.not_applied} == {("SHARED_MOBILE", Verdict.CONFLICT)}
    assert load(store, path).counts[Verdict.UNCHANGED] == MAX_ACCOUNTS_PER_MOBILE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "EMPTY"),
        ("a,b\n1,2\n", "HEADER"),
        ("mobile,verified_at\n1,2\n", "HEADER"),
        ("legacy_number,mobile,mobile\n1,2,3\n", "HEADER"),
        (HEAD + "x" * 200_000 + ",1,2\n", "LINE_TOO_LONG"),
        ("\x00", "CUT_OFF"),
        (HEAD + "KE1,9876543210,\nKE2,\x009876543211,\n", "NUL"),
        (HEAD + 'KE1,9876543210,\nKE2,"9876543211', "CUT_OFF"),
    ],
)
def test_a_file_of_another_kind_is_refused_whole(
    store: PeopleStore, tmp_path: Path, text: str, code: str
) -> None:
    with pytest.raises(FileRefused) as refused:
        load(store, put(tmp_path, text))
    assert refused.value.code == code
    assert ContactStore(store).get("ke1") is None


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize("place", [lambda _: Path("/dev/zero"), lambda _: Path("/dev/stdin"), fifo])
def test_what_is_no_file_is_refused_before_it_is_opened(
    store: PeopleStore, tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    path = place(tmp_path)
    if stat.S_ISREG(path.stat().st_mode):
        return  # the standard input of this run is a file
    assert steps_of(lambda: refused(store, path)) < 2000


def refused(store: PeopleStore, path: Path) -> None:
    with pytest.raises(FileRefused) as error:
        load(store, path)
    assert error.value.code == "NOT_A_FILE"


def test_every_code_has_its_words_in_both_languages_and_no_place_for_a_mobile() -> None:
    for code, text in TEXTS.items():
        assert all(text), code
        assert not [name for part in text for _, name, _, _ in string.Formatter().parse(part) if name], code
        assert any("\u0900" <= c <= "\u097f" for c in text.hi), code
