"""Foreign peers in processes of their own: one process serves many cases, a line of JSON for each."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE

HERE = Path(__file__).parent / "peer"
LIMIT = 30.0
"""Seconds that one task of a peer may take."""


class PeerProcess:
    """A peer script that runs until it is closed."""

    def __init__(self, script: str, python: str = sys.executable) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close(), with the process
        self._process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "TZ": "Asia/Kolkata", "PYTHONUNBUFFERED": "1"},
        )

    async def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Give a task and wait for what came of it; the process is ended when it takes too long."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._ask, task), LIMIT)
        except TimeoutError:
            self._process.kill()
            raise

    def _ask(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the peer ended: {self._tail()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def _tail(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")[-2000:]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._said.close()
