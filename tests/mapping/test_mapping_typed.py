"""Whatever people put into a number or leave out, one number is read of it, and whose it is is never guessed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapping.account import AccountNumber
from mapping.changes import Name
from mapping.checkchar import check_character
from mapping.directory import NumberKind
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from mapping.typed import TypedNumber, account_of

AT = datetime(2026, 11, 1, tzinfo=UTC)
NEW = "1234567890"
LEGACY = {"plain": "KE0001", "dash": "KE-0002", "blank": "KE 0003", "slash": "KE12/3", "other": "KE1/23"}


@pytest.fixture
def directory(store: DirectoryStore) -> DirectorySnapshot:
    names = [Name(who, NumberKind.LEGACY, number) for who, number in LEGACY.items()]
    names.append(Name("plain", NumberKind.ACCOUNT, NEW))
    store.apply(names, by="test", source="typed", at=AT)
    return store.snapshot()


@pytest.mark.parametrize(
    ("typed", "whose"),
    [
        ("KE 0001", "plain"),
        ("ke0001", "plain"),
        (" KE-0001 ", "plain"),
        ("KE‑०००१", "plain"),  # a no-break hyphen, Devanagari digits
        ("ＫＥ００01", "plain"),
        ("K\u200bE0\u200d001\u202e", "plain"),
        ('="KE0001"', "plain"),
        ("KE/00.01", "plain"),
        ("ke0002", "dash"),
        ("KE 0002", "dash"),
        ("ke0003", "blank"),
        ("KE-0003", "blank"),
        ("ke\u00a00003", "blank"),
        ("KE12/3", "slash"),
        ("ke1/23", "other"),
        ("KE123", None),  # two numbers are this one without separators
        ("KE-123", None),
        (NEW, "plain"),
        ("१२३४ ५६७-८९०", "plain"),
        ("1234\u200b567890", "plain"),
        ("1,234,567,890", "plain"),
        ("1234567890.0", "plain"),
        (f"1234 567 890 {check_character(AccountNumber(NEW))}", "plain"),
        ("1234 567 890 0", None),  # its check character is another
        ("KE000", None),
        ("", None),
        ("\u200b", None),
        ("KE0001;DROP", None),
        ("KE" * 40, None),
    ],
)
def test_a_number_is_found_however_it_is_written(
    directory: DirectorySnapshot, typed: str, whose: str | None
) -> None:
    assert account_of(directory, TypedNumber.of(typed)) == whose


def test_a_number_that_was_given_up_is_nobody_s_and_earlier_versions_stay(store: DirectoryStore) -> None:
    store.apply([Name("a", NumberKind.LEGACY, "KE-77")], by="t", source="t", at=AT)
    before = store.snapshot()
    store.apply([Name("a", NumberKind.LEGACY, "KE-78")], by="t", source="t", at=AT)
    assert account_of(store.snapshot(), TypedNumber.of("KE77")) is None
    assert account_of(store.snapshot(), TypedNumber.of("ke78")) == "a"
    assert account_of(before, TypedNumber.of("ke77")) == "a"
    planned = store.preview([Name("b", NumberKind.LEGACY, "KE 77")], by="t", source="t", at=AT)
    assert account_of(planned, TypedNumber.of("KE.77")) == "b"
    carried = DirectorySnapshot.from_json(store.snapshot().to_json())
    assert account_of(carried, TypedNumber.of("KE78")) == "a"


def test_kinds_are_not_mixed(store: DirectoryStore) -> None:
    store.apply(
        [Name("a", NumberKind.LEGACY, "1234-567890"), Name("b", NumberKind.ACCOUNT, NEW)],
        by="t", source="t", at=AT,
    )  # fmt: skip
    directory = store.snapshot()
    assert account_of(directory, TypedNumber.of(NEW)) is None
    assert account_of(directory, TypedNumber.of(NEW), NumberKind.ACCOUNT) == "b"
    assert account_of(directory, TypedNumber.of(NEW), NumberKind.LEGACY) == "a"


@given(st.text(max_size=80))
def test_any_text_has_one_form(text: str) -> None:
    once = TypedNumber.of(text)
    again = TypedNumber.of(once.exact)
    assert again.key == once.key
    assert TypedNumber.of(once.shown).key == once.key
    assert not once.plausible or once.key.isascii()
    assert TypedNumber.of(once.key.lower()).key == once.key or not once.plausible


@given(st.text("0123456789ABKE", min_size=4, max_size=20), st.data())
def test_separators_and_what_nobody_sees_change_nothing(number: str, data: st.DataObject) -> None:
    between = st.text(" -./_\u200b\u00a0\u2011\u2013\ufeff", max_size=2)
    written = "".join(data.draw(between) + c for c in number) + data.draw(between)
    assert TypedNumber.of(written).key == TypedNumber.of(number).key
