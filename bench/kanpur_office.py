"""The office of bench/kanpur.py: papers that come late, and a re-key that goes wrong on the way; by real commands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.kanpur_city import (
    CROSSED_ON,
    CROSSING_FOUND_ON,
    FILES,
    MOVED_ON,
    MOVES_TOLD_ON,
    REALLOCATED_ON,
    REKEY_CAME_ON,
    WRONG_FILE,
    WRONG_FOUND_ON,
    City,
)
from gateway.central.ledger.ledger import Ledger
from gateway.roles.central_files import central_files
from mapping.changes import (
    Change,
    CorrectHoldings,
    CorrectInstallations,
    HoldingSpan,
    Install,
    InstallationSpan,
    Name,
    Remove,
)
from mapping.directory import NumberKind, Role
from mapping.imports import HEADER
from mapping.store import DirectoryStore

ROOT = Path(__file__).parent.parent
DAMAGED_EVERY = 50
"""One row in so many of the first file is damaged."""
ALLOCATED_AT_ONCE = 10_000


class Office:
    """Does on central's data what an office does; counts what the re-key took."""

    def __init__(
        self, folder: Path, city: City, database: str | None = None, where: Sequence[str] = ()
    ) -> None:
        """Work on central's files in `folder`, or on a database; `where` is what commands are told of that."""
        self.folder = folder
        self.city = city
        self.files = central_files(folder / "central").made()
        self.directory: Path | str = database or self.files.directory
        self._ledger = database or self.files.ledger
        self._where = list(where) or ["--data", str(folder / "central")]
        self.rekey_rows, self.rekey_seconds = 0, 0.0
        self._wrong_version = 0

    def command(self, *words: object, code: int = 0) -> str:
        """Give a command on central's data; return what it printed."""
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from gateway.cli.main import main; main()",
                *map(str, words),
                *self._where,
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode != code:
            raise SystemExit(
                f"{words} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done.stdout

    def move_in_everybody(self) -> Path:
        """Import every consumer, with a smart meter or not; return the file."""
        city, path = self.city, self.folder / "meters.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write(",".join(HEADER) + "\n")
            for n in range(city.consumers):
                meter = city.meter(n) if n < city.meters else f"OLD:{n:08d}"
                file.write(
                    f"{meter},{city.point(n)},consumer,{city.old_number(n)},,{city.begin.isoformat()}\n"
                )
        self.command("directory", "import", path)
        return path

    def allocate(self, meters: Sequence[int], edge: int, day: float) -> None:
        """Let an edge read meters from a day on."""
        names, since = [self.city.meter(meter) for meter in meters], self.city.at(day)
        ledger = Ledger(self._ledger)
        try:
            for first in range(0, len(names), ALLOCATED_AT_ONCE):
                some = names[first : first + ALLOCATED_AT_ONCE]
                now = datetime.now(UTC)
                ledger.allocations.give(some, f"edge-{edge}", by="desk", note="", since=since, at=now)
        finally:
            ledger.close()

    def change(self, changes: Sequence[Change]) -> int:
        """Apply a change set, as the desk does; return the directory's version."""
        with DirectoryStore(self.directory) as store:
            return store.apply(changes, by="desk", source="desk", at=datetime.now(UTC), sure=True)

    def papers(self, day: int) -> None:
        """Do what the office does on a day."""
        city = self.city
        replaced = [p for p in city.replaced if int(city.replaced_at(p) or 0) == day]
        if replaced:
            self.change([change for point in replaced for change in self._replacement(point)])
            for edge in range(city.edges):
                fitted = [city.meters + p - city.replaced.start for p in replaced]
                self.allocate([m for m in fitted if city.edge_of(m, day) == edge], edge, day)
        if day == MOVES_TOLD_ON:
            self._tenants()
        if day == CROSSING_FOUND_ON:
            for ring in city.rings:
                self.change([self._uncrossed(meter) for meter in ring])
        if day == REALLOCATED_ON:
            self.allocate(city.reallocated, 1, day)
        if day == REKEY_CAME_ON:
            for file in range(FILES):
                self._rekey(file)
        if day == WRONG_FOUND_ON:
            self._undo()
            self._apply(self._rows(WRONG_FILE), WRONG_FILE, "right")

    def _undo(self) -> None:
        """Undo the wrong file: of so many accounts only with a second person, who approves what was shown."""
        self.command("directory", "undo", self._wrong_version, "--by", "clerk", "--rows-shown", 0, code=1)
        (waits,) = json.loads(self.command("directory", "waiting", "--json"))
        self.command("directory", "approve", waits["fingerprint"], "--by", "chief", "--rows-shown", 0)

    def _replacement(self, point: int) -> list[Change]:
        city, at = self.city, self.city.at(self.city.replaced_at(point) or 0)
        new = city.meter(city.meters + point - city.replaced.start)
        return [Remove(city.meter(point), at), Install(new, city.point(point), Role.CONSUMER, at)]

    def _uncrossed(self, meter: int) -> Change:
        spans = [
            InstallationSpan(
                self.city.point(stay.point),
                Role.CONSUMER,
                self.city.at(stay.since),
                self.city.at(stay.until) if stay.until <= CROSSED_ON else None,
            )
            for stay in self.city.stays(meter)
        ]
        return CorrectInstallations(self.city.meter(meter), tuple(spans))

    def _tenants(self) -> None:
        city, at, changes = self.city, self.city.at(MOVED_ON), list[Change]()
        with DirectoryStore(self.directory) as store:
            known = store.snapshot()
            for point in city.moved:
                (held,) = known.holdings(city.point(point))
                new = f"acc-tenant-{point}"
                spans = (HoldingSpan(held.account_id, held.valid_from, at), HoldingSpan(new, at, None))
                old_number = city.old_number(city.newcomer(point))
                changes += [
                    CorrectHoldings(city.point(point), spans),
                    Name(new, NumberKind.LEGACY, old_number),
                ]
        self.change(changes)

    # --- the re-key -------------------------------------------------------------------------------

    def _rows(self, file: int, number: Callable[[int], int] | None = None) -> list[str]:
        city = self.city
        return [
            f"{city.old_number(one)},{city.new_number(number(one) if number else one)}"
            for one in city.files[file]
        ]

    def _rekey(self, file: int) -> None:
        rows = self._rows(file, self.city.slipped if file == WRONG_FILE else None)
        if file == WRONG_FILE:
            # Nothing that the directory knows can show it, no second source was sent, and somebody vouched.
            self._wrong_version = self._apply(rows, file, "slipped", approved=True)
            return
        if file == 0:
            damaged = [_damaged(row) if n % DAMAGED_EVERY == 0 else row for n, row in enumerate(rows)]
            self._apply(damaged, file, "damaged", left=(len(rows) + DAMAGED_EVERY - 1) // DAMAGED_EVERY)
            rows = rows[::DAMAGED_EVERY]  # what came back, put right by somebody with the paper
        self._apply(rows, file, "right")

    def _apply(
        self, rows: Sequence[str], file: int, name: str, *, approved: bool = False, left: int = 0
    ) -> int:
        """Plan and apply a file; return the version that it made."""
        path, control = self.folder / f"numbers-{file}-{name}.csv", self.folder / f"control-{file}.csv"
        heading = "legacy_number,account_number"
        path.write_text("\n".join((heading, *rows, "")), encoding="utf-8")
        control.write_text("\n".join((heading, *reversed(self._rows(file)), "")), encoding="utf-8")
        words = ["--part", "--rows", len(rows)] + ([] if approved else ["--control", control])
        begun = time.perf_counter()
        planned = self.command(
            "directory", "rekey", "plan", path, *words, "--rows-shown", 0, "--json", code=1 if left else 0
        )
        vouched = ["--without-control", "--approver", "chief"] if approved else []
        mark = json.loads(planned)["fingerprint"]
        applied = json.loads(
            self.command("directory", "rekey", "apply", mark, "--by", "clerk", *vouched, "--json")
        )
        self.rekey_seconds += time.perf_counter() - begun
        self.rekey_rows += len(rows)
        if applied["applied"] + applied.get("repaired", 0) != len(rows) - left:
            raise SystemExit(f"{path.name}: {applied}")
        return int(applied["directory_version"])


def _damaged(row: str) -> str:
    old, _, new = row.partition(",")
    return f"{old},{new[0]}.{new[1:3]}E+09"
