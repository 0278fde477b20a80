"""The operator's list of faults by cause (central, gateway, line, then meters): each one named, placed and aged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from gateway.central.ledger.records import DownLines, GapCause, JournalFaults, UnattributedCause
from gateway.central.portal.fleet import BEHIND_CENTRAL, BEHIND_GATEWAY, BEHIND_LINE, FaultGroup, Named
from gateway.central.portal.view_models import (
    CentralRow,
    CentralState,
    GatewayRow,
    Issue,
    IssueKind,
    Severity,
)
from gateway.contract.messages import Status

BACKLOG_NOTICE = 1000
"""Entries not yet taken by the broker, from which on an edge is behind."""
METERS_NAMED = 4
"""Meters named in one line; the rest is counted."""
LINES_NAMED = 4
"""Lines of one gateway from which on they are one fault, and as many are named."""
_SEVERITY = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.NOTICE: 2}
_CAUSE = {
    IssueKind.CENTRAL_SILENT: 0,
    IssueKind.CENTRAL_DEAF: 0,
    IssueKind.EDGE_OFFLINE: 1,
    IssueKind.LINE_DOWN: 2,
}
"""What stands above what it causes, among faults of one severity."""
_CAN_WAIT = frozenset(
    {
        "backlog",
        "capture_list_full",
        "captures_refused",
        "captures_revised",
        "clock_drift",
        "clock_not_corrected",
        "counter_not_believed",
        "dead_letters",
        "disk_reserve_missing",
        "influx",
        "influx_skipped",
        "journal_floor_short",
        "no_directory",
        "push_refused",
        "status_refused",
    }
)
"""Alarms of a gateway that reads and delivers all the same: today is soon enough."""
_DOUBTED = {"untrusted_time": IssueKind.TIME_DOUBTED, "identity_mismatch": IssueKind.METER_DOUBTED}


def sorted_issues(issues: Iterable[Issue], now: datetime) -> tuple[Issue, ...]:
    """Order by severity, then cause before effect, then age, then place."""
    return tuple(
        sorted(
            issues,
            key=lambda i: (_SEVERITY[i.severity], _CAUSE.get(i.kind, 9), i.since or now, i.where, i.kind),
        )
    )


def central_issues(central: CentralRow, touched: int) -> Iterator[Issue]:
    """Yield what is wrong with central itself: then nothing is known of any gateway."""
    if central.state is not CentralState.HEARS:
        deaf = central.state is CentralState.DEAF
        yield Issue(
            kind=IssueKind.CENTRAL_DEAF if deaf else IssueKind.CENTRAL_SILENT,
            severity=Severity.CRITICAL,
            since=central.since,
            touched=touched,
            detail=central.fault,
        )


def gateway_issues(row: GatewayRow, status: Status, silent: int) -> Iterator[Issue]:
    """Yield the faults that an edge tells of itself: offline (with `silent` meters behind it), clock, backlog, alarms.

    Old news is none: of a gateway that is not online only that is told.
    """

    def issue(kind: IssueKind, severity: Severity, since: datetime | None, **more: object) -> Issue:
        return Issue(kind=kind, severity=severity, gateway=row.gateway, since=since, **more)  # type: ignore[arg-type]  # fields of Issue

    if status.role == "visit":
        if row.online is False and status.backlog:
            yield issue(IssueKind.VISIT_WAITS, Severity.WARNING, row.heard_at, count=status.backlog)
        return
    if row.online is False:
        yield issue(IssueKind.EDGE_OFFLINE, Severity.CRITICAL, row.heard_at, touched=silent)
    if not row.online:
        return
    if status.clock is not None and not status.clock.disciplined:
        detail = status.clock.detail or ""
        yield issue(IssueKind.CLOCK_UNTRUSTED, Severity.CRITICAL, status.clock.at, detail=detail)
    if status.backlog >= BACKLOG_NOTICE:
        yield issue(IssueKind.BACKLOG, Severity.WARNING, row.heard_at, count=status.backlog)
    for alarm in status.alarms:
        if alarm.code == "backlog" and status.backlog >= BACKLOG_NOTICE:
            continue
        severity = Severity.WARNING if alarm.code in _CAN_WAIT else Severity.CRITICAL
        told = {"count": max(alarm.count, 1), "detail": f"{alarm.code}: {alarm.text}", "code": alarm.code}
        yield issue(IssueKind.JOURNAL_ALARM, severity, alarm.since, **told)
    if status.more_alarms:
        text = "more alarms than the status has room for: see the edge's own log and metrics"
        yield issue(IssueKind.JOURNAL_ALARM, Severity.WARNING, None, count=status.more_alarms, detail=text)


def line_issues(lines: Iterable[DownLines], silent: Mapping[tuple[str, str], int]) -> Iterator[Issue]:
    """Yield the lines that are down, with how many meters are silent on them; many of one gateway are one fault."""
    of_gateway: Counter[str] = Counter()
    for (gateway, _), touched in silent.items():
        of_gateway[gateway] += touched
    for down in lines:
        several = down.count >= LINES_NAMED
        for group in [down.lines[:LINES_NAMED]] if several else [[line] for line in down.lines]:
            names = ", ".join(line.line for line in group)
            more = f" +{down.count - LINES_NAMED}" if down.count > LINES_NAMED else ""
            yield Issue(
                kind=IssueKind.LINE_DOWN,
                severity=Severity.CRITICAL,
                gateway=down.gateway,
                line=names + more,
                since=down.since if several else group[0].since,
                touched=of_gateway[down.gateway] if several else silent.get((down.gateway, names), 0),
                count=down.count if several else 1,
                detail=group[0].detail or "",
            )


class MeterFaults:
    """The faults of all meters, put under their causes: what a gateway or a line explains is counted there."""

    def __init__(self, groups: Iterable[FaultGroup]) -> None:
        self.own: list[FaultGroup] = []
        self.behind_central = 0
        self.behind_gateway: Counter[str] = Counter()
        self.behind_line: Counter[tuple[str, str]] = Counter()
        for group in groups:
            if group.behind == BEHIND_CENTRAL:
                self.behind_central += group.touched
            elif group.behind == BEHIND_GATEWAY:
                self.behind_gateway[group.gateway] += group.touched
            elif group.behind == BEHIND_LINE:
                self.behind_line[group.gateway, group.line] += group.touched
            else:
                self.own.append(group)

    def issues(self) -> dict[Issue, FaultGroup]:
        """Return a fault for all meters of one line that have it, and one for those that are alone on theirs.

        With each goes what its meters can be named by.
        """
        return {
            Issue(
                kind=group.fault[0],
                severity=group.fault[1],
                gateway=group.gateway,
                line=group.line,
                meters=(group.first,),
                touched=group.touched,
                since=group.since,
            ): group
            for group in self.own
        }


def named_issue(issue: Issue, named: Named) -> Issue:
    """Return a fault of meters with some of their names, and what is said of them."""
    detail = f"{named.code}: {named.detail}".rstrip(": ") if named.code else ""
    return replace(issue, meters=named.meters, detail=detail)


def unattributed_issues(causes: Iterable[UnattributedCause]) -> Iterator[Issue]:
    """Yield one fault for each reason why captures stand under no account."""
    for cause in causes:
        yield Issue(
            kind=_DOUBTED.get(cause.reason, IssueKind.UNATTRIBUTED),
            severity=Severity.WARNING,
            meters=cause.meters,
            touched=cause.touched,
            since=cause.first_at,
        )


def gap_issues(causes: Iterable[GapCause]) -> Iterator[Issue]:
    """Yield one fault for each profile and reason with open gaps: many meters with one cause are one line to read."""
    for cause in causes:
        yield Issue(
            kind=IssueKind.GAP_OPEN,
            severity=Severity.NOTICE,
            meters=cause.named,
            touched=cause.meters,
            since=cause.first_at,
            count=cause.gaps,
            detail=f"{cause.profile}: {cause.reason}",
        )


def journal_issues(faults: Iterable[JournalFaults]) -> Iterator[Issue]:
    """Yield, for each gateway, the entries that are lost for ever and the holes that are asked for."""
    for found in faults:
        if found.lost:
            yield Issue(
                kind=IssueKind.ENTRIES_LOST,
                severity=Severity.CRITICAL,
                gateway=found.gateway,
                since=found.lost_since,
                count=found.lost,
                detail=found.lost_reason or "",
            )
        if found.holes:
            yield Issue(
                kind=IssueKind.HOLES,
                severity=Severity.WARNING,
                gateway=found.gateway,
                since=found.last_seen,
                count=found.holes,
            )


def dead_letter_issues(letters: int) -> Iterator[Issue]:
    """Yield the messages that could not be understood."""
    if letters:
        yield Issue(kind=IssueKind.DEAD_LETTERS, severity=Severity.WARNING, since=None, count=letters)


def behind_issues(gateways: Iterable[str], online: frozenset[str]) -> Iterator[Issue]:
    """Yield the gateways whose list of meters is not whole."""
    for gateway in gateways:
        if gateway in online:
            yield Issue(kind=IssueKind.LIST_BEHIND, severity=Severity.NOTICE, gateway=gateway, since=None)
