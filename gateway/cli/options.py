"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import difflib
import os
import pwd
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from typer._click.globals import get_current_context

from gateway.cli.output import IST
from gateway.errors import UsageError

CONFIG_FILE = Path("/etc/meter-gateway/gateway.toml")
"""Where a gateway's configuration is looked for."""

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The gateway's TOML file.", envvar="METER_GATEWAY_CONFIG")
]
OptionalConfig = Annotated[Path | None, typer.Option("--config", "-c", help="The gateway's TOML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a head line.")]
TraceOption = Annotated[
    Path | None, typer.Option("--trace", help="Write every frame with its time into this file.")
]
TrustHostOption = Annotated[
    bool, typer.Option("--trust-host", help="This computer's clock is right, though nothing proves it.")
]


def only_one_form(*, as_json: bool, as_csv: bool) -> None:
    """Refuse two forms of output at once."""
    if as_json and as_csv:
        raise UsageError("give either --json or --csv")


def parse_time(given: str, *, option: str) -> datetime:
    """Return the UTC time that an option gives in ISO 8601; UsageError when it is none.

    `2026-11-23T10:00:00+05:30` has an offset; a time without one, or a bare date, is Indian time.
    """
    try:
        at = datetime.fromisoformat(given)
    except ValueError as error:
        raise UsageError(
            f"{option}: `{given}` is not a time; write 2026-11-23 or 2026-11-23T10:00:00+05:30"
        ) from error
    if at.utcoffset() is None:
        at = at.replace(tzinfo=IST)
    return at.astimezone(UTC)


def parse_span(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return what --since and --until give; None where one is left out."""
    return (
        None if since is None else parse_time(since, option="--since"),
        None if until is None else parse_time(until, option="--until"),
    )


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean …?` when something near is allowed, else nothing."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def user() -> str:
    """Return who gives the command, as the kernel knows it: what the environment says of a user proves nothing."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user may have no name
        return f"uid {number}"


def purpose(of: str | None) -> str:
    """Return the command that is given and what it is about, as the edge tells others of it: `clock GEN:12345678`."""
    words = [of] if of else []
    context = get_current_context(silent=True)
    while context is not None and context.parent is not None:  # the outermost one is the program
        words.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(words) or "a command"
