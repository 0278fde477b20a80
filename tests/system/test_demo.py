"""`make demo` as its users see it: --once proves every meter; live tells its story in a terminal and stops cleanly."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, wait_until

PROGRAM = [sys.executable, "-c", "from gateway.cli.main import main; main()"]
STORY_SECONDS = 180.0

pytestmark = pytest.mark.slow


def test_once_reads_every_meter_under_its_account() -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--once"], capture_output=True, text=True, timeout=300, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line
    ]
    meters = {row[0]: row[2] for row in rows if re.fullmatch(r"[A-Z]{3}:\d+", row[0].replace("\\", ""))}
    accounts = [account for account in meters.values() if re.fullmatch(r"\d{10}", account)]
    assert len(accounts) >= 24
    assert len(set(accounts)) == len(accounts)
    assert "nothing is missing" in done.stdout


def test_live_tells_its_story_and_stops_on_ctrl_c() -> None:
    controller, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "150", "LINES": "60"}
    process = subprocess.Popen(
        [*PROGRAM, "demo"], stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, env=environment
    )
    os.close(terminal)
    seen = ""
    try:
        seen = read_until(controller, "sent again", STORY_SECONDS)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        seen += read_until(controller, None, 30)
        assert process.wait(PATIENCE) == 0, seen[-3000:]
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert "Traceback" not in seen
    assert "stopped" in seen
    assert re.search(r"sent again[^:]*: 0\b", seen), seen[-3000:]
    assert "no_account" in seen
    assert re.search(r"http://127\.0\.0\.1:\d+/operator", seen)


def read_until(descriptor: int, text: str | None, seconds: float) -> str:
    """Read the terminal until `text` came (and a little more), or it was hung up."""
    seen, ended = b"", False

    def arrived() -> bool:
        nonlocal seen, ended
        while not ended and select.select([descriptor], [], [], 0)[0]:
            try:
                octets = os.read(descriptor, 65536)
            except OSError:  # a pty says that its other end was closed with EIO
                octets = b""
            seen, ended = seen + octets, not octets
        return ended or (text is not None and text in plain(seen))

    wait_until(arrived, lambda: f"{text!r} to come: {plain(seen)[-3000:]}", seconds)
    assert text is None or text in plain(seen), plain(seen)[-3000:]
    return plain(seen)


def plain(seen: bytes) -> str:
    """Return what a terminal shows, without its control sequences."""
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode(errors="replace")
