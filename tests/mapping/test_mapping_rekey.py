"""Import and re-key files: a verdict per row, one transaction, idempotent (users.md §6 rows 17-24)."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mapping.changes import MoveIn, Name
from mapping.directory import NumberKind, Role, Unattributed
from mapping.errors import ChangeRefused, DirectoryFault, FileRefused
from mapping.imports import HEADER as IMPORT_HEADER
from mapping.imports import ImportPlan, apply_import, plan_import
from mapping.rekey import apply_rekey, plan_rekey
from mapping.rekey_corrections import write_corrections
from mapping.rekey_plan import RekeyPlan
from mapping.store import DirectoryStore
from tests.support.paths import ROOT
from tests.support.steps import steps_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FROM = "2026-01-01T00:00:00+05:30"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    made = DirectoryStore(tmp_path / "directory.db")
    imported(made, tmp_path, *(f"GEN:{i},UP{i},consumer,K{i},,{FROM}" for i in range(1, 7)))
    return made


def imported(store: DirectoryStore, folder: Path, *rows: str) -> ImportPlan:
    path = folder / "import.csv"
    path.write_text(",".join(IMPORT_HEADER) + "\n" + "\n".join(rows))
    plan = plan_import(store.snapshot(), path, at=NOW)
    apply_import(store, plan, by="clerk", at=NOW)
    return plan


def planned(
    store: DirectoryStore, folder: Path, *rows: str, head: str = "legacy_number,account_number"
) -> RekeyPlan:
    path = folder / "rekey.csv"
    path.write_text(head + "\n" + "\n".join(rows))
    return plan_rekey(store.snapshot(), path, at=NOW)


def rekeyed(store: DirectoryStore, folder: Path, *rows: str, **more: str) -> RekeyPlan:
    plan = planned(store, folder, *rows, **more)
    apply_rekey(store, plan, by="clerk", approver="chief", at=NOW)
    return plan


def verdicts(plan: RekeyPlan | ImportPlan) -> list[tuple[str, str]]:
    return [(str(r.verdict), r.code) for r in plan.rows]


def test_import_then_re_key_names_every_reading(store: DirectoryStore, tmp_path: Path) -> None:
    at = NOW - timedelta(hours=1)
    before = store.snapshot().attributions("GEN:1", at - timedelta(minutes=30), at)
    assert (before.accounts[0].account_number, before.reason) == (None, Unattributed.NO_ACCOUNT)
    plan = rekeyed(store, tmp_path, *(f"K{i},123456789{i}" for i in range(1, 7)))
    assert plan.counts == {"applied": 6, "unchanged": 0, "repaired": 0, "conflict": 0, "rejected": 0}
    after = store.snapshot().attributions("GEN:1", at - timedelta(minutes=30), at)
    assert (after.accounts[0].account_number, after.reason) == ("1234567891", None)
    assert after.accounts[0].account_id == before.accounts[0].account_id
    naming = next(
        n for n in store.snapshot().namings(after.accounts[0].account_id) if n.kind == "account_number"
    )
    assert (naming.recorded.by, naming.recorded.source, naming.row) == (
        "clerk, approved by chief",
        "rekey.csv",
        2,
    )


def test_rows_19_and_23_the_same_again_changes_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    rows = ("K1,1234567891", "K1,1234567891", "K2,1234567892")
    assert verdicts(rekeyed(store, tmp_path, *rows)) == [
        ("applied", ""),
        ("unchanged", "DUPLICATE"),
        ("applied", ""),
    ]
    version = store.version
    again = planned(store, tmp_path, *rows)
    assert again.counts["unchanged"] == 3
    assert [cause.code for cause in again.causes] == ["REPEATED"]
    with pytest.raises(FileRefused, match="brings nothing new"):
        apply_rekey(store, again, by="clerk", approver="chief", at=NOW)
    assert store.version == version


def test_rows_17_18_20_contradictions_are_conflicts_and_others_proceed(
    store: DirectoryStore, tmp_path: Path
) -> None:
    plan = rekeyed(
        store, tmp_path, "K1,1234567891", "K1,1234567892", "K2,1234567893", "K3,1234567893", "K4,1234567894"
    )
    assert verdicts(plan) == [
        ("conflict", "LEGACY_TWICE"),
        ("conflict", "LEGACY_TWICE"),
        ("conflict", "ACCOUNT_TWICE"),
        ("conflict", "ACCOUNT_TWICE"),
        ("applied", ""),
    ]
    assert store.snapshot().counts().account_numbers == 1


def test_row_21_a_taken_number_is_rejected_until_it_is_given_up(
    store: DirectoryStore, tmp_path: Path
) -> None:
    rekeyed(store, tmp_path, "K1,1234567891")
    assert verdicts(rekeyed(store, tmp_path, "K2,1234567891")) == [("rejected", "NUMBER_TAKEN")]
    owner = store.snapshot().account_by_number(NumberKind.ACCOUNT, "1234567891")
    assert owner is not None
    store.apply([Name(owner, NumberKind.ACCOUNT, None)], by="clerk", source="desk", at=NOW)
    assert verdicts(rekeyed(store, tmp_path, "K2,1234567891")) == [("applied", "")]


def test_a_named_account_is_renamed_only_on_request(store: DirectoryStore, tmp_path: Path) -> None:
    rekeyed(store, tmp_path, "K1,1234567891", "K2,1234567892")
    plan = planned(store, tmp_path, "K1,1234567892", "K2,1234567891")
    assert verdicts(plan) == [("conflict", "ALREADY_NAMED")] * 2
    swap = plan_rekey(store.snapshot(), tmp_path / "rekey.csv", at=NOW, correct=True)
    assert verdicts(swap) == [("applied", "")] * 2
    version = apply_rekey(store, swap, by="clerk", approver="chief", at=NOW)
    names = store.differences(version - 1, version)[1]
    assert sorted((n.old or "", n.new or "") for n in names) == [
        ("1234567891", "1234567892"),
        ("1234567892", "1234567891"),
    ]
    chain = tmp_path / "chain.csv"
    chain.write_text("legacy_number,account_number\nK1,1234567899\nK2,1234567892\nK3,1234567891\n")
    rekeyed(store, tmp_path, "K4,1234567894")
    assert verdicts(plan_rekey(store.snapshot(), chain, at=NOW, correct=True)) == [("applied", "")] * 3
    chain.write_text("legacy_number,account_number\nK1,1234567894\nK2,1234567892\nK3,1234567891\n")
    refused = [("rejected", "NUMBER_TAKEN")] * 3
    assert verdicts(plan_rekey(store.snapshot(), chain, at=NOW, correct=True)) == refused


def test_row_23_a_stale_sequence_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    head = "legacy_number,account_number,sequence"
    rekeyed(store, tmp_path, "K1,1234567891,7", head=head)
    assert planned(store, tmp_path, "K1,1234567891,7", head=head).counts["unchanged"] == 1
    for rows in (("K2,1234567892,6",), ("K2,1234567892,7",)):
        stale = planned(store, tmp_path, *rows, head=head)
        assert [cause.code for cause in stale.causes] == ["STALE_FILE"]
        with pytest.raises(FileRefused) as caught:
            apply_rekey(store, stale, by="clerk", approver="chief", at=NOW)
        assert caught.value.code == "STALE_FILE"
    with pytest.raises(FileRefused):
        planned(store, tmp_path, "K2,1234567892,8", "K3,1234567893,9", head=head)
    assert rekeyed(store, tmp_path, "K2,1234567892,8", head=head).counts["applied"] == 1


def test_damaged_rows_come_back_for_correction(store: DirectoryStore, tmp_path: Path) -> None:
    plan = rekeyed(
        store,
        tmp_path,
        "K1,1.23E+09",
        "K2,123456789",
        "K3,12345678O3",
        "=K4,1234567894",
        "K5,1234567895.0",
        "K9,1234567899",
        "K6,1,234",
    )
    assert [c for _, c in verdicts(plan)] == [
        "EXCEL_SCIENTIFIC",
        "LENGTH",
        "LOOKALIKE",
        "FORMULA",
        "point_zero",
        "UNKNOWN_LEGACY",
        "COLUMNS",
    ]
    assert plan.counts["repaired"] == 1
    out = tmp_path / "corrections.csv"
    assert write_corrections(plan, out) == 6
    lines = out.read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "legacy_number,account_number,in_line,verdict,code,what,to_do,candidates"
    assert lines[3].endswith(",1234567803")
    assert lines[4].startswith("'=K4,")


def test_a_plan_of_another_version_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    plan = planned(store, tmp_path, "K1,1234567891")
    rekeyed(store, tmp_path, "K2,1234567892")
    with pytest.raises(ChangeRefused) as caught:
        apply_rekey(store, plan, by="clerk", approver="chief", at=NOW)
    assert caught.value.code == "STALE_PLAN"


def test_import_verdicts(store: DirectoryStore, tmp_path: Path) -> None:
    plan = imported(
        store,
        tmp_path,
        f"GEN:1,UP1,consumer,K1,,{FROM}",
        f"gen:1-1,UP11,consumer,K11,1234567890.0,{FROM}",
        f"GEN:50,F1,feeder,,,{FROM}",
        f"GEN:51,ST,stock,K51,,{FROM}",
        f"GEN:2,UP22,consumer,K22,,{FROM}",
        f"GEN:60,UP3,consumer,,,{FROM}",
        f"GEN:61,UP61,consumer,K61,,{FROM}",
        f"GEN:61,UP62,consumer,K62,,{FROM}",
        f"GEN:63,UP63,lodger,K63,,{FROM}",
        "GEN:64,UP64,consumer,K64,,",
        f"K65,UP65,consumer,K65,,{FROM}",
        f"GEN:66,UP66,consumer,,,{FROM}",
        f"GEN:67,UP67,consumer,K3,,{FROM}",
        f"GEN:4,UP4,consumer,K4,1234567894,{FROM}",
        "GEN:5,UP5,consumer,K5,,2025-01-01T00:00:00Z",
        f"GEN:68,UP68,consumer,K6,1234567894,{FROM}",
    )
    assert verdicts(plan) == [
        ("unchanged", ""),
        ("repaired", "point_zero"),
        ("applied", ""),
        ("rejected", "NOT_A_CONSUMER"),
        ("conflict", "METER_IN_USE"),
        ("conflict", "USAGE_POINT_OCCUPIED"),
        ("conflict", "METER_TWICE"),
        ("conflict", "METER_TWICE"),
        ("rejected", "ROLE"),
        ("rejected", "VALID_FROM"),
        ("rejected", "METER_FORMAT"),
        ("applied", ""),
        ("conflict", "ACCOUNT_ELSEWHERE"),
        ("conflict", "ACCOUNT_NUMBER_TWICE"),
        ("conflict", "METER_DATES"),
        ("conflict", "ACCOUNT_NUMBER_TWICE"),
    ]
    assert plan.write_corrections(tmp_path / "out.csv") == 12
    version = store.version
    again = plan_import(store.snapshot(), tmp_path / "import.csv", at=NOW)
    assert again.changes == ()
    assert apply_import(store, again, by="clerk", at=NOW) == version
    assert store.snapshot().installations("GEN:50")[0].role is Role.FEEDER


def test_import_fills_in_the_account_number_later(store: DirectoryStore, tmp_path: Path) -> None:
    plan = imported(store, tmp_path, f"GEN:1,UP1,consumer,K1,1234567891,{FROM}")
    assert verdicts(plan) == [("applied", "")]
    assert store.snapshot().counts().accounts == 6
    clash = imported(store, tmp_path, f"GEN:1,UP1,consumer,K1,1234567892,{FROM}")
    assert verdicts(clash) == [("conflict", "ALREADY_NAMED")]
    other = imported(store, tmp_path, f"GEN:2,UP2,consumer,K2,1234567891,{FROM}")
    assert verdicts(other) == [("conflict", "NUMBERS_DISAGREE")]


def test_row_24_killed_in_mid_transaction_leaves_the_old_version(
    store: DirectoryStore, tmp_path: Path
) -> None:
    before = store.snapshot()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.mapping.killed_process", str(tmp_path / "directory.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"written"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with DirectoryStore(tmp_path / "directory.db") as again:
        assert again.snapshot() == before
        assert again.apply([MoveIn("UPX", "z", NOW)], by="x", source="y", at=NOW) == before.version + 1


def test_a_foreign_or_damaged_file_is_a_directory_fault(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(b"this is not a database at all, but long enough to look" * 40)
    with pytest.raises(DirectoryFault):
        DirectoryStore(path)
    with pytest.raises(DirectoryFault):
        DirectoryStore(tmp_path / "no" / "such" / "folder.db")


def test_a_lookup_takes_few_steps(store: DirectoryStore, tmp_path: Path) -> None:
    rekeyed(store, tmp_path, *(f"K{i},123456789{i}" for i in range(1, 7)))
    snapshot, start, end = store.snapshot(), NOW - timedelta(minutes=30), NOW
    snapshot.attributions("GEN:1", start, end)  # the first asks the database
    assert steps_of(lambda: snapshot.attributions("GEN:1", start, end)) <= 250
