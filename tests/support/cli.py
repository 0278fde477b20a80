"""Commands as a user gives them: arguments in, exit code and both outputs back; a traceback fails the test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT


@dataclass(frozen=True)
class Outcome:
    """What the user sees."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Cli:
    """Gives commands in a folder."""

    server: subprocess.Popen[str]
    folder: Path

    def __call__(
        self, *arguments: object, code: int = 0, stdin: str = "", env: dict[str, str] | None = None
    ) -> Outcome:
        """Give a command, with what its standard input says and what its environment has more."""
        got = self.outcome(*arguments, stdin=stdin, env=env)
        assert got.code == code, f"{arguments}: exit {got.code}, wanted {code}: {got.text}"
        return got

    def outcome(self, *arguments: object, stdin: str = "", env: dict[str, str] | None = None) -> Outcome:
        """Give a command, whatever it ends with."""
        out, err = self.folder / "out.txt", self.folder / "err.txt"
        words = [str(a) for a in arguments]
        job = {"arguments": words, "folder": str(self.folder), "out": str(out), "err": str(err)}
        more = {"stdin": stdin, "env": env or {}}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(job | more) + "\n")
        self.server.stdin.flush()
        got = Outcome(int(self.server.stdout.readline()), out.read_text(), err.read_text())
        assert "Traceback" not in got.text, f"{words}: {got.text}"
        return got

    def refuses(
        self, *arguments: object, code: int, stdin: str = "", env: dict[str, str] | None = None
    ) -> str:
        """Give a command that must fail with one clear line; gives the line."""
        got = self(*arguments, code=code, stdin=stdin, env=env)
        line = got.err.strip()
        assert line.startswith("error: "), got.text
        assert len(line.splitlines()) == 1, got.text
        return line


@contextmanager
def command_line(folder: Path) -> Iterator[Cli]:
    """Start the program that gives the commands; it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.cli_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as server:
        try:
            yield Cli(server, folder)
        finally:
            server.kill()
