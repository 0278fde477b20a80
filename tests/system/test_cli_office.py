"""The office's commands on a directory of its own: import, re-key, corrections, contacts."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.roles.central_files import central_files
from tests.support.central.samples import batch, capture, received
from tests.support.cli import Cli

METERS = """meter,usage_point,role,legacy_number,account_number,valid_from
GEN:10000001,UP-1,consumer,KE0000001,,2026-10-01T00:00:00+05:30
GEN:10000002,UP-2,consumer,KE0000002,,2026-10-01T00:00:00+05:30
GEN:10000003,UP-3,feeder,,,2026-10-01T00:00:00+05:30
"""
REKEY = "legacy_number,account_number\nKE0000001,1000000001\nKE0000002,1000000002\n"


@pytest.fixture
def data(cli: Cli, tmp_path: Path) -> Path:
    put(tmp_path / "meters.csv", METERS)
    assert cli("directory", "import", tmp_path / "meters.csv", "--data", tmp_path, "--json").json["applied"]
    return tmp_path


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def account_of(cli: Cli, data: Path, meter: str) -> str | None:
    (row,) = cli("directory", "show", meter, "--data", data, "--json").json
    return None if row["account_number"] is None else str(row["account_number"])


def test_import_is_shown_and_changes_nothing_twice(cli: Cli, data: Path) -> None:
    before = cli("directory", "show", "--data", data, "--json").json
    assert (
        cli("directory", "import", data / "meters.csv", "--data", data, "--json").json["counts"]["unchanged"]
        == 3
    )
    assert cli("directory", "show", "--data", data, "--json").json == before
    (row,) = cli("directory", "show", "GEN:10000001", "--data", data, "--json").json
    assert (row["usage_point"], row["role"], row["legacy_number"]) == ("UP-1", "consumer", "KE0000001")
    assert "UP-1" in cli("directory", "show", "GEN:10000001", "--data", data).out
    assert "no meter `GEN:10000009`" in cli.refuses(
        "directory", "show", "GEN:10000009", "--data", data, code=2
    )


def test_an_import_dry_run_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    file = put(tmp_path / "m.csv", METERS)
    seen = cli("directory", "import", file, "--data", tmp_path, "--dry-run", "--json").json
    assert (seen["applied"], seen["directory_version"]) == (False, 0)
    assert cli("directory", "show", "--data", tmp_path, "--json").json["version"] == 0


def plan_of(cli: Cli, data: Path, file: Path, *words: object, code: int = 0) -> Any:
    """Plan a re-key file; gives the document."""
    return cli("directory", "rekey", "plan", file, *words, "--data", data, "--json", code=code).json


def apply_of(cli: Cli, data: Path, plan: Any, *words: object, code: int = 0) -> Any:
    """Apply a plan with the approval of somebody else."""
    approved = ("--without-control", "--approver", "chief", "--by", "clerk")
    return cli(
        "directory",
        "rekey",
        "apply",
        plan["fingerprint"],
        *approved,
        *words,
        "--data",
        data,
        "--json",
        code=code,
    ).json


def test_rekey_plan_apply_and_again(cli: Cli, data: Path) -> None:
    file = put(data / "rekey.csv", REKEY)
    plan = plan_of(cli, data, file)
    assert account_of(cli, data, "GEN:10000001") is None
    applied = apply_of(cli, data, plan)
    assert (applied["applied"], applied["undo"]) == (2, "meter-gateway directory undo 2")
    assert account_of(cli, data, "GEN:10000001") == "1000000001"
    again = plan_of(cli, data, file, code=1)
    assert [cause["code"] for cause in again["causes"]] == ["REPEATED"]
    assert "was applied already" in cli.refuses(
        "directory", "rekey", "apply", plan["fingerprint"], "--data", data, code=2
    )
    undone = cli("directory", "undo", 2, "--data", data, "--json").json
    assert len(undone["changes"]) == 2
    assert account_of(cli, data, "GEN:10000001") is None


def test_rows_that_cannot_be_applied_come_back_and_are_sent_in_again(cli: Cli, data: Path) -> None:
    file = put(data / "rekey.csv", REKEY.replace("1000000002", "10000OO002"))
    back = data / "back.csv"
    plan = plan_of(cli, data, file, "--corrections", back, code=1)
    apply_of(cli, data, plan)
    text = back.read_text(encoding="utf-8-sig")
    assert "KE0000001" not in text
    left = plan_of(cli, data, back, code=1)
    assert [row["code"] for row in left["rows"]] == ["LOOKALIKE"]
    put(back, text.replace("10000OO002", "1000000002"))
    apply_of(cli, data, plan_of(cli, data, back))
    assert account_of(cli, data, "GEN:10000002") == "1000000002"


def test_another_number_for_an_account_needs_correct(cli: Cli, data: Path) -> None:
    apply_of(cli, data, plan_of(cli, data, put(data / "a.csv", REKEY)))
    other = put(data / "b.csv", "legacy_number,account_number\nKE0000001,1000000077\n")
    assert apply_of(cli, data, plan_of(cli, data, other, code=1))["applied"] == 0
    assert account_of(cli, data, "GEN:10000001") == "1000000001"
    apply_of(cli, data, plan_of(cli, data, other, "--correct"))
    assert account_of(cli, data, "GEN:10000001") == "1000000077"


def test_nobody_applies_numbers_that_nothing_vouches_for(cli: Cli, data: Path) -> None:
    file = put(data / "rekey.csv", REKEY)
    plan = plan_of(cli, data, file)
    words = ("directory", "rekey", "apply", plan["fingerprint"], "--data", data)
    assert "--without-control" in cli.refuses(*words, code=2)
    assert "--approver NAME" in cli.refuses(*words, "--without-control", code=2)
    own = ("--without-control", "--approver", "CLERK", "--by", "clerk")
    assert "somebody else must" in cli.refuses(*words, *own, code=2)
    assert account_of(cli, data, "GEN:10000001") is None
    control = put(
        data / "control.csv", "account_number,meter\n1000000001,GEN10000001\n1000000002,GEN10000002\n"
    )
    meters = put(
        data / "with.csv", "old_no,new_no,meter_no\nKE0000001,1000000001,10000001\nKE0000002,1000000002,\n"
    )
    vouched = plan_of(cli, data, meters, "--control", control)
    assert vouched["vouched"] is True
    cli("directory", "rekey", "apply", vouched["fingerprint"], "--data", data)
    assert account_of(cli, data, "GEN:10000001") == "1000000001"


def test_what_was_reviewed_is_applied_or_nothing(cli: Cli, data: Path) -> None:
    plan = plan_of(cli, data, put(data / "rekey.csv", REKEY))
    cli("directory", "move-out", "UP-1", "--at", "2026-11-10", "--data", data)
    said = cli.refuses(
        "directory", "rekey", "apply", plan["fingerprint"][:8], "--without-control", "--approver", "chief",
        "--data", data, code=2,
    )  # fmt: skip
    assert "the directory moved on from version 1 to 2" in said
    fresh = plan_of(cli, data, data / "rekey.csv")
    path = next((data / "central" / "rekey").glob(f"{fresh['fingerprint']}*"))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE row SET new = '9999999999' WHERE line = 2")
    db.close()
    assert "was changed since" in cli.refuses(
        "directory", "rekey", "show", fresh["fingerprint"], "--data", data, code=2
    )
    assert "no kept plan" in cli.refuses("directory", "rekey", "show", "00000000", "--data", data, code=2)


def test_a_scheduled_plan_waits_for_its_day(cli: Cli, data: Path) -> None:
    plan = plan_of(cli, data, put(data / "rekey.csv", REKEY))
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    seen = apply_of(cli, data, plan, "--effective", later)
    assert seen["result"] == "scheduled"
    assert cli("directory", "rekey", "due", "--data", data, "--json").json == []
    (listed,) = cli("directory", "rekey", "list", "--data", data, "--json").json
    assert listed["state"] == "scheduled"
    cli("directory", "rekey", "discard", plan["fingerprint"], "--data", data)
    assert cli("directory", "rekey", "list", "--data", data, "--json").json == []


def test_a_sender_is_kept_and_its_files_are_read(cli: Cli, data: Path) -> None:
    save = ("directory", "senders", "save", "kesco", "--data", data)
    cli(*save, "--column", "account_number=ACC", "--column", "legacy_number=CONN", "--dates", "DD/MM/YYYY",
        "--separator", "semicolon", "--encoding", "cp1252", "--prefix", "kescox", "--limit", "refused=50")  # fmt: skip
    file = data / "sent.csv"
    file.write_bytes(
        "CONN;ACC;Name;effective_date\nKE0000001;KESCOX1000000001;Jos\xe9;05/04/2026\n".encode("cp1252")
    )
    assert "line 2: not utf-8" in cli.refuses("directory", "rekey", "plan", file, "--data", data, code=2)
    plan = plan_of(cli, data, file, "--sender", "kesco")
    (row,) = plan["rows"]
    assert (row["verdict"], row["account_number"], row["what"]) == (
        "repaired",
        "1000000001",
        "our company code taken off",
    )
    (kept,) = cli("directory", "senders", "show", "--data", data, "--json").json
    assert (kept["dates"], kept["prefixes"], kept["separator"]) == ("DD/MM/YYYY", "KESCOX", "semicolon")
    cli("directory", "senders", "remove", "kesco", "--data", data)
    assert "no sender is called" in cli.refuses(
        "directory", "rekey", "plan", file, "--sender", "kesco", "--data", data, code=2
    )
    for wrong in (("--dates", "DMY"), ("--prefix", "X"), ("--column", "x=y"), ("--encoding", "klingon")):
        cli.refuses(*save, *wrong, code=2)


def test_what_a_file_says_cannot_move_the_terminal(cli: Cli, data: Path) -> None:
    file = put(data / "rekey.csv", "legacy_number,account_number\nKE0000001,[/red]\x1b[2J\u202e1\n")
    seen = cli("directory", "rekey", "plan", file, "--data", data, code=1)
    assert "\x1b" not in seen.text
    assert "\u202e" not in seen.text
    assert "[/red]" in seen.out
    assert "\\u001b" in seen.out


@pytest.mark.parametrize(
    "content",
    [
        "",
        "legacy;account\nKE0000001;1000000001\n",
        "legacy_number,account_number\n",
        "legacy_number,account_number\nKE0000001,1.0E+09\n",
        "legacy_number,account_number\nKE0000001,1000000001,extra\n",
        "legacy_number,account_number\nKE0000001,1000000001\nKE0000002,1000000001\n",
        '"legacy_number,account_number\nKE0000001',
        "<html><body>Login</body></html>",
    ],
    ids=["empty", "other-columns", "no-rows", "spreadsheet", "ragged", "doubled", "unclosed", "html"],
)
def test_a_malformed_rekey_file_brings_nothing(cli: Cli, data: Path, content: str) -> None:
    before = cli("directory", "show", "--data", data, "--json").json
    file = put(data / "bad.csv", content)
    assert cli_code(cli, "directory", "rekey", "plan", file, "--data", data) in (1, 2)
    for plan in cli("directory", "rekey", "list", "--data", data, "--json").json:
        assert plan["applied_rows"] == 0
    assert cli("directory", "show", "--data", data, "--json").json == before


def cli_code(cli: Cli, *words: object) -> int:
    """Give a command that fails in one of the documented ways; gives its exit code."""
    try:
        cli(*words, code=2)
    except AssertionError as error:
        if "Traceback" in str(error):
            raise
        cli(*words, code=1)
        return 1
    return 2


def test_contacts_are_counted_and_refused_row_by_row(cli: Cli, data: Path) -> None:
    head = "legacy_number,mobile,verified_at\n"
    good = put(data / "c.csv", head + "KE0000001,+919999900001,2026-10-01T00:00:00+05:30\n")
    done = cli("contacts", "import", good, "--data", data, "--json").json
    assert (done["applied"], done["rejected"], done["rows"]) == (1, 0, [])
    bad = put(data / "d.csv", head + "KE0000009,+919999900002,2026-10-01T00:00:00+05:30\nKE0000002,12,x\n")
    seen = cli("contacts", "import", bad, "--data", data, "--json", code=1).json
    assert (seen["applied"], seen["rejected"]) == (0, 2)
    assert len(seen["rows"]) == 2


def test_directory_keys_are_private_and_made_once(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    cli("directory", "keys", folder)
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(made) == {"directory-signing", "directory-verify"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    cli("directory", "keys", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_the_next_pair_of_keys_lies_beside_the_present_one(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    cli("directory", "keys", folder)
    cli("directory", "keys", folder, "--next", "2027")
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(made) == {
        "directory-signing",
        "directory-verify",
        "directory-signing-2027",
        "directory-verify-2027",
    }
    assert len(set(made.values())) == 4
    assert "letters and digits" in cli.refuses("directory", "keys", folder, "--next", "../x", code=2)


# remove, move-out, move-in, undo


def version(cli: Cli, data: Path) -> int:
    return int(cli("directory", "show", "--data", data, "--json").json["version"])


def test_a_tenant_moves_out_and_another_in(cli: Cli, data: Path) -> None:
    when = "2026-11-10T10:00:00+05:30"
    out = cli("directory", "move-out", "UP-1", "--at", when, "--data", data, "--json").json
    assert (out["applied"], out["directory_version"]) == (True, 2)
    (span,) = out["changes"]
    assert (span["what"], span["old"], span["new"]) == ("GEN:10000001", "KE0000001 at UP-1", "not_a_consumer")
    words = ("--legacy-number", "ke0000009", "--at", when, "--data", data)
    assert "no account has the legacy_number `KE0000009`" in cli.refuses(
        "directory", "move-in", "UP-1", *words, code=2
    )
    moved = cli("directory", "move-in", "UP-1", *words, "--new", "--payment", "prepaid").out
    assert "changed hands" in moved
    assert "KE0000009 at UP-1" in moved
    rows = cli("directory", "show", "GEN:10000001", "--data", data, "--json").json
    assert [row["legacy_number"] for row in rows] == ["KE0000001", "KE0000009"]


def test_a_dry_run_of_a_move_says_all_and_changes_nothing(cli: Cli, data: Path) -> None:
    words = ("--at", "2026-11-10", "--data", data, "--dry-run")
    for command in (("move-out", "UP-1"), ("remove", "GEN:10000001")):
        said = cli("directory", *command, *words).out
        assert "nothing changed" in said
        assert "would change hands" in said
        assert "KE0000001 at UP-1" in said
    assert version(cli, data) == 1


def test_a_move_is_undone_by_a_later_change_set(cli: Cli, data: Path) -> None:
    before = cli("directory", "show", "GEN:10000001", "--data", data, "--json").json
    cli("directory", "remove", "GEN:10000001", "--at", "2026-11-10", "--data", data)
    undone = cli("directory", "undo", 2, "--data", data, "--json").json
    assert (undone["directory_version"], undone["changes"][0]["new"]) == (3, "KE0000001 at UP-1")
    assert cli("directory", "show", "GEN:10000001", "--data", data, "--json").json == before


def test_mistyped_names_are_refused_with_the_nearest(cli: Cli, data: Path) -> None:
    words = ("--at", "2026-11-10", "--data", data)
    assert "Did you mean `UP-1`" in cli.refuses("directory", "move-out", "up1", *words, code=2)
    said = cli.refuses("directory", "remove", "GEN:1000001", *words, code=2)
    assert "`GEN:10000001`" in said
    said = cli.refuses("directory", "move-in", "UP-3", "--legacy-number", "KE000001", *words, code=2)
    assert "Did you mean `KE0000001`" in said
    assert "it must move out first" in cli.refuses(
        "directory", "move-in", "UP-1", "--legacy-number", "KE0000002", *words, code=2
    )
    assert "name the account" in cli.refuses("directory", "move-in", "UP-1", *words, code=2)
    assert version(cli, data) == 1


# times


def test_what_central_cannot_settle_an_operator_does(cli: Cli, data: Path) -> None:
    files = central_files(data).made()
    ledger = Ledger(files.ledger)
    doubted = [capture(seq, meter="GEN:10000001", reason="untrusted_time") for seq in (1, 2, 3)]
    ledger.ingest([received(batch(doubted))])
    ledger.close()
    (group,) = cli("times", "show", "--data", data, "--json").json
    assert (group["meter"], group["journal"], group["waiting"]) == ("GEN:10000001", "journal-1", 3)
    settle = (
        "times",
        "settle",
        "GEN:10000001",
        "--journal",
        "journal-1",
        "--note",
        "work order 4711",
        "--data",
        data,
    )
    assert "in doubt" in cli.refuses(*settle, "--first", 7, "--last", 9, code=2)
    assert "--distrust" in cli.refuses(*settle, "--first", 1, "--last", 2, "--shift", 5, "--distrust", code=2)
    done = cli(*settle, "--first", 1, "--last", 2, "--shift", -19800, "--json").json
    assert (done["trust"], done["captures"]) == ("trusted", 2)
    rows = cli("times", "show", "GEN:10000001", "--data", data, "--json").json
    assert [row["settled"] for row in rows] == ["-19800 s", "-19800 s", None]
    ledger = Ledger(files.ledger)
    try:
        stored = ledger.captures.get(doubted[0].capture_id)
        assert stored is not None
        assert (doubted[0].at - stored.at).total_seconds() == 19_800
        assert "work order 4711" in ledger.times.since(0, 9)[0].evidence
    finally:
        ledger.close()
