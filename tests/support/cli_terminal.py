"""A command at a terminal of its own, with somebody who types."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Sequence

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, wait_until


def at_a_terminal(
    arguments: list[str], typed: Sequence[tuple[str, str]], env: dict[str, str]
) -> tuple[str, int]:
    """Give a command; type each text after what it waits for. Returns all that was shown, and the exit code."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli.main import main; main()", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=ROOT,
        env=os.environ | env,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # passwords are asked for at /dev/tty
    )
    os.close(terminal)
    shown = _Shown(controller)
    try:
        for words, text in typed:
            wait_until(lambda words=words: shown.new(words) or shown.ended, lambda: shown.text)  # type: ignore[misc]
            assert not shown.ended, shown.text
            shown.take(words)
            os.write(controller, text.encode() + b"\n")
        wait_until(lambda: shown.look().ended, lambda: shown.text)
        return shown.text, process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(controller)


class _Shown:
    """What a terminal has shown so far."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._octets = b""
        self._taken = 0
        self.ended = False

    @property
    def text(self) -> str:
        return self._octets.decode(errors="replace").replace("\r\n", "\n")

    def look(self) -> _Shown:
        while not self.ended and select.select([self._descriptor], [], [], 0)[0]:
            try:
                octets = os.read(self._descriptor, 65536)
            except OSError:  # a pty says that its other end was closed with EIO
                octets = b""
            self.ended = not octets
            self._octets += octets
        return self

    def new(self, words: str) -> bool:
        self.look()
        return words.encode() in self._octets[self._taken :]

    def take(self, words: str) -> None:
        self._taken = self._octets.index(words.encode(), self._taken) + len(words)
