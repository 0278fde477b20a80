"""Processes of a bench beside its own, so that what each of them costs is counted apart."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Role:
    """A process of a bench that is spoken to by lines: a program of ours with its arguments."""

    def __init__(self, program: Path, *arguments: object) -> None:
        command = [sys.executable, str(program), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> dict[str, Any]:
        """Return its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the bench ended early; its message is above")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self) -> dict[str, Any]:
        """Ask for a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        """Let it end."""
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=20)


@contextlib.contextmanager
def running(program: Path, *arguments: object) -> Iterator[Role]:
    """Run a role as long as the block lasts."""
    process = Role(program, *arguments)
    try:
        yield process
    finally:
        process.end()
