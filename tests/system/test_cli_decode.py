"""The command `decode`: hex as people paste it, files of hex and of octets, keys from a file."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import Cli

GET = "C0010000080000010000FF0200"
CIPHERED = "C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B"
KEYS = """encryption_key = "000102030405060708090A0B0C0D0E0F"
authentication_key = "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"
"""


@pytest.mark.parametrize("given", [GET, "c0:01:00 00:08 00 00 01 00 00 FF\n02 00", f"0x{GET}"])
def test_hex_as_people_paste_it(cli: Cli, given: str) -> None:
    assert "class 8, 0-0:1.0.0*255, attribute 2" in cli("decode", given).out


def test_files_of_octets_and_of_hex(cli: Cli) -> None:
    for name, content in (("raw", bytes.fromhex(GET)), ("hex", f"{GET[:10]}\n{GET[10:]}\n".encode())):
        (cli.folder / name).write_bytes(content)
        assert "get-request" in cli("decode", str(cli.folder / name)).out


def test_keys_come_from_a_file(cli: Cli) -> None:
    (cli.folder / "keys.toml").write_text(KEYS, encoding="utf-8")
    keys = ("--key-file", str(cli.folder / "keys.toml"), "--system-title", "4D4D4D0000BC614E")
    assert "0-0:1.0.0*255" in cli("decode", CIPHERED, *keys).out
    assert "0-0:1.0.0*255" not in cli("decode", CIPHERED).out


def test_the_first_wrong_byte(cli: Cli) -> None:
    said = cli("decode", "C001C10008", "--json", code=1)
    assert json.loads(said.out)["problem"] == {"offset": 5, "of": "", "reason": "6 octets wanted, 0 left"}
    assert "wrong at offset 0x0005 (5)" in said.err


def test_wrong_use(cli: Cli) -> None:
    (cli.folder / "keys.toml").write_text(KEYS.replace("0F", "0F0F"), encoding="utf-8")
    said = cli("decode", CIPHERED, "--key-file", str(cli.folder / "keys.toml"), code=2)
    assert "16 octets" in said.err
    assert "0E0F" not in said.err
    assert "neither hex" in cli("decode", "no such thing", code=2).err
