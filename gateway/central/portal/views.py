"""Read models of the pages: the operator's overview and what one account may see of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, pairwise
from typing import TypeVar
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import LineHealth
from gateway.central.portal import values
from gateway.central.portal.account_captures import SNAPSHOTS, AccountCaptures
from gateway.central.portal.authority_issues import authority_issues
from gateway.central.portal.issues import (
    gap_issues,
    gateway_issues,
    meter_issues,
    sorted_issues,
    unattributed_issues,
)
from gateway.central.portal.usage import days_left, spending
from gateway.central.portal.view_models import (
    BalanceSource,
    BalanceView,
    ConsumerView,
    ContactState,
    Freshness,
    GatewayRow,
    Issue,
    IssueKind,
    LineRow,
    MeterRow,
    Overview,
    Severity,
    Supply,
)
from gateway.contract.messages import Balance, Capture, Status
from gateway.errors import UsageError
from mapping.account import AccountNumber, LegacyNumber
from mapping.directory import NumberKind
from mapping.errors import NumberRefused
from mapping.snapshot import DirectorySnapshot
from protocols.session import Clock

MAX_METERS_SHOWN = 1000
"""Rows of the operator's page; the true count stands beside them."""
HISTORY_DAYS = 7
OLD_AFTER = timedelta(hours=24)
STALE_AFTER = timedelta(hours=48)

T = TypeVar("T")


class Views:
    """Reads the ledger and the directory; every method blocks (call it in a thread) and changes nothing.

    `clock` is the gateway's (in a demo: the simulated one). A meter with no capture for `silent_after` is
    called silent. `protocol_of` tells a meter's protocol where somebody knows it.
    """

    def __init__(
        self,
        ledger: Ledger,
        snapshot: Callable[[], DirectorySnapshot],
        clock: Clock,
        *,
        zone: str = "Asia/Kolkata",
        silent_after: timedelta = timedelta(hours=2),
        protocol_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._snapshot = snapshot
        self._clock = clock
        self.zone = ZoneInfo(zone)
        self._silent_after = silent_after
        self._protocol_of = protocol_of

    def now(self) -> datetime:
        """Return the present of what is shown."""
        return self._clock.now()

    # --- accounts ---------------------------------------------------------------------------------

    def find_account(self, typed: str, kind: NumberKind | None = None) -> str | None:
        """Return an account id by a typed number; None when unknown, unreadable, or both old and new of two."""
        snapshot = self._snapshot()
        found = set()
        for wanted, parse in (
            (NumberKind.ACCOUNT, AccountNumber.parse),
            (NumberKind.LEGACY, LegacyNumber.parse),
        ):
            if kind not in (None, wanted):
                continue
            try:
                found.add(snapshot.account_by_number(wanted, str(parse(typed).number)))
            except NumberRefused:
                continue
        found.discard(None)
        return found.pop() if len(found) == 1 else None

    def account_names(self, account_id: str) -> tuple[str | None, str | None]:
        """Return an account's 10-digit and legacy number."""
        names = self._snapshot().names(account_id)
        return names.account_number, names.legacy_number

    # --- consumer ---------------------------------------------------------------------------------

    def consumer(self, account_id: str) -> ConsumerView:
        """Return what this account may see: only captures attributed to it, so nothing from before it moved in.

        UsageError when the directory does not know the account.
        """
        snapshot = self._snapshot()
        names = snapshot.names(account_id)
        if names.account_number is None and names.legacy_number is None:
            raise UsageError("the directory does not know this account")
        now = self.now()
        midnights = self._midnights(now)
        mine = AccountCaptures(self._ledger, snapshot, account_id, midnights[0] - timedelta(hours=1), now)
        balance, other = self._balances(account_id, mine)
        supply, supply_as_of = mine.supply()
        if supply_as_of is not None and now - supply_as_of > STALE_AFTER:
            supply = Supply.UNKNOWN
        last = mine.last_at()
        age = None if last is None else max(now - last, timedelta(0))
        freshness = _freshness(age)
        usable = balance is not None and freshness in (Freshness.FRESH, Freshness.OLD)
        left = days_left(balance.rupees, spending(mine.balances(), midnights)) if balance and usable else None
        return ConsumerView(
            now=now,
            account_number=names.account_number,
            legacy_number=names.legacy_number,
            meter_serial=mine.serial(),
            balance=balance,
            other_balance=other,
            supply=supply,
            supply_as_of=supply_as_of,
            last_reading=last,
            age=age,
            freshness=freshness,
            days_left=left,
            recharge=mine.recharge(),
            today=mine.today(midnights[-1], now),
            today_slots=mine.slots(midnights[-1], now),
            days=tuple(mine.use(start, end) for start, end in pairwise(midnights)),
        )

    def _midnights(self, now: datetime) -> list[datetime]:
        """Return the local midnights that bound the last seven whole days, oldest first; the last began today."""
        today = now.astimezone(self.zone).date()
        days = (today - timedelta(days=back) for back in range(HISTORY_DAYS, -1, -1))
        return [datetime.combine(day, time(), self.zone).astimezone(UTC) for day in days]

    def _balances(
        self, account_id: str, mine: AccountCaptures
    ) -> tuple[BalanceView | None, BalanceView | None]:
        """Return the balance that governs (billing's, where there is one) and the other one (users.md §0.10)."""
        metered = mine.balance()
        stored = self._ledger.balances.get(account_id)
        try:
            balance = None if stored is None else Balance.model_validate_json(stored.body)
        except ValidationError:
            balance = None
        if balance is None or len(balance.amount) > values.MAX_DIGITS:
            return metered, None
        billed = BalanceView(rupees=Decimal(balance.amount), as_of=balance.at, source=BalanceSource.BILLING)
        return billed, metered

    # --- operator ---------------------------------------------------------------------------------

    def overview(self) -> Overview:
        """Return the operator's picture: gateways, lines, meters and every fault by name and age."""
        now = self.now()
        snapshot = self._snapshot()
        statuses = self._statuses()
        lines = self._ledger.statuses.lines()
        health = {m.meter: m for m in self._ledger.statuses.meters()}
        names = sorted({*snapshot.meters(), *self._ledger.captures.meters(), *health})
        rows: list[MeterRow] = []
        issues: list[Issue] = list(
            chain.from_iterable(
                gateway_issues(s, [line for line in lines if line.gateway == s.gateway])
                for s in statuses.values()
            )
        )
        shown = names[:MAX_METERS_SHOWN]
        latest = self._ledger.captures.latest(shown, (*SNAPSHOTS, "block_load"))
        for meter in shown:
            captures = [stored.message for stored in latest[meter].values()]
            captures.sort(key=lambda c: c.at, reverse=True)
            newest = captures[0] if captures else None
            row = self._meter_row(meter, captures, snapshot, now)
            rows.append(row)
            issues += meter_issues(row, newest, health.get(meter))
        named = {i.where for i in issues if i.kind in (IssueKind.METER_CLOCK, IssueKind.IDENTITY_MISMATCH)}
        issues += (i for i in unattributed_issues(self._ledger.unattributed.groups()) if i.where not in named)
        issues += gap_issues(self._ledger.gaps.all(state="open"))
        issues += authority_issues(
            self._ledger.allocations.claims(),
            self._ledger.quarantine.groups(),
            self._ledger.quarantine.full(),
        )
        counts = self._ledger.counts()
        if counts.dead_letters:
            issues.append(
                Issue(
                    kind=IssueKind.DEAD_LETTERS,
                    severity=Severity.WARNING,
                    where="central",
                    since=None,
                    count=counts.dead_letters,
                )
            )
        return Overview(
            now=now,
            directory_version=snapshot.version,
            gateways=tuple(_gateway_row(s) for s in statuses.values()),
            lines=tuple(
                _line_row(line, statuses[line.gateway]) for line in lines if line.gateway in statuses
            ),
            meters=tuple(rows),
            meters_total=len(names),
            issues=sorted_issues(issues, now),
            captures=counts.captures,
            unattributed=counts.unattributed,
            open_gaps=counts.open_gaps,
        )

    def _statuses(self) -> dict[str, Status]:
        found = {}
        for stored in self._ledger.statuses.all():
            try:
                found[stored.gateway] = Status.model_validate_json(stored.body)
            except ValidationError:
                continue
        return found

    def _meter_row(
        self, meter: str, captures: Sequence[Capture], snapshot: DirectorySnapshot, now: datetime
    ) -> MeterRow:
        """Make a meter's row from its latest capture of each profile, newest first."""
        newest = captures[0] if captures else None
        found = snapshot.attributions(meter, None, now)
        account = found.accounts[0] if found.accounts else None
        role = next(
            (i.role.value for i in reversed(snapshot.installations(meter)) if i.valid_from <= now), None
        )
        silent = newest is not None and now - newest.at > self._silent_after
        return MeterRow(
            meter=meter,
            protocol=self._protocol_of(meter),
            role=role,
            account_number=account.account_number if account else None,
            legacy_number=account.legacy_number if account else None,
            reason=found.reason.value if found.reason else None,
            state=ContactState.NEVER
            if newest is None
            else ContactState.SILENT
            if silent
            else ContactState.HEARD,
            last_at=newest.at if newest else None,
            energy_kwh=_first(values.energy(c) for c in captures),
            balance=_first(values.rupees(c) for c in captures),
            relay=_first(values.relay(c) for c in captures),
        )


def _first(found: Iterable[T | None]) -> T | None:
    return next((value for value in found if value is not None), None)


def _freshness(age: timedelta | None) -> Freshness:
    if age is None:
        return Freshness.NONE
    if age > STALE_AFTER:
        return Freshness.STALE
    return Freshness.OLD if age > OLD_AFTER else Freshness.FRESH


def _gateway_row(status: Status) -> GatewayRow:
    return GatewayRow(
        gateway=status.gateway,
        online=status.online,
        heard_at=status.at,
        version=status.version,
        last_seq=status.last_seq,
        backlog=status.backlog,
        unattributed=status.unattributed,
        clock_ok=None if status.clock is None else status.clock.disciplined,
    )


def _line_row(line: LineHealth, status: Status) -> LineRow:
    return LineRow(
        gateway=line.gateway,
        line=line.line,
        up=line.state != "down" if status.online else None,
        state=line.state if status.online else "unknown",
        since=line.since,
        detail=line.detail or "",
    )
