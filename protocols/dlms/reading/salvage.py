"""Rows out of a profile buffer that a fault cut short: those that came whole, and the span to ask for next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from protocols.dlms.profile.decoder import decode_cut_buffer
from protocols.dlms.profile.layouts import Layout
from protocols.errors import MeterProtocolError
from protocols.reading import ProfileName, ReadingSet

OVERLAP = {ProfileName.DAILY: timedelta(days=1)}
SHORT_OVERLAP = timedelta(hours=2)
"""How far before the last row we go on: rows of a clock that was set back by less come in one piece."""
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSpan:
    """Rows still wanted: since < at <= until. `held` are later rows that are here already."""

    since: datetime = EARLIEST
    until: datetime = LATEST
    held: tuple[ReadingSet, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvage:
    """What a cut buffer gave: rows that may go out now, and the rest that is still wanted.

    `progress` says that the rest is less than what was asked for.
    """

    rows: tuple[ReadingSet, ...] = field(default=(), repr=False)
    rest: WantedSpan
    progress: bool = False


def salvage(
    layout: Layout, octets: bytes, span: WantedSpan, *, zone: ZoneInfo, received_at: datetime
) -> Salvage:
    """Part a span at the last whole row of `octets`, less an overlap.

    Nothing is taken of rows in no order of time, or with a stamp that is unusable: then the span is asked
    for again, whole.
    """
    nothing = Salvage(rest=span)
    try:
        buffer = decode_cut_buffer(layout, octets, zone=zone)
    except MeterProtocolError:
        return nothing
    stamps = [at for at in buffer.instants if at is not None]
    # one row, or rows of one stamp, do not show in which order the meter gives them
    if len(stamps) < 2 or len(stamps) < buffer.count or stamps[0] == stamps[-1]:
        return nothing
    overlap = OVERLAP.get(layout.profile, SHORT_OVERLAP)
    oldest_first = _rise(stamps)
    if oldest_first:
        part = WantedSpan(since=span.since, until=min(stamps[-1] - overlap, span.until))
    elif _rise(stamps[::-1]):
        part = WantedSpan(since=max(stamps[-1] + overlap, span.since), until=span.until)
    else:
        return nothing
    if part.since >= part.until:
        return nothing
    rows = buffer.sets(received_at=received_at, since=part.since, until=part.until).sets
    if oldest_first:
        return Salvage(rows=rows, rest=replace(span, since=part.until), progress=True)
    # rows go out oldest first: the newest, which came first, are held until the older ones are here
    return Salvage(rest=replace(span, until=part.since, held=(*rows, *span.held)), progress=True)


def _rise(stamps: Sequence[datetime]) -> bool:
    return all(a <= b for a, b in pairwise(stamps))
