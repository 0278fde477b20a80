"""Choosing a meter of a town by what it speaks."""

from __future__ import annotations

from protocols.session import Auth
from protocols.simulator.neighbourhood.plan import MeterPlan
from tests.support.town import Town


def one(town: Town, *, auth: Auth | None = None, model: str | None = None, line: str = "tcp-") -> MeterPlan:
    for meter in town.plan.meters:
        dlms, modbus = meter.spec.dlms, meter.spec.modbus
        right = (
            (dlms is not None and dlms.auth is auth)
            if auth
            else (modbus is not None and modbus.model == model)
        )
        if right and meter.line.startswith(line):
            return meter
    raise AssertionError("the town has no such meter")


def address(town: Town, meter: MeterPlan) -> str:
    line = next(item for item in town.plan.lines if item.name == meter.line)
    return f"tcp://{line.host}:{line.port}"
