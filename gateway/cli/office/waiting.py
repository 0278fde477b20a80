"""The commands `directory waiting`, `approve` and `discard`: change sets that need a second person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.central.office.actors import Proof, Right
from gateway.cli.office.acting import acting
from gateway.cli.office.asked_sets import decided_of_systems, desk_of, found_of_systems, rows_of_systems
from gateway.cli.office.clock import knows_the_time
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.given import MAX_SHOWN, ByOption, DryRunOption, Given, Seen, opened_ledger, show
from gateway.cli.options import JsonOption
from gateway.cli.output import print_line, print_table
from gateway.errors import AccessDenied
from mapping.proposals import Proposals, changes_asked
from mapping.store import DirectoryStore

RowsOption = Annotated[int, typer.Option("--rows-shown", min=0, help="How many changes to print.")]
Fingerprint = Annotated[str, typer.Argument(help="Of the waiting change set, at least 8 digits of it.")]


def waiting(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List the change sets that wait for a second person, the oldest first.

    Example: meter-gateway directory waiting --data DIR
    """
    files, now = find_files(data, config), datetime.now(UTC)
    with DirectoryStore(files.directory) as store, acting(files, Right.SEE) as actor:
        rows = [
            {
                "fingerprint": one.fingerprint,
                "what": one.source,
                "by": one.by,
                "days": (now - one.at).days,
                "meters": one.meters,
                "accounts": one.accounts,
                "directory_version": one.version,
                "state": "waits" if one.version == store.version else "the directory moved on: ask again",
            }
            for one in Proposals(store).all()
        ]
        rows += rows_of_systems(actor, store, now)
    print_table(rows, as_json=as_json, empty="nothing waits")


def approve(
    fingerprint: Fingerprint,
    data: DataOption = None,
    config: ConfigChoice = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    shown: RowsOption = MAX_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Apply a waiting change set exactly as it was looked at, as somebody else than who asked for it.

    Example: meter-gateway directory approve 9f2c01ab --dry-run --data DIR
    """
    files, now, sure = find_files(data, config), datetime.now(UTC), knows_the_time()
    with (
        DirectoryStore(files.directory) as store,
        opened_ledger(files) as ledger,
        acting(files, Right.APPROVE) as actor,
    ):
        who, proposals, before = actor.called(by), Proposals(store), store.snapshot()
        if actor.named and actor.actor.proof is not Proof.SESSION:
            raise AccessDenied("only a person who has logged in approves: no machine, and no token")
        how = Given(data, config, dry_run, as_json, by, shown)
        if (asked := found_of_systems(actor, store, fingerprint)) is not None:
            result, after = decided_of_systems(actor, store, asked, dry_run=dry_run, now=now)
            show(result, Seen(before, after, ledger, now), how, applied=not dry_run)
            return
        held = proposals.find(fingerprint)
        if dry_run:
            changes = changes_asked(held.text, before)
            after = store.preview(changes, by=who, source=held.source, at=now, sure=sure)
        else:
            proposals.approve(held.fingerprint, by=who, at=now, sure=sure)
            after = store.snapshot()
            actor.note("plan.approved", f"plan:{held.fingerprint}")
            actor.note_directory(after.version, before.version, held.source)
        result = {
            "result": "dry run, nothing changed" if dry_run else "applied",
            "what": held.source,
            "asked_by": held.by,
            "directory_version": before.version if dry_run else after.version,
            "meters": held.meters,
            "accounts": held.accounts,
        }
        show(result, Seen(before, after, ledger, now), how, applied=not dry_run)


def discard(fingerprint: Fingerprint, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Throw a waiting change set away; nothing is changed.

    Example: meter-gateway directory discard 9f2c01ab --data DIR
    """
    files = find_files(data, config)
    with DirectoryStore(files.directory) as store, acting(files, Right.CHANGE, Right.APPROVE) as actor:
        proposals = Proposals(store)
        if (asked := found_of_systems(actor, store, fingerprint)) is not None:
            desk_of(actor, store).reject(actor.actor, asked[0].id, None)
            print_line(f"{asked[0].id} ({asked[0].source} by {asked[0].actor}) is rejected")
            return
        held = proposals.find(fingerprint)
        proposals.discard(held.fingerprint)
        actor.note("plan.discarded", f"plan:{held.fingerprint}")
    print_line(f"{held.fingerprint} ({held.source} by {held.by}) is gone")
