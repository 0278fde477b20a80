"""How a person says which meter is meant before it is changed: a question with its name, or --yes with its serial."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.errors import UsageError

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask; needs --meter-serial.")]
SerialOption = Annotated[
    str | None,
    typer.Option(
        "--meter-serial", help="With --yes: the serial that the meter must show; no other is changed."
    ),
]


def refuse_yes_alone(*, yes: bool, serial: str | None) -> None:
    """Raise UsageError where --yes has no serial beside it."""
    if yes and serial is None:
        raise UsageError("--yes needs --meter-serial: the serial on the meter that you mean")


def ask(question: str) -> None:
    """Ask a person, who may say no (typer.Abort); UsageError where nobody sits at a terminal to be asked.

    What comes through a pipe answers nothing: it was written before the question was known.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody sits at a terminal to answer: say --yes")
    typer.confirm(question, abort=True, err=True)


def confirm(question: str, answers: str, *, yes: bool, serial: str | None) -> None:
    """Ask unless `yes`; UsageError where the meter `answers` (`GEN:12345678`) is not the one of the serial."""
    if serial is not None and serial != answers.partition(":")[2]:
        raise UsageError(f"the meter that answers is {answers}, not {serial}: nothing is done")
    if not yes:
        ask(question)
