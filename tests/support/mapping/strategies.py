"""Hypothesis strategies: numbered instants, changes and captures over a handful of meters and accounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import strategies as st

from mapping.changes import (
    UNSAID,
    AttributeSpan,
    Change,
    CorrectAttributes,
    CorrectHoldings,
    CorrectInstallations,
    CrossHoldings,
    CrossMeters,
    HoldingSpan,
    Install,
    InstallationSpan,
    MoveIn,
    MoveOut,
    Name,
    Remove,
    Replace,
    SetAttributes,
    SetMultiplier,
    SetPaymentMode,
)
from mapping.directory import AttributeKind, NumberKind, PaymentMode, Role

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
METERS = ("GEN:1", "GEN:2", "SEC:1")
POINTS = ("UP1", "UP2", "UP3")
ACCOUNTS = ("a", "b", "c")
STEPS = 8


def at(step: int) -> datetime:
    """Give the instant of a step of half an hour."""
    return ORIGIN + timedelta(minutes=30 * step)


steps = st.integers(0, STEPS)
instants = steps.map(at)
roles = st.sampled_from([Role.CONSUMER, Role.CONSUMER, Role.CONSUMER, Role.STOCK, Role.FEEDER])
numbers = st.sampled_from(["0000000001", "0000000002", "0000000003"])


def _cuts(width: int) -> st.SearchStrategy[list[tuple[int, int | None, int]]]:
    """Give stretches that do not overlap: (from, to, which)."""

    def stretch(edges: list[int], which: list[int], is_open: bool) -> list[tuple[int, int | None, int]]:
        edges = sorted(set(edges))
        pairs = list(pairwise(edges))
        found: list[tuple[int, int | None, int]] = [
            (a, b, which[i % len(which)] % width)
            for i, (a, b) in enumerate(pairs)
            if which[i % len(which)] < 9
        ]
        if is_open and edges:
            found.append((edges[-1], None, which[-1] % width))
        return found

    return st.builds(
        stretch,
        st.lists(steps, max_size=4),
        st.lists(st.integers(0, 11), min_size=1, max_size=4),
        st.booleans(),
    )


def _at(step: int | None) -> datetime | None:
    return None if step is None else at(step)


multipliers = st.sampled_from([None, None, Decimal(1), Decimal(10)])
modes = st.sampled_from([None, *PaymentMode])
ends = st.none() | instants
values = st.none() | st.sampled_from(["F1", "F2"])
_kinds = st.sampled_from([AttributeKind.FEEDER, AttributeKind.ROUTE])
_loads = st.none() | st.sampled_from(["2", "5.5"])
_some_meters = st.lists(st.sampled_from(METERS), min_size=2, max_size=3, unique=True).map(tuple)
_some_points = st.lists(st.sampled_from(POINTS), min_size=2, max_size=3, unique=True).map(tuple)

changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(Install, st.sampled_from(METERS), st.sampled_from(POINTS), roles, instants, multipliers),
    st.builds(
        Replace,
        st.sampled_from(METERS),
        st.sampled_from(METERS),
        instants,
        st.none() | st.sampled_from(POINTS),
        multipliers,
    ),
    st.builds(
        SetMultiplier, st.sampled_from(METERS), st.sampled_from([Decimal(1), Decimal(20)]), instants, ends
    ),
    st.builds(SetPaymentMode, st.sampled_from(POINTS), modes, instants, ends),
    st.builds(CrossMeters, _some_meters, instants, ends),
    st.builds(CrossHoldings, _some_points, instants, ends),
    st.builds(
        SetAttributes,
        st.sampled_from(POINTS),
        st.dictionaries(_kinds, values, min_size=1)
        | _loads.map(lambda v: {AttributeKind.SANCTIONED_LOAD: v}),
        instants,
        ends,
    ),
    st.builds(
        lambda point, kind, cuts: CorrectAttributes(
            point, kind, tuple(AttributeSpan(f"F{w}", at(a), _at(b)) for a, b, w in cuts)
        ),
        st.sampled_from(POINTS),
        _kinds,
        _cuts(len(POINTS)),
    ),
    st.builds(Remove, st.sampled_from(METERS), instants),
    st.builds(MoveIn, st.sampled_from(POINTS), st.sampled_from(ACCOUNTS), instants, modes),
    st.builds(MoveOut, st.sampled_from(POINTS), instants),
    st.builds(Name, st.sampled_from(ACCOUNTS), st.sampled_from(NumberKind), st.none() | numbers),
    st.builds(
        lambda meter, cuts, role, factor: CorrectInstallations(
            meter, tuple(InstallationSpan(POINTS[w], role, at(a), _at(b), factor) for a, b, w in cuts)
        ),
        st.sampled_from(METERS),
        _cuts(len(POINTS)),
        roles,
        multipliers,
    ),
    st.builds(
        lambda point, cuts, mode: CorrectHoldings(
            point, tuple(HoldingSpan(ACCOUNTS[w], at(a), _at(b), mode) for a, b, w in cuts)
        ),
        st.sampled_from(POINTS),
        _cuts(len(ACCOUNTS)),
        modes | st.just(UNSAID),
    ),
)


def _street(starts: list[int], accounts: list[str]) -> list[Change]:
    """Give a street where every meter is fitted and every point is held: something to disturb."""
    fitted: list[Change] = [
        Install(meter, point, Role.CONSUMER, at(start))
        for meter, point, start in zip(METERS, POINTS, starts, strict=False)
    ]
    return fitted + [
        MoveIn(point, account, at(start))
        for point, account, start in zip(POINTS, accounts, reversed(starts), strict=False)
    ]


_streets = st.builds(
    _street,
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.lists(st.sampled_from(ACCOUNTS), min_size=3, max_size=3),
)
change_sets = st.builds(
    lambda street, later: [street, *later],
    _streets,
    st.lists(st.lists(changes, min_size=1, max_size=2), min_size=1, max_size=8),
)
