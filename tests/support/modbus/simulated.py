"""A small meter of our own, its clock, and lines to it: shared by the Modbus tests."""

from __future__ import annotations

import os
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.session import MeterSpec, ModbusSettings
from protocols.simulator.household.state import BlockRow, DailyRow, EventRow, TrueState
from protocols.simulator.modbus.meter import ModbusMeter
from protocols.simulator.modbus.server import serve_rtu, serve_rtu_tcp, serve_tcp

NOON = datetime(2026, 11, 23, 6, 30, 0, 250_000, tzinfo=UTC)

STATE = TrueState(
    at=NOON,
    powered=True,
    relay_closed=True,
    voltage_mv=231_400,
    current_ma=4_321,
    power_w=980,
    apparent_va=1_000,
    power_factor_milli=980,
    frequency_mhz=49_970,
    energy_import_wh=4_567_890,
    energy_export_wh=1_230,
    apparent_energy_vah=4_700_000,
    max_demand_w=3_200,
    max_demand_at=NOON - timedelta(days=2),
    balance_paise=-12_345,
    balance_at=NOON.replace(microsecond=0) - timedelta(hours=1),
    last_recharge_paise=50_000,
    last_recharge_at=NOON.replace(microsecond=0) - timedelta(days=3),
    total_recharged_paise=950_000,
    payment_mode=1,
    power_on_minutes=100_000,
    tamper_count=0,
    billing_count=12,
    clock_drift_s=0,
)


class StillMeter:
    """A simulated meter that always shows one state."""

    def __init__(self, manufacturer: str, serial: str, state: TrueState = STATE) -> None:
        self.manufacturer = manufacturer
        self.serial = serial
        self.shown = state

    def state(self, at: datetime) -> TrueState:
        return replace(self.shown, at=at)

    def block_rows(self, since: datetime, until: datetime) -> list[BlockRow]:
        return []

    def daily_rows(self, since: datetime, until: datetime) -> list[DailyRow]:
        return []

    def event_rows(self, since: datetime, until: datetime) -> list[EventRow]:
        return []

    def switch_relay(self, *, closed: bool, at: datetime) -> None:
        self.shown = replace(self.shown, relay_closed=closed)

    def set_clock_drift(self, seconds: int) -> None:
        self.shown = replace(self.shown, clock_drift_s=seconds)

    def set_clock(self, *, drift: int, at: datetime) -> None:
        self.shown = replace(self.shown, clock_drift_s=drift)

    def recharge(self, paise: int, at: datetime) -> None:
        self.shown = replace(
            self.shown,
            balance_paise=self.shown.balance_paise + paise,
            total_recharged_paise=self.shown.total_recharged_paise + paise,
            last_recharge_paise=paise,
            last_recharge_at=at,
        )

    def set_balance(self, paise: int, at: datetime) -> None:
        self.shown = replace(self.shown, balance_paise=paise)


def spec(
    model: str,
    unit: int,
    meter: str | None,
    *,
    framing: str = "tcp",
    timeout: float = 2.0,
    worst_latency: float = 0.2,
    trusted: bool = True,
) -> MeterSpec:
    settings = ModbusSettings(
        unit=unit,
        model=model,
        framing=framing,
        timeout=timeout,
        worst_latency=worst_latency,
        trusted=trusted,
    )
    return MeterSpec(meter=meter, modbus=settings)


@asynccontextmanager
async def pty() -> AsyncIterator[tuple[int, str]]:
    """A raw pty: master descriptor and device path."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


@asynccontextmanager
async def bus_of(meters: list[ModbusMeter], kind: str) -> AsyncIterator[Line]:
    """A line of a kind (`tcp`, `rtu-tcp`, `rtu`) with simulated meters behind it."""
    if kind == "rtu":
        async with pty() as (master, device):
            server = await serve_rtu(meters, master)
            line: Line = SerialLine("bus", device, baud=115200)
            yield line
            await line.close()
            await server.close()
        return
    server = await (serve_tcp if kind == "tcp" else serve_rtu_tcp)(meters)
    assert server.port is not None
    line = TcpLine(kind, "127.0.0.1", server.port)
    yield line
    await line.close()
    await server.close()
