"""`make demo` as its users see it: --once proves every meter; live tells its story in a terminal and stops cleanly."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = [sys.executable, "-c", "from gateway.cli.main import main; main()"]
ROOT = Path(__file__).parents[2]
STORY_SECONDS = 60.0


def test_once_reads_every_meter_under_its_account() -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--once"], capture_output=True, text=True, timeout=150, cwd=ROOT, check=False
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
        assert process.wait(30) == 0, seen[-3000:]
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert "Traceback" not in seen
    assert "stopped" in seen
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"sent again[^:]*: 0\b", plain), plain[-3000:]
    assert "no_account" in plain
    assert re.search(r"http://127\.0\.0\.1:\d+/operator", plain)


def read_until(descriptor: int, text: str | None, seconds: float) -> str:
    """Read the terminal until `text` came (and a little more), or it was hung up."""
    seen = b""
    end = time.monotonic() + seconds
    while text is None or text.encode() not in re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen):
        left = end - time.monotonic()
        assert left > 0, f"waited {seconds:g} s in vain for {text!r}: {seen[-3000:].decode(errors='replace')}"
        if not select.select([descriptor], [], [], left)[0]:
            continue
        try:
            octets = os.read(descriptor, 65536)
        except OSError:
            octets = b""
        if not octets:
            assert text is None, seen[-3000:].decode(errors="replace")
            break
        seen += octets
    return seen.decode(errors="replace")
