"""Read models of the pages: the operator's overview and what one account may see of itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from gateway.central.ledger.ledger import Ledger
from gateway.central.portal import values
from gateway.central.portal.account_captures import AccountCaptures
from gateway.central.portal.overview import OperatorOverview
from gateway.central.portal.reckoning import BILLING_ZONE, Days, account_days
from gateway.central.portal.usage import days_left, spending
from gateway.central.portal.view_models import (
    BalanceSource,
    BalanceView,
    ConsumerView,
    FleetStatistics,
    Freshness,
    MeterChoice,
    Overview,
    Supply,
)
from gateway.contract.messages import Balance
from gateway.errors import UsageError
from mapping.directory import NumberKind
from mapping.snapshot import DirectorySnapshot
from mapping.typed import TypedNumber, account_of
from protocols.clock import NowSource
from protocols.session import Clock

HISTORY_DAYS = 7
OLD_AFTER = timedelta(hours=24)
STALE_AFTER = timedelta(hours=48)


class Views:
    """Reads the ledger and the directory; every method blocks (call it in a thread) and changes nothing.

    `clock` is the gateway's (in a demo: the simulated one). A meter with no capture for `silent_after` is
    called silent, and what its supply contact was is no longer taken for what it is. `wall` is the machine's time
    where `clock` is a simulation's. `protocol_of` tells a meter's protocol where somebody knows it.
    """

    def __init__(
        self,
        ledger: Ledger,
        snapshot: Callable[[], DirectorySnapshot],
        clock: Clock,
        *,
        zone: str = BILLING_ZONE,
        silent_after: timedelta = timedelta(hours=2),
        protocol_of: Callable[[str], str | None] = lambda _: None,
        wall: NowSource | None = None,
    ) -> None:
        self._ledger = ledger
        self._snapshot = snapshot
        self._clock = clock
        self.zone = ZoneInfo(zone)
        self._silent_after = silent_after
        self._protocol_of = protocol_of
        self._wall = wall or clock

    def now(self) -> datetime:
        """Return the present of what is shown."""
        return self._clock.now()

    # --- accounts ---------------------------------------------------------------------------------

    def find_account(self, typed: str, kind: NumberKind | None = None) -> str | None:
        """Return an account id by a typed number; None when unknown, unreadable, or both old and new of two."""
        return account_of(self._snapshot(), TypedNumber.of(typed), kind)

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
        first = midnights[0] - timedelta(hours=1)
        mine = AccountCaptures(self._ledger, snapshot, account_id, first, midnights[-1], now)
        days = Days(self.zone)
        whole = [days.of(midnight) for midnight in midnights[:-1]]
        balance, other = self._balances(account_id, mine)
        supply, supply_as_of = mine.supply()
        seen = supply
        if supply_as_of is not None and now - supply_as_of > self._silent_after:
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
            supply_seen=seen,
            supply_as_of=supply_as_of,
            last_reading=last,
            age=age,
            freshness=freshness,
            days_left=left,
            recharge=mine.recharge(),
            today=mine.today(midnights[-1], now),
            today_slots=mine.slots(midnights[-1], now),
            days=tuple(account_days(self._ledger, snapshot, days, account_id, whole)),
        )

    def _midnights(self, now: datetime) -> list[datetime]:
        """Return the local midnights that bound the last seven whole days, oldest first; the last began today."""
        days = Days(self.zone)
        today = days.of(now)
        return [days.begin(day) for day in days.between(today - timedelta(days=HISTORY_DAYS), today)]

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

    def overview(self, choice: MeterChoice | None = None) -> Overview:
        """Return the operator's picture: gateways, lines, one page of meters, and every fault by its cause."""
        return self._overview().read(choice or MeterChoice())

    def statistics(self) -> FleetStatistics:
        """Return how many meters and faults there are in all."""
        return self._overview().statistics()

    def _overview(self) -> OperatorOverview:
        return OperatorOverview(
            self._ledger,
            self._snapshot(),
            now=self.now(),
            wall=self._wall.now(),
            silent_after=self._silent_after,
            protocol_of=self._protocol_of,
        )


def _freshness(age: timedelta | None) -> Freshness:
    if age is None:
        return Freshness.NONE
    if age > STALE_AFTER:
        return Freshness.STALE
    return Freshness.OLD if age > OLD_AFTER else Freshness.FRESH
