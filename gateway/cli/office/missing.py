"""The commands about what did not arrive or could not be understood: missing, dead-letters."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.central.intake.batches import MessageStore
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredDeadLetter
from gateway.cli.exits import Exit
from gateway.cli.office.allocation import open_ledger
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_table
from gateway.contract.topics import Topics
from gateway.errors import UsageError

dead_letters_group = typer.Typer(help="Messages that central could not understand.", no_args_is_help=True)

_ROOT = re.compile(r"(.+?)/v[12]/", re.ASCII)
_NO_SUCH = "there is no dead letter {id}: `dead-letters show` lists them"


def missing(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List the entries of edges' journals that central lacks: those asked for again, and those lost for ever.

    Example: meter-gateway missing --data DIR
    """
    with open_ledger(find_files(data, config), read_only=True) as ledger:
        rows = [asdict(found) for found in ledger.journals.missing()]
    print_table(rows, as_json=as_json, empty="no entry of any journal is missing")


def altered(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """Verify the checksum of every capture in the ledger, and list those that were altered since they came.

    Ask the edge for them again with `replay`, once their rows are taken out; captures of contract version 1 have none.

    Example: meter-gateway altered --data DIR
    """
    with open_ledger(find_files(data, config), read_only=True) as ledger:
        rows = [
            {name: getattr(one, name) for name in ("capture_id", "value_rev", "gateway", "journal", "seq")}
            for one in ledger.captures.each()
            if not one.is_sound()
        ]
    print_table(rows, as_json=as_json, empty="every capture is what its edge stamped")
    if rows:
        raise typer.Exit(Exit.FAILED)


@dead_letters_group.command("show")
def show(
    letter: Annotated[int | None, typer.Argument(help="One letter, with what came.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """List the messages that were set aside, latest first; of one that is named, also what came.

    Example: meter-gateway dead-letters show --data DIR
    """
    with open_ledger(find_files(data, config), read_only=True) as ledger:
        if letter is None:
            rows = [asdict(one) for one in ledger.letters.newest()]
            print_table(rows, as_json=as_json, empty="every message could be understood")
        else:
            found = asdict(_letter(ledger, letter))
            found["payload"] = found["payload"].decode("utf-8", "backslashreplace")
            print_fields(found, as_json=as_json)


@dead_letters_group.command("redrive")
def redrive(
    letters: Annotated[list[int] | None, typer.Argument(help="Letters by number.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every letter, oldest first.")] = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Take messages anew, after what made them fail was mended; those that are stored now leave the list.

    Example: meter-gateway dead-letters redrive 17 --data DIR
    """
    if bool(letters) == everything:
        raise UsageError("name the letters, or give --all, and not both")
    rows = []
    with open_ledger(find_files(data, config), read_only=False) as ledger:
        wanted = letters or [one.id for one in reversed(ledger.letters.newest())]
        for letter_id in wanted:
            letter = _letter(ledger, letter_id)
            outcome = _redriven(ledger, letter)
            rows.append({"id": letter_id, "topic": letter.topic, "outcome": outcome})
    print_table(rows, as_json=as_json, empty="every message could be understood")
    if any(row["outcome"] != "stored" for row in rows):
        raise typer.Exit(1)


@dead_letters_group.command("drop")
def drop(
    letters: Annotated[list[int], typer.Argument(help="Letters by number.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Throw messages away that are worth nothing, for ever.

    Example: meter-gateway dead-letters drop 17 18 --data DIR
    """
    with open_ledger(find_files(data, config), read_only=False) as ledger:
        for letter in letters:
            _letter(ledger, letter)
        gone = sum(ledger.letters.remove(letter) for letter in letters)
    print_fields({"dropped": gone}, as_json=as_json)


def _letter(ledger: Ledger, letter_id: int) -> StoredDeadLetter:
    found = ledger.letters.get(letter_id)
    if found is None:
        raise UsageError(_NO_SUCH.format(id=letter_id))
    return found


def _redriven(ledger: Ledger, letter: StoredDeadLetter) -> str:
    if letter.size > len(letter.payload):
        return "too large to have been kept whole: ask its gateway for a replay (`meter-gateway replay`)"
    root = _ROOT.match(letter.topic)
    if root is None:
        return "its topic is none of this contract: drop it"
    if MessageStore(ledger, Topics(root.group(1))).redrive(letter, datetime.now(UTC)):
        return "stored"
    again = ledger.letters.get(letter.id)
    return f"refused again: {again.detail if again else letter.detail}"
