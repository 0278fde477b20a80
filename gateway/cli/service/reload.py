"""The command `reload`."""

from __future__ import annotations

import typer

from gateway.cli.exits import Exit
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from gateway.cli.output import print_json, print_line, print_problem
from gateway.config import file as configuration
from gateway.edge.field.client import call_edge
from gateway.edge.field.socket_file import SocketState, socket_state
from gateway.errors import UsageError


def reload(config: ConfigOption = CONFIG_FILE, as_json: JsonOption = False) -> None:
    """Let the running edge read its file anew: lines and meters come, go and change, and no other is disturbed.

    The file is looked at whole first: one with a mistake changes nothing. What takes a restart is named.

    Example: meter-gateway reload --config /etc/meter-gateway/substation-7.toml
    """
    loaded = configuration.load(config)
    path = loaded.field_socket
    match socket_state(path):
        case SocketState.NOBODY:
            raise UsageError(
                f"no edge serves {path}: it does not run, or it was started with another [field] socket"
            )
        case SocketState.FORBIDDEN:
            raise UsageError(
                f"the edge's socket {path} is not for you: only root and the edge's own user reload it"
            )
    found = call_edge(path, "reload")
    if as_json:
        print_json({"done": found.done, "file": found.about, "lines": found.lines})
    else:
        show = print_line if found.done else print_problem
        for line in found.lines:
            show(line)
        if found.done and found.about != str(config.resolve()):
            print_problem(f"note: the edge reads {found.about}")
    if not found.done:
        raise typer.Exit(Exit.CONFIG)
