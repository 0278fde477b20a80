"""The commands that change the directory: each kind, a second person, undo; as a clerk types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Cli

AT = ("--at", "2026-11-10")
MANY = 120
"""Meters of the town: more than one person may change alone."""


@pytest.fixture
def data(cli: Cli, tmp_path: Path) -> Path:
    """Two houses and a mill with its transformers."""
    rows = "".join(
        f"GEN:{10000000 + n},UP-{n},consumer,KE{n:07d},,2026-04-01T00:00:00+05:30\n" for n in range(1, 4)
    )
    return loaded(cli, tmp_path, rows)


def loaded(cli: Cli, folder: Path, rows: str) -> Path:
    file = folder / "meters.csv"
    file.write_text(f"meter,usage_point,role,legacy_number,account_number,valid_from\n{rows}")
    cli("directory", "import", file, "--data", folder)
    return folder


def rows_of(cli: Cli, data: Path, *words: str | int | Path) -> list[tuple[str, str | None, str | None]]:
    said = cli("directory", *words, "--data", data, "--json").json
    return [(row["what"], row["old"], row["new"]) for row in said["changes"]]


def test_each_kind_of_change_is_a_command(cli: Cli, data: Path) -> None:
    mill = "GEN:10000003"
    assert rows_of(cli, data, "multiplier", mill, "10", *AT) == [
        (mill, "KE0000003 at UP-3, x 1", "KE0000003 at UP-3, x 10")
    ]
    assert rows_of(cli, data, "replace", mill, "SEC:3", *AT)[1] == (
        "SEC:3", "no_account", "KE0000003 at UP-3, x 10"
    )  # fmt: skip
    assert rows_of(cli, data, "payment", "UP-1", "prepaid", *AT) == [
        ("GEN:10000001", "KE0000001 at UP-1, payment not known", "KE0000001 at UP-1, prepaid")
    ]
    words = ("--feeder", "F-7", "--sanctioned-load", "2.50", "--phase", "ryb")
    assert [row[2] for row in rows_of(cli, data, "attributes", "UP-1", *words, *AT)] == ["F-7", "2.5", "RYB"]
    assert rows_of(cli, data, "attributes", "UP-1", "--forget", "feeder", "--at", "2026-11-12") == [
        ("UP-1 feeder", "F-7", None)
    ]
    assert rows_of(cli, data, "install", "GEN:9", "UP-9", *AT) == []
    again = rows_of(cli, data, "move-in", "UP-9", "--legacy-number", "KE0000001", *AT)
    assert again == [("GEN:9", "no_account", "KE0000001 at UP-9")]
    (named,) = rows_of(cli, data, "name", "account_number", "0012345678", "--legacy-number", "KE0000001")
    assert named[1:] == (None, "0012345678")
    (made,) = rows_of(cli, data, "name", "legacy_number", "KE0000099", "--new")
    assert made[2] == "KE0000099"


def test_corrections_by_periods_dates_and_cycles(cli: Cli, data: Path) -> None:
    one, two, three = (f"GEN:1000000{n}" for n in (1, 2, 3))
    span = ("--span", "KE0000002@2026-06-01..2026-07-01")
    (changed,) = rows_of(cli, data, "correct-holdings", "UP-1", *span)
    assert changed == (one, "KE0000001 at UP-1", "KE0000002 at UP-1")
    assert len(rows_of(cli, data, "correct-installations", one, "--span", "UP-9@2026-08-01..,x2")) == 1
    moved = rows_of(cli, data, "correct-date", "UP-2", "--was", "2026-04-01", "--at", "2026-04-15")
    assert moved == [(two, "KE0000002 at UP-2", "no_account")]
    period = ("--from", "2026-09-01", "--until", "2026-09-12")
    assert {row[0] for row in rows_of(cli, data, "cross-meters", two, three, *period)} == {two, three}
    points = ("UP-1", "UP-2", "UP-3", "--from", "2026-10-01")
    assert len(rows_of(cli, data, "cross-holdings", *points)) == 2  # at UP-1 stands no meter then
    for words in (("--span", "UP-1"), ("--span", "UP-1@x..y"), ("--span", "UP-1@2026-01-01..,owner")):
        cli.refuses("directory", "correct-installations", one, *words, "--data", data, code=2)
    said = cli.refuses(
        "directory", "correct-date", "UP-2", "--was", "2026-04-02", *AT, "--data", data, code=2
    )
    assert "nothing is recorded at usage point UP-2 for 2026-04-01 18:30 UTC; there is" in said


def test_a_file_of_changes_is_one_change_set(cli: Cli, data: Path) -> None:
    file = data / "changes.json"
    when = "2026-11-10T10:00:00+05:30"
    changes: list[dict[str, object]] = [
        {"kind": "move_out", "usage_point": "UP-1", "at": when},
        {
            "kind": "move_in",
            "usage_point": "UP-1",
            "legacy_number": "KE0000009",
            "new": True,
            "valid_from": when,
        },
    ]
    file.write_text(json.dumps(changes))
    row, named = rows_of(cli, data, "apply", file)
    assert named[1:] == (None, "KE0000009")
    assert row == ("GEN:10000001", "KE0000001 at UP-1", "KE0000009 at UP-1")
    file.write_text(json.dumps([{**changes[0], "at": "1980-01-01T00:00:00+05:30"}]))
    said = cli.refuses("directory", "apply", file, "--data", data, code=2)
    assert "usage point UP-1: 1980-01-01 00:00 IST cannot be" in said
    assert "cross_meters" in cli("directory", "kinds").out


def test_what_was_built_upon_is_named_and_the_rest_alone_undone(cli: Cli, data: Path) -> None:
    words = ("UP-1", "prepaid", "--at", "2026-11-10", "--data", data)
    cli("directory", "payment", *words)
    said = cli.refuses("directory", "undo", 1, "--data", data, code=2)
    assert "change set 2 of" in said
    assert "changed usage point UP-1 again, from 2026-11-10 00:00" in said
    out = cli("directory", "undo", 1, "--rest-alone", "--data", data).out
    assert "stays: change set 2" in out
    cli.refuses("directory", "show", "GEN:10000002", "--data", data, code=2)


def test_many_need_a_second_person(cli: Cli, tmp_path: Path) -> None:
    rows = "".join(
        f"GEN:{10000000 + n},UP-{n},consumer,KE{n:07d},,2026-04-01T00:00:00+05:30\n" for n in range(MANY)
    )
    data = loaded(cli, tmp_path, rows)
    shown = ("--rows-shown", 3)
    waits = cli("directory", "undo", 1, "--by", "meera", *shown, "--data", data, code=1).out
    assert "waits for a second person" in waits
    assert f"… and {2 * MANY - 3} more changes" in waits
    (held,) = cli("directory", "waiting", "--data", data, "--json").json
    assert (held["meters"], held["accounts"], held["state"]) == (MANY, MANY, "waits")
    print_ = held["fingerprint"]
    assert print_ in waits
    assert "somebody else must approve" in cli.refuses(
        "directory", "approve", print_, "--by", "meera", "--data", data, code=2
    )
    assert (
        "nothing changed"
        in cli("directory", "approve", print_[:10], "--by", "verma", "--dry-run", *shown, "--data", data).out
    )
    assert "applied" in cli("directory", "approve", print_, "--by", "verma", *shown, "--data", data).out
    assert cli("directory", "waiting", "--data", data, "--json").json == []
    cli("directory", "undo", 2, "--by", "meera", *shown, "--data", data, code=1)
    (held,) = cli("directory", "waiting", "--data", data, "--json").json
    assert "is gone" in cli("directory", "discard", held["fingerprint"], "--data", data).out
