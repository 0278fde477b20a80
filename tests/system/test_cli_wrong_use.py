"""Wrong use of any command: one clear message and the documented exit code, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.commands import every_command
from gateway.roles.central_files import central_files
from mapping.store import DirectoryStore
from tests.support.cli import Cli

CONFIG = """[gateway]
name = "e-1"
data = "data"
secrets = "keys"
roles = ["edge"]
[mqtt]
port = 1
[[lines]]
name = "bus-1"
kind = "tcp"
host = "127.0.0.1"
port = 1
[[meters]]
meter = "EAS:10000001"
line = "bus-1"
profiles = ["instantaneous"]
[meters.modbus]
unit = 1
model = "sdm120"
"""


@pytest.fixture(autouse=True)
def files(cli: Cli) -> Path:
    (cli.folder / "good.toml").write_text(CONFIG, encoding="utf-8")
    (cli.folder / "broken.toml").write_text("[gateway\nname=", encoding="utf-8")
    (cli.folder / "binary.csv").write_bytes(b"\xff\xfe\x00legacy")
    (cli.folder / "folder").mkdir(exist_ok=True)
    with DirectoryStore(central_files(cli.folder / "d1").made().directory):
        return cli.folder


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_help_shows_an_example(cli: Cli, path: tuple[str, ...]) -> None:
    assert f"Example: meter-gateway {' '.join(path)}" in " ".join(cli(*path, "--help").out.split())


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_an_option_that_does_not_exist(cli: Cli, path: tuple[str, ...]) -> None:
    assert "No such option" in cli(*path, "--nonsense", code=2).err


NO_CONFIG = "there is no such file"
CASES = [
    ("read EAS:1000001 instantaneous -c good.toml", 2, "Did you mean `EAS:10000001`?"),
    ("read EAS:10000001 instantanous -c good.toml", 2, "Did you mean `instantaneous`?"),
    ("read EAS:10000001 instantaneous", 2, "--config"),
    ("read EAS:10000001 instantaneous -c good.toml --since yesterday", 2, "is not a time"),
    ("read EAS:10000001 instantaneous -c good.toml", 4, "Connect call failed"),
    ("read tcp://[::1 instantaneous", 2, "IPv6"),
    ("read tcp://h:99999 instantaneous", 2, "out of range"),
    ("read http://h:1 instantaneous", 2, "neither a meter"),
    ("read tcp://127.0.0.1:1 instantaneous", 4, "Connect call failed"),
    ("read tcp://127.0.0.1:1 instantaneous --unit 1", 2, "--model"),
    ("read tcp://127.0.0.1:1 instantaneous --unit 1 --model abb-b", 3, "abb-b23"),
    ("read tcp://127.0.0.1:1 instantaneous --auth lsl", 2, "Did you mean `lls`?"),
    ("read tcp://127.0.0.1:1 instantaneous --auth lls --password-ref ../x", 3, "not a secret's name"),
    ("read tcp://127.0.0.1:1 block_load --client 48", 2, "--auth hls2 needs hls_key"),
    ("read tcp://127.0.0.1:1 block_load --client 32", 2, "--auth lls needs password"),
    ("read tcp://127.0.0.1:1 block_load --auth hls-gmac", 2, "encryption_key and authentication_key"),
    ("read tcp://127.0.0.1:1 block_load --ciphered", 2, "--ciphered needs encryption_key"),
    ("read tcp://127.0.0.1:1 block_load --framing hdcl", 2, "Did you mean `hdlc`?"),
    ("read tcp://127.0.0.1:1 block_load --companion genric", 2, "Did you mean `generic`?"),
    ("read tcp://127.0.0.1:1 block_load --zone Asia/Kanpur", 3, "Asia/Kanpur"),
    ("read tcp://127.0.0.1:1 block_load --json --csv", 2, "either --json or --csv"),
    ("read tcp://127.0.0.1:1 block_load --key-file absent.toml", 3, "absent.toml"),
    ("read tcp://127.0.0.1:1 block_load --trace folder", 2, "folder"),
    ("explore tcp://127.0.0.1:1", 4, "Connect call failed"),
    ("explore tcp://127.0.0.1:1 --unit 1 --model sdm120", 2, "only a DLMS meter"),
    ("clock EAS:1 -c good.toml", 2, "there is no meter"),
    ("relay bus-1", 2, "--config"),
    ("events tcp://127.0.0.1:1 --since never", 2, "--since"),
    ("simulate --replay absent.json", 2, "absent.json"),
    ("simulate --replay good.toml", 2, "not JSON"),
    ("simulate --replay good.toml --framing tcp", 2, "not one of wrapper, hdlc"),
    ("read serial:///dev/null instantaneous --unit 1 --model sdm120", 4, "line address"),
    ("read serial:///dev/absent instantaneous", 4, "/dev/absent"),
    ("scan bus-2 -c good.toml", 2, "Did you mean `bus-1`?"),
    ("scan bus-1", 2, "--config"),
    ("scan serial:///dev/absent", 4, "/dev/absent"),
    ("scan tcp://127.0.0.1:1 --first 9 --last 3", 2, "9..3"),
    ("commission EAS:10000001 --usage-point UP-1 -c good.toml", 2, "--central"),
    (
        "commission EAS:10000001 --usage-point UP-1 --role konsumer -c good.toml",
        2,
        "Did you mean `consumer`?",
    ),
    ("replace EAS:10000001 EAS:2 --usage-point UP-1 -c good.toml --central folder", 2, "no central at"),
    ("replay 5 2 -c good.toml", 2, "5..2"),
    ("replay 1 2 -c good.toml", 5, "no journal"),
    ("replay 1 2 -c good.toml --journal 11111111-1111-1111-1111-111111111111", 4, "127.0.0.1"),
    ("outbox -c good.toml", 5, "no journal"),
    ("simulate --speed fast", 2, "is not a speed"),
    ("demo --once --keep good.toml", 2, "not a folder"),
    ("directory show --data absent", 2, "directory.db"),
    ("directory import absent.csv --data d1", 2, "absent.csv"),
    ("directory import binary.csv --data d1", 2, "binary.csv"),
    ("directory keys good.toml/x", 1, "good.toml"),
    ("directory rekey plan good.toml", 2, "--data FOLDER or --config FILE"),
    ("directory rekey plan absent.csv --data d1", 2, "absent.csv"),
    ("directory rekey plan folder --data d1", 2, "folder"),
    ("contacts import absent.csv --data d1", 2, "absent.csv"),
    ("contacts import binary.csv --data d1", 2, "binary.csv"),
    ("unattributed --data absent", 5, "no ledger"),
    ("explain EAS:10000001 --data absent", 5, "no ledger"),
    ("readings 1234567890 --since 2026-11-01 --until x --data absent", 2, "--until"),
    ("readings 1234567890 --since 2026-11-02 --until 2026-11-01 --data absent", 2, "not later"),
    *(
        (f"{command} -c absent.toml", 3, NO_CONFIG)
        for command in ("run", "check", "listen", "outbox", "unattributed")
    ),
    ("check -c folder", 3, "folder"),
    ("check -c binary.csv", 3, "binary.csv"),
    ("check -c broken.toml", 3, "broken.toml"),
]


@pytest.mark.parametrize(("command", "code", "says"), CASES, ids=[c[0] for c in CASES])
def test_one_clear_line(cli: Cli, command: str, code: int, says: str) -> None:
    assert says in cli.refuses(*command.split(), code=code)


@pytest.mark.parametrize(
    "command", ["replay a 2", "simulate --meters many", "readings", "bogus", "directory bogus"]
)
def test_numbers_and_names_of_commands(cli: Cli, command: str) -> None:
    assert "Usage: " in cli(*command.split(), code=2).err


def test_check_tells_each_mistake_with_its_place_as_json(cli: Cli) -> None:
    (cli.folder / "bad.toml").write_text(
        CONFIG.replace('kind = "tcp"', 'kind = "tpc"').replace("unit = 1", "unit = 999"), encoding="utf-8"
    )
    mistakes = cli("check", "--config", "bad.toml", "--json", code=3).json
    lines = (cli.folder / "bad.toml").read_text().splitlines()
    for mistake in mistakes:
        assert mistake["file"].endswith("bad.toml")
        assert mistake["problem"]
    assert {lines[m["line"] - 1] for m in mistakes if m["line"]} >= {'kind = "tpc"', "unit = 999"}
    assert any(m["nearest"] == "tcp" for m in mistakes)


def test_check_of_a_good_file(cli: Cli) -> None:
    seen = cli("check", "--config", "good.toml", "--json").json
    assert (seen["gateway"], seen["lines"], seen["meters"], seen["secrets_missing"]) == ("e-1", 1, 1, [])


def test_check_says_of_which_role_whatever_that_its_clock_is_only_declared_right(cli: Cli) -> None:
    (cli.folder / "c.toml").write_text(
        '[gateway]\nname = "c"\ndata = "d"\nroles = ["central"]\n[time]\ntrust = "host"\n', encoding="utf-8"
    )
    (warning,) = cli("check", "--config", "c.toml", "--json").json["warnings"]
    assert "believed though nobody was asked" in warning


@pytest.mark.parametrize("key", ["verify_key_ref", "signing_key_ref"])
def test_check_reads_the_directorys_keys(cli: Cli, key: str) -> None:
    secrets = cli.folder / "keys"
    cli("directory", "keys", secrets)
    other = {"verify_key_ref": "directory-signing", "signing_key_ref": "directory-verify"}
    text = CONFIG.replace('"keys"', f'"{secrets}"')
    (cli.folder / "swapped.toml").write_text(f'{text}[directory]\n{key} = "{other[key]}"\n', encoding="utf-8")
    assert f"secret {other[key]}: " in cli("check", "-c", "swapped.toml", code=3).err


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("meter-gateway ")
