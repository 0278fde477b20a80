"""What bench/kanpur.py finds at the end: the ledger, the directory and a billing system beside the city's script."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.kanpur_city import DAYS, MONTH_ENDS, MOVED_ON, City, Row
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from mapping.directory import Attributions, NumberKind
from mapping.snapshot import DirectorySnapshot
from mapping.timeline import Captured, attribute_all

SAMPLE = 300_000
"""Captures that are attributed at once when the speed is measured."""
EXAMPLES = 5
"""Faults of each kind that are told."""


@dataclass
class Found:
    """Counts of what is wrong, each with a few examples, and of what was looked at."""

    captures: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    kwh_looked_up_wrong: Decimal = Decimal(0)

    def fault(self, kind: str, what: str) -> None:
        """Count one."""
        self.counts[kind] += 1
        told = self.examples.setdefault(kind, [])
        if len(told) < EXAMPLES:
            told.append(what)


class Audit:
    """Compares, meter by meter."""

    def __init__(self, city: City, ledger: Ledger, directory: DirectorySnapshot) -> None:
        self._city = city
        self._ledger = ledger
        self._directory = directory
        self._ids: dict[str, int] = {}
        self.found = Found()

    def run(self) -> Found:
        """Look at all; return what is wrong."""
        self._ids = self._accounts()
        for meter in self._directory.each(map(self._city.meter, self._city.all_meters)):
            self._look(int(meter.partition(":")[2]) - 10_000_000)
        self._months()
        return self.found

    def _accounts(self) -> dict[str, int]:
        """Return the number of each account's id; whoever has a wrong new number is told."""
        found = {}
        for account in self._city.named:
            wanted = self._directory.account_by_number(NumberKind.ACCOUNT, self._city.new_number(account))
            by_old = self._directory.account_by_number(NumberKind.LEGACY, self._city.old_number(account))
            if by_old is None or by_old != wanted:
                self.found.fault("misnamed", self._city.old_number(account))
            if by_old is not None:
                found[by_old] = account
        return found

    def _look(self, meter: int) -> None:
        city, name = self._city, self._city.meter(meter)
        recorded = {(row.profile, row.at): (day, row) for day in range(DAYS) for row in city.rows(meter, day)}
        stored = self._ledger.captures.between(name)
        wanted = [Captured(name, one.start, one.at) for one in stored]
        answers = attribute_all(self._directory, wanted)
        for one, whose in zip(stored, answers, strict=True):
            self.found.captures += 1
            day, row = recorded.pop((one.profile, one.at), (0, None))
            if row is None:
                self.found.fault("doubled", one.capture_id)
            elif one.start != row.start or [v.value for v in one.message.values] != [str(row.wh)]:
                self.found.fault("altered", one.capture_id)
            else:
                self._judge(meter, day, row, one, whose)
        for profile, at in recorded:
            self.found.fault("lost", f"{name}/{profile}/{at}")

    def _judge(self, meter: int, day: int, row: Row, one: StoredCapture, whose: Attributions) -> None:
        city = self._city
        start, end = (
            None if t is None else (t - city.begin).total_seconds() / 86_400 for t in (row.start, row.at)
        )
        assert end is not None
        true = city.accounts(meter, start, end)
        has = {self._ids.get(account.account_id, -1) for account in whose.accounts}
        numbers = {account.account_number for account in whose.accounts}
        if has != true or numbers != {city.new_number(account) for account in true}:
            self.found.fault("misattributed", f"{one.capture_id}: {sorted(has)}, truly {sorted(true)}")
        if true and city.looked_up(meter, day) not in true:
            self.found.counts["looked_up_wrong"] += 1
            if row.start is not None:
                self.found.kwh_looked_up_wrong += Decimal(row.wh) / 1000

    # --- bills ------------------------------------------------------------------------------------

    def _months(self) -> None:
        """Bill each account of a smart meter for each month: by registers at the ends of its stretches."""
        for point in range(self._city.meters):
            holders = [point, self._city.newcomer(point)] if point in self._city.moved else [point]
            for account in holders:
                for month in pairwise(MONTH_ENDS):
                    self._bill(account, point, *map(float, month))

    def _bill(self, account: int, point: int, begin: float, end: float) -> None:
        city = self._city
        account_id = self._directory.account_by_number(NumberKind.ACCOUNT, city.new_number(account))
        if account_id is None:
            self.found.fault("unbilled_months", city.old_number(account))
            return
        billed, true = 0, 0
        for meter, segment in self._directory.meters_of_account(account_id):
            number = int(meter.partition(":")[2]) - 10_000_000
            since = max(segment.start, city.at(begin))
            until = min(segment.end, city.at(end))
            if since >= until or number not in city.all_meters:
                continue
            first, last = self._register(meter, since), self._register(meter, until)
            if first is None or last is None:
                self.found.fault("unbilled_months", f"{city.old_number(account)}: {meter} {since} {until}")
                return
            billed += last - first
        for one in self._candidates(point):
            for stay in city.stays(one):
                if stay.point == point:
                    since_day, until_day = max(stay.since, begin), min(stay.until, end)
                    true += self._true_use(one, account, point, since_day, until_day)
        if billed != true:
            self.found.fault("misbilled_months", f"{city.old_number(account)}: {billed} Wh, truly {true}")

    def _true_use(self, meter: int, account: int, point: int, since: float, until: float) -> int:
        if point in self._city.moved:
            came = account == self._city.newcomer(point)
            since, until = (max(since, MOVED_ON), until) if came else (since, min(until, MOVED_ON))
        return max(0, round((until - since) * 48)) * self._city.rate(meter)

    def _candidates(self, point: int) -> Iterator[int]:
        """Yield the meters that ever measured a usage point."""
        city = self._city
        ring = next((ring for ring in city.rings if point in ring), ()) if point < city.replaced.start else ()
        yield from ring or (point,)
        if point in city.replaced:
            yield city.meters + point - city.replaced.start

    def _register(self, meter: str, at: datetime) -> int | None:
        for profile in ("daily", "instantaneous"):
            for one in self._ledger.captures.between(meter, profile, at, at):
                if one.at == at:
                    return int(one.message.values[0].value or "")
        return None


def day_captures(city: City) -> list[tuple[str, int, int]]:
    """Return captures as `attributions_per_s` asks them, as (meter, start, end) in seconds: intervals only."""
    found: list[tuple[str, int, int]] = []
    for meter in city.all_meters:
        if len(found) >= SAMPLE:
            break
        found += [
            (city.meter(meter), int(row.start.timestamp()), int(row.at.timestamp()))
            for day in range(DAYS)
            for row in city.rows(meter, day)
            if row.start is not None
        ]
    return found


def attributions_per_s(city: City, directory: DirectorySnapshot) -> float:
    """Return how many captures a second are attributed when they come sorted by meter and time."""
    wanted: list[Captured] = []
    for meter in city.all_meters:
        if len(wanted) >= SAMPLE:
            break
        wanted += [
            Captured(city.meter(meter), row.start, row.at)
            for day in range(DAYS)
            for row in city.rows(meter, day)
        ]
    wanted.sort(key=lambda one: (one.meter, one.end))
    begun = time.perf_counter()
    count = sum(1 for _ in attribute_all(directory, wanted))
    return count / (time.perf_counter() - begun)


def octets(folder: Path, captures: int) -> float:
    """Return the octets on disk of the ledger for each capture, indexes included."""
    return sum(path.stat().st_size for path in folder.glob("ledger.db*")) / max(captures, 1)


def by_billing(city: City, ledger: dict[str, Any], found: Found) -> int:
    """Compare what a billing system has that hears messages only; return how many captures it has."""
    by_number = {city.new_number(account): account for account in city.named}
    left = {
        (city.meter(meter), row.profile, row.at): (meter, row)
        for meter in city.all_meters
        for day in range(DAYS)
        for row in city.rows(meter, day)
    }
    for entry in ledger["captures"]:
        name, profile, _, _ = entry["capture_id"].split("/")
        known = left.pop((name, profile, datetime.fromisoformat(entry["at"])), None)
        if known is None:
            found.fault("doubled", f"billing: {entry['capture_id']}")
            continue
        meter, row = known
        start, end = (
            None if t is None else (t - city.begin).total_seconds() / 86_400 for t in (row.start, row.at)
        )
        assert end is not None
        has = {by_number.get(one.get("account_number", ""), -1) for one in entry["accounts"]}
        if has != city.accounts(meter, start, end):
            found.fault("misattributed", f"billing: {entry['capture_id']}: {sorted(has)}")
    for name, profile, at in left:
        found.fault("lost", f"billing: {name}/{profile}/{at}")
    return len(ledger["captures"])
