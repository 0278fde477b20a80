"""The command `meter-gateway`, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import typer

from gateway import __version__
from gateway.cli.commands import LazyGroup
from gateway.cli.exits import Exit
from gateway.cli.output import print_problem
from gateway.errors import GatewayError
from mapping.errors import MappingError
from protocols.errors import MeterConfigError, ProtocolError

app = typer.Typer(
    name="meter-gateway",
    cls=LazyGroup,
    help="Smart-meter gateway: polls meters, puts every reading under its account, delivers it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"meter-gateway {__version__}")
        raise typer.Exit


def exit_code(error: Exception) -> int:
    """Return the documented exit code of an error."""
    match error:
        case GatewayError():
            return error.exit_code
        case MeterConfigError():
            return Exit.CONFIG
        case ProtocolError():
            return Exit.PEER
        case MappingError():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def _explain_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Print each expected error of a group of tasks; anything else is a fault of ours and is raised."""
    expected = (GatewayError, MappingError, ProtocolError)
    known, other = group.split(expected)
    if other is not None or known is None:
        raise group
    errors = list(_leaves(known))
    for error in errors:
        print_problem(f"error: {error}")
    return exit_code(errors[0])


def _leaves(error: BaseException) -> Iterator[Exception]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    elif isinstance(error, Exception):
        yield error


def main() -> None:
    """Run the command line; every expected error is one clear message, never a traceback."""
    code: int = Exit.GOOD
    try:
        app()
    except (GatewayError, MappingError, ProtocolError) as error:
        print_problem(f"error: {error}")
        code = exit_code(error)
    except BaseExceptionGroup as group:
        code = _explain_group(group)
    except BrokenPipeError:  # `… | head`: the reader has enough; Python must not complain again as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a file, folder or socket that the person named
        print_problem(f"error: {error}")
        code = Exit.FAILED
    sys.exit(int(code))
