"""The operator's list of faults by cause (central, gateway, line, then meters): each one named, placed and aged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from gateway.central.ledger.records import (
    GapCause,
    JournalFaults,
    LineHealth,
    UnattributedCause,
)
from gateway.central.portal.fleet import WELL, MeterFact
from gateway.central.portal.view_models import (
    CentralRow,
    CentralState,
    ContactState,
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
_SILENT_CODES = {
    "meter_silent",
    "line_error",
    "line_unavailable",
    "line_closed",
    "line_timeout",
    "timeout_error",
}
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
_SILENCE = frozenset({IssueKind.DEAD_METER, IssueKind.NEVER_READ})
"""Faults of a meter that a silent gateway or a line that is down explains."""

Fault = tuple[IssueKind, Severity]


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


def line_issues(lines: Iterable[LineHealth], silent: Mapping[tuple[str, str], int]) -> Iterator[Issue]:
    """Yield the lines that are down, with how many meters are silent on them; many of one gateway are one fault."""
    by_gateway: dict[str, list[LineHealth]] = {}
    for line in lines:
        by_gateway.setdefault(line.gateway, []).append(line)
    for gateway, down in by_gateway.items():
        groups = [[line] for line in down] if len(down) < LINES_NAMED else [down]
        for group in groups:
            since = [line.since for line in group if line.since is not None]
            names = ", ".join(line.line for line in group[:LINES_NAMED])
            more = f" +{len(group) - LINES_NAMED}" if len(group) > LINES_NAMED else ""
            yield Issue(
                kind=IssueKind.LINE_DOWN,
                severity=Severity.CRITICAL,
                gateway=gateway,
                line=names + more,
                since=min(since, default=None),
                touched=sum(silent.get((gateway, line.line), 0) for line in group),
                count=len(group),
                detail=group[0].detail or "",
            )


def fault_of(meter: MeterFact) -> Fault | None:
    """Return what is wrong with a meter, None when nothing is.

    What its edge says now counts at once (a warning); being silent for long is critical.
    """
    if meter.removed:
        return IssueKind.METER_REMOVED, Severity.NOTICE
    if meter.code == "identity_mismatch":
        return IssueKind.IDENTITY_MISMATCH, Severity.CRITICAL
    if meter.code == "meter_clock":
        return IssueKind.METER_CLOCK, Severity.WARNING
    if meter.code == "readings_suspect":
        return IssueKind.READINGS_SUSPECT, Severity.WARNING
    if meter.state is ContactState.SILENT:
        return IssueKind.DEAD_METER, Severity.CRITICAL
    if meter.code in _SILENT_CODES:
        heard = meter.state is ContactState.HEARD
        return (IssueKind.DEAD_METER if heard else IssueKind.NEVER_READ), Severity.WARNING
    if meter.code not in WELL:
        return IssueKind.METER_REFUSES, Severity.WARNING
    if meter.state is ContactState.NEVER and meter.role != "stock":
        return IssueKind.NEVER_READ, Severity.WARNING
    return None


class MeterFaults:
    """The faults of all meters, put under their causes: what a gateway or a line explains is counted there."""

    def __init__(
        self,
        meters: Iterable[MeterFact],
        *,
        dark: frozenset[str],
        down: frozenset[tuple[str, str]],
        deaf: bool,
    ) -> None:
        """`dark` gateways are not online, `down` lines do not work; `deaf`: central hears none."""
        self.unwell: list[MeterFact] = []
        self.behind_central = 0
        self.behind_gateway: Counter[str] = Counter()
        self.behind_line: Counter[tuple[str, str]] = Counter()
        self._groups: dict[tuple[Fault, str, str], list[MeterFact]] = {}
        for meter in meters:
            fault = fault_of(meter)
            if fault is None:
                continue
            self.unwell.append(meter)
            silent = fault[0] in _SILENCE
            if silent and deaf:
                self.behind_central += 1
            elif silent and meter.gateway in dark:
                self.behind_gateway[meter.gateway] += 1
            elif silent and (meter.gateway, meter.line) in down:
                self.behind_line[meter.gateway, meter.line] += 1
            else:
                self._groups.setdefault((fault, meter.gateway, meter.line), []).append(meter)

    def issues(self) -> Iterator[Issue]:
        """Yield one fault for all meters of one line that have it, and one for those that are alone on theirs."""
        for ((kind, severity), gateway, line), meters in self._merged():
            code, _ = Counter(meter.code for meter in meters).most_common(1)[0]
            told = next(meter for meter in meters if meter.code == code)
            since = [at for meter in meters if (at := meter.heard_at or meter.told_since) is not None]
            yield Issue(
                kind=kind,
                severity=severity,
                gateway=gateway,
                line=line,
                meters=tuple(meter.meter for meter in meters[:METERS_NAMED]),
                touched=len(meters),
                since=min(since, default=None),
                detail="" if code in WELL else f"{code}: {told.detail}".rstrip(": "),
            )

    def _merged(self) -> Iterator[tuple[tuple[Fault, str, str], list[MeterFact]]]:
        alone: dict[tuple[Fault, str], list[MeterFact]] = {}
        for key, meters in self._groups.items():
            if len(meters) > 1:
                yield key, meters
            else:
                alone.setdefault(key[:2], []).extend(meters)
        for (fault, gateway), meters in alone.items():
            # A meter on IP has a line of its own: there the line is no cause, only another name of the meter.
            yield (fault, gateway, meters[0].line if len(meters) == 1 else ""), meters


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
