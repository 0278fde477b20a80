"""users.md §6 rows 17 to 31 and 75: what a re-key and other papers do to who is meant, as clerk and billing see it."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from mapping.changes import CorrectHoldings, HoldingSpan, MoveIn
from mapping.store import DirectoryStore
from tests.support.paths import ROOT
from tests.support.rows import DAY0, LEARNED, Office, half_hour, meter, new, old, summed

RELATED = "legacy_number,account_number,meter,relation,effective_from"
PART = ("--part", "--rows", 2)


def test_row_17_a_connection_that_was_split_needs_a_date_and_a_meter_of_each_branch(office: Office) -> None:
    office.live(2)
    office.half_hours(meter(2), 1, 6)
    with DirectoryStore(office.files.directory) as store:
        (held,) = store.snapshot().holdings("UP-1")
    # Both meters are one consumer's until the split.
    office.change(CorrectHoldings("UP-2", (HoldingSpan(held.account_id, held.valid_from, None),)), at=DAY0)
    undated = (f"{old(1)},{new(1)},{meter(1)},stays,", f"{old(1)},{new(2)},{meter(2)},splits,")
    assert summed(office.plan(*undated, head=RELATED, words=PART)["rows"], "verdict") == {"conflict": 2}
    assert office.slots(old(1)) == [(i, meter(2), "normal") for i in range(1, 7)]
    dated = (row + half_hour(3).isoformat() for row in undated)
    office.apply(office.plan(*dated, head=RELATED, words=PART))
    assert office.slots(new(1)) == [(i, meter(2), "normal") for i in (1, 2, 3)]
    assert office.slots(new(2)) == [(i, meter(2), "normal") for i in (4, 5, 6)]


def test_row_18_consumers_that_were_merged_see_their_own_past_only(office: Office) -> None:
    office.live(2)
    for one in (1, 2):
        office.half_hours(meter(one), 1, 4)
    undeclared = office.plan(f"{old(1)},{new(1)}", f"{old(2)},{new(1)}", words=PART)
    assert summed(undeclared["rows"], "verdict") == {"conflict": 2}
    rows = (f"{old(1)},{new(1)},,stays,", f"{old(2)},{new(1)},,merges,")
    office.apply(office.plan(*(row + half_hour(2).isoformat() for row in rows), head=RELATED, words=PART))
    assert office.slots(old(2)) == [(i, meter(2), "normal") for i in (1, 2)]
    assert sorted(office.slots(new(1))) == sorted(
        [(i, meter(1), "normal") for i in (1, 2, 3, 4)] + [(i, meter(2), "normal") for i in (3, 4)]
    )


def test_row_19_the_same_pair_twice_is_no_change(office: Office) -> None:
    office.live(1)
    plan = office.plan(f"{old(1)},{new(1)}", f"{old(1)},{new(1)}")
    assert summed(plan["rows"], "verdict") == {"applied": 1, "unchanged": 1}
    assert office.apply(plan)["applied"] == 1
    version = office.version
    again = office.plan(f"{old(1)},{new(1)}", f"{old(1)},{new(1)}", "")
    assert (again["counts"]["applied"], office.version) == (0, version)


def test_row_20_of_two_contradicting_rows_none_is_chosen_and_others_proceed(office: Office) -> None:
    office.live(2)
    plan = office.plan(f"{old(1)},{new(1)}", f"{old(2)},{new(2)}", f"{old(1)},{new(3)}")
    assert summed(plan["rows"], "code") == {"LEGACY_TWICE": 2, "": 1}
    office.apply(plan)
    assert office.numbers() == {old(1): None, old(2): new(2)}


def test_row_21_a_number_is_given_again_only_after_it_was_given_up(office: Office) -> None:
    office.live(2)
    office.name(1)
    row = (f"{old(2)},{new(1)}",)
    assert office.plan(*row, words=("--part", "--rows", 1))["rows"][0]["code"] == "NUMBER_TAKEN"
    other = office.plan(f"{old(1)},{new(3)}", words=("--part", "--rows", 1, "--correct"))
    office.apply(other)
    office.apply(office.plan(*row, words=("--part", "--rows", 1)))
    assert office.numbers() == {old(1): new(3), old(2): new(1)}


def test_row_22_a_file_that_slipped_by_one_row_fails_as_a_whole(office: Office) -> None:
    office.live(12)
    control = office.control(*range(1, 13))
    slipped = [f"{old(i)},{new(i % 12 + 1)},{meter(i)}" for i in range(1, 13)]
    plan = office.plan(*slipped, head="legacy_number,account_number,meter", words=("--control", control))
    assert [cause["code"] for cause in plan["causes"]] == ["SHIFTED"]
    office.apply_refused(plan)
    assert set(office.numbers().values()) == {None}


def test_row_22_without_a_second_source_another_person_must_vouch(office: Office) -> None:
    """Names and meters of such a file are right, and the directory has no number yet: nothing can show it."""
    office.live(12)
    plan = office.plan(*(f"{old(i)},{new(i % 12 + 1)}" for i in range(1, 13)))
    assert plan["vouched"] is False
    said = office.refused("directory", "rekey", "apply", plan["fingerprint"], "--by", "clerk")
    assert "a column that slipped cannot be seen" in said


def test_row_23_a_file_applied_twice_or_after_a_later_one_is_refused(office: Office) -> None:
    office.live(3)
    head = "legacy_number,account_number,sequence"
    first, later = ([f"{old(i)},{new(i)},{s}" for i in (1, 2, 3)] for s in (1, 2))
    office.apply(office.plan(*later, head=head))
    assert [c["code"] for c in office.plan(*later, head=head)["causes"]] == ["REPEATED"]
    assert "STALE_FILE" in [c["code"] for c in office.plan(*first, head=head)["causes"]]


def test_row_24_killed_in_the_middle_nothing_is_applied_and_again_converges(office: Office) -> None:
    office.live(2)
    plan = office.plan(f"{old(1)},{new(1)}", f"{old(2)},{new(2)}")
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.mapping.killed_process", str(office.files.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"written"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert (office.version, set(office.numbers().values())) == (1, {None})
    assert office.apply(plan)["applied"] == 2
    assert office.numbers() == {old(1): new(1), old(2): new(2)}


def test_row_25_consumers_without_a_new_number_go_on_under_the_old_one_and_are_counted(
    office: Office,
) -> None:
    office.live(3)
    plan = office.plan(f"{old(1)},{new(1)}", words=("--part", "--rows", 1))
    assert plan["accounts_with_a_number"] == {"today": 0, "after": 1}
    office.apply(plan)
    office.half_hours(meter(3), 1, 2)
    assert office.slots(old(3)) == [(1, meter(3), "normal"), (2, meter(3), "normal")]
    assert office.number(3) is None


def test_row_26_a_hand_over_at_14_00_ends_with_the_half_hour_to_14_00_and_a_re_key_has_none(
    office: Office,
) -> None:
    """DESIGN stands against the row: a renaming has no energy boundary, whatever its time of day."""
    office.live(1)
    office.half_hours(meter(1), 27, 30)  # 13:00–13:30, 13:30–14:00, 14:00–14:30, 14:30–15:00
    office.name(1)
    assert [slot for slot, _, _ in office.slots(new(1))] == [27, 28, 29, 30]
    at = "2025-10-01T14:00:00+05:30"
    office.give("directory", "move-out", "UP-1", "--at", at)
    office.give("directory", "move-in", "UP-1", "--legacy-number", old(9), "--new", "--at", at)
    assert office.slots(new(1)) == [(27, meter(1), "normal"), (28, meter(1), "normal")]
    assert office.slots(old(9)) == [(29, meter(1), "normal"), (30, meter(1), "normal")]


def test_row_27_a_back_dated_correction_leaves_the_past_view_as_it_was(office: Office) -> None:
    office.live(1)
    office.half_hours(meter(1), 1, 4)
    office.change(MoveIn("UP-9", "acc-new", LEARNED), at=DAY0 + timedelta(days=1))
    with DirectoryStore(office.files.directory) as store:
        (held,) = store.snapshot().holdings("UP-1")
    learned = DAY0 + timedelta(days=40)
    spans = (
        HoldingSpan(held.account_id, held.valid_from, half_hour(2)),
        HoldingSpan("acc-new", half_hour(2), None),
    )
    office.change(CorrectHoldings("UP-1", spans), at=learned)
    assert [slot for slot, _, _ in office.slots("acc-new")] == [3, 4]
    # What billing asked then is answered as it was then, once the readings were there.
    assert [s for s, _, _ in office.slots(old(1))] == [1, 2]
    with DirectoryStore(office.files.directory) as store:
        past = store.snapshot(learned - timedelta(seconds=1)).attributions(
            meter(1), half_hour(3), half_hour(4)
        )
        (told,), _ = store.differences(store.version - 1, store.version)
    assert [one.account_id for one in past.accounts] == [held.account_id]
    assert (told.start, told.end, told.new) == (half_hour(2), None, ("acc-new", "UP-1"))


def test_row_28_a_correction_of_a_correction_is_reversed_exactly(office: Office) -> None:
    office.live(1)
    with DirectoryStore(office.files.directory) as store:
        (held,) = store.snapshot().holdings("UP-1")
    first = office.give("directory", "show", meter(1))
    for day, who in enumerate(("acc-a", "acc-b"), start=1):
        span = HoldingSpan(who, held.valid_from, None)
        office.change(CorrectHoldings("UP-1", (span,)), at=DAY0 + timedelta(days=day))
    assert "change set 3 of desk changed" in office.refused("directory", "undo", 2)
    for version in (3, 2):
        office.give("directory", "undo", version)
    assert office.give("directory", "show", meter(1)) == first
    with DirectoryStore(office.files.directory) as store:
        chain = [
            store.snapshot(DAY0 + timedelta(days=day))
            .attributions(meter(1), None, DAY0)
            .accounts[0]
            .account_id
            for day in (0, 1, 2)
        ]
        assert chain == [held.account_id, "acc-a", "acc-b"]
        assert store.differences(1, store.version) == ([], [])


@pytest.mark.parametrize("day", ["1980-01-01", "1999-12-31", "2150-01-01"])
def test_row_29_days_that_cannot_be_are_rejected(office: Office, day: str) -> None:
    office.live(1)
    head = "legacy_number,account_number,effective_from"
    assert office.plan(f"{old(1)},{new(1)},{day}", head=head)["rows"][0]["code"] == "DATE_IMPOSSIBLE"


def test_row_29_a_day_ahead_is_scheduled(office: Office) -> None:
    office.live(1)
    ahead = (datetime.now(UTC) + timedelta(days=20)).date().isoformat()
    head = "legacy_number,account_number,effective_from"
    plan = office.plan(f"{old(1)},{new(1)},{ahead}", head=head)
    assert office.apply(plan)["result"] == "scheduled"
    assert office.number(1) is None
    assert office.give("directory", "rekey", "list")[0]["state"] == "scheduled"


def test_row_30_readings_of_a_closed_account_are_kept_and_stand_under_nobody(office: Office) -> None:
    office.live(1)
    office.half_hours(meter(1), 1, 4)
    office.give("directory", "move-out", "UP-1", "--at", half_hour(2).isoformat())
    assert [slot for slot, _, _ in office.slots(old(1))] == [1, 2]
    found = office.give("explain", f"{meter(1)}/block_load/{half_hour(4):%Y-%m-%dT%H:%M:%SZ}/0")
    assert found["deliveries"][0]["in_force"] is True
    assert found["deliveries"][0]["accounts"] == []


def test_row_31_a_new_tenant_sees_nothing_from_before_moving_in(office: Office) -> None:
    office.live(1)
    office.half_hours(meter(1), 1, 47)
    at = (half_hour(20) + timedelta(minutes=10)).isoformat()  # inside half hour 21
    office.give("directory", "move-out", "UP-1", "--at", at)
    office.give("directory", "move-in", "UP-1", "--legacy-number", old(2), "--new", "--at", at)
    assert [s for s, _, role in office.slots(old(1)) if role == "normal"] == list(range(1, 21))
    assert [s for s, _, role in office.slots(old(2)) if role == "normal"] == list(range(22, 48))
    shared = [[row for row in office.slots(old(one)) if row[2] == "partial"] for one in (1, 2)]
    assert shared == [[(21, meter(1), "partial")]] * 2
    with office.views(half_hour(47)) as views:
        account = views.find_account(old(2))
        assert account is not None
        page = views.consumer(account)
        seen = [slot.start for slot in page.today_slots if slot.kwh is not None]
    assert seen == [half_hour(i) for i in range(21, 47)]


@pytest.mark.parametrize("name", ['=HYPERLINK("x")', "+cmd|calc", "-1+1", "@SUM(A1)"])
def test_row_75_what_a_spreadsheet_would_run_is_escaped_in_reports_and_corrections(
    office: Office, name: str
) -> None:
    office.live(1)
    quoted = name.replace('"', '""')
    back, report = office.data / "back.csv", office.data / "report.csv"
    row = f'{old(1)},12345,"{quoted}"'
    words = ("--corrections", back, "--report", report)
    office.plan(row, head="legacy_number,account_number,name", words=words)
    cells = [
        cell
        for path in (back, report)
        for line in csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
        for cell in line
    ]
    assert f"'{name}" in cells
    assert name not in cells
