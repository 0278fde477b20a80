"""users.md §6 rows 1 to 16: numbers as spreadsheets and people damage them, in the files that a clerk plans."""

from __future__ import annotations

import pytest

from tests.support.rows import Office, meter, new, old, summed


def only(plan: object) -> dict[str, object]:
    """Give the one row of a plan."""
    (row,) = plan["rows"]  # type: ignore[index]
    return dict(row)


def test_row_01_an_exponent_is_rejected_and_candidates_come_from_other_columns_alone(office: Office) -> None:
    office.live(2)
    row = only(office.plan(f"{old(1)},2.00E+09"))
    assert (row["verdict"], row["code"], row["candidates"]) == ("rejected", "EXCEL_SCIENTIFIC", [])
    control = office.control(1, 2)
    plan = office.plan(f"{old(1)},2.00E+09", f"{old(2)},{new(2)}", words=("--control", control))
    assert plan["rows"][0]["candidates"] == [new(1)]
    office.apply(plan)
    assert (office.number(1), office.number(2)) == (None, new(2))


def test_row_02_an_exponent_with_all_digits_is_offered_and_not_taken(office: Office) -> None:
    office.live(1)
    plan = office.plan(f"{old(1)},1.23456789E+09")
    row = only(plan)
    assert (row["verdict"], row["candidates"]) == ("rejected", ["1234567890"])
    assert office.apply(plan)["applied"] == 0
    assert office.number(1) is None


def test_row_03_nine_digits_are_never_padded(office: Office) -> None:
    office.live(2)
    row = only(office.plan(f"{old(1)},123456789"))
    assert (row["verdict"], row["code"], row["candidates"]) == ("rejected", "LENGTH", [])
    head = "legacy_number,account_number,remark"
    row = only(office.plan(f"{old(1)},123456789,0123456789", head=head))
    assert (row["verdict"], row["candidates"]) == ("rejected", ["0123456789"])
    assert office.number(1) is None


@pytest.mark.parametrize(
    "cell",
    ["1234567890.0", '"1,234,567,890"', "₹1234567890", "'1234567890", '"=""1234567890"""', "“1234567890”"],
)
def test_row_04_documented_wrappers_are_stripped_and_counted(office: Office, cell: str) -> None:
    office.live(1)
    plan = office.plan(f"{old(1)},{cell}")
    assert plan["counts"]["repaired"] == 1
    assert only(plan)["what"]
    office.apply(plan)
    assert office.number(1) == "1234567890"


@pytest.mark.parametrize(
    "cell", ["#1234567890", "no. 1234567890", "1234567890;", "(1234567890)", "1234567890.5"]
)
def test_row_04_other_wrappers_are_rejected(office: Office, cell: str) -> None:
    office.live(1)
    assert office.plan(f"{old(1)},{cell}")["counts"]["rejected"] == 1


def test_row_05_devanagari_is_stored_as_ascii(office: Office) -> None:
    office.live(1)
    office.apply(office.plan(f"{old(1)},१२३४५६७८९०"))
    assert office.number(1) == "1234567890"


@pytest.mark.parametrize("cell", ["१२३4५६७८९०", "１２３４５６７８９０"])
def test_row_06_mixed_scripts_are_flagged_in_files_and_taken_from_a_person(office: Office, cell: str) -> None:
    office.live(1)
    row = only(office.plan(f"{old(1)},{cell}"))
    assert (row["verdict"], row["code"]) == ("rejected", "MIXED_SCRIPT")
    office.apply(office.plan(f"{old(1)},1234567890"))
    assert office.give("explain", cell)["account"]["account_number"] == "1234567890"


@pytest.mark.parametrize(
    ("cell", "suggested"),
    [
        ("12345²7890", []),
        ("123456789O", ["1234567890"]),
        ("l234567890", ["1234567890"]),
        ("1234S67890", ["1234567890"]),
    ],
)
def test_row_07_letters_like_digits_are_suggested_and_not_mended(
    office: Office, cell: str, suggested: list[str]
) -> None:
    office.live(1)
    row = only(office.plan(f"{old(1)},{cell}"))
    assert row["verdict"] == "rejected"
    assert row["candidates"] == suggested
    assert office.number(1) is None


def test_row_08_blanks_are_stripped_and_zero_width_signs_rejected_with_their_position(office: Office) -> None:
    office.live(1)
    for cell in ("\u00a01234567890", "\ufeff1234567890", "\t1234567890 "):
        assert office.plan(f"{old(1)},{cell}")["counts"]["repaired"] == 1
    for cell in ("12345\u200b67890", "12345\u202e67890"):
        row = only(office.plan(f"{old(1)},{cell}"))
        assert (row["verdict"], row["position"]) == ("rejected", 6)


def test_row_09_long_numbers_that_excel_rounded_refuse_the_file(office: Office) -> None:
    office.live(5)
    plan = office.plan(*(f"12345678901234{i}00,{new(i)}" for i in range(1, 6)))
    assert [cause["code"] for cause in plan["causes"]] == ["EXCEL_15_DIGITS"]
    assert "EXCEL_15_DIGITS" in office.said("directory", "rekey", "list")
    assert (
        "error"
        in office.cli.outcome("directory", "rekey", "apply", plan["fingerprint"], "--data", office.data).err
    )


def test_row_10_only_a_declared_company_code_is_taken_off(office: Office) -> None:
    office.live(1)
    assert only(office.plan(f"{old(1)},MAVVNL1234567890"))["verdict"] == "rejected"
    office.said("directory", "senders", "save", "kesco", "--prefix", "KESCOX")
    ours = office.plan(f"{old(1)},KESCOX1234567890", words=("--sender", "kesco"))
    assert (only(ours)["verdict"], only(ours)["account_number"]) == ("repaired", "1234567890")
    foreign = office.plan(f"{old(1)},MAVVNL1234567890", words=("--sender", "kesco"))
    assert only(foreign)["verdict"] == "rejected"


def test_row_11_an_old_number_that_is_another_s_new_one_is_asked_about(office: Office) -> None:
    office.bring(
        f"{meter(1)},UP-1,consumer,{old(1)},1234567890,2025-01-01T00:00:00+05:30",
        f"{meter(2)},UP-2,consumer,1234567890,,2025-01-01T00:00:00+05:30",
    )
    assert "is the new number of one account and the legacy one of another" in office.refused(
        "readings", "1234567890", "--since", "2025-10-01", "--until", "2025-10-02"
    )
    # A re-key file names its columns: the old number is looked for among old ones alone.
    office.apply(office.plan(f"1234567890,{new(2)}", words=("--part", "--rows", 1)))
    assert (office.number(1), office.number(2)) == ("1234567890", new(2))


def test_row_12_mobiles_and_serials_are_rejected_by_their_class(office: Office) -> None:
    office.bring(f"GEN:1234567890,UP-1,consumer,{old(1)},,2025-01-01T00:00:00+05:30")
    head = "legacy_number,account_number,mobile,meter"
    mobile = only(office.plan(f"{old(1)},9876543210,9876543210,GEN:1234567890", head=head))
    serial = only(office.plan(f"{old(1)},1234567890,9876543210,GEN:1234567890", head=head))
    assert [mobile["verdict"], serial["verdict"]] == ["rejected", "rejected"]
    assert mobile["code"] != serial["code"]


def test_row_13_one_wrong_digit_that_hits_another_account_is_a_conflict(office: Office) -> None:
    office.live(2)
    control = office.control(1, 2)
    plan = office.plan(
        f"{old(1)},{new(2)},{meter(1)}",
        f"{old(2)},{new(2)[:-1]}0,{meter(2)}",
        head="legacy_number,account_number,meter",
        words=("--control", control),
    )
    assert summed(plan["rows"], "verdict") == {"conflict": 2}


@pytest.mark.parametrize("written", ["GEN-10000001", "gen:10000001", "GEN10000001", " 10000001 "])
def test_row_14_a_meter_is_one_however_it_is_written(office: Office, written: str) -> None:
    office.live(1)
    head = "legacy_number,account_number,meter"
    assert office.plan(f"{old(1)},{new(1)},{written}", head=head)["counts"]["applied"] == 1


def test_row_14_one_serial_of_two_makes_is_two_meters(office: Office) -> None:
    office.bring(
        f"GEN:10000001,UP-1,consumer,{old(1)},,2025-01-01T00:00:00+05:30",
        f"SEC:10000001,UP-2,consumer,{old(2)},,2025-01-01T00:00:00+05:30",
    )
    assert [
        office.give("directory", "show", f"{make}:10000001")[0]["usage_point"] for make in ("GEN", "SEC")
    ] == [
        "UP-1",
        "UP-2",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_row_15_encoding_and_separator_are_found_out_and_dates_are_not_guessed(
    office: Office, encoding: str
) -> None:
    office.live(1)
    head = "legacy_number;account_number;effective_from"
    path = office.put("n.csv", f"{old(1)};{new(1)};2026-03-12", head=head, encoding=encoding)
    assert office.plan_file(path)["counts"]["applied"] == 1
    path = office.put("n.csv", f"{old(1)};{new(1)};12/03/2026", head=head, encoding=encoding)
    assert [cause["code"] for cause in office.plan_file(path)["causes"]] == ["DATE_AMBIGUOUS"]
    office.said("directory", "senders", "save", "kesco", "--dates", "DD/MM/YYYY")
    assert office.plan_file(path, "--sender", "kesco")["causes"] == []


def test_row_15_windows_1252_is_declared_and_never_guessed(office: Office) -> None:
    office.live(1)
    head = "legacy_number,account_number,name"
    path = office.put("n.csv", f"{old(1)},{new(1)},Café", head=head, encoding="cp1252")
    assert (
        "windows-1252"
        in office.cli.outcome(
            "directory", "rekey", "plan", path, "--data", office.data, "--json"
        ).text.lower()
    )


def test_row_16_numbers_that_became_dates_refuse_the_file(office: Office) -> None:
    office.live(2)
    plan = office.plan(f"12-Mar,{new(1)}", f"{old(2)},{new(2)}")
    assert [cause["code"] for cause in plan["causes"]] == ["DATE_COERCED"]
    assert office.numbers() == {old(1): None, old(2): None}
