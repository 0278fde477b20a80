"""Programs import what they use: heavy libraries are not there when nothing asked for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.roles.central_files import make_directory_keys
from tests.support.paths import ROOT

LIBRARIES = {
    "aiomqtt",
    "amqtt",
    "cryptography",
    "fastapi",
    "influxdb_client",
    "jinja2",
    "paho",
    "prometheus_client",
    "pydantic",
    "pymodbus",
    "rich",
    "serial",
    "sqlalchemy",
    "structlog",
    "uvicorn",
}
GET = "C001C100080000010000FF0200"
TRACE = "tests/protocols/dlms/traces/clock-wrapper-lls.trace"
EDGE = """[gateway]
name = "edge-1"
data = "{folder}/data"
secrets = "{folder}/keys"
roles = ["edge"]
[mqtt]
port = 1
[directory]
verify_key_ref = "directory-verify"
"""


def imported(program: str, *arguments: str) -> set[str]:
    """Names of all modules that a program has imported when it ends."""
    end = "import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    done = subprocess.run(
        [sys.executable, "-c", end + program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def libraries(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} & LIBRARIES


COMMAND = "from gateway.cli.main import main; main()"


def test_help_imports_no_command_and_no_library() -> None:
    modules = imported(COMMAND, "--help")
    assert libraries(modules) == set()
    assert {name for name in modules if name.startswith("gateway.cli.") and name.count(".") > 2} == set()


@pytest.mark.parametrize("given", [GET, TRACE])
def test_decode_of_plain_traffic_imports_no_library(given: str) -> None:
    assert libraries(imported(COMMAND, "decode", given)) == set()


def test_an_edge_imports_neither_the_web_nor_influx(tmp_path: Path) -> None:
    make_directory_keys(tmp_path / "keys")
    (tmp_path / "edge.toml").write_text(EDGE.format(folder=tmp_path), encoding="utf-8")
    program = """
import asyncio, sys
from pathlib import Path
from gateway.config.file import load
from gateway.roles.app import running

async def work():
    async with running(load(Path(sys.argv[1]))):
        pass

asyncio.run(work())
"""
    modules = imported(program, str(tmp_path / "edge.toml"))
    assert libraries(modules) & {"fastapi", "influxdb_client", "jinja2", "sqlalchemy", "uvicorn"} == set()
    assert {name for name in modules if name.startswith(("gateway.web", "gateway.central"))} == set()
