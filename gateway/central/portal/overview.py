"""The operator's overview: every gateway, line and meter is looked at, in a fixed number of statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.meter_states import WELL
from gateway.central.ledger.records import CentralSign, LedgerCounts, LineHealth
from gateway.central.ledger.times import AHEAD
from gateway.central.portal import issues, values
from gateway.central.portal.account_captures import SNAPSHOTS
from gateway.central.portal.authority_issues import authority_issues, set_back_issues
from gateway.central.portal.clock_issues import ahead_issues, clock_issues
from gateway.central.portal.fleet import FORGET_AFTER, FaultGroup, Fleet, FleetCounts, MeterFact, Outlook
from gateway.central.portal.view_models import (
    CentralRow,
    CentralState,
    FleetStatistics,
    GatewayRow,
    Issue,
    LineRow,
    MeterChoice,
    MeterRow,
    Overview,
    Severity,
)
from gateway.contract.messages import Capture, Status
from mapping.snapshot import DirectorySnapshot

ONLINE_FOR = timedelta(seconds=90)
"""A gateway says each half minute that it is there: after three that did not come it is not online."""
CENTRAL_ALIVE_FOR = timedelta(seconds=45)
"""Central leaves a sign of life each quarter minute."""
METERS_ON_A_PAGE = 100
ISSUES_ON_A_PAGE = 200
LINES_SHOWN = 200
TELL_LOST_FOR = timedelta(days=30)
"""Entries that are lost for ever stay among the issues for so long; `meter-gateway missing` lists them all."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What one look at everything found; `of_meters` are the issues of groups of meters, which may be named."""

    central: CentralRow
    gateways: tuple[GatewayRow, ...]
    online: frozenset[str]
    fleet: Fleet
    meters: FleetCounts
    issues: tuple[Issue, ...]
    of_meters: Mapping[Issue, FaultGroup]
    counts: LedgerCounts


class OperatorOverview:
    """Reads the ledger at `now`. `wall` is the machine's time, by which it is judged who is alive."""

    def __init__(
        self,
        ledger: Ledger,
        snapshot: DirectorySnapshot,
        *,
        now: datetime,
        wall: datetime,
        silent_after: timedelta,
        protocol_of: Callable[[str], str | None],
    ) -> None:
        self._ledger = ledger
        self._snapshot = snapshot
        self._now = now
        self._wall = wall
        self._silent_after = silent_after
        self._protocol_of = protocol_of

    def read(self, choice: MeterChoice) -> Overview:
        """Return the picture, with one page of the chosen meters."""
        looked = self._look()
        meters, found, of_meters = looked.meters, looked.issues, looked.of_meters
        issue_pages = max(1, -(-len(found) // ISSUES_ON_A_PAGE))
        issue_page = None if choice.issues is None else min(max(choice.issues, 1), issue_pages)
        shown_issues = found
        if issue_page is not None:
            shown_issues = found[(issue_page - 1) * ISSUES_ON_A_PAGE : issue_page * ISSUES_ON_A_PAGE]
        names = looked.fleet.named(
            [of_meters[i] for i in shown_issues if i in of_meters], issues.METERS_NAMED
        )
        shown, page, chosen = looked.fleet.page(choice, METERS_ON_A_PAGE, meters)
        lines, lines_total = self._ledger.statuses.first_lines(LINES_SHOWN)
        return Overview(
            now=self._now,
            directory_version=self._snapshot.version,
            central=looked.central,
            gateways=looked.gateways,
            lines=tuple(_line_row(line, looked.online) for line in lines),
            lines_total=lines_total,
            meters=tuple(self._meter_rows(shown)),
            choice=MeterChoice(page=page, unwell=choice.unwell, find=choice.find, issues=issue_page),
            found=chosen,
            pages=max(1, -(-chosen // METERS_ON_A_PAGE)),
            meters_total=meters.meters,
            expected=meters.expected,
            heard=meters.heard,
            unwell=meters.unwell,
            issues=tuple(
                issues.named_issue(issue, names[of_meters[issue]]) if issue in of_meters else issue
                for issue in shown_issues
            ),
            issues_total=len(found),
            issue_pages=issue_pages,
            issue_counts=dict(sorted(Counter(issue.kind for issue in found).items())),
            captures=looked.counts.captures,
            unattributed=looked.counts.unattributed,
            open_gaps=looked.counts.open_gaps,
            stale_after=self._silent_after,
        )

    def statistics(self) -> FleetStatistics:
        """Return how many meters and faults there are in all."""
        looked = self._look()
        by_severity = Counter(issue.severity for issue in looked.issues)
        return FleetStatistics(
            meters=looked.meters.meters,
            expected=looked.meters.expected,
            heard=looked.meters.heard,
            unwell=looked.meters.unwell,
            issues=len(looked.issues),
            critical=by_severity[Severity.CRITICAL],
            warnings=by_severity[Severity.WARNING],
            notices=by_severity[Severity.NOTICE],
        )

    def _look(self) -> _Looked:
        """Look at everything: every fault is found, whatever a page shows of them."""
        ledger = self._ledger
        central = self._central(ledger.alive.read())
        told = self._gateways(central)
        online = frozenset(row.gateway for row, _ in told if row.online)
        fleet = self._fleet(central, told)
        groups, meters = fleet.faults()
        faults = issues.MeterFaults(groups)
        down = [line for line in ledger.statuses.down_lines(issues.LINES_NAMED) if line.gateway in online]
        of_meters = faults.issues()
        counts = ledger.counts()
        found = [
            *issues.central_issues(central, faults.behind_central),
            *(
                issue
                for row, status in told
                for issue in issues.gateway_issues(row, status, faults.behind_gateway[row.gateway])
            ),
            *issues.line_issues(down, faults.behind_line),
            *of_meters,
            *self._ledger_issues(fleet, online, counts.dead_letters),
        ]
        return _Looked(
            central=central,
            gateways=tuple(row for row, _ in told),
            online=online,
            fleet=fleet,
            meters=meters,
            issues=issues.sorted_issues(found, self._now),
            of_meters=of_meters,
            counts=counts,
        )

    def _fleet(self, central: CentralRow, told: Iterable[tuple[GatewayRow, Status]]) -> Fleet:
        online = {row.gateway: row.online for row, _ in told}
        outlook = Outlook(
            online=frozenset(gateway for gateway, is_online in online.items() if is_online),
            dark=frozenset(gateway for gateway, is_online in online.items() if is_online is False),
            deaf=central.state is not CentralState.HEARS,
            now=self._now,
            silent_after=self._silent_after,
        )
        return Fleet(self._ledger.database, outlook)

    def _central(self, sign: CentralSign | None) -> CentralRow:
        if sign is None:
            return CentralRow(state=CentralState.SILENT, since=None, fault="")
        fault = sign.fault or ""
        if self._wall - sign.at > CENTRAL_ALIVE_FOR:
            return CentralRow(state=CentralState.SILENT, since=self._shown(sign.at), fault=fault)
        if sign.heard_broker_at != sign.at:
            heard = None if sign.heard_broker_at is None else self._shown(sign.heard_broker_at)
            return CentralRow(state=CentralState.DEAF, since=heard, fault=fault)
        return CentralRow(state=CentralState.HEARS, since=None, fault=fault)

    def _shown(self, at: datetime) -> datetime:
        """Return an instant of the machine's time in the time that is shown (they differ in a simulation)."""
        return self._now - (self._wall - at)

    def _gateways(self, central: CentralRow) -> list[tuple[GatewayRow, Status]]:
        """Return the gateways that are or should be there: no visit that is over, no box that was taken away."""
        found = []
        for stored in self._ledger.statuses.all():
            try:
                status = Status.model_validate_json(stored.body)
            except ValidationError:
                continue
            age = self._wall - stored.received_at
            fresh = status.online and age <= ONLINE_FOR
            over = status.role == "visit" and not fresh and not status.backlog
            gone = age > FORGET_AFTER and not status.backlog
            if not over and not (gone and not self._ledger.allocations.has_any(status.gateway)):
                hears = central.state is CentralState.HEARS
                found.append(
                    (_gateway_row(status, fresh if hears else None, self._shown(stored.received_at)), status)
                )
        return found

    def _ledger_issues(self, fleet: Fleet, online: frozenset[str], letters: int) -> Iterable[Issue]:
        ledger = self._ledger

        def told() -> set[str]:
            return fleet.faulty(("meter_clock", "identity_mismatch"))

        yield from issues.unattributed_issues(ledger.unattributed.causes(issues.METERS_NAMED, told))
        yield from clock_issues(ledger.times.clocks())
        yield from ahead_issues(ledger.times.ahead())
        yield from issues.gap_issues(ledger.gaps.causes(issues.METERS_NAMED))
        yield from issues.journal_issues(ledger.journals.faults(self._now - TELL_LOST_FOR))
        yield from authority_issues(
            ledger.allocations.claims(), ledger.quarantine.groups(), ledger.quarantine.full()
        )
        yield from set_back_issues(ledger.identity.set_backs(), self._now - TELL_LOST_FOR)
        yield from issues.behind_issues(ledger.statuses.behind(), online)
        yield from issues.dead_letter_issues(letters)

    def _meter_rows(self, facts: Sequence[MeterFact]) -> Iterable[MeterRow]:
        latest = self._ledger.captures.latest(
            [fact.meter for fact in facts], (*SNAPSHOTS, "block_load"), until=self._now + AHEAD
        )
        self._snapshot.expect(fact.meter for fact in facts)
        for fact in facts:
            captures = [stored.message for stored in latest[fact.meter].values()]
            captures.sort(key=lambda capture: capture.at, reverse=True)
            yield self._meter_row(fact, captures)

    def _meter_row(self, fact: MeterFact, captures: Sequence[Capture]) -> MeterRow:
        """Make a meter's row from its latest capture of each profile, newest first."""
        found = self._snapshot.attributions(fact.meter, None, self._now)
        account = found.accounts[0] if found.accounts else None
        energy, energy_at = _newest(captures, values.energy)
        balance, balance_at = _newest(captures, values.rupees)
        relay, relay_at = _newest(captures, values.relay)
        return MeterRow(
            meter=fact.meter,
            protocol=self._protocol_of(fact.meter),
            role=fact.role,
            account_number=account.account_number if account else None,
            legacy_number=account.legacy_number if account else None,
            reason=found.reason.value if found.reason else None,
            state=fact.state,
            last_at=fact.heard_at,
            energy_kwh=energy,
            balance=balance,
            relay=relay,
            gateway=fact.gateway,
            energy_at=energy_at,
            balance_at=balance_at,
            relay_at=relay_at,
        )


def _newest(
    captures: Sequence[Capture], value: Callable[[Capture], T | None]
) -> tuple[T | None, datetime | None]:
    """Return the newest value that there is, and when it was true."""
    return next(
        ((found, capture.at) for capture in captures if (found := value(capture)) is not None), (None, None)
    )


def _gateway_row(status: Status, online: bool | None, heard_at: datetime) -> GatewayRow:
    told = online and bool(status.meters)
    return GatewayRow(
        gateway=status.gateway,
        online=online,
        heard_at=heard_at,
        version=status.version,
        last_seq=status.last_seq,
        backlog=status.backlog,
        unattributed=status.unattributed,
        clock_ok=status.clock.disciplined if online and status.clock is not None else None,
        clock_state=status.clock.state if online and status.clock is not None else None,
        meters=sum(status.meters.values()) if told else None,
        unwell=sum(n for health, n in status.meters.items() if health not in WELL) if told else None,
    )


def _line_row(line: LineHealth, online: frozenset[str]) -> LineRow:
    fresh = line.gateway in online
    return LineRow(
        gateway=line.gateway,
        line=line.line,
        up=line.state != "down" if fresh else None,
        state=line.state if fresh else "unknown",
        since=line.since,
        detail=line.detail or "",
    )
