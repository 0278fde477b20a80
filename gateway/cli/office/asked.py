"""Secrets that a person types: at a terminal, not shown, or on standard input for scripts; never in a command."""

from __future__ import annotations

import getpass
import sys

from gateway.errors import UsageError

MAX_LINE = 1024


def asked_secret(words: str, *, stdin: bool, twice: bool = False) -> str:
    """Return what was typed after `words`, or the next line of standard input; UsageError where there is neither."""
    if stdin:
        line = sys.stdin.readline(MAX_LINE + 1)
        if not line or len(line) > MAX_LINE:
            raise UsageError(f"--stdin: no line for: {words}")
        return line.rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError(
            f"{words} is asked for at a terminal; a script writes it on standard input, with --stdin"
        )
    try:
        given = getpass.getpass(f"{words}: ")
        if twice and getpass.getpass(f"{words}, once more: ") != given:
            raise UsageError("the two differ: nothing was changed")
    except (EOFError, KeyboardInterrupt) as error:
        raise UsageError("nothing was typed: nothing was changed") from error
    return given
