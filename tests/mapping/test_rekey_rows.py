"""users.md §6, each row that concerns re-key files by its number: what a file of that kind does to the directory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mapping.changes import Name
from mapping.directory import NumberKind
from mapping.errors import ChangeRefused, FileRefused
from mapping.instants import micros
from mapping.rekey import apply_rekey, plan_rekey
from mapping.rekey_control import Control
from mapping.rekey_due import apply_due, schedule
from mapping.rekey_plan import RekeyPlan, find_plan, kept_plans
from mapping.senders import Sender
from mapping.store import DirectoryStore
from mapping.undo import undo
from tests.support.mapping.rekey_town import NOW, Consumer, codes, consumers, filled_store, planned

TOWN = consumers(40, 7)
HEAD = "legacy_number,account_number"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with filled_store(tmp_path, TOWN) as made:
        yield made


def put(folder: Path, *rows: str, head: str = HEAD, name: str = "rekey.csv") -> Path:
    path = folder / name
    path.write_text("\n".join((head, *rows, "")), encoding="utf-8")
    return path


def ends(plan: RekeyPlan) -> list[tuple[str | None, str]]:
    return [(row.verdict, row.code) for row in plan.rows]


def applied(store: DirectoryStore, plan: RekeyPlan, at: datetime = NOW) -> int:
    return apply_rekey(store, plan, by="clerk", approver="chief", at=at)


def number(store: DirectoryStore, old: str) -> str | None:
    account = store.snapshot().account_by_number(NumberKind.LEGACY, old)
    return None if account is None else store.snapshot().name(account, NumberKind.ACCOUNT)


def named(store: DirectoryStore, folder: Path, of: list[Consumer]) -> None:
    applied(
        store, planned(store, put(folder, *(f"{c.old},{c.new}" for c in of), name="first.csv"), part=True)
    )


def test_rows_1_2_candidates_come_from_the_control_and_are_not_taken(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a, b = TOWN[:2]
    control = put(tmp_path, f"{a.old},{a.new}", f"{b.old},{b.new}", name="control.csv")
    path = put(tmp_path, f"{a.old},1.23E+09", f"{b.old},{b.new}")
    plan = planned(store, path, control=Control(path=control))
    assert ends(plan) == [("rejected", "EXCEL_SCIENTIFIC"), ("applied", "")]
    assert plan.rows[0].candidates == a.new
    assert plan.facts.vouched
    apply_rekey(store, plan, by="clerk", at=NOW)
    assert (number(store, a.old), number(store, b.old)) == (None, b.new)


def test_row_3_a_number_beside_is_offered(store: DirectoryStore, tmp_path: Path) -> None:
    a = TOWN[0]
    path = put(tmp_path, f"{a.old},{a.new[1:]},{a.new}", head=f"{HEAD},remark")
    (row,) = planned(store, path).rows
    assert (row.code, row.spot, row.seen, row.candidates) == ("LENGTH", "account_number", a.new[1:], a.new)


def test_row_8_the_position_counts_from_one(store: DirectoryStore, tmp_path: Path) -> None:
    (row,) = planned(store, put(tmp_path, f"{TOWN[0].old}, 1234\u200b567890")).rows
    assert (row.code, row.position) == ("ZERO_WIDTH", 6)


def test_row_9_rounded_old_numbers_refuse_the_file(store: DirectoryStore, tmp_path: Path) -> None:
    rows = (f"12345678901234{i}00,{c.new}" for i, c in enumerate(TOWN[:5]))
    assert codes(planned(store, put(tmp_path, *rows))) == ["EXCEL_15_DIGITS"]


def test_row_10_a_company_code_is_ours_only_when_it_is_declared(
    store: DirectoryStore, tmp_path: Path
) -> None:
    path = put(tmp_path, *(f"{c.old},KESCOX{c.new}" for c in TOWN))
    assert codes(planned(store, path)) == ["WRONG_PREFIX"]
    ours = planned(store, path, sender=Sender(prefixes=frozenset({"KESCOX"})))
    assert (codes(ours), ours.counts["repaired"]) == ([], len(TOWN))


def test_row_11_an_old_number_that_is_another_s_new_one_is_looked_for_among_old_ones(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a, b = TOWN[:2]
    named(store, tmp_path, [a])
    owner = store.snapshot().account_by_number(NumberKind.LEGACY, b.old)
    assert owner is not None
    store.apply([Name(owner, NumberKind.LEGACY, a.new)], by="clerk", source="desk", at=NOW)
    applied(store, planned(store, put(tmp_path, f"{a.new},{b.new}"), part=True))
    assert number(store, a.old) == a.new
    assert store.snapshot().name(owner, NumberKind.ACCOUNT) == b.new


def test_row_12_mobiles_and_serials_are_no_account_numbers(store: DirectoryStore, tmp_path: Path) -> None:
    a, b, c = TOWN[:3]
    path = put(
        tmp_path,
        f"{a.old},9876543210,+91 98765 43210,",
        f"{b.old},+919876543210,,",
        f"{c.old},1234567890,,GEN1234567890",
        head=f"{HEAD},mobile,meter_no",
    )
    assert ends(planned(store, path)) == [
        ("rejected", "MOBILE"),
        ("rejected", "MOBILE"),
        ("rejected", "METER_SERIAL"),
    ]


def test_row_12_the_consumer_s_own_registered_mobile_is_rejected(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a, b = TOWN[:2]
    path = put(tmp_path, f"{a.old},9876543210", f"{b.old},9876543211")
    mobiles = {store.snapshot().account_by_number(NumberKind.LEGACY, a.old): "9876543210"}
    plan = plan_rekey(store.snapshot(), path, at=NOW, mobile_of=mobiles.get)
    assert ends(plan) == [("rejected", "MOBILE"), ("applied", "")]


def test_row_13_one_wrong_digit_is_seen_by_the_control(store: DirectoryStore, tmp_path: Path) -> None:
    control = put(tmp_path, *(f"{c.new},{c.meter}" for c in TOWN), head="new_no,meter", name="control.csv")
    wrong = f"{(int(TOWN[3].new) + 10) % 10**10:010d}"
    path = put(tmp_path, *(f"{c.old},{wrong if c is TOWN[3] else c.new}" for c in TOWN))
    plan = planned(store, path, control=Control(path=control))
    assert plan.rows[3].code == "NOT_IN_CONTROL"
    assert plan.counts["applied"] == len(TOWN) - 1
    assert codes(plan) == []


def test_row_14_a_meter_may_be_written_with_and_without_its_make(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a, b, c = TOWN[:3]
    bare = b.meter.partition(":")[2]
    path = put(
        tmp_path,
        f"{a.old},{a.new}, gen-{a.meter[4:8]} {a.meter[8:]}",
        f"{b.old},{b.new},{bare}",
        f"{c.old},{c.new},{bare}",
        head=f"{HEAD},meter",
    )
    plan = planned(store, path)
    assert ends(plan) == [("applied", ""), ("applied", ""), ("conflict", "METER_DISAGREES")]


@pytest.mark.parametrize(
    ("date", "sender", "code"),
    [
        ("05/04/2024", Sender(), "DATE_AMBIGUOUS"),
        ("05/04/2024", Sender(dates="DD/MM/YYYY"), ""),
        ("31/04/2024", Sender(dates="DD/MM/YYYY"), "DATE_UNREADABLE"),
        ("2024-04-05", Sender(), ""),
        ("2024-04-05T10:00:00+05:30", Sender(), ""),
        ("5-Apr-2024", Sender(), ""),
        ("2024-02-30", Sender(), "DATE_UNREADABLE"),
        ("soon", Sender(), "DATE_UNREADABLE"),
    ],
)
def test_row_15_dates_are_told_or_refused(
    store: DirectoryStore, tmp_path: Path, date: str, sender: Sender, code: str
) -> None:
    path = put(tmp_path, f"{TOWN[0].old},{TOWN[0].new},{date}", head=f"{HEAD},effective_from")
    (row,) = planned(store, path, sender=sender).rows
    assert row.code == code
    if code == "" and "T" not in date:
        assert row.effective == micros(datetime(2024, 4, 4, 18, 30, tzinfo=UTC))


def test_row_16_numbers_that_became_dates_refuse_the_file(store: DirectoryStore, tmp_path: Path) -> None:
    for cell in ("12-Mar", "2024-03-12"):
        plan = planned(store, put(tmp_path, f"{TOWN[0].old},{cell}", f"{TOWN[1].old},{TOWN[1].new}"))
        assert codes(plan) == ["DATE_COERCED"]


RELATED = f"{HEAD},meter,relation,effective_from"


def test_row_17_a_split_gives_the_branch_an_account_from_its_date(
    store: DirectoryStore, tmp_path: Path
) -> None:
    from mapping.changes import CorrectHoldings, HoldingSpan

    a, b = TOWN[:2]
    snapshot = store.snapshot()
    account = snapshot.account_by_number(NumberKind.LEGACY, a.old)
    assert account is not None
    since = snapshot.holdings("UP-1")[0].valid_from
    both = CorrectHoldings("UP-1", (HoldingSpan(account, since, None),))
    store.apply([both], by="clerk", source="desk", at=NOW)
    rows = (f"{a.old},{a.new},{a.meter},stays,2026-05-01", f"{a.old},{b.new},{b.meter},splits,2026-05-01")
    for wrong in (
        (rows[0].replace("stays", "splits"), rows[1]),
        (rows[0], rows[1].replace("2026-05-01", "2026-05-02")),
        (rows[0].replace(",2026-05-01", ","), rows[1].replace(",2026-05-01", ",")),
        (rows[0], rows[1].replace(b.meter, "")),
        (rows[0], rows[1].replace(b.meter, a.meter)),
        (rows[0], rows[1].replace(b.meter, TOWN[5].meter)),
    ):
        plan = planned(store, put(tmp_path, *wrong, head=RELATED))
        assert {verdict for verdict, _ in ends(plan)} == {"conflict"}
    plan = planned(store, put(tmp_path, *rows, head=RELATED), part=True)
    assert ends(plan) == [("applied", "")] * 2
    version = applied(store, plan)
    day = datetime(2026, 5, 1, tzinfo=UTC)
    now = store.snapshot()
    before, after = (now.attributions(b.meter, None, day + timedelta(days=d)).accounts for d in (-2, 2))
    assert (before[0].account_id, before[0].account_number) == (account, a.new)
    assert (after[0].account_number, after[0].legacy_number) == (b.new, None)
    assert now.attributions(a.meter, None, day + timedelta(days=2)).accounts[0].account_number == a.new
    store.apply(undo(now, version), by="clerk", source="undo", at=NOW)
    assert (
        store.snapshot().attributions(b.meter, None, day + timedelta(days=2)).accounts[0].account_id
        == account
    )
    assert number(store, a.old) is None


def test_row_18_a_merger_moves_usage_points_and_leaves_each_past(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a, b = TOWN[:2]
    rows = (f"{a.old},{a.new},,stays,2026-05-01", f"{b.old},{a.new},,merges,2026-05-01")
    undeclared = planned(store, put(tmp_path, f"{a.old},{a.new}", f"{b.old},{a.new}"))
    assert ends(undeclared) == [("conflict", "ACCOUNT_TWICE")] * 2
    alone = planned(store, put(tmp_path, rows[0], head=RELATED))
    assert ends(alone) == [("conflict", "RELATION_INCOMPLETE")]
    plan = planned(store, put(tmp_path, *rows, head=RELATED), part=True)
    assert ends(plan) == [("applied", "")] * 2
    applied(store, plan)
    day = datetime(2026, 5, 1, tzinfo=UTC)
    now = store.snapshot()
    before, after = (now.attributions(b.meter, None, day + timedelta(days=d)).accounts for d in (-2, 2))
    assert (before[0].legacy_number, before[0].account_number) == (b.old, None)
    assert (after[0].legacy_number, after[0].account_number) == (a.old, a.new)


def test_row_19_the_same_pair_again_is_unchanged(store: DirectoryStore, tmp_path: Path) -> None:
    a = TOWN[0]
    plan = planned(store, put(tmp_path, f"{a.old},{a.new}", f" {a.old.lower()},'{a.new}"))
    assert ends(plan) == [("applied", ""), ("unchanged", "DUPLICATE")]
    assert plan.rows[1].other == "2"


def test_row_20_both_of_two_contradictions_wait_and_others_proceed(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a, b = TOWN[:2]
    plan = planned(store, put(tmp_path, f"{a.old},{a.new}", f"{b.old},{b.new}", f"{a.old},{TOWN[2].new}"))
    assert ends(plan) == [("conflict", "LEGACY_TWICE"), ("applied", ""), ("conflict", "LEGACY_TWICE")]
    assert plan.rows[0].other == "2,4"


def test_row_21_a_number_is_another_s_only_once_it_was_given_up(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a, b = TOWN[:2]
    named(store, tmp_path, [a])
    path = put(tmp_path, f"{b.old},{a.new}")
    assert ends(planned(store, path)) == [("rejected", "NUMBER_TAKEN")]
    owner = store.snapshot().account_by_number(NumberKind.ACCOUNT, a.new)
    assert owner is not None
    store.apply([Name(owner, NumberKind.ACCOUNT, None)], by="clerk", source="desk", at=NOW)
    applied(store, planned(store, path, part=True))
    assert number(store, b.old) == a.new


@pytest.mark.parametrize("length", [2, 3, 7])
def test_row_22_swaps_and_rotations_that_are_meant(
    store: DirectoryStore, tmp_path: Path, length: int
) -> None:
    ring = TOWN[:length]
    named(store, tmp_path, TOWN)
    rows = [f"{c.old},{ring[(i + 1) % length].new}" for i, c in enumerate(ring)]
    assert ends(planned(store, put(tmp_path, *rows))) == [("conflict", "ALREADY_NAMED")] * length
    version = applied(store, planned(store, put(tmp_path, *rows), correct=True))
    assert [number(store, c.old) for c in ring] == [ring[(i + 1) % length].new for i in range(length)]
    store.apply(undo(store.snapshot(), version), by="clerk", source="undo", at=NOW)
    assert [number(store, c.old) for c in ring] == [c.new for c in ring]
    # A ring that is not closed takes a number from somebody who keeps it.
    plan = planned(store, put(tmp_path, *rows[:-1]), correct=True)
    assert ends(plan) == [("rejected", "NUMBER_TAKEN")] * (length - 1)


def test_row_23_a_file_that_was_undone_may_come_again(store: DirectoryStore, tmp_path: Path) -> None:
    path = put(tmp_path, *(f"{c.old},{c.new}" for c in TOWN))
    version = applied(store, planned(store, path))
    assert codes(planned(store, path)) == ["REPEATED"]
    store.apply(undo(store.snapshot(), version), by="clerk", source="undo", at=NOW)
    again = planned(store, path)
    assert (codes(again), again.counts["applied"]) == ([], len(TOWN))
    applied(store, again)
    assert number(store, TOWN[-1].old) == TOWN[-1].new


def test_row_24_a_plan_that_a_crash_cut_short_is_no_plan(store: DirectoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    path = put(tmp_path, *(f"{c.old},{c.new}" for c in TOWN))
    with planned(store, path, folder=folder) as plan:
        fingerprint = plan.fingerprint
    kept = folder / f"{fingerprint}.plan"
    whole = kept.read_bytes()
    for octets in (whole[: len(whole) // 2], b"", whole.replace(TOWN[5].new.encode(), b"9999999999")):
        kept.write_bytes(octets)
        with pytest.raises(FileRefused, match="plan again"):
            find_plan(folder, fingerprint)
    kept.write_bytes(whole)
    with find_plan(folder, fingerprint) as plan:
        applied(store, plan)
    assert number(store, TOWN[5].old) == TOWN[5].new


def test_row_25_consumers_that_are_left_out_keep_their_old_number_and_are_counted(
    store: DirectoryStore, tmp_path: Path
) -> None:
    some = TOWN[: len(TOWN) // 2]
    path = put(tmp_path, *(f"{c.old},{c.new}" for c in some))
    assert codes(planned(store, path)) == ["TRUNCATED"]
    part = planned(store, path, part=True)
    assert (part.facts.today, part.facts.after, part.facts.waiting) == (0, len(some), len(TOWN))
    applied(store, part)
    after = NOW + timedelta(hours=1)
    (left,) = store.snapshot().attributions(TOWN[-1].meter, None, after).accounts
    assert (left.legacy_number, left.account_number) == (TOWN[-1].old, None)


def test_rows_27_28_each_correction_is_known_from_when_it_was_made(
    store: DirectoryStore, tmp_path: Path
) -> None:
    a = TOWN[0]
    given = [a.new, "1111111111", a.new, "2222222222"]
    for day, new in enumerate(given):
        path = put(tmp_path, f"{a.old},{new}", "" if day < 2 else f"{TOWN[day].old},{TOWN[day].new}")
        applied(store, planned(store, path, correct=True, part=True), NOW + timedelta(days=day))
    for day, new in enumerate(given[:2]):
        known = store.snapshot(NOW + timedelta(days=day, hours=1))
        (whose,) = known.attributions(a.meter, None, NOW - timedelta(days=9)).accounts
        assert whose.account_number == new


@pytest.mark.parametrize("date", ["1980-01-01", "2050-01-01", "1999-12-31"])
def test_row_29_dates_that_cannot_be_are_rejected(store: DirectoryStore, tmp_path: Path, date: str) -> None:
    path = put(tmp_path, f"{TOWN[0].old},{TOWN[0].new},{date}", head=f"{HEAD},effective_from")
    assert ends(planned(store, path)) == [("rejected", "DATE_IMPOSSIBLE")]


def test_row_29_a_day_ahead_is_kept_until_it_comes(store: DirectoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    path = put(tmp_path, *(f"{c.old},{c.new},2026-07-01" for c in TOWN), head=f"{HEAD},effective_from")
    with planned(store, path, folder=folder) as plan:
        with pytest.raises(FileRefused) as caught:
            applied(store, plan)
        assert caught.value.code == "TOO_EARLY"
        assert plan.facts.effective is not None
        schedule(plan, at=plan.facts.effective, by="clerk", approver="chief")
    assert apply_due(store, folder, at=NOW) == []
    # Meanwhile the directory moves on elsewhere, which changes nothing of what was reviewed.
    other = Name("acc-other", NumberKind.LEGACY, "KE-OTHER")
    store.apply([other], by="clerk", source="desk", at=NOW)
    (done,) = apply_due(store, folder, at=NOW + timedelta(days=31))
    assert (done.version, done.reason) == (3, "")
    assert number(store, TOWN[0].old) == TOWN[0].new
    assert apply_due(store, folder, at=NOW + timedelta(days=32)) == []
    assert store.snapshot().changes[-1].by == "clerk, approved by chief"


def test_row_29_what_would_end_otherwise_on_its_day_is_told_and_not_applied(
    store: DirectoryStore, tmp_path: Path
) -> None:
    folder = tmp_path / "plans"
    with planned(store, put(tmp_path, *(f"{c.old},{c.new}" for c in TOWN)), folder=folder) as plan:
        schedule(plan, at=NOW + timedelta(days=1), by="clerk", approver="chief")
    taken = Name("acc-other", NumberKind.ACCOUNT, TOWN[3].new)
    store.apply([taken], by="clerk", source="desk", at=NOW)
    (told,) = apply_due(store, folder, at=NOW + timedelta(days=2))
    assert told.version is None
    assert "line 5 would end otherwise" in told.reason
    assert number(store, TOWN[0].old) is None


def test_nothing_but_what_was_reviewed_is_applied(store: DirectoryStore, tmp_path: Path) -> None:
    plan = planned(store, put(tmp_path, *(f"{c.old},{c.new}" for c in TOWN)))
    store.apply([Name("acc-x", NumberKind.LEGACY, "KE-X")], by="clerk", source="desk", at=NOW)
    with pytest.raises(ChangeRefused) as caught:
        applied(store, plan)
    assert caught.value.code == "STALE_PLAN"


def test_kept_plans_are_bounded_and_the_oldest_go(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mapping.rekey_plan.KEPT_PLANS", 2)
    folder = tmp_path / "plans"
    with planned(store, put(tmp_path, f"{TOWN[9].old},{TOWN[9].new}"), folder=folder, part=True) as plan:
        schedule(plan, at=NOW + timedelta(days=1), by="clerk", approver="chief")
        waiting = plan.fingerprint
    prints = []
    for i in range(4):
        with planned(store, put(tmp_path, f"{TOWN[i].old},{TOWN[i].new}"), folder=folder, part=True) as plan:
            prints.append(plan.fingerprint)
    assert [path.stem for path in kept_plans(folder)] == [*prints[:1:-1], waiting]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
