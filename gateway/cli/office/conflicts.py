"""The commands `directory conflicts …`: what files and field work left undone, whose it is, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.central.office.actors import Right
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.given import ByOption
from gateway.cli.office.lists import print_csv
from gateway.cli.options import CsvOption, JsonOption, only_one_form
from gateway.cli.output import print_fields, print_json, print_line, print_table
from mapping.conflicts import Conflict, Conflicts
from mapping.store import DirectoryStore

PAGE = 500
ConflictId = Annotated[int, typer.Argument(min=1, help="Of the conflict, as the list has it.")]

conflicts_group = typer.Typer(
    help="Rows of files, and field work, that the directory did not take.", no_args_is_help=True
)


@conflicts_group.command("list")
def list_conflicts(
    data: DataOption = None,
    config: ConfigChoice = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Those of one person.")] = None,
    unowned: Annotated[bool, typer.Option("--unowned", help="Those that are nobody's.")] = False,
    origin: Annotated[str | None, typer.Option("--origin", help="import, rekey, swap or field.")] = None,
    settled: Annotated[bool, typer.Option("--settled", help="Those that wait no more.")] = False,
    shown: Annotated[int, typer.Option("--rows-shown", min=0, help="How many to print.")] = 50,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """List what waits, the oldest first, with its owner and age.

    Example: meter-gateway directory conflicts list --unowned --data DIR
    """
    only_one_form(as_json=as_json, as_csv=as_csv)
    files, now = find_files(data, config), datetime.now(UTC)
    with DirectoryStore(files.directory) as store, acting(files, Right.SEE):
        queue = Conflicts(store.database)

        def rows() -> Iterator[dict[str, Any]]:
            after = 0
            while found := queue.page(
                after=after, limit=PAGE, owner=owner, unowned=unowned, origin=origin, settled=settled
            ):
                yield from (_row(one, now) for one in found)
                after = found[-1].id

        if as_csv:
            print_csv(rows())
            return
        if as_json:
            print_json(list(rows()))
            return
        kept = [row for _, row in zip(range(shown), rows(), strict=False)]
        counts = queue.counts()
    print_table(kept, as_json=False, empty="nothing waits")
    oldest = None if counts.oldest is None else (now - counts.oldest).days
    print_fields({"waiting": counts.open, "unowned": counts.unowned, "oldest_days": oldest}, as_json=False)


@conflicts_group.command("take")
def take(
    conflict: ConflictId,
    owner: Annotated[str | None, typer.Option("--owner", help="Give it to somebody else.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a conflict, or give it to somebody: it is theirs until it is settled.

    Example: meter-gateway directory conflicts take 17 --data DIR
    """
    files, now = find_files(data, config), datetime.now(UTC)
    with DirectoryStore(files.directory) as store, acting(files, Right.CHANGE) as actor:
        who = actor.called(by)
        taken = Conflicts(store.database).take(conflict, by=who, at=now, owner=owner)
        actor.note("conflict.taken", f"conflict:{conflict}", {"owner": taken.owner})
    print_fields(_row(taken, now), as_json=as_json)


@conflicts_group.command("settle")
def settle(
    conflict: ConflictId,
    how: Annotated[str, typer.Option("--how", help="What was done about it, and why: kept for ever.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
) -> None:
    """Settle a conflict with what was done about it. One that a later file puts right is settled by that file.

    Example: meter-gateway directory conflicts settle 17 --how "house visited: paper was wrong" --data DIR
    """
    files, now = find_files(data, config), datetime.now(UTC)
    with DirectoryStore(files.directory) as store, acting(files, Right.CHANGE) as actor:
        done = Conflicts(store.database).settle(conflict, by=actor.called(by), at=now, how=how)
        actor.note("conflict.settled", f"conflict:{conflict}")
    print_line(f"conflict {done.id} ({done.subject}) is settled after {done.age(now).days} days")


def _row(one: Conflict, now: datetime) -> dict[str, Any]:
    return {
        "id": one.id,
        "days": one.age(now).days,
        "owner": one.owner,
        "about": one.subject,
        "code": one.code,
        "why": one.reason,
        "file": one.source,
        "line": one.line,
        **({} if one.settled_at is None else {"settled_by": one.settled_by, "how": one.how}),
    }
