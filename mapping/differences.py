"""What changed between two directory versions: spans of energy, and names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise, zip_longest
from operator import itemgetter
from typing import NamedTuple

from mapping.attribution import FOREVER, Stand
from mapping.directory import (
    Attribute,
    AttributeKind,
    AttributionSpan,
    Holder,
    NamingChange,
    NumberKind,
    Unattributed,
)
from mapping.errors import ChangeRefused
from mapping.rows import in_batches, is_visible
from mapping.snapshot import DirectorySnapshot


def differences(
    snapshot: DirectorySnapshot, old: int, new: int
) -> tuple[list[AttributionSpan], list[NamingChange]]:
    """Return the spans and names that differ between two versions; ChangeRefused where there are no such versions."""
    if not 0 <= old <= new <= snapshot.version:
        raise ChangeRefused("VERSION", f"versions {old}..{new} are not within 0..{snapshot.version}")
    meters, accounts = touched(snapshot, old, new)
    spans, names = attribution_spans(snapshot, meters, old, new), naming_changes(snapshot, accounts, old, new)
    return list(spans), list(names)


def touched(snapshot: DirectorySnapshot, old: int, new: int) -> tuple[list[str], list[str]]:
    """Return the meters and the accounts of which any row was recorded or superseded after `old`, to `new`."""
    found = snapshot.touched(old, new)
    meters = set(found.meters)
    for some in in_batches(found.usage_points):
        snapshot.rows.expect(usage_points=some)
        meters.update(meter for point in some for meter in snapshot.meters_at(point))
    return sorted(meters), found.accounts


def attribution_spans(
    snapshot: DirectorySnapshot, meters: Iterable[str], old: int, new: int
) -> Iterator[AttributionSpan]:
    """Yield the spans in which a meter's holder, or why there is none, differs between two versions.

    They come by meter and time, and are exact but for one thing: where a meter became nobody's, the time after
    it in which it was nobody's all along is told too. A capture that lost its last account has its reason there.
    """
    for meter in snapshot.each(meters):
        pending: AttributionSpan | None = None
        for start, end, was, now in _pieces(snapshot.standing(meter, old), snapshot.standing(meter, new)):
            touched = pending if pending is not None and pending.end == start else None
            goes_on = touched is not None and not isinstance(touched.new, Holder)
            if was == now and not (goes_on and not isinstance(now, Holder)):
                continue
            if touched is not None and (touched.old, touched.new) == (was, now):
                start = touched.start
            elif pending is not None:
                yield pending
            pending = AttributionSpan(meter=meter, start=start, end=end, old=was, new=now, version=new)
        if pending is not None:
            yield pending


def naming_changes(
    snapshot: DirectorySnapshot, accounts: Iterable[str], old: int, new: int
) -> Iterator[NamingChange]:
    """Yield the accounts whose present number differs between two versions."""
    for some in in_batches(accounts):
        snapshot.rows.expect(accounts=some)
        for account in some:
            for kind in NumberKind:
                was, now = snapshot.name(account, kind, old), snapshot.name(account, kind, new)
                if was != now:
                    yield NamingChange(account_id=account, kind=kind, old=was, new=now, version=new)


class AttributeChange(NamedTuple):
    """From `start` to `end` (None: open) an attribute of a usage point is `new`, and was `old` (None: not known)."""

    usage_point: str
    kind: AttributeKind
    start: datetime
    end: datetime | None
    old: str | None
    new: str | None


def attribute_changes(snapshot: DirectorySnapshot, old: int, new: int) -> Iterator[AttributeChange]:
    """Yield the spans in which an attribute differs between two versions."""
    rows = snapshot.rows
    for some in in_batches(snapshot.touched(old, new).described):
        rows.expect(described=some)
        for point in some:
            for kind in AttributeKind:
                own = [row for row in rows.attributes(point) if row.kind is kind]
                before, after = ([row for row in own if is_visible(row, v)] for v in (old, new))
                edges = {t for row in (*before, *after) for t in (row.valid_from, row.valid_to or FOREVER)}
                for start, end in pairwise(sorted(edges)):
                    was, now = _value_at(before, start), _value_at(after, start)
                    if was != now:
                        open_end = None if end == FOREVER else end
                        yield AttributeChange(point, kind, start, open_end, was, now)


def _value_at(rows: Iterable[Attribute], at: datetime) -> str | None:
    return next((r.value for r in rows if r.valid_from <= at < (r.valid_to or FOREVER)), None)


def _pieces(
    before: list[Stand], after: list[Stand]
) -> Iterator[tuple[datetime, datetime | None, Holder | Unattributed, Holder | Unattributed]]:
    """Cut time at every change of either; inside a piece both answers stand still. The last is open (None)."""
    changes = sorted(
        [*((s.start, 0, s.who) for s in before), *((s.start, 1, s.who) for s in after)], key=itemgetter(0)
    )
    now: list[Holder | Unattributed] = [Unattributed.NO_ACCOUNT, Unattributed.NO_ACCOUNT]
    for (start, which, who), following in zip_longest(changes, changes[1:]):
        now[which] = who
        end = None if following is None else following[0]
        if start != end:
            yield start, end, now[0], now[1]
