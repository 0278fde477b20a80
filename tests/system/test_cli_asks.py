"""Questions before a meter is changed: a person at a terminal answers them; what comes through a pipe does not."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator

import pytest
import typer

from gateway.cli.meter.meant import ask, confirm
from gateway.errors import UsageError


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    controller, far = os.openpty()
    with os.fdopen(far, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield controller
    os.close(controller)


def test_a_person_at_a_terminal_answers(terminal: int) -> None:
    os.write(terminal, b"y\n")
    ask("Upgrade it?")
    os.write(terminal, b"n\n")
    with pytest.raises(typer.Abort):
        ask("Upgrade it?")
    os.write(terminal, b"\n")  # no is what no answer means
    with pytest.raises(typer.Abort):
        ask("Upgrade it?")


def test_what_comes_through_a_pipe_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match=r"Upgrade it\? Nobody sits at a terminal to answer: say --yes"):
        confirm("Upgrade it?", "GEN:1", yes=False, serial=None)
    confirm("Upgrade it?", "GEN:1", yes=True, serial="1")
    with pytest.raises(UsageError, match="answers is GEN:1"):
        confirm("Upgrade it?", "GEN:1", yes=True, serial="2")
