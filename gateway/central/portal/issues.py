"""The operator's list of faults: each one named, placed and aged, the worst and oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from gateway.central.ledger.records import LineHealth, MeterHealth, StoredGap, UnattributedGroup
from gateway.central.portal.view_models import ContactState, Issue, IssueKind, MeterRow, Severity
from gateway.contract.messages import Capture, Status

BACKLOG_NOTICE = 1000
"""Entries not yet taken by the broker, from which on an edge is behind."""
METERS_NAMED = 4
"""Meters named in one line; the rest is counted."""
_ORDER = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.NOTICE: 2}
_NO_FAULT = {"not_a_consumer"}
_SILENT_CODES = {
    "meter_silent",
    "line_error",
    "line_unavailable",
    "line_closed",
    "line_timeout",
    "timeout_error",
}


def sorted_issues(issues: Iterable[Issue], now: datetime) -> tuple[Issue, ...]:
    """Order by severity, then age, then place."""
    return tuple(sorted(issues, key=lambda i: (_ORDER[i.severity], i.since or now, i.where)))


def gateway_issues(status: Status, lines: Iterable[LineHealth]) -> Iterable[Issue]:
    """Yield the faults that an edge tells of itself: offline, clock, lines, backlog, alarms."""
    if not status.online:
        yield Issue(
            kind=IssueKind.EDGE_OFFLINE, severity=Severity.CRITICAL, where=status.gateway, since=status.at
        )
        return
    if status.clock is not None and not status.clock.disciplined:
        yield Issue(
            kind=IssueKind.CLOCK_UNTRUSTED,
            severity=Severity.CRITICAL,
            where=status.gateway,
            since=status.clock.at,
            detail=status.clock.detail or "",
        )
    for line in lines:
        if line.state == "down":
            yield Issue(
                kind=IssueKind.LINE_DOWN,
                severity=Severity.CRITICAL,
                where=f"{status.gateway} / {line.line}",
                since=line.since,
                detail=line.detail or "",
            )
    if status.backlog >= BACKLOG_NOTICE:
        yield Issue(
            kind=IssueKind.BACKLOG,
            severity=Severity.WARNING,
            where=status.gateway,
            since=status.at,
            count=status.backlog,
        )
    for alarm in status.alarms:
        if alarm.code == "backlog" and status.backlog >= BACKLOG_NOTICE:
            continue
        yield Issue(
            kind=IssueKind.JOURNAL_ALARM,
            severity=Severity.CRITICAL,
            where=status.gateway,
            since=alarm.since,
            count=alarm.count,
            detail=f"{alarm.code}: {alarm.text}",
        )


def meter_issues(row: MeterRow, newest: Capture | None, health: MeterHealth | None) -> Iterable[Issue]:
    """Yield the faults of one meter: silent, never read, refusing us, another at its address, a doubtful clock.

    What its edge says now counts at once (a warning); being silent for long is critical.
    """
    code = "ok" if health is None or health.health == "new" else health.health
    detail = "" if health is None or code == "ok" else f"{code}: {health.detail or ''}".rstrip(": ")
    reason = None if newest is None else newest.reason
    kind, severity = None, Severity.WARNING
    if reason == "identity_mismatch" or code == "identity_mismatch":
        kind, severity = IssueKind.IDENTITY_MISMATCH, Severity.CRITICAL
    elif row.state is ContactState.SILENT:
        kind, severity = IssueKind.DEAD_METER, Severity.CRITICAL
    elif code in _SILENT_CODES:
        kind = IssueKind.DEAD_METER if row.state is ContactState.HEARD else IssueKind.NEVER_READ
    elif code != "ok":
        kind = IssueKind.METER_REFUSES
    elif row.state is ContactState.NEVER and row.role != "stock":
        kind = IssueKind.NEVER_READ
    if kind is not None:
        yield Issue(kind=kind, severity=severity, where=row.meter, since=row.last_at, detail=detail)
    if newest is not None and _doubts_meter(newest):
        yield Issue(
            kind=IssueKind.METER_CLOCK,
            severity=Severity.WARNING,
            where=row.meter,
            since=newest.received_at,
            detail=newest.meter_time.wall if newest.meter_time else "",
        )


def unattributed_issues(groups: Iterable[UnattributedGroup]) -> Iterable[Issue]:
    """Yield one fault for each meter whose captures wait for an account; feeder and stock meters are none."""
    by_meter: dict[tuple[str, str], list[UnattributedGroup]] = {}
    for group in groups:
        if group.reason not in _NO_FAULT:
            by_meter.setdefault((group.meter, group.reason), []).append(group)
    for (meter, reason), found in by_meter.items():
        yield Issue(
            kind=IssueKind.UNATTRIBUTED,
            severity=Severity.WARNING,
            where=meter,
            since=min(g.first_at for g in found),
            count=sum(g.count for g in found),
            detail="" if reason == "no_account" else reason,
        )


def gap_issues(gaps: Iterable[StoredGap]) -> Iterable[Issue]:
    """Yield one fault for each profile and reason with open gaps: many meters with one cause are one line to read."""
    by_cause: dict[tuple[str, str], list[StoredGap]] = {}
    for gap in gaps:
        by_cause.setdefault((gap.profile, gap.reason), []).append(gap)
    for (profile, reason), found in by_cause.items():
        meters = sorted({g.meter for g in found})
        more = f" +{len(meters) - METERS_NAMED}" if len(meters) > METERS_NAMED else ""
        yield Issue(
            kind=IssueKind.GAP_OPEN,
            severity=Severity.NOTICE,
            where=", ".join(meters[:METERS_NAMED]) + more,
            since=min(g.after for g in found),
            count=len(found),
            detail=f"{profile}: {reason}",
        )


def _doubts_meter(newest: Capture) -> bool:
    """Say whether a gateway that knew the time found the meter's clock wrong: only then should one set it."""
    if newest.meter_time is None or newest.meter_time.trusted:
        return False
    return newest.clock is None or newest.clock.steady is None
