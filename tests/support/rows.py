"""A utility's office for the tests of users.md §6: commands on a data folder, a ledger that edges deliver to, pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.central.ledger.ledger import Ledger
from gateway.central.portal.views import Views
from gateway.contract.messages import Capture, CaptureValue
from gateway.roles.central_files import CentralFiles, central_files
from mapping.changes import Change
from mapping.imports import HEADER, apply_import, plan_import
from mapping.store import DirectoryStore
from tests.support.central.samples import batch, capture, received, snapshot
from tests.support.cli import Cli
from tests.support.fakes import ManualClock

HALF = timedelta(minutes=30)
BORN = "2025-01-01T00:00:00+05:30"
DAY0 = datetime(2025, 9, 30, 18, 30, tzinfo=UTC)
"""Midnight of 1 October 2025 in Kanpur: the readings of the tests begin here."""
LEARNED = datetime(2025, 1, 1, tzinfo=UTC)
MULTIPLE_OF_RE_KEY = 7_919


def meter(one: int) -> str:
    """Give the meter of a consumer, counted from 1."""
    return f"GEN:1000{one:04d}"


def old(one: int) -> str:
    """Give the old number of a consumer."""
    return f"KE{one:07d}"


def new(one: int) -> str:
    """Give the ten digits that a consumer shall get; no two are neighbours."""
    return f"{2_000_000_000 + one * MULTIPLE_OF_RE_KEY:010d}"


def half_hour(slot: int) -> datetime:
    """Give the end of the half hour `slot` (1 is the first) after DAY0."""
    return DAY0 + HALF * slot


@dataclass
class Office:
    """What a clerk has: the command line and a data folder of central."""

    cli: Cli
    data: Path
    seq: dict[str, int] = field(default_factory=dict)

    @property
    def files(self) -> CentralFiles:
        """Central's files."""
        return central_files(self.data).made()

    def put(self, name: str, *rows: str, head: str = "", encoding: str = "utf-8") -> Path:
        """Write a file."""
        path = self.data / name
        path.write_bytes("\n".join((*([head] if head else []), *rows, "")).encode(encoding))
        return path

    def give(self, *words: object, code: int = 0) -> Any:
        """Give a command on the folder; gives its JSON document."""
        return self.cli(*words, "--data", self.data, "--json", code=code).json

    def said(self, *words: object, code: int = 0) -> str:
        """Give a command; gives what a person reads."""
        return self.cli(*words, "--data", self.data, code=code).text

    def refused(self, *words: object, code: int = 2) -> str:
        """Give a command that must fail; gives the one line that says why."""
        return self.cli.refuses(*words, "--data", self.data, code=code)

    # --- directory --------------------------------------------------------------------------------

    def live(self, count: int) -> None:
        """Let `count` consumers be known since LEARNED by their old numbers, one meter and one usage point each."""
        rows = (f"{meter(i)},UP-{i},consumer,{old(i)},,{BORN}" for i in range(1, count + 1))
        path = self.put("meters.csv", *rows, head=",".join(HEADER))
        with DirectoryStore(self.files.directory) as store:
            apply_import(store, plan_import(store.snapshot(), path, at=LEARNED), by="desk", at=LEARNED)

    def bring(self, *rows: str, code: int = 0) -> Any:
        """Import rows of meters; gives the document."""
        return self.give(
            "directory", "import", self.put("meters.csv", *rows, head=",".join(HEADER)), code=code
        )

    def plan(
        self, *rows: str, head: str = "legacy_number,account_number", words: Sequence[object] = ()
    ) -> Any:
        """Plan a re-key file of these rows; gives the document, whatever it ends with."""
        path = self.put("numbers.csv", *rows, head=head)
        return self.plan_file(path, *words)

    def plan_file(self, path: Path, *words: object) -> Any:
        """Plan a re-key file; gives the document, whatever the command ends with."""
        got = self.cli.outcome("directory", "rekey", "plan", path, *words, "--data", self.data, "--json")
        assert got.code in (0, 1), got.text
        return got.json

    def control(self, *ones: int) -> Path:
        """Write the list of whoever gave out the numbers."""
        rows = (f"{old(i)},{new(i)},{meter(i)}" for i in ones)
        return self.put("control.csv", *rows, head="legacy_number,account_number,meter")

    def apply(self, plan: Any, *, approver: str = "chief", code: int = 0) -> Any:
        """Apply a plan with the approval of somebody else."""
        approved = ("--without-control", "--approver", approver, "--by", "clerk")
        return self.give("directory", "rekey", "apply", plan["fingerprint"], *approved, code=code)

    def apply_refused(self, plan: Any) -> str:
        """Try to apply a plan as `apply` does; gives the line that says why it may not."""
        approved = ("--without-control", "--approver", "chief", "--by", "clerk")
        got = self.cli.outcome(
            "directory", "rekey", "apply", plan["fingerprint"], *approved, "--data", self.data
        )
        assert got.code != 0, got.text
        return got.err

    def name(self, *ones: int) -> None:
        """Give consumers their new numbers."""
        self.apply(self.plan(*(f"{old(i)},{new(i)}" for i in ones), words=("--part", "--rows", len(ones))))

    def numbers(self) -> dict[str, str | None]:
        """Give the new number of each old one, as `directory show` tells it of the meters."""
        found: dict[str, str | None] = {}
        with DirectoryStore(self.files.directory) as store:
            meters = list(store.snapshot().meters())
        for one in meters:
            for row in self.give("directory", "show", one):
                if row["legacy_number"] is not None:
                    found[row["legacy_number"]] = row["account_number"]
        return found

    def number(self, one: int) -> str | None:
        """Give the present new number of a consumer."""
        (row,) = self.give("directory", "show", meter(one))
        return None if row["account_number"] is None else str(row["account_number"])

    @property
    def version(self) -> int:
        """The directory version."""
        return int(self.give("directory", "show")["version"])

    def change(self, *changes: Change, at: datetime | None = None) -> int:
        """Apply a change set that became known at a time (None: now); gives the directory version."""
        with DirectoryStore(self.files.directory) as store:
            return store.apply(changes, by="desk", source="desk", at=at or datetime.now(UTC))

    # --- ledger -----------------------------------------------------------------------------------

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open the ledger."""
        made = Ledger(self.files.ledger)
        try:
            yield made
        finally:
            made.close()

    def deliver(self, captures: Iterable[Capture], gateway: str = "edge-1") -> None:
        """Deliver captures as an edge does: stamped by the directory as it is now, numbered in its journal."""
        with DirectoryStore(self.files.directory) as store:
            known = store.snapshot()
            numbered = []
            for one in captures:
                self.seq[gateway] = self.seq.get(gateway, 0) + 1
                reason = known.attributions(one.meter, one.start, one.at).reason
                numbered.append(one.model_copy(update={"seq": self.seq[gateway], "reason": reason}))
        data = batch(numbered, journal=f"journal-of-{gateway}", gateway=gateway)
        with self.ledger() as ledger:
            ledger.ingest([received(data)])

    def half_hours(self, of: str, first: int, last: int, *, wh: int = 100, gateway: str = "edge-1") -> None:
        """Deliver the half hours first..last of a meter."""
        self.deliver(
            (
                capture(1, meter=of, at=half_hour(i), value=str(wh), received_at=half_hour(i))
                for i in range(first, last + 1)
            ),
            gateway,
        )

    def register(self, of: str, slot: int, wh: str | None, *, missing: str | None = None) -> None:
        """Deliver a register read at the end of a half hour."""
        read = CaptureValue.model_validate(
            {"q": "1-0:1.8.0*255", "name": "energy_import", "unit": "Wh", "value": wh, "missing": missing}
        )
        at, profile = half_hour(slot), "instantaneous"
        named = {"profile": profile, "capture_id": f"{of}/{profile}/{at:%Y-%m-%dT%H:%M:%SZ}/0"}
        self.deliver([snapshot(1, at=at, meter=of, values=(read,), received_at=at, **named)])

    def readings(self, account: str, *, known_at: datetime | None = None, days: int = 3) -> list[Any]:
        """Give the readings of an account in the days after DAY0, as the command lists them."""
        words: list[object] = ["readings", account, "--since", DAY0.isoformat()]
        words += ["--until", (DAY0 + timedelta(days=days)).isoformat()]
        if known_at is not None:
            words += ["--known-at", known_at.isoformat()]
        return list(self.give(*words))

    def slots(self, account: str, *, known_at: datetime | None = None) -> list[tuple[int, str, str]]:
        """Give (half hour, meter, role) of the interval readings of an account."""
        return [
            (int((datetime.fromisoformat(r["at"]) - DAY0) / HALF), r["meter"], r["role"])
            for r in self.readings(account, known_at=known_at)
            if r["profile"] == "block_load"
        ]

    def reasons(self, *words: str) -> dict[str, str]:
        """Give why meters stand under no account, as `unattributed` lists it."""
        return {row["meter"]: row["reason"] for row in self.give("unattributed", *words)}

    @contextmanager
    def views(self, now: datetime) -> Iterator[Views]:
        """Open what the pages read."""
        with self.ledger() as ledger, DirectoryStore(self.files.directory) as store:
            yield Views(ledger, store.snapshot, ManualClock(now))


def summed(rows: Iterable[Any], name: str) -> dict[str, int]:
    """Count rows of a document by one member."""
    found: dict[str, int] = {}
    for row in rows:
        found[str(row[name])] = found.get(str(row[name]), 0) + 1
    return found
