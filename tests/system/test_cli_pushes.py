"""The commands for pushes: a page for a new make that does what it says, mistakes by file and line, decode."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.dlms.pushes import CASES
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "dlms.md").read_text(encoding="utf-8")
SECTION = PAGE[
    PAGE.index("## Receive a new make's pushes") : PAGE.index(
        "\n## ", PAGE.index("## Receive a new make") + 1
    )
]


def block(kind: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL)
    return found[number]


@pytest.fixture
def acme(cli: Cli) -> Path:
    folder = cli.folder / "companions"
    folder.mkdir(exist_ok=True)
    (folder / "push.hex").write_text(block("hex"), encoding="utf-8")
    (folder / "acme.toml").write_text(block("toml"), encoding="utf-8")
    return folder


def test_the_page_for_a_new_make_prints_what_it_shows(cli: Cli, acme: Path) -> None:
    looked, checked = block("text", 0), block("text", 1)
    assert cli("decode", str(acme / "push.hex")).out.strip() == looked.split("\n", 1)[1].strip()
    command = ("push", "check", str(acme / "push.hex"), "--companion", str(acme / "acme.toml"))
    said = cli(*command, "--zone", "Asia/Kolkata").out
    shown = checked.split("--zone Asia/Kolkata\n")[1]
    assert [line.split() for line in said.splitlines()] == [line.split() for line in shown.splitlines()]
    (acme / "acme.toml").write_text(block("toml").replace('  "clock",\n', ""), encoding="utf-8")
    assert cli(*command, code=1).err.strip() == checked.splitlines()[1]


def test_the_page_s_configuration_is_one(cli: Cli, acme: Path) -> None:
    secrets = acme / "secrets"
    secrets.mkdir(exist_ok=True)
    text = block("toml", 1).replace("/etc/meter-gateway/companions", str(acme))
    head = f'[gateway]\nname = "e"\ndata = "{acme}"\nsecrets = "{secrets}"\n'
    config = acme / "gateway.conf"
    config.write_text(head + text, encoding="utf-8")
    assert "no secret acm-00412233-ek" in cli("check", "--config", str(config), code=3).err
    (acme / "acme.toml").write_text(block("toml").replace('"Wh"', '"kWh"'), encoding="utf-8")
    line = block("toml").splitlines().index('  { quantity = "1-0:1.8.0*255", scaler = 1, unit = "Wh" },') + 1
    assert f"line {line}: unit: unknown 'kWh'" in cli.refuses("check", "--config", str(config), code=3)


def test_json_has_captures_and_mistakes(cli: Cli, acme: Path) -> None:
    case = str(CASES / "ru-spodes-push-alarm.txt")
    (push,) = json.loads(cli("push", "check", case, "--companion", "spodes", "--json").out)["pushes"]
    assert (push["device"], push["setup"]) == ("12345678901", "0-0:25.9.0*255")
    assert push["captures"][0]["values"]["0-0:97.98.20*255"] == "8210"
    wrong = cli("push", "check", case, "--companion", str(acme / "acme.toml"), "--json", code=1)
    (push,) = json.loads(wrong.out)["pushes"]
    assert push["captures"] == []
    assert re.search(r"form 'readings' \(acme.toml line \d+\): field 1", push["mistakes"][0])


def test_a_ciphered_push_needs_its_key_and_one_key_is_enough_where_it_is_encrypted_only(cli: Cli) -> None:
    case = str(CASES / "at-kaifa-mbus.txt")
    command = ("push", "check", case, "--companion", "kaifa", "--zone", "Europe/Vienna")
    assert "give its keys (--key-file)" in cli(*command, code=1).err
    keys = cli.folder / "keys.toml"
    keys.write_text('encryption_key = "36C66639E48A8CA4D6BC8B282A793BBB"\n')
    keys.chmod(0o600)
    assert "181220000009" in cli(*command, "--key-file", str(keys)).out
    keys.write_text('encryption_key = "00000000000000000000000000000000"\n')
    keys.chmod(0o600)
    assert "deciphered to noise" in cli(*command, "--key-file", str(keys), code=1).err


def test_decode_shows_the_tree_and_what_the_companion_says(cli: Cli) -> None:
    said = cli("decode", str(CASES / "at-kaifa-mbus.txt")).out
    assert "M-Bus frame: control 0x53, address 255, CI 0x11, 1 → 103, segment 1" in said
    both = cli("decode", str(CASES / "no-kaifa-list1.txt"), "--companion", "kaifa").out
    assert "HDLC frame: 1/0 → 0, I 0" in both
    assert "time: 07 e6 01 02 07 0e 25 12 ff 80 00 00 (2022-01-02 14:37:18" in both
    assert "4117" in both


def test_companions_are_listed_and_a_wrong_name_is_said_so(cli: Cli, acme: Path) -> None:
    listed = json.loads(cli("push", "companions", "--folder", str(acme), "--json").out)
    assert {"acme", "spodes", "is15959"} <= {row["companion"] for row in listed}
    case = str(CASES / "no-kaifa-list1.txt")
    assert "there is no companion `kaif`" in cli.refuses("push", "check", case, "--companion", "kaif", code=3)
    assert "no time zone" in cli.refuses(
        "push", "check", case, "--companion", "kaifa", "--zone", "Mars", code=2
    )
    assert "no push" in cli("push", "check", "7E", "--companion", "kaifa", code=1).err
