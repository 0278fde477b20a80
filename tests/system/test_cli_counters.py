"""`counters`: where invocation counters stand, and an operator's word on one that a meter does not prove."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.config.file import Config, load
from protocols.dlms.client.association_opener import association_settings, counter_key
from protocols.dlms.push.senders import sender_key
from protocols.meters.counters import MAX_FIRST, FileCounters
from protocols.meters.secrets import FileSecrets
from protocols.session import DlmsSettings
from tests.support.cli import Cli

CONFIG = """
[gateway]
name = "edge-1"
data = "{data}"
secrets = "{data}/keys"

[push]
tcp_port = 4059

[[lines]]
name = "lan"
kind = "tcp"
host = "10.0.0.7"
port = 4059
"""
METER = """
[[meters]]
meter = "GEN:{serial}"
line = "lan"
[meters.dlms]
client = 48
auth = "hls2"
password_ref = "hls"
ciphered = true
encryption_key_ref = "lot-ek"
authentication_key_ref = "lot-ak"
[meters.push]
system_title = "47454E000000000{serial}"
"""


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("hls", "lot-ek", "lot-ak"):
        path = keys / name
        path.write_text("hex:" + "5a" * 16)
        path.chmod(0o600)
    (tmp_path / "edge").mkdir()
    path = tmp_path / "edge.toml"
    path.write_text(CONFIG.format(data=tmp_path) + "".join(METER.format(serial=n) for n in (1, 2)))
    return path


def test_a_lie_is_shown_and_settled_by_an_operator(cli: Cli, edge: Path) -> None:
    config = load(edge)
    one, two = (association_settings(_dlms(config, n), FileSecrets(config.secrets)) for n in (0, 1))
    assert one.keys is not None
    assert one.keys == (two.keys or one.keys)
    assert one.system_title != two.system_title, "meters that share a key have counters of their own"
    name = counter_key(one.keys, one.system_title)
    told = MAX_FIRST + 999
    with closing(FileCounters(config.edge_folder / "counters.json")) as store:
        assert store.next(name) == 0
        assert not store.believes(name, told)
        running = cli.refuses("counters", "reset", "GEN:1", "--to", told + 1, "-c", edge, code=4)
        assert "in use: the edge runs, or another program: stop it first" in running
    shown = {row["meter"]: row for row in cli("counters", "show", "-c", edge, "--json").json}
    assert (shown["GEN:1"]["next"], shown["GEN:1"]["not_believed"]) == (256, told)
    assert (shown["GEN:2"]["next"], shown["GEN:2"]["not_believed"]) == (0, None)
    assert (
        "next association uses counter" in cli("counters", "reset", "GEN:1", "--to", told + 1, "-c", edge).out
    )
    [row] = cli("counters", "show", "GEN:1", "-c", edge, "--json").json
    assert (row["next"], row["not_believed"]) == (told + 1, None)
    assert "no counter to go on with" in cli.refuses(
        "counters", "reset", "GEN:1", "--to", 5, "-c", edge, code=4
    )


def test_the_counter_of_a_meters_pushes_is_forgotten(cli: Cli, edge: Path) -> None:
    config = load(edge)
    settings = association_settings(_dlms(config, 0), FileSecrets(config.secrets))
    assert settings.keys is not None
    with closing(sqlite3.connect(config.edge_folder / "push.db")) as db:
        db.execute("create table pushed (sender text primary key, counter integer not null)")
        sender = sender_key(settings.keys, bytes.fromhex("47454E0000000001"))
        db.execute("insert into pushed values (?, 4294967295)", (sender,))
        db.commit()
    [row] = cli("counters", "show", "GEN:1", "-c", edge, "--json").json
    assert row["push"] == 4294967295
    cli("counters", "reset", "GEN:1", "--pushes", "-c", edge)
    [row] = cli("counters", "show", "GEN:1", "-c", edge, "--json").json
    assert row["push"] is None


def test_what_cannot_be_meant(cli: Cli, edge: Path) -> None:
    assert "say what to reset" in cli.refuses("counters", "reset", "GEN:1", "-c", edge, code=2)
    with edge.open("a") as file:
        file.write(
            '[[meters]]\nmeter = "EAS:9"\nline = "lan"\n[meters.modbus]\nunit = 1\nmodel = "abb-b23"\n'
        )
    assert "EAS:9 has no keys" in cli.refuses("counters", "show", "EAS:9", "-c", edge, code=2)
    assert "Did you mean `GEN:1`" in cli.refuses("counters", "show", "GEN:11", "-c", edge, code=2)


def _dlms(config: Config, number: int) -> DlmsSettings:
    settings = config.spec(config.meters[number], config.gateway.name).dlms
    assert settings is not None
    return settings
