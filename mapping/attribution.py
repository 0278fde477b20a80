"""From installations and holdings to one meter's timeline of accounts, and from it to roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mapping.directory import AttributionRole, Holder, Holding, Installation, Role, Unattributed

FOREVER = datetime.max.replace(tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
"""The grain of all times: an interval's last piece is that which holds one grain before its end."""


class Segment(NamedTuple):
    """One account's unbroken hold of one meter at one usage point, `start` until `end` (FOREVER is open)."""

    start: datetime
    end: datetime
    account_id: str
    usage_point: str

    @property
    def holder(self) -> Holder:
        """The account and the usage point."""
        return Holder(self.account_id, self.usage_point)


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

    An interval is start < .. <= end; a snapshot (`start` None, or equal to `end`) is the instant `end`. The
    segment that comes with `partial` is the piece of the interval that the account held.
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
            piece = segment._replace(start=max(segment.start, start), end=min(segment.end, end))
            found.append((piece, AttributionRole.PARTIAL))
    return found


class Stand(NamedTuple):
    """From `start` on, until the next one, a meter is this holder's, or nobody's for this reason."""

    start: datetime
    who: Holder | Unattributed


def standing(installations: Sequence[Installation], holdings: Mapping[str, Sequence[Holding]]) -> list[Stand]:
    """Return whose a meter is over all time, from its first row on; before that nobody knows it (`no_account`)."""
    held = segments(installations, holdings)
    edges = {t for row in installations for t in (row.valid_from, row.valid_to) if t is not None}
    for held_here in holdings.values():
        edges |= {t for row in held_here for t in (row.valid_from, row.valid_to) if t is not None}
    found: list[Stand] = []
    for at in sorted(edges):
        holder = next((s.holder for s in held if s.start <= at < s.end), None)
        who = holder or why_nobody(installations, holdings, at)
        if who != (found[-1].who if found else Unattributed.NO_ACCOUNT):
            found.append(Stand(at, who))
    return found


def why_nobody(
    installations: Iterable[Installation], holdings: Mapping[str, Sequence[Holding]], at: datetime
) -> Unattributed:
    """Say why a meter that no account holds at `at` stands under none.

    `not_a_consumer` only where it is surely nobody's: a feeder, stock, a vacant house (its last holding ended).
    A consumer's meter that no paper speaks of may still get an account, and its readings wait for it.
    """
    for fitted in installations:
        if fitted.valid_from <= at < (fitted.valid_to or FOREVER):
            ended = any(
                h.valid_to is not None and h.valid_to <= at for h in holdings.get(fitted.usage_point, ())
            )
            if ended or fitted.role is not Role.CONSUMER:
                return Unattributed.NOT_A_CONSUMER
    return Unattributed.NO_ACCOUNT
