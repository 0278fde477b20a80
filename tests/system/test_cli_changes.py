"""The commands that change the directory: each kind, a second person, undo; as a clerk types them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.contract.field_request import FieldRequest, ShownReading, signed_request
from gateway.contract.signing import new_key_pair
from gateway.roles.central_files import central_files
from mapping.change_sets import read_forms
from tests.support.central.samples import batch, capture, received
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


def loaded(cli: Cli, folder: Path, rows: str, code: int = 0) -> Path:
    file = folder / "meters.csv"
    file.write_text(f"meter,usage_point,role,legacy_number,account_number,valid_from\n{rows}")
    cli("directory", "import", file, "--data", folder, code=code)
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


def test_what_was_left_waits_and_is_settled_and_lists_name_what_is_missing(cli: Cli, data: Path) -> None:
    loaded(cli, data, "GEN:9,UP-9,landlord,KE0000009,,2026-04-01T00:00:00+05:30\n", code=1)
    (held,) = cli("directory", "conflicts", "list", "--data", data, "--json").json
    assert (held["about"], held["code"], held["owner"], held["days"]) == ("meter GEN:9", "ROLE", None, 0)
    cli("directory", "conflicts", "take", held["id"], "--by", "meera", "--data", data)
    assert "meera" in cli("directory", "conflicts", "list", "--owner", "meera", "--csv", "--data", data).out
    done = cli("directory", "conflicts", "settle", held["id"], "--how", "no such house", "--data", data).out
    assert "is settled after 0 days" in done
    assert "nothing waits" in cli("directory", "conflicts", "list", "--data", data).out
    cli("directory", "move-out", "UP-3", *AT, "--data", data)
    (lacking,) = cli("directory", "list", "--without", "holder", "--data", data, "--json").json
    assert (lacking["usage_point"], lacking["meter"]) == ("UP-3", "GEN:10000003")
    unread = cli("directory", "list", "--without", "reading", "--csv", "--data", data).out.splitlines()
    assert len(unread) == 3
    assert unread[1].startswith("UP-1,acc-")
    shown = cli("directory", "list", "--without", "number", "--rows-shown", 1, "--data", data).out
    assert "… and 2 more" in shown


def test_a_contractors_file_is_judged_applied_and_undone(cli: Cli, data: Path) -> None:
    file = data / "swaps.csv"
    head = "old_meter,new_meter,at,final,no_final,opening,seals,photos\n"
    file.write_text(
        f"{head}GEN:10000001,SEC:1,2026-11-10 11:30,8412.5,,0.3,S-1,a.jpg\nGEN:10000002,SEC:2,2026-11-10,1,,0,,\n"
    )
    report = data / "report.csv"
    said = cli("directory", "swap", "plan", file, "--report", report, "--data", data, "--json", code=1).json
    assert (said["applied"], said["rejected"], said["meters"]) == (1, 1, 2)
    assert [row["code"] for row in said["rows"]] == ["TIME"]
    assert "का समय साफ़ नहीं है" in report.read_text()
    shown = cli("directory", "swap", "plan", file, "--language", "hi", "--data", data, code=1).out
    assert "लागू नहीं होगा" in shown
    done = cli("directory", "swap", "apply", said["fingerprint"], "--data", data, "--json").json
    assert done["directory_version"] == 2
    (job,) = cli("directory", "swap", "jobs", "SEC:1", "--data", data, "--json").json
    assert (job["final"], job["seals"]) == ("8412.5", "S-1")
    cli("directory", "undo", 2, "--data", data)
    (row,) = cli("directory", "show", "GEN:10000001", "--data", data, "--json").json
    assert row["installed_to"] is None


def test_what_is_bound_and_not_proven_is_shown_with_its_age(cli: Cli, data: Path) -> None:
    """Row 47: bound by paper, and no reading came; the way back stands beside it."""
    cli("directory", "install", "GEN:9", "UP-9", "--at", "2026-11-10", "--by", "meera", "--data", data)
    ledger = Ledger(central_files(data).ledger)
    at = datetime.now(UTC).replace(microsecond=0)
    ledger.ingest([received(batch([capture(n, meter=f"GEN:1000000{n}", at=at) for n in (1, 2)]))])
    ledger.close()
    rows = cli("directory", "list", "--without", "proof", "--data", data, "--json").json
    assert [(r["state"], r["meter"], r["overdue"]) for r in rows] == [
        ("INSTALLED_NOT_PROVEN", "GEN:10000003", True),
        ("INSTALLED_NOT_PROVEN", "GEN:9", True),
    ]
    assert (rows[1]["by"], rows[1]["undo"]) == ("meera", "directory undo 2")
    cli("directory", "undo", 2, "--data", data)
    left = cli("directory", "list", "--without", "proof", "--data", data, "--json").json
    assert [row["meter"] for row in left] == ["GEN:10000003"]


def test_a_visits_signed_request_is_applied_once_or_waits_in_the_queue(cli: Cli, data: Path) -> None:
    private, public = new_key_pair()
    key = data / "request-verify"
    key.write_bytes(public)

    def put(name: str, meter: str, point: str) -> Path:
        at = datetime(2026, 11, 10, tzinfo=UTC)
        changes = read_forms([{"kind": "install", "meter": meter, "usage_point": point, "valid_from": at}])
        request = FieldRequest(
            gateway="edge-7",
            asked_by="ravi",
            asked_at=at,
            source="commission",
            changes=tuple(changes),
            readings=(ShownReading(meter=meter, at=at, energy="1 Wh", capture_id="x"),),
        )
        (data / name).write_text(signed_request(request, private))
        return data / name

    good = put("job.request", "GEN:9", "UP-9")
    words = ("directory", "apply", good, "--data", data)
    assert "say whose, with --verify-key" in cli.refuses(*words, code=2)
    assert cli(*words, "--verify-key", key, "--json").json["applied"]
    assert "applied already, as directory version 2" in cli.refuses(*words, "--verify-key", key, code=2)
    bad = put("bad.request", "GEN:8", "UP-1")
    said = cli.refuses("directory", "apply", bad, "--verify-key", key, "--data", data, code=2)
    assert "has the consumer's meter GEN:10000001" in said
    (held,) = cli("directory", "conflicts", "list", "--origin", "field", "--data", data, "--json").json
    assert (held["about"], held["code"]) == ("meter GEN:8", "USAGE_POINT_OCCUPIED")
    assert held["file"] == "commission at edge-7 by ravi"
