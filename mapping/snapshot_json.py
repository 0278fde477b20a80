"""A directory snapshot as JSON text and back, exactly; hostile text is a DirectoryFault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar

from mapping.account import AccountNumber, is_canonical_meter
from mapping.directory import (
    Attribute,
    AttributeKind,
    ChangeSet,
    DirectoryRow,
    Holding,
    Installation,
    Naming,
    NumberKind,
    PaymentMode,
    Role,
    RowT,
)
from mapping.errors import DirectoryFault, NumberRefused
from mapping.instants import instant, micros

FORMAT = 1
MAX_TEXT = 512 * 1024 * 1024
"""Characters of one snapshot: a whole city's is under 300 MB."""
MAX_NAME = 512
"""Characters of one id, name or source in it."""
_MAX_MICROS = micros(datetime.max.replace(tzinfo=UTC))
_MIN_MICROS = micros(datetime(1, 1, 2, tzinfo=UTC))

E = TypeVar("E", bound=StrEnum)
Loaded = tuple[
    tuple[ChangeSet, ...],
    dict[str, tuple[Installation, ...]],
    dict[str, tuple[Holding, ...]],
    dict[str, tuple[Naming, ...]],
    dict[str, tuple[Attribute, ...]],
]


def dump(
    changes: Iterable[ChangeSet],
    installations: Mapping[str, tuple[Installation, ...]],
    holdings: Mapping[str, tuple[Holding, ...]],
    namings: Mapping[str, tuple[Naming, ...]],
    attributes: Mapping[str, tuple[Attribute, ...]],
) -> str:
    """Write rows as arrays; times as microseconds since 1970, change sets by version.

    Attributes are a member only where there are any: an edge's part has none, and none is expected there.
    """
    described = [[r.usage_point, r.kind, r.value, *_life(r)] for rows in attributes.values() for r in rows]
    return json.dumps(
        {
            "format": FORMAT,
            "changes": [[c.version, micros(c.at), c.by, c.source, c.digest, c.sequence] for c in changes],
            "installations": [
                [r.meter, r.usage_point, r.role, str(r.multiplier), *_life(r)]
                for rows in installations.values()
                for r in rows
            ],
            "holdings": [
                [r.usage_point, r.account_id, r.payment_mode, *_life(r)]
                for rows in holdings.values()
                for r in rows
            ],
            "namings": [
                [r.account_id, r.kind, r.number, *_life(r)] for rows in namings.values() for r in rows
            ],
            **({"attributes": described} if described else {}),
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _life(row: DirectoryRow) -> list[int | None]:
    return [
        micros(row.valid_from),
        None if row.valid_to is None else micros(row.valid_to),
        row.recorded.version,
        None if row.superseded is None else row.superseded.version,
        row.row,
    ]


def load(text: str | bytes) -> Loaded:
    """Read what `dump` wrote, checking every field; DirectoryFault says what is wrong."""
    if len(text) > MAX_TEXT:
        raise DirectoryFault(f"a snapshot of more than {MAX_TEXT} characters is refused")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DirectoryFault(f"the snapshot is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or type(data["format"]) is not int:
        raise DirectoryFault(f"the snapshot is not of format {FORMAT}")
    try:
        return _Loader(data).load()
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DirectoryFault(f"the snapshot is malformed: {error!r}"[:300]) from error


class _Loader:
    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.changes: dict[int, ChangeSet] = {}
        self.times: dict[int, datetime] = {}

    def load(self) -> Loaded:
        last: ChangeSet | None = None
        for version, at, by, source, digest, sequence in self.data["changes"]:
            change = ChangeSet(
                version=_whole(version, 1, 2**62),
                at=self.time(at),
                by=_text(by, empty=True),
                source=_text(source, empty=True),
                digest=None if digest is None else _text(digest),
                sequence=None if sequence is None else _whole(sequence, 0, 2**62),
            )
            if last is not None and (change.version <= last.version or change.at < last.at):
                raise ValueError("change sets are out of order")
            self.changes[change.version] = last = change
        fitted = grouped((self.installation(r) for r in self.data["installations"]), lambda r: r[0])
        held = grouped((self.holding(r) for r in self.data["holdings"]), lambda r: r[0])
        named = grouped((self.naming(r) for r in self.data["namings"]), lambda r: r[0])
        kept = grouped((self.attribute(r) for r in self.data.get("attributes", ())), lambda r: r[0])
        _refuse_overlap(fitted)
        _refuse_overlap(held)
        return tuple(self.changes.values()), fitted, held, named, kept

    def installation(self, row: list[Any]) -> Installation:
        meter, point, role, multiplier, *life = row
        if not is_canonical_meter(_text(meter)):
            raise ValueError(f"{meter!r} is not a meter")
        factor = Decimal(_text(multiplier))
        if not (factor.is_finite() and factor > 0):
            raise ValueError(f"{multiplier!r} is not a multiplier")
        return Installation(meter, _text(point), _enum(Role, role), factor, *self.life(life))

    def holding(self, row: list[Any]) -> Holding:
        point, account, mode, *life = row
        paid = None if mode is None else _enum(PaymentMode, mode)
        return Holding(_text(point), _text(account), paid, *self.life(life))

    def naming(self, row: list[Any]) -> Naming:
        account, kind, number, *life = row
        which = _enum(NumberKind, kind)
        if which is NumberKind.ACCOUNT:
            try:
                AccountNumber(_text(number))
            except NumberRefused as error:
                raise ValueError(str(error)) from error
        return Naming(_text(account), which, _text(number), *self.life(life))

    def attribute(self, row: list[Any]) -> Attribute:
        point, kind, value, *life = row
        return Attribute(_text(point), _enum(AttributeKind, kind), _text(value), *self.life(life))

    def life(
        self, row: list[Any]
    ) -> tuple[datetime, datetime | None, ChangeSet, ChangeSet | None, int | None]:
        valid_from, valid_to, recorded, superseded, line = row
        start, end = self.time(valid_from), None if valid_to is None else self.time(valid_to)
        if end is not None and end < start:
            raise ValueError("a row ends before it starts")
        known = self.changes[_whole(recorded, 1, 2**62)]
        better = None if superseded is None else self.changes[_whole(superseded, 1, 2**62)]
        if better is not None and better.version <= known.version:
            raise ValueError("a row is superseded before it is recorded")
        return start, end, known, better, None if line is None else _whole(line, 0, 2**62)

    def time(self, count: object) -> datetime:
        whole = _whole(count, _MIN_MICROS, _MAX_MICROS)
        found = self.times.get(whole)
        if found is None:
            found = self.times[whole] = instant(whole)
        return found


def grouped(rows: Iterable[RowT], key: Callable[[RowT], str]) -> dict[str, tuple[RowT, ...]]:
    """Group rows under their key; the rows of one key come by validity, then by version."""
    found: dict[str, tuple[RowT, ...]] = {}
    more: dict[str, list[RowT]] = {}  # keys with several rows are few: lists for all would double the memory
    for row in rows:
        name = key(row)
        if name not in found:
            found[name] = (row,)
        else:
            more.setdefault(name, []).append(row)
    for several, others in more.items():
        others.extend(found[several])
        found[several] = in_order(others)
    return found


def in_order(rows: Iterable[RowT]) -> tuple[RowT, ...]:
    """Sort the rows of one key by validity, those of no length first, then by version."""
    found = tuple(rows)
    if len(found) < 2:
        return found
    return tuple(
        sorted(
            found, key=lambda r: (r.valid_from, r.valid_from != r.valid_to, r.recorded.version, r[1], r[2])
        )
    )


def _refuse_overlap(relation: Mapping[str, tuple[Installation | Holding, ...]]) -> None:
    for key, rows in relation.items():
        if len(rows) > 1:
            now = [r for r in rows if r.superseded is None]
            for earlier, later in pairwise(now):
                if earlier.valid_to is None or earlier.valid_to > later.valid_from:
                    raise ValueError(f"two rows of {key!r} overlap")


def _whole(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r} is not a whole number {low}..{high}"[:200])
    return value


def _text(value: object, *, empty: bool = False) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME or not (value or empty):
        raise ValueError(f"{value!r} is not a name"[:200])
    return value


def _enum(kind: type[E], value: object) -> E:
    return kind(_text(value))
