"""Readable names of quantities. Field names in InfluxDB and labels on pages come from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

ZONES = range(1, 9)
"""Tariff zones that a register may have (OBIS group E)."""
PHASES = ((20, "l1"), (40, "l2"), (60, "l3"))
"""What is added to group C for each phase."""


def _phases() -> Iterator[tuple[str, str]]:
    for offset, phase in PHASES:
        yield f"1-0:{offset + 1}.7.0*255", f"active_power_{phase}"
        yield f"1-0:{offset + 2}.7.0*255", f"active_power_export_{phase}"
        yield f"1-0:{offset + 3}.7.0*255", f"reactive_power_{phase}"
        yield f"1-0:{offset + 4}.7.0*255", f"reactive_power_export_{phase}"
        yield f"1-0:{offset + 9}.7.0*255", f"apparent_power_{phase}"
        yield f"1-0:{offset + 11}.7.0*255", f"current_{phase}"
        yield f"1-0:{offset + 12}.7.0*255", f"voltage_{phase}"
        yield f"1-0:{offset + 13}.7.0*255", f"power_factor_{phase}"
        yield f"1-0:{offset + 16}.7.0*255", f"active_power_signed_{phase}"
        yield f"1-0:{offset + 1}.8.0*255", f"energy_import_{phase}"
        yield f"1-0:{offset + 2}.8.0*255", f"energy_export_{phase}"
        yield f"1-0:{offset + 11}.27.0*255", f"average_current_{phase}"
        yield f"1-0:{offset + 12}.27.0*255", f"average_voltage_{phase}"


def _quadrants() -> Iterator[tuple[str, str]]:
    for quadrant in range(1, 5):
        yield f"1-0:{quadrant + 4}.8.0*255", f"reactive_energy_q{quadrant}"
        yield f"1-0:{quadrant + 4}.29.0*255", f"interval_reactive_energy_q{quadrant}"


def _zones() -> Iterator[tuple[str, str]]:
    registers = {
        1: "energy_import",
        2: "energy_export",
        9: "apparent_energy_import",
        10: "apparent_energy_export",
    }
    for zone in ZONES:
        for c, name in registers.items():
            yield f"1-0:{c}.8.{zone}*255", f"{name}_zone_{zone}"
        for c, name in ((1, "max_demand"), (9, "max_demand_apparent")):
            yield f"1-0:{c}.6.{zone}*255", f"{name}_zone_{zone}"
            yield f"1-0:{c}.6.{zone}*255#5", f"{name}_zone_{zone}_time"


def _events() -> Iterator[tuple[str, str]]:
    logs = ("voltage", "current", "power", "transaction", "other", "non_rollover", "control")
    for e, log in enumerate(logs):
        yield f"0-0:96.11.{e}*255", f"{log}_event_code"
        yield f"0-0:96.15.{e}*255", f"{log}_event_number"


_SINGLE = {
    "0-0:1.0.0*255": "clock",
    "0-0:96.1.0*255": "meter_serial",
    "0-0:96.1.1*255": "manufacturer",
    "0-0:96.1.2*255": "device_id",
    "0-0:96.1.4*255": "year",
    "1-0:0.2.0*255": "firmware",
    "0-0:94.91.9*255": "meter_type",
    "0-0:94.91.11*255": "category",
    "0-0:94.91.12*255": "current_rating",
    "1-0:12.7.0*255": "voltage",
    "1-0:11.7.0*255": "current",
    "1-0:91.7.0*255": "neutral_current",
    "1-0:13.7.0*255": "power_factor",
    "1-0:14.7.0*255": "frequency",
    "1-0:9.7.0*255": "apparent_power",
    "1-0:2.7.0*255": "active_power_export",
    "1-0:1.7.0*255": "active_power",
    "1-0:16.7.0*255": "active_power_signed",
    "1-0:3.7.0*255": "reactive_power",
    "1-0:1.8.0*255": "energy_import",
    "1-0:2.8.0*255": "energy_export",
    "1-0:9.8.0*255": "apparent_energy_import",
    "1-0:10.8.0*255": "apparent_energy_export",
    "1-0:15.8.0*255": "energy_total",
    "1-0:1.6.0*255": "max_demand",
    "1-0:1.6.0*255#5": "max_demand_time",
    "1-0:9.6.0*255": "max_demand_apparent",
    "1-0:9.6.0*255#5": "max_demand_apparent_time",
    "1-0:1.29.0*255": "interval_energy_import",
    "1-0:2.29.0*255": "interval_energy_export",
    "1-0:9.29.0*255": "interval_apparent_energy_import",
    "1-0:10.29.0*255": "interval_apparent_energy_export",
    "1-0:12.27.0*255": "average_voltage",
    "1-0:11.27.0*255": "average_current",
    "0-0:96.10.1*255": "meter_health",
    "0-0:94.91.14*255": "power_on_minutes",
    "0-0:94.91.13*255": "billing_power_on_minutes",
    "0-0:94.91.0*255": "tamper_count",
    "0-0:0.1.0*255": "billing_count",
    "0-0:0.1.2*255": "billing_date",
    "0-0:96.2.0*255": "programming_count",
    "0-0:96.3.10*255": "relay",
    "0-0:17.0.0*255": "load_limit",
    "1-0:13.0.0*255": "billing_power_factor",
    "0-0:94.96.19*255": "metering_mode",
    "0-0:94.96.20*255": "payment_mode",
    "0-0:94.96.21*255": "last_recharge_amount",
    "0-0:94.96.22*255": "last_recharge_time",
    "0-0:94.96.23*255": "total_at_last_recharge",
    "0-0:94.96.24*255": "balance",
    "0-0:94.96.25*255": "balance_time",
    "0-0:96.7.0*255": "power_failure_count",
    "0-0:94.91.8*255": "power_off_minutes",
    "0-1:96.12.5*255": "signal_strength",
    "1-0:0.4.2*255": "ct_ratio",
    "1-0:0.4.3*255": "pt_ratio",
    "1-0:94.91.14*255": "event_current",
    "0-0:42.0.0*255": "logical_device_name",
    # of the gateway's own events: abstract objects that the Blue Book leaves to makers (96.50 to 96.99)
    "0-0:96.98.0*255": "gateway_event",
    "0-0:96.98.1*255": "gateway_event_quantities",
    "0-0:96.98.2*255": "gateway_event_before",
    "0-0:96.98.3*255": "gateway_event_found",
    "0-0:96.98.4*255": "gateway_event_detail",
    "0-0:94.91.18*255": "event_status_word",
    "0-0:94.91.26*255": "event_status_filter",
    "0-0:17.0.0*255#3": "load_limit_active",
    "0-0:17.0.0*255#4": "load_limit_normal",
    "1-0:0.8.0*255": "demand_period",
    "1-0:0.8.4*255": "block_capture_period",
    "1-0:0.8.5*255": "daily_capture_period",
    "1-0:4.7.0*255": "reactive_power_export",
    "1-0:3.8.0*255": "reactive_energy_import",
    "1-0:4.8.0*255": "reactive_energy_export",
}

NAMES: Mapping[str, str] = MappingProxyType(
    {**_SINGLE, **dict(_phases()), **dict(_quadrants()), **dict(_zones()), **dict(_events())}
)
"""Names by text form of the quantity; no two quantities share one."""
