"""Spans of captures under no account, by meter, profile and reason; each counts its captures.

A span is the box around its captures: others that stand elsewhere may lie between them. What counts exactly is how
many there are, and that nothing of a reason lies outside of its spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, bindparam, column, delete, insert, select, table, update

from gateway.central.ledger.database import in_chunks
from gateway.central.ledger.placed import Placed, lasting_captures
from gateway.central.ledger.records import LASTING_REASONS
from gateway.central.ledger.tallies import tally

PENDING: Final = "pending"
"""Reason of a span that waits to be judged: it is counted by nobody until then, and may hold captures of any kind."""
NEIGHBOUR: Final = 45 * 86_400 * 1_000_000
"""Microseconds between captures of one reason beyond which they are spans of their own."""
TALLY: Final = "unattributed/"
"""Begins the names of the numbers of captures by reason."""


class Span(NamedTuple):
    """One span: where its first capture begins, the instants of its first and last, and how many they are.

    Instants are microseconds since 1970. `stale`: it is to be judged again. `id` is 0 of one that is not stored.
    """

    id: int
    meter: str
    profile: str
    reason: str
    start: int
    first: int
    last: int
    captures: int
    ingested_at: int
    stale: int

    def around(self, other: Span) -> Span:
        """Return this span with another's captures."""
        return self._replace(
            start=min(self.start, other.start),
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            captures=self.captures + other.captures,
            ingested_at=min(self.ingested_at, other.ingested_at),
            stale=max(self.stale, other.stale),
        )

    def distance(self, other: Span) -> int:
        """Return the time between two spans, 0 where they overlap."""
        return max(self.first - other.last, other.first - self.last, 0)


# Without the types of the schema: instants stay whole microseconds.
_SPANS: Final = table("unattributed", *map(column, Span._fields))
_C: Final = _SPANS.c
_OWN: Final = Span._fields[1:]


def span_of(one: Placed, reason: str, *, stale: bool) -> Span:
    """Return the span of one capture."""
    counted = 0 if reason == PENDING else 1
    return Span(
        0, one.meter, one.profile, reason, one.begin, one.at, one.at, counted, one.ingested_at, int(stale)
    )


def stale_spans(connection: Connection, limit: int) -> list[Span]:
    """Return spans that are to be judged, in the order in which they came."""
    return _load(connection, select(_SPANS).where(_C.stale == 1).order_by(_C.id).limit(limit))


def overlapping(connection: Connection, box: Span) -> list[Span]:
    """Return what a directory can judge of a meter's profile and overlaps a box, or overlaps what does."""
    mine = select(_SPANS).where(
        _C.meter == box.meter,
        _C.profile == box.profile,
        _C.reason.not_in(sorted(LASTING_REASONS)),
        _C.id != box.id,
    )
    rest, found = _load(connection, mine.order_by(_C.id)), list[Span]()
    while near := [one for one in rest if one.distance(box) == 0]:
        for one in near:
            box = box.around(one)
        found += near
        rest = [one for one in rest if one not in near]
    return found


def add_spans(connection: Connection, added: Iterable[Span], share: str = "") -> None:
    """Put spans to those that are there: near ones of one reason become one."""
    boxes: dict[tuple[str, str, str], list[Span]] = {}
    for one in sorted(added, key=lambda span: span.first):
        _put_to(boxes.setdefault((one.meter, one.profile, one.reason), []), one)
    if not boxes:
        return
    held: dict[tuple[str, str, str], list[Span]] = {}
    for meters in in_chunks(sorted({meter for meter, _, _ in boxes})):
        for one in _load(connection, select(_SPANS).where(_C.meter.in_(meters)).order_by(_C.id)):
            held.setdefault((one.meter, one.profile, one.reason), []).append(one)
    fresh, grown = list[Span](), dict[int, Span]()
    for key, spans in boxes.items():
        known = held.get(key, [])
        mine = list(known)
        for one in spans:
            _put_to(mine, one)
        fresh += [one for one in mine if one.id == 0]
        grown |= {one.id: one for one in mine if one.id and one not in known}
    _write(connection, fresh, list(grown.values()))
    _count(connection, (one for spans in boxes.values() for one in spans), 1, share)


def _put_to(spans: list[Span], one: Span) -> None:
    """Put a span to the nearest of its reason; what is no span of time (pending, lasting) is one box, however wide."""
    near = min(range(len(spans)), key=lambda n: spans[n].distance(one), default=None)
    wide = one.reason == PENDING or one.reason in LASTING_REASONS
    if near is not None and (wide or spans[near].distance(one) <= NEIGHBOUR):
        spans[near] = spans[near].around(one)
    else:
        spans.append(one)


def add_exactly(connection: Connection, spans: Sequence[Span]) -> None:
    """Put spans beside those that are there, as they are."""
    _write(connection, spans, ())
    _count(connection, spans, 1)


def remove_spans(connection: Connection, spans: Sequence[Span]) -> None:
    """Take spans away."""
    for ids in in_chunks([one.id for one in spans]):
        connection.execute(delete(_SPANS).where(_C.id.in_(ids)))
    _count(connection, spans, -1)


def rename_span(connection: Connection, span: Span, reason: str) -> None:
    """Let a span that was judged again stand for this reason."""
    _count(connection, [span], -1)
    judged = span._replace(reason=reason, stale=0)
    _write(connection, (), [judged])
    _count(connection, [judged], 1)


def recount_lasting(connection: Connection, gone: Iterable[Placed], share: str = "") -> None:
    """Count the spans of lasting reasons anew which captures have left; those that came are in them already."""
    for meter, profile, reason in sorted(
        {(one.meter, one.profile, one.reason) for one in gone if one.reason is not None}
    ):
        mine = (_C.meter == meter, _C.profile == profile, _C.reason == reason)
        for held in _load(connection, select(_SPANS).where(*mine).order_by(_C.id)):
            _count(connection, [held], -1, share)
            found = lasting_captures(connection, meter, profile, reason, held.first, held.last)
            if found is None:
                connection.execute(delete(_SPANS).where(_C.id == held.id))
                continue
            begin, first, last, number, ingested = found
            rest = held._replace(start=begin, first=first, last=last, captures=number, ingested_at=ingested)
            _write(connection, (), [rest])
            _count(connection, [rest], 1, share)


def make_stale(connection: Connection, meters: Sequence[str] | None) -> None:
    """Have what a directory can judge judged again: of these meters, or of all (None)."""
    again = update(_SPANS).where(_C.stale == 0, _C.reason.not_in(sorted(LASTING_REASONS))).values(stale=1)
    if meters is None:
        connection.execute(again)
        return
    for some in in_chunks(meters):
        connection.execute(again.where(_C.meter.in_(some)))


def _load(connection: Connection, query: Select[Any]) -> list[Span]:
    # Of two processes the second waits here, and finds what the first made of it.
    return [Span._make(row) for row in connection.execute(query.with_for_update())]


def _write(connection: Connection, fresh: Sequence[Span], changed: Sequence[Span]) -> None:
    if fresh:
        connection.execute(
            insert(_SPANS).values({name: bindparam(name) for name in _OWN}),
            [dict(zip(_OWN, one[1:], strict=True)) for one in fresh],
        )
    if changed:
        connection.execute(
            update(_SPANS)
            .where(_C.id == bindparam("b_id"))
            .values({name: bindparam(f"b_{name}") for name in _OWN}),
            [{f"b_{name}": value for name, value in one._asdict().items()} for one in changed],
        )


def _count(connection: Connection, spans: Iterable[Span], sign: int, share: str = "") -> None:
    changes: dict[str, int] = {}
    for one in spans:
        name = f"{TALLY}{one.reason}"
        changes[name] = changes.get(name, 0) + sign * one.captures
    tally(connection, changes, share)
