"""Whose readings are, by plain lists: what a person with two sheets of paper would answer. Knows no code of ours."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

FOREVER = 10**6
Whose = set[tuple[str, str, str, str | None]]
"""Account, usage point, role and new number of each that a capture stands under."""


@dataclass
class Lists:
    """Stretches [from, to) in steps: meters at usage points, holders of usage points; and numbers of accounts."""

    fitted: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    held: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    numbers: dict[str, str | None] = field(default_factory=dict)

    def copied(self) -> Lists:
        """Give a copy to be changed."""
        return copy.deepcopy(self)

    # --- changes ----------------------------------------------------------------------------------

    def move_in(self, point: str, account: str, step: int) -> None:
        """Let an account hold a usage point from a step on."""
        self.held.setdefault(point, []).append((account, step, FOREVER))

    def move_out(self, point: str, step: int) -> None:
        """End the open holding of a usage point."""
        self.held[point] = [(who, a, min(b, step)) for who, a, b in self.held[point]]

    def replace(self, old: str, new: str, step: int) -> None:
        """Put a meter in another's place."""
        point = self.fitted[old][-1][0]
        self.fitted[old] = [(where, a, min(b, step)) for where, a, b in self.fitted[old]]
        self.fitted.setdefault(new, []).append((point, step, FOREVER))

    def cross(self, one: str, other: str, since: int, until: int) -> None:
        """Exchange where two meters stood between two steps."""
        before = {meter: self.fitted[meter] for meter in (one, other)}
        for meter, far in ((one, other), (other, one)):
            outside = [*_cut(before[meter], 0, since), *_cut(before[meter], until, FOREVER)]
            self.fitted[meter] = sorted([*outside, *_cut(before[far], since, until)], key=lambda row: row[1])

    # --- asking -----------------------------------------------------------------------------------

    def holder(self, meter: str, step: int) -> tuple[str, str] | None:
        """Say who has a meter in the step that begins at `step`, and where."""
        for point, a, b in self.fitted.get(meter, []):
            if a <= step < b:
                for account, c, d in self.held.get(point, []):
                    if c <= step < d:
                        return account, point
        return None

    def whose(self, meter: str, start: int | None, end: int) -> Whose:
        """Say whose a capture is: of the steps start..end, or a register at `end`."""
        if start is None or start == end:
            before, after = self.holder(meter, end - 1), self.holder(meter, end)
            if before == after:
                return self._named([(before, "normal")])
            return self._named([(before, "final"), (after, "opening")])
        runs = [self.holder(meter, step) for step in range(start, end)]
        if len(set(runs)) == 1:
            return self._named([(runs[0], "normal")])
        return self._named([(one, "partial") for one in runs])

    def _named(self, found: list[tuple[tuple[str, str] | None, str]]) -> Whose:
        return {(one[0], one[1], role, self.numbers.get(one[0])) for one, role in found if one is not None}


def _cut(rows: list[tuple[str, int, int]], since: int, until: int) -> list[tuple[str, int, int]]:
    cut = [(point, max(a, since), min(b, until)) for point, a, b in rows]
    return [row for row in cut if row[1] < row[2]]
