"""A model of what each kind of change does: half hours in a row that are painted over, nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from mapping.changes import (
    UNSAID,
    Change,
    CorrectAttributes,
    CorrectHoldings,
    CorrectInstallations,
    CrossHoldings,
    CrossMeters,
    Install,
    MoveIn,
    MoveOut,
    Name,
    Remove,
    Replace,
    SetAttributes,
    SetMultiplier,
    SetPaymentMode,
)
from mapping.directory import AttributeKind, NumberKind, Role
from mapping.snapshot import DirectorySnapshot
from tests.support.mapping.strategies import ACCOUNTS, METERS, ORIGIN, POINTS, STEPS

END = STEPS + 1
"""The step after the last, which stands for all time after it."""


class Cell(NamedTuple):
    """What holds in a half hour; cells of one `paper` beside each other are one row."""

    paper: int
    value: Any


Line = list[Cell | None]


def step(at: datetime | None) -> int:
    """Give the half hour that begins at an instant."""
    return END if at is None else int((at - ORIGIN).total_seconds() // 1800)


class Painted:
    """The present state of all relations, by half hours; made of a snapshot, changed by painting."""

    def __init__(self, snapshot: DirectorySnapshot) -> None:
        self._papers = 0
        self.fitted = {
            m: self._line(
                (r.valid_from, r.valid_to, (r.usage_point, r.role, r.multiplier))
                for r in snapshot.installations(m)
            )
            for m in METERS
        }
        self.held = {
            p: self._line(
                (r.valid_from, r.valid_to, (r.account_id, r.payment_mode)) for r in snapshot.holdings(p)
            )
            for p in POINTS
        }
        self.kept = {
            (p, kind): self._line(
                (r.valid_from, r.valid_to, r.value) for r in snapshot.attributes(p) if r.kind is kind
            )
            for p in POINTS
            for kind in AttributeKind
        }
        self.names = {(a, kind): snapshot.name(a, kind) for a in ACCOUNTS for kind in NumberKind}

    def _line(self, spans: Iterable[tuple[datetime, datetime | None, Any]]) -> Line:
        line: Line = [None] * END
        for start, end, value in spans:
            self._paint(line, step(start), step(end), value)
        return line

    def _paint(self, line: Line, start: int, end: int, value: Any) -> None:
        self._papers += 1
        for at in range(start, end):
            line[at] = None if value is None else Cell(self._papers, value)

    def values(self) -> dict[str, Any]:
        """Give everything without the papers, to be compared."""
        return {
            "names": self.names,
            **{
                name: {key: [c and c.value for c in line] for key, line in lines.items()}
                for name, lines in (("fitted", self.fitted), ("held", self.held), ("kept", self.kept))
            },
        }

    def apply(self, change: Change) -> None:
        """Paint a change that is lawful."""
        match change:
            case Name():
                self.names[change.account_id, change.kind] = change.number
            case Install():
                self._install(change, step(change.valid_from), END)
            case Remove():
                line, at = self.fitted[change.meter], step(change.at)
                self._paint(line, at, row_end(line, at), None)
            case Replace():
                line, at = self.fitted[change.old], step(change.at)
                cell, end = line[at], row_end(line, at)
                assert cell is not None
                point, role, factor = cell.value
                self._paint(line, at, end, None)
                factor = factor if change.multiplier is None else change.multiplier
                self._install(Install(change.new, point, role, change.at, factor), at, end)
            case SetMultiplier():
                line = self.fitted[change.meter]
                for at in range(*reach(line, change.valid_from, change.valid_to)):
                    line[at] = _with(line[at], 2, change.multiplier, self._next())
            case SetPaymentMode():
                line = self.held[change.usage_point]
                for at in range(*reach(line, change.valid_from, change.valid_to)):
                    line[at] = _with(line[at], 1, change.payment_mode, self._next())
            case MoveIn():
                self._move_in(change)
            case MoveOut():
                line, at = self.held[change.usage_point], step(change.at)
                self._paint(line, at, row_end(line, at), None)
            case CorrectInstallations():
                line = [None] * END
                for one in change.spans:
                    factor = one.multiplier
                    if factor is None:
                        factor = self._nearest(change.meter, one.usage_point, one.role, step(one.valid_from))
                    value = (one.usage_point, one.role, factor)
                    self._paint(line, step(one.valid_from), step(one.valid_to), value)
                self.fitted[change.meter] = line
            case CorrectHoldings():
                self._correct_holdings(change)
            case CrossMeters():
                _cross(self.fitted, change.meters, change.valid_from, change.valid_to)
            case CrossHoldings():
                _cross(self.held, change.usage_points, change.valid_from, change.valid_to)
            case SetAttributes():
                for kind, told in change.values.items():
                    line, at = self.kept[change.usage_point, kind], step(change.valid_from)
                    end = row_end(line, at) if change.valid_to is None else step(change.valid_to)
                    self._paint(line, at, end, told)
            case CorrectAttributes():
                spans = ((s.valid_from, s.valid_to, s.value) for s in change.spans)
                self.kept[change.usage_point, change.attribute] = self._line(spans)

    def _next(self) -> int:
        self._papers += 1
        return self._papers

    def _install(self, change: Install, at: int, limit: int) -> None:
        line = self.fitted[change.meter]
        cell, end = line[at], min(row_end(line, at), limit)
        own = Decimal(1)
        if cell is not None:
            point, role, own = cell.value
            if (point, role) == (change.usage_point, change.role):
                return
        factor = change.multiplier
        if factor is None:
            factor = self._declared(change.usage_point, change.role, at, own)
        self._paint(line, at, end, (change.usage_point, change.role, factor))

    def _move_in(self, change: MoveIn) -> None:
        line, at = self.held[change.usage_point], step(change.valid_from)
        cell = line[at]
        if cell is not None and change.payment_mode in (None, cell.value[1]):
            return
        self._paint(line, at, row_end(line, at), (change.account_id, change.payment_mode))

    def _correct_holdings(self, change: CorrectHoldings) -> None:
        had = self.held[change.usage_point]
        line: Line = [None] * END
        for one in change.spans:
            mode = one.payment_mode
            if mode is UNSAID:
                at = step(one.valid_from)
                own = [r for r in rows(had) if r[2][0] == one.account_id]
                there = next((r for r in own if r[0] <= at < r[1]), own[0] if own else None)
                mode = None if there is None else there[2][1]
            self._paint(line, step(one.valid_from), step(one.valid_to), (one.account_id, mode))
        self.held[change.usage_point] = line

    def _declared(self, point: str, role: Role, at: int, own: Decimal) -> Decimal:
        if role is Role.STOCK:
            return own
        there = sorted(
            (start, end, meter, value[2])
            for meter, line in self.fitted.items()
            for start, end, value in rows(line)
            if value[:2] == (point, role)
        )
        before = [r for r in there if r[0] <= at]
        return (before[-1] if before else there[0])[3] if there else own

    def _nearest(self, meter: str, point: str, role: Role, at: int) -> Decimal:
        own = [r for r in rows(self.fitted[meter]) if r[2][:2] == (point, role)]
        if not own:
            return self._declared(point, role, at, Decimal(1))
        covering = [r for r in own if r[0] <= at < r[1]]
        coming = [r for r in own if r[0] > at]
        found: Decimal = (covering or coming or own[-1:])[0][2][2]
        return found


def rows(line: Line) -> Iterator[tuple[int, int, Any]]:
    """Give the rows of a line: from, until before, value."""
    at = 0
    while at < END:
        cell, end = line[at], row_end(line, at)
        if cell is not None:
            yield at, end, cell.value
        at = end


def row_end(line: Line, at: int) -> int:
    """Give where the row at a half hour ends; of a gap, where the next row begins."""
    paper = line[at].paper if line[at] else None  # type: ignore[union-attr]
    end = at
    while end < END and (line[end].paper if line[end] else None) == paper:  # type: ignore[union-attr]
        end += 1
    return end


def reach(line: Line, start: datetime, end: datetime | None) -> tuple[int, int]:
    """Give from when until when a change of a row's member holds."""
    at = step(start)
    return at, row_end(line, at) if end is None else step(end)


def _with(cell: Cell | None, index: int, value: Any, paper: int) -> Cell | None:
    assert cell is not None
    changed = list(cell.value)
    changed[index] = value
    return cell if tuple(changed) == cell.value else Cell(paper, tuple(changed))


def _cross(lines: dict[str, Line], keys: tuple[str, ...], start: datetime, end: datetime | None) -> None:
    was = {key: list(lines[key]) for key in keys}
    for key, following in zip(keys, (*keys[1:], keys[0]), strict=True):
        for at in range(step(start), step(end)):
            lines[key][at] = was[following][at]
