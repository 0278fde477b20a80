"""What the pages show: plain, immutable facts without words or formatting. UTC, kWh, rupees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from gateway.central.portal.usage import DaysLeft, Use


class Severity(StrEnum):
    """How soon somebody must act."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTICE = "notice"


class IssueKind(StrEnum):
    """The faults that the operator's page names; each has words in the page's catalogues."""

    EDGE_OFFLINE = "edge_offline"
    LINE_DOWN = "line_down"
    DEAD_METER = "dead_meter"
    NEVER_READ = "never_read"
    IDENTITY_MISMATCH = "identity_mismatch"
    CLOCK_UNTRUSTED = "clock_untrusted"
    METER_REFUSES = "meter_refuses"
    METER_CLOCK = "meter_clock"
    BACKLOG = "backlog"
    JOURNAL_ALARM = "journal_alarm"
    UNATTRIBUTED = "unattributed"
    GAP_OPEN = "gap_open"
    DEAD_LETTERS = "dead_letters"
    METERS_CLAIMED = "meters_claimed"
    QUARANTINED = "quarantined"
    QUARANTINE_FULL = "quarantine_full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One fault: where it is, since when (None: not known), how much of it, and the sender's own words."""

    kind: IssueKind
    severity: Severity
    where: str
    since: datetime | None
    count: int = 1
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRow:
    """One edge as it last told of itself."""

    gateway: str
    online: bool
    heard_at: datetime
    version: str
    last_seq: int | None
    backlog: int | None
    unattributed: int | None
    clock_ok: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """One line of an edge; `up` is None while its edge is offline."""

    gateway: str
    line: str
    up: bool | None
    state: str
    since: datetime | None
    detail: str


class ContactState(StrEnum):
    """Whether a meter is heard."""

    HEARD = "heard"
    SILENT = "silent"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRow:
    """One meter with its newest values; None is "not known", never zero."""

    meter: str
    protocol: str | None
    role: str | None
    account_number: str | None
    legacy_number: str | None
    reason: str | None
    state: ContactState
    last_at: datetime | None
    energy_kwh: Decimal | None
    balance: Decimal | None
    relay: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The operator's whole picture at `now`. `meters` is cut at a bound, `meters_total` is the true count."""

    now: datetime
    directory_version: int
    gateways: tuple[GatewayRow, ...]
    lines: tuple[LineRow, ...]
    meters: tuple[MeterRow, ...]
    meters_total: int
    issues: tuple[Issue, ...]
    captures: int
    unattributed: int
    open_gaps: int


class BalanceSource(StrEnum):
    """Who told a balance."""

    METER = "meter"
    BILLING = "billing"


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceView:
    """A balance in rupees, who told it, and when it was true."""

    rupees: Decimal
    as_of: datetime
    source: BalanceSource


class Supply(StrEnum):
    """What the supply contact is seen to be."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Freshness(StrEnum):
    """How old the newest reading is: older than a day is OLD, older than two is STALE."""

    FRESH = "fresh"
    OLD = "old"
    STALE = "stale"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recharge:
    """The last recharge that the meter knows of."""

    rupees: Decimal
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerView:
    """What one account may see of itself at `now`; nothing from before it moved in."""

    now: datetime
    account_number: str | None
    legacy_number: str | None
    meter_serial: str | None
    balance: BalanceView | None
    other_balance: BalanceView | None
    supply: Supply
    supply_as_of: datetime | None
    last_reading: datetime | None
    age: timedelta | None
    freshness: Freshness
    days_left: DaysLeft | None
    recharge: Recharge | None
    today: Use
    today_slots: tuple[Use, ...]
    days: tuple[Use, ...]
