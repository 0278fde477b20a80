"""Faults of the operator's list about whose word counts: unconfirmed claims, quarantine, stores set back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from gateway.central.ledger.identity import SetBack
from gateway.central.ledger.records import QuarantineGroup
from gateway.central.portal.view_models import Issue, IssueKind, Severity

METERS_NAMED = 4
"""Meters named in one line; the rest is counted."""


def set_back_issues(found: Iterable[SetBack], since: datetime) -> Iterable[Issue]:
    """Yield one fault for each time since an instant that ledger or directory was found to be an older copy."""
    for one in found:
        if one.begun_at >= since:
            yield Issue(
                kind=IssueKind.STORE_SET_BACK,
                severity=Severity.WARNING,
                since=one.begun_at,
                detail=f"{one.store}, now of generation {one.generation}: {one.why}",
            )


def authority_issues(
    claims: Iterable[tuple[str, int, datetime]], groups: Sequence[QuarantineGroup], full: Iterable[str]
) -> Iterable[Issue]:
    """Yield one fault for each gateway with claims, each gateway and reason in quarantine, each full quarantine."""
    for gateway in full:
        yield Issue(
            kind=IssueKind.QUARANTINE_FULL,
            severity=Severity.CRITICAL,
            gateway=gateway,
            since=max(g.last_at for g in groups if g.gateway == gateway),
        )
    by_cause: dict[tuple[str, str], list[QuarantineGroup]] = {}
    for group in groups:
        by_cause.setdefault((group.gateway, group.reason), []).append(group)
    for (gateway, reason), found in by_cause.items():
        meters = sorted({g.meter for g in found} - {""})
        yield Issue(
            kind=IssueKind.QUARANTINED,
            severity=Severity.WARNING,
            gateway=gateway,
            since=min(g.first_at for g in found),
            count=sum(g.entries for g in found),
            meters=tuple(meters[:METERS_NAMED]),
            touched=len(meters),
            detail=f"{reason}: {found[0].detail}",
        )
    for gateway, count, since in claims:
        yield Issue(
            kind=IssueKind.METERS_CLAIMED,
            severity=Severity.NOTICE,
            gateway=gateway,
            since=since,
            count=count,
        )
