"""A model of the directory that is slow and plain: who holds what, per half hour, in whole copies."""

from __future__ import annotations

from datetime import datetime

from mapping.directory import Holding, Installation, NumberKind, Role
from mapping.snapshot import DirectorySnapshot
from tests.support.mapping.strategies import METERS, POINTS, STEPS, at

Cell = tuple[str, str] | None
"""Account and usage point that a meter serves during one half hour."""


def cells(fitted: list[Installation], held: dict[str, list[Holding]]) -> list[Cell]:
    """Give for each half hour [step, step+1) the account and usage point of a meter; the last is for ever."""
    found: list[Cell] = []
    for step in range(STEPS + 1):
        now = at(step)
        cell: Cell = None
        for row in fitted:
            if row.role is Role.CONSUMER and _covers(row, now):
                for holding in held.get(row.usage_point, []):
                    if _covers(holding, now):
                        cell = (holding.account_id, row.usage_point)
        found.append(cell)
    return found


def _covers(row: Installation | Holding, now: datetime) -> bool:
    return row.valid_from <= now and (row.valid_to is None or now < row.valid_to)


def why(row: Installation | None, held: list[Holding], now: datetime) -> str:
    """Say why nobody has a meter, of which `row` says where it is then and `held` who ever held that point."""
    if row is None:
        return "no_account"
    if row.role is not Role.CONSUMER:
        return "not_a_consumer"
    ended = [h for h in held if h.valid_to is not None and h.valid_to <= now]
    return "not_a_consumer" if ended else "no_account"


class Version:
    """A plain copy of what held in one version."""

    def __init__(self, snapshot: DirectorySnapshot) -> None:
        self.version = snapshot.version
        self.known = snapshot.changes[-1].at if snapshot.changes else None
        held = {p: list(snapshot.holdings(p)) for p in POINTS}
        self.fitted = {m: list(snapshot.installations(m)) for m in METERS}
        self.cells = {m: cells(self.fitted[m], held) for m in METERS}
        self.whys = {m: [self._why(m, held, at(step)) for step in range(STEPS + 1)] for m in METERS}
        self.numbers = {
            (row.account_id, row.kind): row.number
            for account in ("a", "b", "c")
            for row in snapshot.namings(account)
            if row.valid_to is None
        }

    def _why(self, meter: str, held: dict[str, list[Holding]], now: datetime) -> str:
        row = next((r for r in self.fitted[meter] if _covers(r, now)), None)
        return why(row, [] if row is None else held.get(row.usage_point, []), now)

    def who(self, meter: str, step: int) -> tuple[str, str] | str:
        """Give who has the meter in a half hour, or why nobody has it."""
        return self.cells[meter][step] or self.whys[meter][step]

    def reason(self, meter: str, start: int | None, end: int) -> str | None:
        """Give why a capture stands under no account with 10 digits; None when it does."""
        found = self.answer(meter, start, end)
        if found:
            return "no_account" if any(number is None for *_, number in found) else None
        return self.whys[meter][end if start in {None, end} else end - 1]

    def answer(self, meter: str, start: int | None, end: int) -> list[tuple[str, str, str, str | None]]:
        """Give (account, usage point, role, number) of a capture, by time."""
        line = self.cells[meter]
        found: list[tuple[str, str, str]] = []
        if start is None or start == end:
            before = line[end - 1] if end > 0 else None
            after = line[end]
            if before == after:
                found = [] if after is None else [(*after, "normal")]
            else:
                found = [] if before is None else [(*before, "final")]
                found += [] if after is None else [(*after, "opening")]
        else:
            inside = line[start:end]
            if len(set(inside)) == 1:
                found = [] if inside[0] is None else [(*inside[0], "normal")]
            else:
                last: Cell = None
                for cell in inside:
                    if cell is not None and cell != last:
                        found.append((*cell, "partial"))
                    last = cell
        return [(a, p, r, self.numbers.get((a, NumberKind.ACCOUNT))) for a, p, r in found]
