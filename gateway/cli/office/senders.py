"""The commands `directory senders …`: how each sender of re-key files writes them."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_line, print_table
from gateway.errors import UsageError
from mapping.senders import DATES, Limits, Sender, load_senders, remove_sender, save_sender

_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
SenderName = Annotated[str, typer.Argument(help="The sender's name: letters, digits, _ and -.")]

senders_group = typer.Typer(help="How each sender of re-key files writes them.", no_args_is_help=True)


@senders_group.command("save")
def save(
    name: SenderName,
    data: DataOption = None,
    config: ConfigChoice = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="Its heading of a column: account_number=NEW_CONS_NO."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="For example cp1252; else found out.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="comma, semicolon, tab or bar; else found out.")
    ] = None,
    sheet: Annotated[str | None, typer.Option("--sheet", help="The sheet of its workbooks.")] = None,
    dates: Annotated[
        str | None, typer.Option("--dates", help=f"How it writes dates: {', '.join(DATES)}.")
    ] = None,
    prefix: Annotated[
        list[str] | None, typer.Option("--prefix", help="Company code that may stand before the 10 digits.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit", help="Percent of rows, as refused=30: refused, changed, disagreeing, missing."
        ),
    ] = None,
) -> None:
    """Keep how a sender writes its files, in place of what was kept before.

    Example: meter-gateway directory senders save kesco --column account_number=NEW_NO --dates DD/MM/YYYY --data DIR
    """
    if separator is not None and separator not in _SEPARATORS:
        raise UsageError(f"--separator {separator}: write one of {', '.join(_SEPARATORS)}")
    limits = _pairs(limit, "--limit")
    if not all(percent.isascii() and percent.isdigit() for percent in limits.values()):
        raise UsageError("--limit: write NAME=PERCENT, for example refused=30")
    sender = Sender(
        name=name,
        columns=_pairs(column, "--column"),
        encoding=encoding,
        separator=None if separator is None else _SEPARATORS[separator],
        sheet=sheet,
        dates=dates,
        prefixes=frozenset(one.upper() for one in prefix or ()),
        limits=Limits.of({one: int(percent) for one, percent in limits.items()}),
    )
    path = find_files(data, config).made().senders
    save_sender(path, sender)
    print_line(f"{name} is kept in {path}")


@senders_group.command("show")
def show(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List the senders and how they write their files.

    Example: meter-gateway directory senders show --data DIR
    """
    signs = {sign: word for word, sign in _SEPARATORS.items()}
    rows = [
        {
            "sender": name,
            "columns": ", ".join(f"{column}={heading}" for column, heading in one.columns.items()) or None,
            "encoding": one.encoding,
            "separator": None if one.separator is None else signs[one.separator],
            "sheet": one.sheet,
            "dates": one.dates,
            "prefixes": ", ".join(sorted(one.prefixes)) or None,
            "limits": ", ".join(f"{n}={getattr(one.limits, n)}" for n in Limits.__slots__),
        }
        for name, one in load_senders(find_files(data, config).senders).items()
    ]
    print_table(rows, as_json=as_json, empty="no sender is kept")


@senders_group.command("remove")
def remove(name: SenderName, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Forget a sender.

    Example: meter-gateway directory senders remove kesco --data DIR
    """
    remove_sender(find_files(data, config).senders, name)
    print_line(f"{name} is forgotten")


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for one in given or []:
        name, sign, value = one.partition("=")
        if not sign or not value.strip():
            raise UsageError(f"{option} {one}: write NAME=VALUE")
        found[name.strip()] = value.strip()
    return found
