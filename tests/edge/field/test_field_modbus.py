"""A command and the edge that lent it the line ask the same Modbus meters: no late answer of one is the other's."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.errors import AnswerOwed, MeterSilent
from protocols.line import Line
from protocols.modbus.client.account import account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from tests.support.edge.field_site import field_site
from tests.support.modbus.far_side import Far, far_bus
from tests.support.modbus.raw_meters import RawMeter, RawMeters
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
CELLS = {(3, address): address + 1 for address in range(16)}


def delayed(seconds: float) -> Far:
    """Meters at 5 and 6 whose registers show their address and one; the first answer is late."""
    far = RawMeters([RawMeter(5, CELLS), RawMeter(6, CELLS)])
    return lambda heard: [(seconds if heard.number == 1 else 0.0, answer) for _, answer in far(heard)]


async def words(line: Line, unit: int, address: int) -> list[int]:
    async with line.exclusive() as io:
        client = ModbusClient(io, frames_for("rtu"), timeout=0.5, worst_latency=0.1, account=account_of(line))
        return await client.read_registers(unit, 3, address, 2)


async def test_what_the_edge_is_owed_holds_a_commands_request_back(tmp_path: Path) -> None:
    async with far_bus(delayed(3.0)) as line, field_site(tmp_path, line, bus=True) as site:
        with pytest.raises(MeterSilent):
            await words(line, 5, 0)
        command = site.command("read GEN:1")
        assert await words(command, 6, 4) == [5, 6]
        assert await words(command, 5, 8) == [9, 10]
        await command.close()
        assert account_of(line).barred_for(5) == 0


async def test_what_a_command_left_unanswered_is_owed_to_the_edge(tmp_path: Path) -> None:
    async with far_bus(delayed(4.0)) as line, field_site(tmp_path, line, bus=True) as site:
        command = site.command("read GEN:1")
        with pytest.raises(MeterSilent):
            await words(command, 5, 0)
        await command.close()
        await until(lambda: account_of(line).barred_for(5))
        with pytest.raises(AnswerOwed):
            await words(line, 5, 8)
        assert await words(line, 6, 8) == [9, 10]
