"""The command `backfill`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.exits import Exit
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption, nearest, parse_time
from gateway.cli.output import print_json, print_line, print_problem
from gateway.config import file as configuration
from gateway.edge.field.client import call_edge
from gateway.edge.field.socket_file import SocketState, socket_state
from gateway.edge.polling.collect import STORED
from gateway.errors import UsageError


def backfill(
    meter: Annotated[str, typer.Argument(help="A meter of the configuration.")],
    since: Annotated[str, typer.Option("--from", help="Rows later than this time.")],
    until: Annotated[str, typer.Option("--to", help="Rows up to and with this time.")],
    profile: Annotated[
        str | None,
        typer.Option(help="Only this one; by default all that the edge reads and the meter keeps."),
    ] = None,
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Let the running edge read what a meter stored in a span once more: what is new is journaled and delivered.

    What is there already costs nothing; a row that has other values now becomes its next revision. Gaps that it fills
    are closed. The line's own polling goes first.

    Example: meter-gateway backfill GEN:12345678 --from 2026-11-20 --to 2026-11-23 --config edge.toml
    """
    low, high = parse_time(since, option="--from"), parse_time(until, option="--to")
    if low >= high:
        raise UsageError("--from is not before --to")
    loaded = configuration.load(config)
    known = next((one for one in loaded.meters if one.meter == meter), None)
    if known is None:
        raise UsageError(
            f"there is no meter `{meter}` in the configuration."
            + nearest(meter, (m.meter for m in loaded.meters))
        )
    kept = [one.value for one in known.profiles if one in STORED]
    if profile is not None and profile not in kept:
        raise UsageError(
            f"--profile: of {meter} {', '.join(kept) or 'nothing'} is read that it keeps."
            + nearest(profile, kept)
        )
    if not kept:
        raise UsageError(f"{meter} is read for nothing that it keeps: what was missed of it never comes")
    if socket_state(loaded.field_socket) is not SocketState.SERVED:
        raise UsageError(
            f"no edge serves you at {loaded.field_socket}: it must run, since it reads the span into its journal,"
            " and you must be of its group"
        )
    answers = [
        call_edge(loaded.field_socket, "backfill", meter, one, low.isoformat(), high.isoformat())
        for one in ([profile] if profile is not None else kept)
    ]
    if as_json:
        print_json([{"done": one.done, "meter": meter, "lines": one.lines} for one in answers])
    else:
        for answer in answers:
            for line in answer.lines:
                (print_line if answer.done else print_problem)(line)
    if not all(answer.done for answer in answers):
        raise typer.Exit(Exit.PEER)
