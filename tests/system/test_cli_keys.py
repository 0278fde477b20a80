"""The commands of `keys` as a person gives them: nothing secret is ever printed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.store import SealedStore
from gateway.contract.sealing import new_sealing_pair
from gateway.private_file import write_private
from tests.support.cli import Cli
from tests.support.keys import PRIVATE

EK, AK = "00112233445566778899aabbccddeeff", "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"


def central(folder: Path) -> Path:
    """A configuration of central with an escrow key and a store key; its offline key is `escrow`."""
    keys = folder / "keys"
    keys.mkdir(mode=0o700, parents=True)
    escrow, escrow_public = new_sealing_pair()
    store, store_public = new_sealing_pair()
    for name, content in (
        ("escrow.pub", escrow_public),
        ("store", store),
        ("store.pub", store_public),
        ("signing", PRIVATE),
    ):
        write_private(keys / name, content)
    write_private(folder / "escrow", escrow)
    config = folder / "central.toml"
    config.write_text(
        f"""[gateway]
name = "central"
data = "{folder / "data"}"
secrets = "{keys}"
roles = ["central"]
[directory]
signing_key_ref = "signing"
[keys]
escrow_key_ref = "escrow.pub"
store_key_ref = "store.pub"
store_secret_ref = "store"
"""
    )
    return config


def test_a_consignment_is_previewed_kept_and_opened(cli: Cli, tmp_path: Path) -> None:
    config = central(tmp_path / "c")
    lot = tmp_path / "lot.csv"
    lot.write_text(f"serial,maker,ek,ak\n1,GEN,{EK},{AK}\n2,GEN,{EK},{AK}\n")
    command = ("keys", "import", lot, "--config", config)
    assert "not enciphered" in cli.refuses(*command, code=2)
    told = cli(*command, "--plain", "--json").json
    assert (told["new"], told["mistakes"], told["result"][:7]) == (2, 0, "nothing")
    assert cli(*command, "--plain", "--apply", "--json").json["result"] == "kept"
    again = cli(*command, "--plain", "--apply", "--json").json
    assert (again["new"], again["known already"], again["conflicts"]) == (0, 2, 0)
    # Other keys for a meter that is known wait for a person's word.
    lot.write_text(f"serial,maker,ek,ak\n1,GEN,{AK},{EK}\n3,GEN,{EK[:-2]},{AK}\n")
    refused = cli(*command, "--plain", "--apply", "--json", code=1)
    assert [p["line"] for p in refused.json["problems"]] == [3, 2]
    for shown in (EK, AK):
        assert shown not in refused.text
        assert shown not in cli("keys", "kept", "--config", config).text
        assert bytes.fromhex(shown) not in (tmp_path / "c" / "data" / "central" / "keys.db").read_bytes()
    out = tmp_path / "meter.toml"
    escrow = tmp_path / "c" / "escrow"
    opened = cli("keys", "open", "GEN:1", "--private-key", escrow, "--to", out, "--config", config)
    assert EK not in opened.text
    assert out.stat().st_mode & 0o777 == 0o600
    assert f'encryption_key = "hex:{EK}"' in out.read_text()


def test_one_text_that_does_not_open_hides_no_other(cli: Cli, tmp_path: Path) -> None:
    """An older escrow key's, or what a hostile gateway escrowed under the escrow key's name."""
    config = central(tmp_path / "c")
    lot = tmp_path / "lot.csv"
    lot.write_text(f"serial,maker,ek,ak\n1,GEN,{EK},{AK}\n")
    command = ("keys", "import", lot, "--config", config, "--plain")
    cli(*command, "--apply")
    store = SealedStore(tmp_path / "c" / "data" / "central" / "keys.db")
    sealed = bytearray(store.all()[0].sealed)
    sealed[-1] ^= 1
    at = datetime(2026, 11, 30, tzinfo=UTC)
    junk = SealedKeys(
        key_id="f" * 32,
        gateway="edge-1",
        meter="GEN:1",
        slots=("48/encryption",),
        sealed=bytes(sealed),
        made_at=at,
        proved_at=at,
    )
    store.keep([junk], at)
    store.close()
    out = tmp_path / "meter.toml"
    escrow = tmp_path / "c" / "escrow"
    opened = cli("keys", "open", "GEN:1", "--private-key", escrow, "--to", out, "--config", config)
    assert "1 sealed texts do not open" in opened.text
    assert f'encryption_key = "hex:{EK}"' in out.read_text()
    assert cli(*command, "--json").json["known already"] == 1
    private, _ = new_sealing_pair()
    write_private(tmp_path / "other", private)
    said = cli.refuses(
        "keys", "open", "GEN:1", "--private-key", tmp_path / "other", "--to", out, "--config", config, code=2
    )
    assert "2 sealed texts do not open with this key" in said


def test_the_second_copy_is_compared_and_made_anew(cli: Cli, tmp_path: Path) -> None:
    config = central(tmp_path / "c")
    lot = tmp_path / "lot.csv"
    lot.write_text(f"serial,maker,ek,ak\n1,GEN,{EK},{AK}\n")
    cli("keys", "import", lot, "--config", config, "--plain", "--apply")
    folder = tmp_path / "c" / "data" / "central"
    check = ("keys", "check", "--config", config)
    told = cli(*check, "--json").json
    assert (told["kept"], told["filled from it"], told["copied to it"]) == (1, 0, 0)
    assert told["second_copy"] == str(folder / "keys.copy")
    for part in folder.glob("keys.db*"):
        part.unlink()
    SealedStore(folder / "keys.db").close()  # a store set back to nothing
    assert cli("keys", "kept", "--config", config, "--json").json[0]["meter"] == "GEN:1"
    (folder / "keys.copy").unlink()
    assert "mount its disk" in cli.refuses(*check, code=5)
    lot.write_text(f"serial,maker,ek,ak\n2,GEN,{EK},{AK}\n")
    assert "is gone" in cli.refuses("keys", "import", lot, "--config", config, "--plain", "--apply", code=5)
    assert cli(*check, "--anew", "--json").json["copied to it"] == 1
    (folder / "keys.copy").write_bytes(b"noise")
    said = cli(*check, "--json", code=1).json
    assert (said["copied to it"], said["lines that cannot be read"]) == (1, 1)


def test_pairs_are_made_once(cli: Cli, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    made = cli("keys", "escrow-new", stick, "--no-passphrase", "--json").json
    assert (stick / "keys-escrow").stat().st_mode & 0o777 == 0o600
    assert "BEGIN PRIVATE" not in json.dumps(made)
    assert "never overwritten" in cli.refuses("keys", "escrow-new", stick, "--no-passphrase", code=2)
    assert cli("keys", "store-new", tmp_path / "s", "--json").json["key"] != made["key"]


def test_what_is_missing_is_said(cli: Cli, tmp_path: Path) -> None:
    config = central(tmp_path / "c")
    assert "no sealed keys" in cli.refuses("keys", "boxes", "--config", config, code=2)
    assert "there is no meter" in cli.refuses("keys", "rotate", "GEN:9", "--config", config, "--yes", code=2)
    assert "not one of" in cli.refuses(
        "keys", "rotate", "GEN:9", "--what", "all", "--config", config, "--yes", code=2
    )
    assert cli("keys", "status", "--config", config, "--json").json == {"under_way": [], "kept": []}
    assert len(cli("keys", "box", "--config", config, "--json").json["box"]) == 16
