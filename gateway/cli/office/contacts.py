"""The command `contacts import`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from gateway.central.office.actors import Right
from gateway.central.portal.contacts import ContactStore
from gateway.cli.exits import Exit
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, FileArgument, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_table
from gateway.errors import UsageError
from mapping.directory import NumberKind
from mapping.store import DirectoryStore

contacts_group = typer.Typer(help="Registered mobiles of accounts.", no_args_is_help=True)


@contacts_group.command("import")
def import_contacts(
    file: FileArgument, data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False
) -> None:
    """Load registered mobiles. Columns: legacy_number,mobile,verified_at.

    Example: meter-gateway contacts import mobiles.csv --data DIR
    """
    files = find_files(data, config).made()
    with DirectoryStore(files.directory) as store, acting(files, Right.CONSUMERS) as who:
        snapshot = store.snapshot()
        who.note("contacts.import", "contacts", {"file": file.name[:100]})
    contacts = ContactStore(files.contacts)
    try:
        text = file.read_text(encoding="utf-8-sig")
        result = contacts.import_csv(
            text, lambda number: snapshot.account_by_number(NumberKind.LEGACY, number)
        )
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    finally:
        contacts.close()
    counts = {"accepted": result.applied, "refused": len(result.refused)}
    refused = [asdict(row) for row in result.refused]
    print_fields(counts | {"rows": refused} if as_json and refused else counts, as_json=as_json)
    if refused:
        if not as_json:
            print_table(refused, as_json=False, title="not applied")
        raise typer.Exit(Exit.FAILED)
