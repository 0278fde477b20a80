"""Processes of bench/kanpur.py: central, and edges that can be killed in the middle of what they were told."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Program:
    """A `meter-gateway` process with a log; the most memory that any life of it had."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._log = folder / f"{arguments[0]}.log"
        self._arguments = arguments
        self.most = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from gateway.cli.main import main; main()", *self._arguments],
                stdout=out,
                stderr=out,
                cwd=ROOT,
            )

    def look(self) -> None:
        """Note how much memory it had at most, in KiB."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise SystemExit(f"central ended: {self._log.read_text()[-3000:]}")
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        lines = (line.split() for line in status.splitlines())
        self.most = max(self.most, *(int(line[1]) for line in lines if line[0] == "VmHWM:"))

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        assert self._process is not None
        words = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """Return what it has resident now, in MiB."""
        assert self._process is not None
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize() / 2**20

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Edge:
    """An edge's process, which can be killed in the middle of what it was told."""

    def __init__(self, config: Path, city: str, number: int) -> None:
        self._words = [str(config), city, str(number)]
        self._process: subprocess.Popen[str] | None = None
        self.state: dict[str, Any] = {}

    def start(self, *, online: bool = True) -> None:
        program = [sys.executable, str(ROOT / "bench" / "kanpur_edge.py"), *self._words]
        self._process = subprocess.Popen(
            [*program, "online" if online else "cut-off"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hear()

    def tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("an edge of the bench ended early; its message is above")
        self.state = json.loads(line)
        return self.state

    def ask(self, line: str = "status") -> dict[str, Any]:
        self.tell(line)
        return self.hear()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
