"""A change of the directory given by a command: previewed with its energy, applied, or kept for a second person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.central.ledger.database import NoLedger
from gateway.central.ledger.ledger import Ledger
from gateway.central.moved_energy import ENERGY_OF, Balance, TouchedSpan, in_kwh, touched_spans
from gateway.central.office.actors import Right
from gateway.cli.exits import Exit
from gateway.cli.office.acting import acting
from gateway.cli.office.clock import knows_the_time
from gateway.cli.office.files import find_files
from gateway.cli.output import print_fields, print_json, print_line, print_table
from gateway.config import file as configuration
from gateway.errors import UsageError
from gateway.roles.central_files import CentralFiles
from mapping.changes import Change
from mapping.differences import attribute_changes, naming_changes, touched
from mapping.directory import Holder
from mapping.proposals import APPROVE_ABOVE, Proposals, asked_changes, beside_undoing, changes_asked
from mapping.snapshot import DirectorySnapshot
from mapping.standing import Standing, count_touched
from mapping.store import DirectoryStore

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who gives it; else whoever is logged in.")]
MAX_SHOWN: Final = 50
"""Changes printed unless more are asked for: a re-key of a city has 700,000."""
Plan = Callable[[DirectorySnapshot], Sequence[Change] | str]
"""Makes changes of the directory as it is, or the text of a change set (`mapping.proposals`)."""


@dataclass(frozen=True, slots=True)
class Given:
    """How a change is given."""

    data: Path | None
    config: Path | None
    dry_run: bool = False
    as_json: bool = False
    by: str | None = None
    shown: int = MAX_SHOWN
    digest: str | None = None
    """Of the file that it comes from, where that is applied once only."""
    rights: tuple[Right, ...] = (Right.CHANGE,)


def give(plan: Plan, source: str, how: Given) -> None:
    """Apply what `plan` makes of the directory, or only look at it, and print whom and how much energy it concerns.

    What touches more meters or accounts than one person may change alone is kept, and its fingerprint printed.
    """
    now, sure = datetime.now(UTC), knows_the_time()
    files, most = find_files(how.data, how.config), approve_above(how.config)
    with DirectoryStore(files.directory) as store, acting(files, *how.rights) as actor:
        who, before = actor.called(how.by), store.snapshot()
        done = next((c for c in before.changes if how.digest is not None and c.digest == how.digest), None)
        if done is not None:
            raise UsageError(f"this was applied already, as directory version {done.version} by {done.by}")
        planned = plan(before)
        after = store.preview(_changes(planned, before), by=who, source=source, at=now, sure=sure)
        meters, accounts = count_touched(after, before.version, after.version)
        result: dict[str, Any] = {}
        version = before.version
        if after.version == before.version:
            result["result"] = "nothing new: the directory says so already"
        elif how.dry_run:
            result["result"] = "dry run, nothing changed"
        elif max(meters, accounts) > most:
            held = Proposals(store).keep(
                planned if isinstance(planned, str) else asked_changes(planned),
                by=who, at=now, source=source, version=version, meters=meters, accounts=accounts,
            )  # fmt: skip
            actor.note("plan.kept", f"plan:{held.fingerprint}", {"source": source[:200]})
            result |= {"result": "waits for a second person", "fingerprint": held.fingerprint}
        else:
            changes = _changes(planned, before)
            version = store.apply(
                changes,
                by=who,
                source=source,
                at=now,
                digest=how.digest,
                based_on=version,
                sure=sure,
                beside=beside_undoing(planned) if isinstance(planned, str) else None,
            )
            actor.note_directory(version, before.version, source)
            result["result"] = "applied"
        result |= {"directory_version": version, "meters": meters, "accounts": accounts}
        with opened_ledger(files) as ledger:
            show(result, Seen(before, after, ledger, now), how, applied=version != before.version)
    if "fingerprint" in result:
        raise typer.Exit(Exit.FAILED)


def _changes(planned: Sequence[Change] | str, snapshot: DirectorySnapshot) -> Iterable[Change]:
    return changes_asked(planned, snapshot) if isinstance(planned, str) else planned


def approve_above(config: Path | None) -> int:
    """Return how many meters or accounts one person may change alone."""
    return APPROVE_ABOVE if config is None else configuration.load(config).directory.approve_above


@contextmanager
def opened_ledger(files: CentralFiles) -> Iterator[Ledger | None]:
    """Give the ledger to be read; None where there is none."""
    try:
        ledger = Ledger(files.ledger, read_only=True)
    except NoLedger:
        yield None
        return
    with closing(ledger):
        yield ledger


class Seen:
    """What a change does, told row by row; the energy adds up as the rows go by."""

    def __init__(
        self, before: DirectorySnapshot, after: DirectorySnapshot, ledger: Ledger | None, now: datetime
    ) -> None:
        self._before = before
        self._after = after
        self._ledger = ledger
        self._now = now
        self.balance = Balance({})

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each span of a meter's energy, each attribute and each number that is otherwise afterwards."""
        old, new = self._before.version, self._after.version
        spans = touched_spans(self._after, old, new, self._ledger, now=self._now, energy_of=ENERGY_OF)
        for span in spans:
            self.balance.add(span)
            yield {
                "what": span.meter,
                "from": span.start,
                "to": span.end,
                "old": self._called(self._before, span.old, span.new),
                "new": self._called(self._after, span.new, span.old),
                "kwh": _energy(span),
            }
        for one in attribute_changes(self._after, old, new):
            yield {
                "what": f"{one.usage_point} {one.kind}",
                "from": one.start,
                "to": one.end,
                "old": one.old,
                "new": one.new,
                "kwh": None,
            }
        for name in naming_changes(self._after, touched(self._after, old, new)[1], old, new):
            what = f"{name.account_id} {name.kind}"
            yield {"what": what, "from": None, "to": None, "old": name.old, "new": name.new, "kwh": None}

    def _called(self, snapshot: DirectorySnapshot, standing: Standing, other: Standing) -> str:
        who = standing.who
        if not isinstance(who, Holder):
            return who.value
        names = snapshot.names(who.account_id)
        words = f"{names.account_number or names.legacy_number or who.account_id} at {who.usage_point}"
        if standing.multiplier != other.multiplier:
            words += f", x {standing.multiplier}"
        if standing.payment_mode != other.payment_mode and isinstance(other.who, Holder):
            words += f", {standing.payment_mode or 'payment not known'}"
        return words


def show(result: dict[str, Any], seen: Seen, how: Given, *, applied: bool) -> None:
    """Print what was done or would be: fields, rows and the balance of energy."""
    kept: list[dict[str, Any]] = []
    count = 0
    for row in seen.rows():
        count += 1
        if how.as_json or len(kept) < how.shown:
            kept.append(row)
    balance = seen.balance
    if balance.by_account:
        result |= {
            "kwh_moved": in_kwh(balance.moved),
            "kwh_net": in_kwh(balance.net),
        }
    if balance.by_multiplier:
        result["kwh_by_multiplier"] = in_kwh(balance.by_multiplier)
    if how.as_json:
        by_account = {who: in_kwh(kwh) for who, kwh in sorted(balance.by_account.items())}
        print_json(
            {**result, "applied": applied, "changes": kept, "kwh": by_account, "kwh_unknown": balance.unknown}
        )
        return
    print_fields(result, as_json=False)
    if kept:
        print_table(kept, as_json=False, title="changed hands" if applied else "would change hands")
    if count > len(kept):
        print_line(f"… and {count - len(kept)} more changes (--rows-shown, --json)")
    if "fingerprint" in result:
        print_line(
            "so many meters or accounts: somebody else must look at them and approve it:"
            f" meter-gateway directory approve {result['fingerprint']}"
        )


def _energy(span: TouchedSpan) -> str | None:
    if span.lost is None or span.gained is None:
        return None
    if span.lost == span.gained:
        return in_kwh(span.gained)
    return f"{in_kwh(span.lost)} -> {in_kwh(span.gained)}"
