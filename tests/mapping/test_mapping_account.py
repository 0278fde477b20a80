"""users.md §6 rows 1-8 and 10-14: what a number is, what is repaired, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapping.account import AccountNumber, LegacyNumber, MeterId, NumberSource
from mapping.characters import Repair
from mapping.checkchar import check_character, is_checked, verhoeff
from mapping.errors import NumberRefused

TEN = "1234567890"


def parsed(text: str, source: NumberSource = NumberSource.FILE) -> tuple[str, tuple[Repair, ...]]:
    result = AccountNumber.parse(text, source=source)
    return result.number.text, result.repairs


def refused(text: str, source: NumberSource = NumberSource.FILE, **more: Any) -> NumberRefused:
    with pytest.raises(NumberRefused) as caught:
        AccountNumber.parse(text, source=source, **more)
    return caught.value


def test_row_1_exponent_is_never_expanded() -> None:
    error = refused("1.23E+09")
    assert error.code == "EXCEL_SCIENTIFIC"
    assert error.suggestion is None
    assert "10,000,000" in str(error)


def test_row_2_full_exponent_is_only_suggested() -> None:
    error = refused("1.23456789E+09")
    assert (error.code, error.suggestion) == ("EXCEL_SCIENTIFIC_FULL", TEN)


def test_row_3_lost_zero_is_offered_only_when_it_exists() -> None:
    assert refused("123456789").suggestion is None
    error = refused("123456789", exists=lambda n: n == "0123456789")
    assert (error.code, error.suggestion) == ("LENGTH_9", "0123456789")
    assert refused("").code == "LENGTH_0"
    assert refused("12345678901").code == "LENGTH_11"


@pytest.mark.parametrize(
    ("text", "repair"),
    [
        ("1234567890.0", Repair.POINT_ZERO),
        ("1,234,567,890", Repair.THOUSANDS),
        ("1,23,45,67,890", Repair.THOUSANDS),
        ("₹1234567890", Repair.WRAPPER),
        ("'1234567890", Repair.WRAPPER),
        ('"1234567890"', Repair.WRAPPER),
        ('="1234567890"', Repair.WRAPPER),
        ("=“1234567890”", Repair.WRAPPER),
        ("1234 567 890", Repair.GROUPING),
    ],
)
def test_row_4_documented_wrappers_are_stripped_and_told(text: str, repair: Repair) -> None:
    assert parsed(text) == (TEN, (repair,))


@pytest.mark.parametrize(
    "text", ["(1234567890)", "1234567890.5", "12,34567,890", "#1234567890", "1234567890-"]
)
def test_row_4_other_wrappers_are_refused(text: str) -> None:
    assert refused(text).code == "NOT_DIGITS"


def test_row_5_devanagari_becomes_ascii() -> None:
    assert parsed("१२३४५६७८९०") == (TEN, (Repair.DEVANAGARI,))


def test_row_6_mixed_scripts_only_from_a_person() -> None:
    for text in ("१२३4567890", "１２３４５６７８９０", "１२３4567890"):
        assert parsed(text, NumberSource.UI)[0] == TEN
        assert refused(text).code == "MIXED_SCRIPT"


def test_row_7_lookalikes_are_suggested_not_fixed() -> None:
    assert refused("123456789²", NumberSource.UI).code == "NOT_DIGITS"
    error = refused("l2345678 9O".replace(" ", ""), NumberSource.UI)
    assert (error.code, error.suggestion) == ("LOOKALIKE", TEN)
    assert refused("১২৩৪৫৬৭৮৯০", NumberSource.UI).code == "NOT_DIGITS"


def test_row_8_invisible_characters() -> None:
    assert parsed("\ufeff1234567890\u00a0\t") == (TEN, (Repair.BOM, Repair.NBSP, Repair.SPACES))
    error = refused("  1234\u200b567890")
    assert error.code == "ZERO_WIDTH"
    assert "position 7" in str(error)
    assert refused("\u200f1234567890").code == "ZERO_WIDTH"


def test_row_10_only_known_company_prefix() -> None:
    assert refused("MAVVNL1234567890").code == "PREFIX"
    assert refused("XXVVNL1234567890", prefixes=frozenset({"MAVVNL"})).code == "PREFIX"
    ours = AccountNumber.parse("XXVVNL1234567890", prefixes=frozenset({"XXVVNL"}))
    assert (ours.number.text, ours.repairs) == (TEN, (Repair.PREFIX,))


def test_row_13_check_character_catches_typos() -> None:
    number = AccountNumber("2363909090")
    good = number.text + check_character(number)
    assert is_checked(good)
    for i in range(11):
        for digit in "0123456789":
            if digit != good[i]:
                assert not is_checked(good[:i] + digit + good[i + 1 :])
    for i in range(10):
        swapped = good[:i] + good[i + 1] + good[i] + good[i + 2 :]
        assert swapped == good or not is_checked(swapped)
    assert verhoeff("236") == "3"


def test_row_14_one_meter_however_written() -> None:
    assert MeterId.parse(" gen: k-7788 12 ") == MeterId.parse("GEN:K778812")
    assert str(MeterId.parse("GEN:K-778812")) == "GEN:K778812"
    assert MeterId.parse("SEC:K778812") != MeterId.parse("GEN:K778812")
    for bad in ("K778812", "GEN:", ":1", "GEN:a/b", "GEN:1:2", "GEN:" + "9" * 33):
        with pytest.raises(NumberRefused):
            MeterId.parse(bad)


def test_shown_forms() -> None:
    number = AccountNumber(TEN)
    assert (number.grouped(), str(number)) == ("1234 567 890", TEN)


def test_legacy_numbers() -> None:
    assert LegacyNumber.parse(" k-12/345 ").number.text == "K-12/345"
    assert LegacyNumber.parse("००१२३").number.text == "00123"
    for bad in ("", "1.2E+07", "12\u200b3", "=1+2", "x" * 40):
        with pytest.raises(NumberRefused):
            LegacyNumber.parse(bad)


@settings(max_examples=100)
@given(st.text(max_size=80), st.sampled_from(NumberSource))
def test_any_text_parses_to_ten_ascii_digits_or_is_refused(text: str, source: NumberSource) -> None:
    for parse in (AccountNumber.parse, LegacyNumber.parse):
        try:
            number = parse(text, source=source).number.text
        except NumberRefused:
            continue
        assert number.isascii()
        if parse == AccountNumber.parse:
            assert len(number) == 10
            assert number.isdigit()
    try:
        assert MeterId.parse(str(MeterId.parse(text))) == MeterId.parse(text)
    except NumberRefused:
        pass


@settings(max_examples=50)
@given(st.from_regex(r"[0-9]{10}", fullmatch=True))
def test_clean_numbers_pass_unrepaired(text: str) -> None:
    assert parsed(text) == (text, ())
    assert parsed(AccountNumber(text).grouped())[0] == text
