"""From installations and holdings to one meter's timeline of accounts, and from it to roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mapping.directory import AttributionRole, Holding, Installation, Role

FOREVER = datetime.max.replace(tzinfo=UTC)


class Segment(NamedTuple):
    """One account's unbroken hold of one meter at one usage point, `start` until `end` (FOREVER is open)."""

    start: datetime
    end: datetime
    account_id: str
    usage_point: str


def segments(
    installations: Iterable[Installation], holdings: Mapping[str, Sequence[Holding]]
) -> list[Segment]:
    """Intersect consumer installations with holdings; touching segments of one account are one segment."""
    found = []
    for fitted in installations:
        if fitted.role is not Role.CONSUMER:
            continue
        to = fitted.valid_to or FOREVER
        for held in holdings.get(fitted.usage_point, ()):
            start = max(fitted.valid_from, held.valid_from)
            end = min(to, held.valid_to or FOREVER)
            if start < end:
                found.append(Segment(start, end, held.account_id, fitted.usage_point))
    if len(found) < 2:
        return found
    found.sort()
    merged = [found[0]]
    for segment in found[1:]:
        last = merged[-1]
        if segment.start == last.end and segment[2:] == last[2:]:
            merged[-1] = last._replace(end=segment.end)
        else:
            merged.append(segment)
    return merged


def roles(
    timeline: Iterable[Segment], start: datetime | None, end: datetime
) -> list[tuple[Segment, AttributionRole]]:
    """Say how a capture belongs to each segment (DESIGN §3.1).

    An interval is start < .. <= end; a snapshot (`start` None, or equal to `end`) is the instant `end`.
    """
    found = []
    if start is None or start == end:
        for segment in timeline:
            if segment.start < end < segment.end:
                found.append((segment, AttributionRole.NORMAL))
            elif segment.end == end:
                found.append((segment, AttributionRole.FINAL))
            elif segment.start == end:
                found.append((segment, AttributionRole.OPENING))
        return found
    for segment in timeline:
        if segment.start <= start and end <= segment.end:
            found.append((segment, AttributionRole.NORMAL))
        elif segment.start < end and start < segment.end:
            found.append((segment, AttributionRole.PARTIAL))
    return found
