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

    CENTRAL_SILENT = "central_silent"
    CENTRAL_DEAF = "central_deaf"
    EDGE_OFFLINE = "edge_offline"
    VISIT_WAITS = "visit_waits"
    LIST_BEHIND = "list_behind"
    LINE_DOWN = "line_down"
    DEAD_METER = "dead_meter"
    NEVER_READ = "never_read"
    METER_REMOVED = "meter_removed"
    IDENTITY_MISMATCH = "identity_mismatch"
    CLOCK_UNTRUSTED = "clock_untrusted"
    CLOCKS_DIFFER = "clocks_differ"
    DATED_AHEAD = "dated_ahead"
    METER_REFUSES = "meter_refuses"
    METER_CLOCK = "meter_clock"
    READINGS_SUSPECT = "readings_suspect"
    BACKLOG = "backlog"
    JOURNAL_ALARM = "journal_alarm"
    UNATTRIBUTED = "unattributed"
    TIME_DOUBTED = "time_doubted"
    METER_DOUBTED = "meter_doubted"
    GAP_OPEN = "gap_open"
    ENTRIES_LOST = "entries_lost"
    HOLES = "holes"
    QUARANTINED = "quarantined"
    QUARANTINE_FULL = "quarantine_full"
    DEAD_LETTERS = "dead_letters"
    METERS_CLAIMED = "meters_claimed"
    STORE_SET_BACK = "store_set_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One cause: its place, some of the meters it touches, since when (None: not known), and the sender's own words.

    `count` is how much of it there is; `meters` names a few of `touched`. `code` is that of a gateway's alarm.
    """

    kind: IssueKind
    severity: Severity
    since: datetime | None
    gateway: str = ""
    line: str = ""
    meters: tuple[str, ...] = ()
    touched: int = 0
    count: int = 1
    detail: str = ""
    code: str = ""

    @property
    def where(self) -> str:
        """The place in one text: gateway / line, or the meters themselves where no gateway is known."""
        return " / ".join(part for part in (self.gateway, self.line) if part) or self.named

    @property
    def named(self) -> str:
        """The meters that are named, and how many more there are."""
        more = self.touched - len(self.meters)
        return ", ".join(self.meters) + (f" +{more}" if self.meters and more > 0 else "")


class CentralState(StrEnum):
    """Whether central hears the gateways, by the signs of life in its ledger."""

    HEARS = "hears"
    DEAF = "deaf"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralRow:
    """Central as it was last seen: since when it hears nobody (None: it hears, or never did), and why."""

    state: CentralState
    since: datetime | None
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRow:
    """One edge as it last told of itself; `online` is None while central itself hears nobody.

    `meters` and `unwell` are None where the edge told none. `clock_state` is what its clock is trusted by: "declared"
    where its configuration says so and nobody was asked.
    """

    gateway: str
    online: bool | None
    heard_at: datetime
    version: str
    last_seq: int | None
    backlog: int | None
    unattributed: int | None
    clock_ok: bool | None
    clock_state: str | None
    meters: int | None
    unwell: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """One line of an edge; `up` is None while nothing fresh is known of it."""

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
    gateway: str = ""
    energy_at: datetime | None = None
    balance_at: datetime | None = None
    relay_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterChoice:
    """Which meters the operator wants to see: a page (from 1) of all or of the unwell, whose name has a text.

    `issues` is the page (from 1) of the faults, None for all of them.
    """

    page: int = 1
    unwell: bool = False
    find: str = ""
    issues: int | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The operator's whole picture at `now`.

    Issues and counts look at every meter. `issues` is one page of `issues_total`, or all of them, `issue_counts` the
    number of each kind; `meters` is one page of those that were asked for (`found`), `lines` the first of
    `lines_total`. A value older than `stale_after` shows its age.
    """

    now: datetime
    directory_version: int
    central: CentralRow
    gateways: tuple[GatewayRow, ...]
    lines: tuple[LineRow, ...]
    lines_total: int
    meters: tuple[MeterRow, ...]
    choice: MeterChoice
    found: int
    pages: int
    meters_total: int
    expected: int
    heard: int
    unwell: int
    issues: tuple[Issue, ...]
    issues_total: int
    issue_pages: int
    issue_counts: dict[IssueKind, int]
    captures: int
    unattributed: int
    open_gaps: int
    stale_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatistics:
    """How many meters and faults the overview finds in all, whatever its pages show: for metrics."""

    meters: int
    expected: int
    heard: int
    unwell: int
    issues: int
    critical: int
    warnings: int
    notices: int


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
    supply_seen: Supply
    supply_as_of: datetime | None
    last_reading: datetime | None
    age: timedelta | None
    freshness: Freshness
    days_left: DaysLeft | None
    recharge: Recharge | None
    today: Use
    today_slots: tuple[Use, ...]
    days: tuple[Use, ...]
