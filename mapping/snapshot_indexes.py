"""Look-up tables of rows in memory, made on first use: an edge needs none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mapping.directory import Holding, Installation, Naming, NumberKind


@dataclass(frozen=True, slots=True)
class Indexes:
    """Owner of each present number by kind; meters ever at a usage point; usage points ever of an account."""

    owners: Mapping[NumberKind, Mapping[str, str]]
    meters_at: Mapping[str, tuple[str, ...]]
    points_of: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(
        cls,
        installations: Mapping[str, tuple[Installation, ...]],
        holdings: Mapping[str, tuple[Holding, ...]],
        namings: Mapping[str, tuple[Naming, ...]],
    ) -> Indexes:
        """Make them from all rows."""
        owners: dict[NumberKind, dict[str, str]] = {kind: {} for kind in NumberKind}
        for rows in namings.values():
            for row in rows:
                if row.superseded is None and row.valid_to is None:
                    owners[row.kind][row.number] = row.account_id
        meters_at: dict[str, tuple[str, ...]] = {}
        _add(meters_at, ((r.usage_point, r.meter) for rows in installations.values() for r in rows))
        points_of: dict[str, tuple[str, ...]] = {}
        _add(points_of, ((r.account_id, r.usage_point) for rows in holdings.values() for r in rows))
        return cls(owners, meters_at, points_of)


def _add(index: dict[str, tuple[str, ...]], pairs: Iterable[tuple[str, str]]) -> None:
    for key, value in pairs:
        have = index.get(key)
        if have is None:
            index[key] = (value,)
        elif value not in have:
            index[key] = (*have, value)
