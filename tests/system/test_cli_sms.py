"""The commands of docs/sms.md and docs/privacy.md as they are shown there, given on a directory of their own."""

from __future__ import annotations

import json
import re
import shlex
import stat
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.telling.lint import load_library
from gateway.central.telling.messages import Doubtful, NewMessage
from gateway.central.telling.queue import SmsQueue
from gateway.config.sms import SmsHttpSection, SmsReportsSection, SmsSection
from gateway.roles.central_files import central_files
from mapping.changes import MoveIn, Name
from mapping.directory import NumberKind
from mapping.store import DirectoryStore
from tests.support.cli import Cli, command_line
from tests.support.paths import ROOT

PRIVACY = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "sms.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
ID = "1107160000000012345"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with command_line(tmp_path_factory.mktemp("cli")) as given:
        yield given


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A gateway's data folder with the account of KE0012345."""
    files = central_files(tmp_path / "data").made()
    at = datetime.now(UTC) - timedelta(days=30)
    with DirectoryStore(files.directory) as store:
        named = [
            Name("acc-1", NumberKind.LEGACY, "KE0012345"),
            Name("acc-1", NumberKind.ACCOUNT, "1234567890"),
        ]
        store.apply([MoveIn("UP-1", "acc-1", at), *named], by="test", source="test", at=at)
    return tmp_path / "data"


def test_the_templates_shown_pass_once_all_are_registered(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "templates.toml"
    path.write_text(BLOCKS[0])
    tomllib.loads(BLOCKS[0])
    seen = cli("sms", "templates", "check", path, "--unregistered")
    assert "supply-back" in seen.out
    assert "UCS-2" in seen.out
    missing = cli("sms", "templates", "check", path, code=1)
    assert "registered.verify-mobile.en: no DLT id" in missing.err
    names = [name for name in load_library(None).templates if name != "login-code"]
    path.write_text(BLOCKS[0] + "".join(f'[registered.{name}]\nen = "{ID}"\nhi = "{ID}"\n' for name in names))
    assert cli("sms", "templates", "check", path, "--json").json["mistakes"] == []
    assert "Supply in {#var#} is back." in cli("sms", "templates", "list", path).out


def test_a_mistake_is_shown_with_file_line_and_field(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "templates.toml"
    path.write_text(BLOCKS[0].replace("most = 30", "most = 45"))
    seen = cli("sms", "templates", "check", path, "--unregistered", code=1)
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "most" in text)
    assert f"{path}:{line}: templates[0].variables[0].most: 45 characters" in seen.err


def test_the_provider_shown_is_right() -> None:
    document = tomllib.loads(BLOCKS[1])["sms"]
    section = SmsSection.model_validate(document)
    assert isinstance(section.http, SmsHttpSection)
    assert isinstance(section.reports, SmsReportsSection)


def test_contacts_from_the_first_to_the_last_step(cli: Cli, data: Path) -> None:
    where = ("--data", data)
    assert "XXXXXX3210" in cli("contacts", "add", "KE 0012345", "9876543210", *where).out
    (shown,) = cli("contacts", "show", "KE0012345", *where, "--json").json
    assert (shown["mobile"], shown["verified"], shown["told the number"]) == ("XXXXXX3210", None, False)
    cli("contacts", "verify", "KE0012345", "3210", "--how", "otp", *where)
    (shown,) = cli("contacts", "show", "1234567890", *where, "--json").json
    assert (shown["how"], shown["days ago"], shown["told the number"]) == ("otp", 0, True)
    assert "--whole needs --reason" in cli.refuses("contacts", "show", "KE0012345", "--whole", *where, code=2)
    whole = cli("contacts", "show", "KE0012345", "--whole", "--reason", "wrong SMS", *where, "--json").json
    assert whole[0]["mobile"] == "9876543210"
    cli("contacts", "opt-out", "9876543210", *where)
    assert cli("contacts", "show", "KE0012345", *where, "--json").json[0]["wants none since"]
    assert "takes messages again" in cli("contacts", "opt-out", "9876543210", "--back", *where).out
    cli("contacts", "remove", "KE0012345", shown["contact"], "--why", "moved out", *where)
    assert "no mobile" in cli("contacts", "show", "KE0012345", *where).out
    history = cli("contacts", "history", "KE0012345", *where, "--json").json
    assert [one["what"] for one in history] == ["added", "verified", "removed"]
    assert {one["mobile"] for one in history} == {"XXXXXX3210"}


def test_a_file_of_mobiles_is_judged_in_hindi(cli: Cli, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "mobiles.csv"
    path.write_text("legacy_number,mobile\nKE0012345,9876543210\nKE9,9876543211\nKE0012345,12\n")
    wrong = tmp_path / "wrong.csv"
    seen = cli("contacts", "import", path, "--data", data, "--language", "hi", "--corrections", wrong, code=1)
    assert "इस नंबर का कोई खाता हमारे पास नहीं है।" in wrong.read_text(encoding="utf-8")
    assert "लागू नहीं हुए" in seen.out
    assert "9876543211" not in seen.text
    zero = cli.refuses("contacts", "import", "/dev/zero", "--data", data, code=2)
    assert "zero is a device, pipe or socket" in zero


def test_what_is_in_doubt_is_listed_and_sent_again_by_a_person(cli: Cli, data: Path) -> None:
    store, now = PeopleStore(central_files(data).people), datetime.now(UTC)
    to = ContactStore(store).add("acc-1", "9876543210", by="t", source="t", at=now)
    queue = SmsQueue(store, load_library(None))
    values = {"old_ending": "XXXXX2345", "number": "1234567890"}
    noon = now.replace(hour=6, minute=30) - timedelta(days=1)
    queue.put(
        NewMessage(template="new-account-number", contact_id=to.id, values=values, dedupe_key="k"), now=noon
    )
    (handed,) = queue.take(noon, 1)
    queue.settle(handed, Doubtful("the line broke"), reports=True, now=noon)
    store.close()
    assert cli("sms", "status", "--data", data, "--json").json["unconfirmed"] == 1
    (listed,) = cli(
        "sms", "list", "--state", "unconfirmed", "--number", "KE0012345", "--data", data, "--json"
    ).json
    assert (listed["reason"], listed["message"]) == ("the line broke", handed.id)
    cli("sms", "again", handed.id, "--data", data)
    assert cli("sms", "status", "--data", data, "--json").json["waiting"] == 1
    assert "did not end" in cli.refuses("sms", "again", handed.id, "--data", data, code=2)


def test_personal_data_as_the_page_shows_it(cli: Cli, data: Path, tmp_path: Path) -> None:
    """Each command of docs/privacy.md, in its order, in a folder of its own."""
    (tmp_path / "mobiles.csv").write_text("legacy_number,mobile\nKE0012345,9876543210\n")
    printed: dict[str, str] = {}
    for command in re.findall(r"^\$ meter-gateway (.*)$", PRIVACY, flags=re.MULTILINE):
        words = [{"DIR": str(data)}.get(word, word) for word in shlex.split(command)]
        files = ("mobiles.csv", "wrong.csv", "consumer.json", "exposed.csv")
        words = [str(tmp_path / word) if word in files else word for word in words]
        printed[" ".join(words[:2])] = printed.get(" ".join(words[:2]), "") + cli(*words).out
    document = json.loads((tmp_path / "consumer.json").read_text(encoding="utf-8"))
    assert stat.S_IMODE((tmp_path / "consumer.json").stat().st_mode) == 0o600
    assert document["account"] == "acc-1"
    assert {one["number"] for one in document["numbers"]} == {"KE0012345", "1234567890"}
    assert document["contacts"][0]["mobile"] == "9876543210"
    assert [one["what"] for one in document["contacts_history"]] == ["added", "verified", "removed"]
    assert "wrong SMS, ticket 4711" in {one["why"] for one in document["who_looked"]}
    assert re.search(r"erased contacts +1\n", printed["privacy erase"])
    assert "a hash chain of opaque ids" in printed["privacy erase"]
    assert "9876543210" not in printed["contacts history"]
    assert "no mobile" in cli("contacts", "show", "KE0012345", "--data", data).out
    assert "unverified_contacts" in printed["privacy retention"]
    assert printed["privacy breach"].count("0 accounts could have been seen") == 3
    seen = cli(
        "privacy", "breach", "--since", "2026-11-01", "--until", "2099-01-01", "--source", "command",
        "--data", data, "--json",
    ).json  # fmt: skip
    assert seen["accounts"] == 1
    assert {"contacts.seen", "privacy.exported", "privacy.erased"} <= set(seen["seen"][0]["what"].split(", "))
    assert cli("audit", "verify", "--data", data, "--json").json["faults"] == []


def test_every_command_shown_is_one_of_those_tried_here() -> None:
    shown = {tuple(shlex.split(text)[1:3]) for text in re.findall(r"(meter-gateway [a-z].*?)[`\n]", PAGE)}
    assert shown <= {("sms", "templates")}
