"""What commands about people share: the store opened, the account that a number means, the note of who looked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway.central.office.actors import Right
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.cli.office.acting import Acting, acting
from gateway.cli.office.files import find_files
from gateway.errors import UsageError
from gateway.roles.central_files import CentralFiles
from mapping.directory import NumberKind
from mapping.store import DirectoryStore
from mapping.typed import TypedNumber, account_of

NumberArgument = Annotated[str, typer.Argument(help="The account's new or old number.")]
KindOption = Annotated[
    Literal["new", "old"] | None, typer.Option("--kind", help="Which number it is, where it may be both.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why you need it; kept in the audit trail.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The people store of a central, opened for one command."""

    files: CentralFiles
    who: Acting
    store: PeopleStore
    contacts: ContactStore
    now: datetime

    def account(self, number: str, kind: str | None) -> str:
        """Return the account id of a number; UsageError when it is nobody's, or may be two accounts'."""
        kinds = {"new": NumberKind.ACCOUNT, "old": NumberKind.LEGACY}
        typed = TypedNumber.of(number)
        with DirectoryStore(self.files.directory) as directory:
            found = account_of(directory.snapshot(), typed, None if kind is None else kinds[kind])
        if found is None:
            both = (
                "" if kind else ", or it is one account's new and another's old: say --kind new or --kind old"
            )
            raise UsageError(f"no account has the number {typed.shown}{both}")
        return found

    def seen(self, account_id: str, what: str, reason: str = "") -> None:
        """Note durably, before it is shown, that whoever gives the command sees an account's data."""
        self.who.note(what, f"account:{account_id}", {"reason": reason[:200]} if reason else None)


@contextmanager
def opened(data: Path | None, config: Path | None, *rights: Right) -> Iterator[People]:
    """Open the people store that the options lead to; AccessDenied for who may do none of `rights`."""
    files = find_files(data, config).made()
    with acting(files, *rights) as who:
        store = PeopleStore(files.people)
        try:
            now = datetime.now(UTC)
            yield People(files=files, who=who, store=store, contacts=ContactStore(store), now=now)
        finally:
            store.close()
