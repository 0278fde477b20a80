"""Staff by the command line: the first account, logging in, who a command is from, and the trail of it all."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.central.office.actors import Actor, Proof, StaffRole
from gateway.central.office.change_documents import ChangeSetRequest
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.office import HEAD_FILE, Office
from gateway.central.office.proofs import STEP_SECONDS, code_at
from gateway.roles.central_files import central_files
from mapping.store import DirectoryStore
from tests.support.central.office import PASSWORD, Person
from tests.support.cli import Cli
from tests.support.cli_terminal import at_a_terminal

METERS = """meter,usage_point,role,legacy_number,account_number,valid_from
GEN:10000001,UP-1,consumer,KE0000001,,2026-10-01T00:00:00+05:30
GEN:10000002,UP-2,consumer,KE0000002,,2026-10-01T00:00:00+05:30
"""
REKEY = "legacy_number,account_number\nKE0000001,1000000001\nKE0000002,1000000002\n"
EXIT_DENIED = 6


class Desk:
    """One central, and people each with a home of their own."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli = cli
        self.folder = folder
        self.data = ("--data", folder)

    def add(self, name: str, *roles: str) -> Person:
        words = [word for role in roles for word in ("--role", role)]
        made = self.cli(
            "staff", "add", name, *words, "--stdin", "--json", *self.data, stdin=f"{PASSWORD}\n"
        ).json
        return Person(name, made["authenticator_secret"])

    def home(self, name: str) -> dict[str, str]:
        (self.folder / name).mkdir(exist_ok=True)
        return {"HOME": str(self.folder / name), "USER": "mallory", "LOGNAME": "mallory"}

    def login(self, who: Person) -> None:
        typed = f"{who.password}\n{who.code(datetime.now(UTC))}\n"
        self.cli("staff", "login", who.name, "--stdin", *self.data, stdin=typed, env=self.home(who.name))

    def __call__(self, name: str, *words: object, code: int = 0) -> Any:
        return self.cli(*words, *self.data, code=code, env=self.home(name))

    def last(self) -> Any:
        with DirectoryStore(central_files(self.folder).directory) as store:
            return store.snapshot().changes[-1]


@pytest.fixture
def desk(cli: Cli, tmp_path: Path) -> Desk:
    (tmp_path / "meters.csv").write_text(METERS)
    (tmp_path / "rekey.csv").write_text(REKEY)
    return Desk(cli, tmp_path)


def test_without_accounts_the_user_of_the_box_acts_and_not_the_environment(desk: Desk) -> None:
    desk("anybody", "directory", "import", desk.folder / "meters.csv")
    assert desk.last().by.startswith("box:")
    assert "mallory" not in desk.last().by
    assert desk("anybody", "staff", "whoami", "--json").json["proved_by"] == "box"


def test_from_the_first_account_on_a_command_is_from_whoever_is_logged_in(desk: Desk) -> None:
    meera, ravi = desk.add("meera", "clerk"), desk.add("ravi", "engineer")
    file = desk.folder / "meters.csv"
    refused = desk("meera", "directory", "import", file, code=EXIT_DENIED)
    assert refused.err.startswith("error: nobody is logged in here: `meter-gateway staff login NAME`")
    desk.login(meera)
    desk.login(ravi)
    assert (
        "ravi (engineer) may not change the directory"
        in desk("ravi", "directory", "import", file, code=6).err
    )
    desk("meera", "directory", "import", file)
    assert desk.last().by == "meera"
    desk("meera", "directory", "move-out", "UP-1", "--at", "2026-11-01")
    assert (desk.last().by, desk.last().source) == ("meera", "directory move-out")
    desk("meera", "staff", "logout")
    assert "nobody is logged in" in desk("meera", "directory", "undo", 2, code=6).err
    desk("root", "staff", "disable", "ravi")
    assert "the login has ended" in desk("ravi", "directory", "show", "GEN:10000001", code=6).err


def test_a_plan_without_a_control_is_approved_by_a_second_person_who_is_logged_in(desk: Desk) -> None:
    meera, verma = desk.add("meera", "clerk"), desk.add("verma", "approver")
    desk.login(meera)
    desk.login(verma)
    desk("meera", "directory", "import", desk.folder / "meters.csv")
    plan = desk("meera", "directory", "rekey", "plan", desk.folder / "rekey.csv", "--json").json
    apply = ("directory", "rekey", "apply", plan["fingerprint"])
    assert "say who approves" in desk("meera", *apply, "--without-control", code=2).err
    said = desk("meera", *apply, "--without-control", "--approver", "verma", code=2).err
    assert "verma has not approved" in said
    assert "meera gives this command" in desk("meera", *apply, "--by", "verma", code=2).err
    approve = ("directory", "rekey", "approve", plan["fingerprint"])
    assert "may not approve" in desk("meera", *approve, code=6).err
    desk("verma", *approve)
    desk("meera", *apply, "--without-control")
    assert desk.last().by == "meera, approved by verma"


def test_a_machine_acts_by_the_token_in_a_file_that_only_it_can_read(desk: Desk) -> None:
    desk.add("meera", "clerk")
    token = desk("root", "staff", "tokens", "add", "nightly", "--role", "clerk", "--json").json["token"]
    path = desk.folder / "token"
    path.write_text(token + "\n")
    env = desk.home("root") | {"METER_GATEWAY_TOKEN_FILE": str(path)}
    words = ("directory", "import", desk.folder / "meters.csv", *desk.data)
    path.chmod(0o644)
    assert "chmod 600" in desk.cli.refuses(*words, code=2, env=env)
    path.chmod(0o600)
    desk.cli(*words, env=env)
    assert desk.last().by == "machine:nightly"
    (row,) = desk("root", "staff", "tokens", "list", "--json").json
    assert row["last_used"] is not None
    assert token not in str(row)
    desk("root", "staff", "tokens", "revoke", "nightly")
    assert "not known here, or no longer" in desk.cli.refuses(*words, code=6, env=env)


def test_the_trail_shows_who_saw_what_and_a_changed_store_is_found(desk: Desk) -> None:
    meera, verma = desk.add("meera", "clerk"), desk.add("verma", "approver")
    desk.login(meera)
    desk.login(verma)
    desk("meera", "directory", "import", desk.folder / "meters.csv")
    desk("meera", "directory", "show", "GEN:10000001")
    assert "may not read the audit trail" in desk("meera", "audit", "show", code=6).err
    seen = desk("verma", "audit", "show", "--json").json
    acts = [(one["actor"], one["act"], one["subject"]) for one in seen]
    assert ("meera", "meter.seen", "meter:GEN:10000001") in acts
    assert ("meera", "directory.applied", "directory:1") in acts
    assert any(actor.startswith("box:") and act == "staff.added" for actor, act, _ in acts)
    good = desk("verma", "audit", "verify", "--json").json
    assert good["result"] == "whole"
    head = desk("verma", "audit", "head").out.strip()
    assert desk("verma", "audit", "verify", "--head", head).code == 0
    (desk.folder / "central" / HEAD_FILE).write_text("99:" + "0" * 64 + "\n")
    harmed = desk("verma", "audit", "verify", code=1)
    assert "the end was cut off: entry 99 was there" in harmed.out


def test_secrets_are_asked_for_at_a_terminal_and_never_taken_from_a_pipe(desk: Desk) -> None:
    assert "asked for at a terminal" in desk("root", "staff", "add", "meera", "--role", "clerk", code=2).err
    said, code = at_a_terminal(
        ["staff", "add", "meera", "--role", "clerk", *map(str, desk.data)],
        [("characters): ", PASSWORD), ("once more: ", PASSWORD)],
        desk.home("root"),
    )
    assert code == 0, said
    assert PASSWORD not in said
    seed = re.search(r"authenticator secret\s+([A-Z2-7]{32})", said)
    assert seed is not None
    step = int(datetime.now(UTC).timestamp()) // STEP_SECONDS
    said, code = at_a_terminal(
        ["staff", "login", "meera", *map(str, desk.data)],
        [("password: ", PASSWORD), ("authenticator: ", code_at(seed[1], step))],
        desk.home("meera"),
    )
    assert code == 0, said
    assert "logged in" in said
    (session,) = (desk.folder / "meera" / ".local" / "state" / "meter-gateway").iterdir()
    assert session.stat().st_mode & 0o777 == 0o600
    assert desk("meera", "staff", "whoami", "--json").json == {
        "name": "meera",
        "roles": "clerk",
        "proved_by": "session",
    }
    session.chmod(0o640)
    assert "chmod 600" in desk("meera", "staff", "whoami", code=2).err


def test_what_a_system_asked_for_is_decided_by_the_commands_too(desk: Desk) -> None:
    meera, verma = desk.add("meera", "clerk"), desk.add("verma", "approver")
    desk.login(meera)
    desk.login(verma)
    desk("meera", "directory", "import", desk.folder / "meters.csv")
    files, now = central_files(desk.folder), datetime.now(UTC)
    with DirectoryStore(files.directory) as store, Office(files.office, files.folder) as office:
        sap = Actor(name="machine:sap", roles=frozenset({StaffRole.CLERK}), proof=Proof.TOKEN, source="x")
        sets = ChangeSetDesk(office, store, now=lambda: now, sure=lambda: True, approve_above=0)
        for number in (1, 2):
            out = {"kind": "move_out", "usage_point": f"UP-{number}", "at": "2026-11-01T00:00:00+05:30"}
            request = ChangeSetRequest.model_validate({"changes": [out], "reference": f"order {number}"})
            sets.submit(sap, request, f"cs-{number}")
    first, second = desk("verma", "directory", "waiting", "--json").json
    assert {first["by"], second["by"]} == {"machine:sap"}
    assert "may not approve" in desk("meera", "directory", "approve", first["fingerprint"], code=6).err
    dry = desk("verma", "directory", "approve", first["fingerprint"], "--dry-run", "--json").json
    assert (dry["result"], desk.last().version) == ("dry run, nothing changed", 1)
    desk("verma", "directory", "approve", first["fingerprint"])
    assert desk.last().by == "machine:sap, approved by verma"
    (left,) = desk("verma", "directory", "waiting", "--json").json
    assert left["fingerprint"] != second["fingerprint"]  # the directory moved on: it is looked at again
    desk("verma", "directory", "discard", left["fingerprint"])
    assert desk("verma", "directory", "waiting", "--json").json == []
    assert desk("verma", "audit", "verify", "--json").json["not_in_the_trail"] == []
