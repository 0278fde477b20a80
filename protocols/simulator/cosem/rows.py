"""How a simulated Indian meter writes its state, rows and events as COSEM data.

Times are written here on purpose without the client's code: a mistake in a sign must not cancel out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

from protocols.dlms.companion import ColumnInfo
from protocols.dlms.data.types import Data, Tag, octets, scaler_unit, structure
from protocols.simulator.household.state import (
    BillingRow,
    BlockRow,
    DailyRow,
    EventRow,
    TrueState,
    ZoneState,
)

IST = timezone(timedelta(minutes=330))
DEVIATION = (330).to_bytes(2, "big")  # UTC to local, as Indian meters write it: 014A
NO_TIME = b"\xff" * 12
LOAD_LIMIT_W = 5_000
CLOCK = "0-0:1.0.0*255"
ZONE_REGISTERS = 8
"""Tariff zones that have registers; the household uses the first four."""

Scaled = tuple[int, int]
"""A mantissa and a power of ten."""
Raw = Scaled | datetime | bytes | bool | None


def stamp(at: datetime) -> bytes:
    """Write an instant as the meter's date-time: local wall clock, weekday and hundredths unspecified."""
    wall = at.astimezone(IST)
    head = wall.year.to_bytes(2, "big") + bytes((wall.month, wall.day, 0xFF))
    return head + bytes((wall.hour, wall.minute, wall.second, 0xFF)) + DEVIATION + b"\x00"


def instant(date_time: bytes) -> datetime | None:
    """Read a date-time as wall clock in India whatever its deviation says; None where it is a wildcard."""
    if len(date_time) != 12:
        return None
    hour, minute, second = (0 if part == 0xFF else part for part in date_time[5:8])
    year = int.from_bytes(date_time[:2], "big")
    try:
        wall = datetime(year, date_time[2], date_time[3], hour, minute, second, tzinfo=IST)
        return wall.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def encode(column: ColumnInfo, raw: Raw) -> Data:
    """Write one value as its column's type and scaler; digits below the scaler are cut."""
    if raw is None:
        return octets(NO_TIME) if column.tag is Tag.OCTET_STRING else Data(Tag.NULL, None)
    if isinstance(raw, datetime):
        return octets(stamp(raw))
    if isinstance(raw, bytes | bool):
        return Data(column.tag, raw)
    mantissa, scaler = raw
    shift = scaler - (column.scaler or 0)
    return Data(column.tag, mantissa * 10**shift if shift >= 0 else mantissa // 10**-shift)


def row(columns: Sequence[ColumnInfo], names: Sequence[str], values: Mapping[str, Raw]) -> Data:
    """Write one row of a profile."""
    return structure(*(encode(c, values.get(n)) for c, n in zip(columns, names, strict=True)))


def scaler_row(columns: Sequence[ColumnInfo]) -> Data:
    """Write the only row of a scaler profile: scaler_unit of the columns that have one."""
    return structure(*(scaler_unit(c.scaler, c.unit_code) for c in columns if c.scaler is not None))


def registers(state: TrueState, *, programmed: int = 0, zones: Sequence[ZoneState] = ()) -> dict[str, Raw]:
    """Return everything that the meter shows at an instant, by quantity; tariff zones when they are given."""
    demand_at = state.max_demand_at if state.max_demand_w else None
    leading = state.reactive_var < 0
    return {
        CLOCK: state.at + timedelta(seconds=state.clock_drift_s),
        "1-0:12.7.0*255": (state.voltage_mv, -3),
        "1-0:11.7.0*255": (state.current_ma, -3),
        "1-0:91.7.0*255": (state.current_ma, -3),
        "1-0:13.7.0*255": (-state.power_factor_milli if leading else state.power_factor_milli, -3),
        "1-0:14.7.0*255": (state.frequency_mhz, -3),
        "1-0:9.7.0*255": (state.apparent_va, 0),
        "1-0:1.7.0*255": (state.power_w, 0),
        "1-0:3.7.0*255": (state.reactive_var, 0),
        "1-0:1.8.0*255": (state.energy_import_wh, 0),
        "1-0:9.8.0*255": (state.apparent_energy_vah, 0),
        "1-0:2.8.0*255": (state.energy_export_wh, 0),
        "1-0:10.8.0*255": (0, 0),
        **_demand("0", state.max_demand_w, demand_at),
        "0-0:94.91.14*255": (state.power_on_minutes, 0),
        "0-0:94.91.8*255": (state.power_off_minutes, 0),
        "0-0:96.7.0*255": (state.power_fail_count, 0),
        "0-0:94.91.0*255": (state.tamper_count, 0),
        "0-0:0.1.0*255": (state.billing_count, 0),
        "0-0:0.1.2*255": state.billed_at,
        "0-0:96.2.0*255": (programmed, 0),
        "0-0:96.3.10*255": state.relay_closed,
        "0-0:17.0.0*255#3": (LOAD_LIMIT_W, 0),
        **_reactive(state.reactive_varh, "8"),
        **_phases(state),
        **_zones(zones),
    }


def _demand(zone: str, watts: int, at: datetime | None) -> dict[str, Raw]:
    return {
        f"1-0:1.6.{zone}*255": (watts, 0),
        f"1-0:1.6.{zone}*255#5": at,
        f"1-0:9.6.{zone}*255": (watts * 1000 // 940, 0),
        f"1-0:9.6.{zone}*255#5": at,
    }


def _reactive(varh: Sequence[int], group: str) -> dict[str, Raw]:
    """Return reactive energy by quadrant; group D is 8 for registers, 29 for an interval."""
    return {f"1-0:{5 + quadrant}.{group}.0*255": (value, 0) for quadrant, value in enumerate(varh)}


def _phases(state: TrueState) -> dict[str, Raw]:
    found: dict[str, Raw] = {}
    for number, phase in enumerate(state.phases):
        found[f"1-0:{31 + 20 * number}.7.0*255"] = (phase.current_ma, -3)
        found[f"1-0:{32 + 20 * number}.7.0*255"] = (phase.voltage_mv, -3)
        found[f"1-0:{33 + 20 * number}.7.0*255"] = (phase.power_factor_milli, -3)
    return found


def _zones(zones: Sequence[ZoneState]) -> dict[str, Raw]:
    """Return the registers of tariff zones 1 to 8; the ones that the calendar does not use stand at zero."""
    found: dict[str, Raw] = {}
    for number in range(1, ZONE_REGISTERS + 1) if zones else ():
        zone = zones[number - 1] if number <= len(zones) else None
        found[f"1-0:1.8.{number}*255"] = (zone.energy_import_wh if zone else 0, 0)
        found[f"1-0:9.8.{number}*255"] = (zone.apparent_energy_vah if zone else 0, 0)
        used = zone is not None and zone.max_demand_w > 0
        demand_at = zone.max_demand_at if zone is not None and used else None
        found |= _demand(str(number), zone.max_demand_w if zone else 0, demand_at)
    return found


def block(row: BlockRow) -> dict[str, Raw]:
    """Return a stored interval by quantity."""
    found: dict[str, Raw] = {
        CLOCK: row.at,
        "1-0:12.27.0*255": (row.voltage_mv, -3),
        "1-0:11.27.0*255": (row.current_ma, -3),
        "1-0:1.29.0*255": (row.energy_import_wh, 0),
        "1-0:9.29.0*255": (row.apparent_energy_vah, 0),
        "1-0:2.29.0*255": (row.energy_export_wh, 0),
        "1-0:10.29.0*255": (0, 0),
        "0-0:96.10.1*255": (0, 0),
        "0-1:96.12.5*255": (-71, 0),
        **_reactive(row.reactive_varh, "29"),
    }
    for number, (millivolts, milliamperes) in enumerate(zip(row.phases_mv, row.phases_ma, strict=True)):
        found[f"1-0:{31 + 20 * number}.27.0*255"] = (milliamperes, -3)
        found[f"1-0:{32 + 20 * number}.27.0*255"] = (millivolts, -3)
    return found


def daily(row: DailyRow) -> dict[str, Raw]:
    """Return a midnight snapshot by quantity."""
    return {
        CLOCK: row.at,
        "1-0:1.8.0*255": (row.energy_import_wh, 0),
        "1-0:9.8.0*255": (row.apparent_energy_vah, 0),
        "1-0:2.8.0*255": (row.energy_export_wh, 0),
        "1-0:10.8.0*255": (0, 0),
        **_reactive(row.reactive_varh, "8"),
    }


def billing(row: BillingRow) -> dict[str, Raw]:
    """Return a closed billing period by quantity."""
    state = row.state
    factor = state.energy_import_wh * 1000 // max(1, state.apparent_energy_vah)
    return {
        **registers(state, zones=row.zones),
        "0-0:0.1.2*255": row.at,
        "1-0:13.0.0*255": (min(1000, factor) if state.apparent_energy_vah else 1000, -3),
        **_demand("0", row.max_demand_w, row.max_demand_at if row.max_demand_w else None),
        "0-0:94.91.13*255": (row.power_on_minutes, 0),
        "0-0:0.1.0*255": (row.reset_count, 0),
    }


def event(row: EventRow) -> dict[str, Raw]:
    """Return a logged event by quantity: stamp, code and number, and the state at that moment."""
    return {
        **registers(row.state),
        CLOCK: row.at,
        f"0-0:96.11.{row.log}*255": (row.code, 0),
        f"0-0:96.15.{row.log}*255": (row.sequence, 0),
    }
