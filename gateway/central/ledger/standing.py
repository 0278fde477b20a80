"""Captures in force by the instant at which they stand: where they were stamped, or where a verdict moved them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, CompoundSelect, Connection, column, select, table, union_all

from gateway.central.ledger.capture_rows import NAMES
from gateway.central.ledger.numbers import METERS, PROFILES

# Without the types of `schema`: instants stay whole microseconds.
_CAPTURES: Final = table("captures", *map(column, NAMES))
_FORMS: Final = table("forms", column("number"), column("span"))
_STAMPS: Final = table("stamps", column("number"), column("journal"))
_C: Final = _CAPTURES.c
COLUMNS: Final = tuple(_C[name] for name in NAMES)


class Standing(NamedTuple):
    """What a condition may speak of: columns, `at` and `start` as captures stand."""

    at: ColumnElement[Any]
    start: ColumnElement[Any]
    reason: ColumnElement[Any] = _C.reason
    ingested_at: ColumnElement[Any] = _C.ingested_at
    journal: ColumnElement[Any] = _STAMPS.c.journal
    seq: ColumnElement[Any] = _C.seq


class Stands(NamedTuple):
    """Where one capture stands, in microseconds, and why under no account."""

    at: int
    start: int | None
    reason: str | None
    ingested_at: int


Condition = Callable[[Standing], ColumnElement[bool]]


def each_way(
    wanted: Sequence[ColumnElement[Any]], condition: Condition, *of: ColumnElement[bool]
) -> CompoundSelect[Any]:
    """Return the query of `wanted` of captures that stand so: each of the two ways has an index of its own.

    The instant at which a capture stands comes first, as `stands`.
    """
    ways = [
        select(at.label("stands"), *wanted)
        .select_from(_CAPTURES)
        .join(_FORMS, _FORMS.c.number == _C.form)
        .join(_STAMPS, _STAMPS.c.number == _C.stamp)
        .where(*of, is_its_way, condition(Standing(at, at - _FORMS.c.span)))
        for at, is_its_way in ((_C.at, _C.moved_to.is_(None)), (_C.moved_to, _C.moved_to.is_not(None)))
    ]
    return union_all(*ways)


def of_numbers(meter: int | None, profile: int | None) -> list[ColumnElement[bool]]:
    """Return what makes a capture one of a meter and profile by their numbers; None takes all."""
    return [
        _C[name] == number for name, number in (("meter", meter), ("profile", profile)) if number is not None
    ]


def numbers_of(
    connection: Connection, meter: str | None, profile: str | None
) -> tuple[int | None, int | None] | None:
    """Return the numbers of a meter and profile (None of None); None where no capture can be theirs."""
    numbers: list[int | None] = []
    for kind, one in ((METERS, meter), (PROFILES, profile)):
        number = None if one is None else kind.known(connection, [one]).get(one)
        if one is not None and number is None:
            return None
        numbers.append(number)
    return numbers[0], numbers[1]


def standing_query(
    connection: Connection, meter: str, profile: str, condition: Condition
) -> CompoundSelect[Any] | None:
    """Return the query of a meter's captures that stand so (`stands`, `start`, `reason`, `ingested_at`); None: none."""
    numbers = numbers_of(connection, meter, profile)
    if numbers is None:
        return None
    span = _FORMS.c.span.label("span")
    return each_way((span, _C.reason, _C.ingested_at), condition, *of_numbers(*numbers))


def standing(
    connection: Connection,
    meter: str,
    profile: str,
    condition: Condition,
    *,
    newest_first: bool = False,
    limit: int | None = None,
) -> list[Stands]:
    """Return where a meter's captures stand that meet a condition, by instant."""
    query = standing_query(connection, meter, profile, condition)
    if query is None:
        return []
    stands: ColumnElement[Any] = column("stands")
    ordered = query.order_by(stands.desc() if newest_first else stands).limit(limit)
    return [
        Stands(at, None if span is None else at - span, reason, came)
        for at, span, reason, came in connection.execute(ordered)
    ]
