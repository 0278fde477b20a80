"""The unit is accepted by systemd's own checks, and the program tells systemd how it is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.roles.central_files import make_directory_keys
from tests.support import services
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, wait_until

UNIT = ROOT / "systemd" / "meter-gateway@.service"
EXPOSURE = 20
"""Largest exposure allowed, in tenths: 2.0 is `OK` at its best."""


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    text = UNIT.read_text(encoding="utf-8")
    assert "ExecStart=/usr/bin/meter-gateway " in text
    unit = tmp_path / UNIT.name
    unit.write_text(
        text.replace("/usr/bin/meter-gateway", shutil.which("true") or "/bin/true"), encoding="utf-8"
    )
    return unit


def analyze(*words: str) -> None:
    path = services.program("systemd", "systemd-analyze", "systemd")
    done = subprocess.run([path, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.systemd
def test_the_unit_has_no_mistake(rendered: Path) -> None:
    analyze("verify", "--recursive-errors=yes", str(rendered.with_name("meter-gateway@north.service")))


def test_the_unit_lets_the_program_ask_the_kernel_for_the_clocks_state() -> None:
    """`adjtimex` tells whether NTP disciplines the clock; ProtectClock= and @privileged forbid it."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    assert "ProtectClock=yes" not in lines
    assert lines.index("SystemCallFilter=adjtimex clock_adjtime clock_adjtime64") > lines.index(
        "SystemCallFilter=~@privileged @resources"
    )
    assert "CapabilityBoundingSet=" in lines  # nobody sets it


@pytest.mark.systemd
def test_the_unit_is_hardened(rendered: Path) -> None:
    instance = rendered.with_name("meter-gateway@north.service")
    instance.write_text(rendered.read_text(encoding="utf-8"), encoding="utf-8")
    analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(instance))


def test_the_program_tells_ready_alive_and_stopping(tmp_path: Path) -> None:
    config = tmp_path / "central.toml"
    config.write_text(
        f'[gateway]\nname = "central-1"\ndata = "{tmp_path}/data"\nsecrets = "{tmp_path}/keys"\n'
        'roles = ["central"]\n[mqtt]\nport = 1\n'
        '[directory]\nsigning_key_ref = "directory-signing"\n',
        encoding="utf-8",
    )
    credentials = tmp_path / "credentials"  # as systemd shows the folder of `LoadCredential=keys:FOLDER`
    for path in make_directory_keys(credentials):
        path.rename(credentials / f"keys_{path.name}")
    systemd = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "400000",
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(PATIENCE)
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from gateway.cli.main import main; main()",
                "run",
                "--config",
                str(config),
            ],
            cwd=ROOT,
            env=os.environ | systemd,
            stdout=log,
            stderr=log,
        )
        try:
            heard = [ear.recv(100) for _ in range(4)]
            assert set(heard) == {b"READY=1", b"WATCHDOG=1"}
            assert heard.count(b"WATCHDOG=1") == 3, "the watchdog is fed again and again"
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: ear.recv(100) == b"STOPPING=1", "it says that it stops")
            assert process.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
            log.close()
