"""Modbus meters: models as data, block planning, client, scan.

What is listed in `__all__` is its face. It needs pymodbus (frames and codes) and pydantic (models); meters are
opened by URL with `protocols.meters.open_meter`, or with a line of the caller's own:

    from protocols.modbus import MeterSpec, ModbusSettings, SessionContext, open_modbus

    spec = MeterSpec(meter=None, modbus=ModbusSettings(unit=1, model="sdm120"))
    async with open_modbus(line, spec, context) as session:
        print(await session.identify())
"""

from typing import TYPE_CHECKING

from protocols.lazy_imports import lazy_names

if TYPE_CHECKING:
    from protocols.modbus.format.library import load_model, model_names, parse_model
    from protocols.modbus.format.model import MeterModel
    from protocols.modbus.format.registers import RegisterSpec
    from protocols.modbus.scan import FoundUnit, scan_modbus
    from protocols.modbus.session.session import ModbusSession, open_modbus
    from protocols.session import MeterSpec, ModbusSettings, SessionContext

__all__ = [
    "FoundUnit",
    "MeterModel",
    "MeterSpec",
    "ModbusSession",
    "ModbusSettings",
    "RegisterSpec",
    "SessionContext",
    "load_model",
    "model_names",
    "open_modbus",
    "parse_model",
    "scan_modbus",
]

__getattr__ = lazy_names(
    __name__,
    {
        "FoundUnit": "protocols.modbus.scan",
        "MeterModel": "protocols.modbus.format.model",
        "MeterSpec": "protocols.session",
        "ModbusSession": "protocols.modbus.session.session",
        "ModbusSettings": "protocols.session",
        "RegisterSpec": "protocols.modbus.format.registers",
        "SessionContext": "protocols.session",
        "load_model": "protocols.modbus.format.library",
        "model_names": "protocols.modbus.format.library",
        "open_modbus": "protocols.modbus.session.session",
        "parse_model": "protocols.modbus.format.library",
        "scan_modbus": "protocols.modbus.scan",
    },
)
