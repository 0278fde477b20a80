"""What the operator must know of clocks: whose is wrong, and what is dated in the future."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.central.ledger.records import EdgeClock
from gateway.central.portal.issues import METERS_NAMED
from gateway.central.portal.view_models import Issue, IssueKind, Severity


def clock_issues(clocks: Iterable[EdgeClock]) -> Iterable[Issue]:
    """Yield one fault for each gateway whose clock is not central's, and say whose is wrong as far as is known."""
    for clock in clocks:
        seconds = clock.ahead.total_seconds()
        how = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} central"
        if clock.trusted and not clock.central_trusted:
            where, whose = (
                "central",
                f"{clock.gateway} is {how} and has evidence for its time: central's is wrong",
            )
        elif clock.central_trusted and not clock.trusted:
            where, whose = clock.gateway, f"{how}, which has evidence for its time: the gateway's is wrong"
        else:
            both = "both have" if clock.trusted else "neither has"
            where, whose = clock.gateway, f"{how}: {both} evidence, so compare them with a third"
        yield Issue(
            kind=IssueKind.CLOCKS_DIFFER,
            severity=Severity.CRITICAL,
            gateway=where,
            since=clock.at,
            detail=whose,
        )


def ahead_issues(held: Mapping[str, int]) -> Iterable[Issue]:
    """Yield one fault for all readings that are dated in the future: they are held, not believed."""
    if held:
        meters = sorted(held)
        yield Issue(
            kind=IssueKind.DATED_AHEAD,
            severity=Severity.WARNING,
            meters=tuple(meters[:METERS_NAMED]),
            touched=len(meters),
            since=None,
            count=sum(held.values()),
        )
