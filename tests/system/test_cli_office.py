"""The office's commands on a directory of its own: import, re-key, corrections, contacts."""

from __future__ import annotations

from pathlib import Path

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


def test_rekey_dry_run_apply_and_again(cli: Cli, data: Path) -> None:
    file = put(data / "rekey.csv", REKEY)
    assert "nothing changed" in cli("rekey", file, "--data", data).out
    assert account_of(cli, data, "GEN:10000001") is None
    applied = cli("rekey", file, "--data", data, "--apply", "--json").json
    assert applied["counts"]["applied"] == 2
    assert account_of(cli, data, "GEN:10000001") == "1000000001"
    again = cli("rekey", file, "--data", data, "--apply", "--json").json
    assert again["counts"]["unchanged"] == 2
    assert again["directory_version"] == applied["directory_version"]


def test_rows_that_cannot_be_applied_come_back(cli: Cli, data: Path) -> None:
    file = put(data / "rekey.csv", REKEY + "KE0000009,1000000009\n")
    back = data / "back.csv"
    seen = cli("rekey", file, "--data", data, "--apply", "--corrections", back, code=1)
    assert "KE0000009" in seen.out
    assert account_of(cli, data, "GEN:10000002") == "1000000002"
    assert "KE0000009" in back.read_text(encoding="utf-8-sig")
    assert "KE0000001" not in back.read_text(encoding="utf-8-sig")


def test_another_number_for_an_account_needs_correct(cli: Cli, data: Path) -> None:
    cli("rekey", put(data / "a.csv", REKEY), "--data", data, "--apply")
    other = put(data / "b.csv", "legacy_number,account_number\nKE0000001,1000000077\n")
    cli("rekey", other, "--data", data, "--apply", code=1)
    assert account_of(cli, data, "GEN:10000001") == "1000000001"
    cli("rekey", other, "--data", data, "--apply", "--correct")
    assert account_of(cli, data, "GEN:10000001") == "1000000077"


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
def test_a_malformed_rekey_file_changes_nothing(cli: Cli, data: Path, content: str) -> None:
    before = cli("directory", "show", "--data", data, "--json").json
    file = put(data / "bad.csv", content)
    assert cli_code(cli, "rekey", file, "--data", data, "--apply") in (1, 2)
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
    assert cli("contacts", "import", good, "--data", data, "--json").json == {"accepted": 1, "refused": 0}
    bad = put(data / "d.csv", head + "KE0000009,+919999900002,2026-10-01T00:00:00+05:30\nKE0000002,12,x\n")
    seen = cli("contacts", "import", bad, "--data", data, "--json", code=1).json
    assert (seen["accepted"], seen["refused"]) == (0, 2)
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
    assert "change set 2" in cli.refuses("directory", "undo", 1, "--data", data, code=2)
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
