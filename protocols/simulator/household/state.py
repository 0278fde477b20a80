"""What a simulated meter measures at an instant: the waist between the household model and the servers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

NO_REACTIVE = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a three-phase meter at an instant; the factor is positive when the load lags."""

    voltage_mv: int
    current_ma: int
    power_w: int
    apparent_va: int
    power_factor_milli: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueState:
    """True state of a simulated meter at `at` (UTC), integers in the unit that the name says.

    `phases` is empty for a single-phase meter; `reactive_varh` is by quadrant 1 to 4, `reactive_var` positive
    when the load lags; `billed_at` is when the last billing period closed.
    """

    at: datetime
    powered: bool
    relay_closed: bool
    voltage_mv: int
    current_ma: int
    power_w: int
    apparent_va: int
    power_factor_milli: int
    frequency_mhz: int
    energy_import_wh: int
    energy_export_wh: int
    apparent_energy_vah: int
    max_demand_w: int
    max_demand_at: datetime
    balance_paise: int
    balance_at: datetime
    last_recharge_paise: int
    last_recharge_at: datetime
    total_recharged_paise: int
    payment_mode: int
    power_on_minutes: int
    tamper_count: int
    billing_count: int
    clock_drift_s: int
    phases: tuple[Phase, ...] = ()
    reactive_var: int = 0
    reactive_varh: tuple[int, int, int, int] = NO_REACTIVE
    power_fail_count: int = 0
    power_off_minutes: int = 0
    billed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """One interval that the meter stored: ends at `at` (UTC).

    `phases_mv` and `phases_ma` are averages by phase, empty for a single-phase meter; `reactive_varh` is by
    quadrant.
    """

    at: datetime
    voltage_mv: int
    current_ma: int
    energy_import_wh: int
    energy_export_wh: int
    apparent_energy_vah: int
    phases_mv: tuple[int, ...] = ()
    phases_ma: tuple[int, ...] = ()
    reactive_varh: tuple[int, int, int, int] = NO_REACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyRow:
    """Cumulative registers at local midnight `at` (UTC)."""

    at: datetime
    energy_import_wh: int
    energy_export_wh: int
    apparent_energy_vah: int
    reactive_varh: tuple[int, int, int, int] = NO_REACTIVE


@dataclass(frozen=True, slots=True)
class ZoneState:
    """One tariff zone: cumulative energy, and the greatest demand of the billing period with its instant."""

    energy_import_wh: int
    apparent_energy_vah: int
    max_demand_w: int
    max_demand_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRow:
    """A closed billing period: the instant of closing (UTC), state then, its demand, its tariff zones.

    A period closes at the local 1st, 00:00, and whenever the maximum demand is reset.
    """

    at: datetime
    state: TrueState
    max_demand_w: int
    max_demand_at: datetime
    power_on_minutes: int
    reset_count: int
    zones: tuple[ZoneState, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One logged event: IS 15959 code, in log 0..6, numbered from 1."""

    at: datetime
    log: int
    code: int
    sequence: int
    state: TrueState


class SimMeter(Protocol):
    """A simulated meter: a pure function of seed and time, plus what was done to it (relay, clock)."""

    @property
    def manufacturer(self) -> str:
        """Three-letter code."""

    @property
    def serial(self) -> str:
        """Printed serial."""

    def state(self, at: datetime) -> TrueState:
        """Return the state at any instant since the beginning of its history."""

    def block_rows(self, since: datetime, until: datetime) -> list[BlockRow]:
        """Rows with since < at <= until that the meter stored (power cuts leave holes)."""

    def daily_rows(self, since: datetime, until: datetime) -> list[DailyRow]:
        """Midnights with since < at <= until."""

    def event_rows(self, since: datetime, until: datetime) -> list[EventRow]:
        """Events with since < at <= until."""

    def switch_relay(self, *, closed: bool, at: datetime) -> None:
        """Move the contact; state and events after `at` show it."""

    def set_clock_drift(self, seconds: int) -> None:
        """Change how far the meter's clock is ahead."""

    def set_clock(self, *, drift: int, at: datetime) -> None:
        """Set the clock at an instant so that it is `drift` seconds ahead."""

    def recharge(self, paise: int, at: datetime) -> None:
        """Add money."""

    def set_balance(self, paise: int, at: datetime) -> None:
        """Write the balance."""
