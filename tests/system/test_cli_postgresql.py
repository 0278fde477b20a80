"""A directory in a PostgreSQL that the configuration names: the office's commands work on it as on a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.postgres import PostgreSQL

METERS = """meter,usage_point,role,legacy_number,account_number,valid_from
GEN:10000001,UP-1,consumer,KE0000001,,2026-10-01T00:00:00+05:30
"""


@pytest.fixture
def url() -> Iterator[str]:
    with PostgreSQL() as server:
        yield server.database()


def configured(folder: Path, database: str, more: str = "") -> Path:
    path = folder / "central.toml"
    path.write_text(
        f"""[gateway]
name = "central"
roles = ["central"]
data = "{folder / "data"}"
secrets = "{folder / "keys"}"

[directory]
signing_key_ref = "directory-signing"

[central]
database = "{database}"
{more}""",
        encoding="utf-8",
    )
    return path


@pytest.mark.postgres
def test_import_move_and_undo_in_a_postgresql(cli: Cli, tmp_path: Path, url: str) -> None:
    config = configured(tmp_path, url, 'database_password_ref = "database"\n')
    (tmp_path / "keys").mkdir(mode=0o700)
    secret = tmp_path / "keys" / "database"
    secret.touch(mode=0o600)
    secret.write_text("not asked for on this socket\n", encoding="utf-8")
    meters = tmp_path / "meters.csv"
    meters.write_text(METERS, encoding="utf-8")
    at = ("--config", config)
    assert cli("directory", "import", meters, *at, "--json").json["applied"]
    (row,) = cli("directory", "show", "GEN:10000001", *at, "--json").json
    assert row["legacy_number"] == "KE0000001"
    cli("directory", "move-out", "UP-1", "--at", "2026-11-01", *at)
    assert cli("directory", "show", *at, "--json").json["version"] == 2
    cli("directory", "undo", "2", *at)
    (row,) = cli("directory", "show", "GEN:10000001", *at, "--json").json
    assert row["legacy_number"] == "KE0000001"
    assert not (tmp_path / "data" / "central" / "directory.db").exists()


@pytest.mark.postgres
def test_allocations_and_readings_in_the_same_postgresql(cli: Cli, tmp_path: Path, url: str) -> None:
    config = configured(tmp_path, url)
    at = ("--config", config)
    cli("allocation", "move", "GEN:10000001", "--to", "north", *at)
    (row,) = cli("allocation", "show", *at, "--json").json
    assert (row["meter"], row["gateway"]) == ("GEN:10000001", "north")
    meters = tmp_path / "meters.csv"
    meters.write_text(METERS, encoding="utf-8")
    cli("directory", "import", meters, *at)
    assert (
        cli("readings", "KE0000001", "--since", "2026-11-01", "--until", "2026-11-02", *at, "--json").json
        == []
    )
    assert "every reading" in cli("unattributed", *at).out
    assert not (tmp_path / "data" / "central" / "ledger.db").exists()


def test_a_database_that_is_away_is_named_without_its_password(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    secret = tmp_path / "keys" / "database"
    secret.touch(mode=0o600)
    secret.write_text("hunter2", encoding="utf-8")
    away = f"postgresql://gateway@/directory?unix_sock={tmp_path}/none"
    config = configured(tmp_path, away, 'database_password_ref = "database"\n')
    said = cli.refuses("directory", "show", "--config", config, code=2)
    assert "the directory failed while being opened" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("postgresql://gateway:hunter2@db/directory", "the password is no part of the URL"),
        ("mysql://gateway@db/directory", "write postgresql://USER@HOST/NAME"),
        ("postgresql://db/directory", "write postgresql://USER@HOST/NAME"),
    ],
)
def test_urls_that_are_refused(cli: Cli, tmp_path: Path, database: str, said: str) -> None:
    found = cli.refuses("check", "--config", configured(tmp_path, database), code=3)
    assert said in found
    assert "hunter2" not in found
