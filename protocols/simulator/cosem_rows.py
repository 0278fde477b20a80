"""How a simulated Indian meter writes its state, rows and events as COSEM data.

Times are written here on purpose without the client's code: a mistake in a sign must not cancel out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

from protocols.dlms.companion import Column
from protocols.dlms.types import Data, Tag, octets, scaler_unit, structure
from protocols.simulator.household import BillingRow
from protocols.simulator.state import BlockRow, DailyRow, EventRow, MeterState

IST = timezone(timedelta(minutes=330))
DEVIATION = (330).to_bytes(2, "big")  # UTC to local, as Indian meters write it: 014A
NO_TIME = b"\xff" * 12
LOAD_LIMIT_W = 5_000
CLOCK = "0-0:1.0.0*255"

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


def encode(column: Column, raw: Raw) -> Data:
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


def row(columns: Sequence[Column], names: Sequence[str], values: Mapping[str, Raw]) -> Data:
    """Write one row of a profile."""
    return structure(*(encode(c, values.get(n)) for c, n in zip(columns, names, strict=True)))


def scaler_row(columns: Sequence[Column]) -> Data:
    """Write the only row of a scaler profile: scaler_unit of the columns that have one."""
    return structure(*(scaler_unit(c.scaler, c.unit_code) for c in columns if c.scaler is not None))


def registers(state: MeterState, *, programmed: int = 0) -> dict[str, Raw]:
    """Give everything that the meter shows at an instant, by quantity."""
    demand_at = state.max_demand_at if state.max_demand_w else None
    return {
        CLOCK: state.at + timedelta(seconds=state.clock_drift_s),
        "1-0:12.7.0*255": (state.voltage_mv, -3),
        "1-0:11.7.0*255": (state.current_ma, -3),
        "1-0:91.7.0*255": (state.current_ma, -3),
        "1-0:13.7.0*255": (state.power_factor_milli, -3),
        "1-0:14.7.0*255": (state.frequency_mhz, -3),
        "1-0:9.7.0*255": (state.apparent_va, 0),
        "1-0:1.7.0*255": (state.power_w, 0),
        "1-0:1.8.0*255": (state.energy_import_wh, 0),
        "1-0:9.8.0*255": (state.apparent_energy_vah, 0),
        "1-0:2.8.0*255": (state.energy_export_wh, 0),
        "1-0:10.8.0*255": (0, 0),
        "1-0:1.6.0*255": (state.max_demand_w, 0),
        "1-0:1.6.0*255#5": demand_at,
        "1-0:9.6.0*255": (state.max_demand_w * 1000 // 940, 0),
        "1-0:9.6.0*255#5": demand_at,
        "0-0:94.91.14*255": (state.power_on_minutes, 0),
        "0-0:94.91.0*255": (state.tamper_count, 0),
        "0-0:0.1.0*255": (state.billing_count, 0),
        "0-0:96.2.0*255": (programmed, 0),
        "0-0:96.3.10*255": state.relay_closed,
        "0-0:17.0.0*255#3": (LOAD_LIMIT_W, 0),
    }


def block(row: BlockRow) -> dict[str, Raw]:
    """Give a stored half-hour by quantity."""
    return {
        CLOCK: row.at,
        "1-0:12.27.0*255": (row.voltage_mv, -3),
        "1-0:11.27.0*255": (row.current_ma, -3),
        "1-0:1.29.0*255": (row.energy_import_wh, 0),
        "1-0:9.29.0*255": (row.apparent_energy_vah, 0),
        "1-0:2.29.0*255": (row.energy_export_wh, 0),
        "1-0:10.29.0*255": (0, 0),
    }


def daily(row: DailyRow) -> dict[str, Raw]:
    """Give a midnight snapshot by quantity."""
    return {
        CLOCK: row.at,
        "1-0:1.8.0*255": (row.energy_import_wh, 0),
        "1-0:9.8.0*255": (row.apparent_energy_vah, 0),
        "1-0:2.8.0*255": (row.energy_export_wh, 0),
        "1-0:10.8.0*255": (0, 0),
    }


def billing(row: BillingRow) -> dict[str, Raw]:
    """Give a closed month by quantity."""
    state = row.state
    factor = state.energy_import_wh * 1000 // max(1, state.apparent_energy_vah)
    demand_at = row.max_demand_at if row.max_demand_w else None
    return {
        **registers(state),
        "0-0:0.1.2*255": row.at,
        "1-0:13.0.0*255": (min(1000, factor) if state.apparent_energy_vah else 1000, -3),
        "1-0:1.6.0*255": (row.max_demand_w, 0),
        "1-0:1.6.0*255#5": demand_at,
        "0-0:94.91.13*255": (row.power_on_minutes, 0),
        "0-0:0.1.0*255": (row.reset_count, 0),
    }


def event(row: EventRow) -> dict[str, Raw]:
    """Give a logged event by quantity: stamp, code and number, and the state at that moment."""
    return {
        **registers(row.state),
        CLOCK: row.at,
        f"0-0:96.11.{row.log}*255": (row.code, 0),
        f"0-0:96.15.{row.log}*255": (row.sequence, 0),
    }
