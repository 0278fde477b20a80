"""`check` and the size up to which points may carry their account."""

from __future__ import annotations

from pathlib import Path

from gateway.config.file import load
from gateway.edge.influx.keeper import HoldingKeeper
from gateway.edge.influx.move import InfluxMover
from gateway.roles.influx import influx_follower
from protocols.meters.secrets import FileSecrets
from tests.support.cli import Cli


def written(folder: Path, *influx: str) -> Path:
    path = folder / "edge.toml"
    lines = [
        "[gateway]",
        'name = "edge-1"',
        f'data = "{folder}/data"',
        "[influx]",
        'url = "http://127.0.0.1:8428"',
        'server = "victoriametrics"',
        *influx,
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_town_may_not_carry_the_account_in_a_tag(cli: Cli, tmp_path: Path) -> None:
    config = written(tmp_path, "server_meters = 150_000")
    said = cli("check", "--config", config, code=3).err
    assert "edge.toml" in said
    assert "influx.account_tag" in said
    assert "150000 meters write to one server" in said
    assert "account_tag = false" in said
    cli("check", "--config", written(tmp_path, "server_meters = 150_000", "account_tag = false"))
    cli("check", "--config", written(tmp_path, "server_meters = 10_000"))


def test_the_setting_chooses_what_follows_the_directory(tmp_path: Path) -> None:
    for text, kind in (("true", InfluxMover), ("false", HoldingKeeper)):
        config = load(written(tmp_path, f"account_tag = {text}"))
        assert config.influx is not None
        follower = influx_follower(config, config.influx, FileSecrets(tmp_path))
        assert isinstance(follower.corrector, kind)
        follower.corrector.close()
