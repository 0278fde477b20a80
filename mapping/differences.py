"""What changed between two directory versions: spans of energy, and names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise

from mapping.attribution import FOREVER, Segment
from mapping.directory import AttributionSpan, DirectoryRow, NamingChange, NumberKind
from mapping.snapshot import DirectorySnapshot


def touched(snapshot: DirectorySnapshot, old: int, new: int) -> tuple[list[str], list[str]]:
    """Return the meters and the accounts of which any row was recorded or superseded after `old`, to `new`."""
    installations, holdings, namings = snapshot.relations()
    meters = {m for m, rows in installations.items() if _is_touched(rows, old, new)}
    for point, held in holdings.items():
        if _is_touched(held, old, new):
            meters.update(snapshot.meters_at(point))
    return sorted(meters), [a for a, named in namings.items() if _is_touched(named, old, new)]


def attribution_spans(
    snapshot: DirectorySnapshot, meters: Iterable[str], old: int, new: int
) -> Iterator[AttributionSpan]:
    """Yield the exact spans in which a meter's accounts differ between two versions, by meter and time."""
    for meter in meters:
        before, after = snapshot.timeline(meter, old), snapshot.timeline(meter, new)
        if before == after:
            continue
        pending: AttributionSpan | None = None
        for start, end, was, now in _pieces(before, after):
            if was == now:
                continue
            upto = None if end == FOREVER else end
            if pending is not None and (pending.end, pending.old, pending.new) == (start, was, now):
                pending = AttributionSpan(
                    meter=meter, start=pending.start, end=upto, old=was, new=now, version=new
                )
                continue
            if pending is not None:
                yield pending
            pending = AttributionSpan(meter=meter, start=start, end=upto, old=was, new=now, version=new)
        if pending is not None:
            yield pending


def naming_changes(
    snapshot: DirectorySnapshot, accounts: Iterable[str], old: int, new: int
) -> Iterator[NamingChange]:
    """Yield the accounts whose present number differs between two versions."""
    for account in accounts:
        for kind in NumberKind:
            was, now = snapshot.name(account, kind, old), snapshot.name(account, kind, new)
            if was != now:
                yield NamingChange(account_id=account, kind=kind, old=was, new=now, version=new)


def _is_touched(rows: Iterable[DirectoryRow], old: int, new: int) -> bool:
    for row in rows:
        if old < row.recorded.version <= new:
            return True
        if row.superseded is not None and old < row.superseded.version <= new:
            return True
    return False


def _pieces(
    before: list[Segment], after: list[Segment]
) -> Iterator[tuple[datetime, datetime, tuple[str, ...], tuple[str, ...]]]:
    """Cut time at every boundary of either timeline; inside a piece both answers stand still."""
    edges = sorted({t for s in (*before, *after) for t in (s.start, s.end)})
    for start, end in pairwise(edges):
        yield start, end, _accounts(before, start), _accounts(after, start)


def _accounts(timeline: list[Segment], at: datetime) -> tuple[str, ...]:
    return tuple(sorted({s.account_id for s in timeline if s.start <= at < s.end}))
