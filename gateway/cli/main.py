"""The command `meter-gateway`: its groups, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import typer

from gateway import __version__
from gateway.cli import decode, demo, explore, field, meters, office, service
from gateway.cli.common import Exit, problems
from gateway.errors import GatewayError
from gateway.observe import setup_logging
from mapping.errors import MappingError
from protocols.errors import MeterConfigError, ProtocolError

app = typer.Typer(
    name="meter-gateway",
    help="Smart-meter gateway: polls meters, puts every reading under its account, delivers it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
demo.register(app)
service.register(app)
field.register(app)
meters.register(app)
explore.register(app)
office.register(app)
decode.register(app)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"meter-gateway {__version__}")
        raise typer.Exit


def exit_code(error: Exception) -> int:
    """Map an error to the documented exit code."""
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
        problems.print(f"error: {error}", markup=False)
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
    setup_logging("warning")
    try:
        app()
    except (GatewayError, MappingError, ProtocolError) as error:
        problems.print(f"error: {error}", markup=False)
        code = exit_code(error)
    except BaseExceptionGroup as group:
        code = _explain_group(group)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a file, folder or socket that the person named
        problems.print(f"error: {error}", markup=False)
        code = Exit.FAILED
    sys.exit(int(code))
