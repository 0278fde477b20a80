"""The simulated meters serve any Modbus client: here pymodbus' own, over TCP, RTU over TCP and a pty."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from dataclasses import replace

import pytest
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.framer import FramerType

from protocols.simulator.modbus.frames import crc16
from protocols.simulator.modbus.meter import ModbusMeter
from protocols.simulator.modbus.server import serve_rtu, serve_rtu_tcp, serve_tcp
from tests.support.fakes import HandClock
from tests.support.modbus.simulated import NOON, STATE, StillMeter, pty
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.virtual_time

CLOCK = HandClock(NOON)
LOW_FIRST = struct.Struct("<H")


def meters() -> list[ModbusMeter]:
    return [
        ModbusMeter(StillMeter("EAS", "10000001"), "sdm320y-sim", 7, CLOCK),
        ModbusMeter(StillMeter("ABB", "40000001"), "abb-b23", 8, CLOCK),
    ]


async def poll(client: ModbusBaseClient, *, rtu: bool) -> None:
    assert await client.connect()
    volts = await client.read_input_registers(0, count=2, device_id=7)
    assert struct.unpack(">f", struct.pack(">HH", *volts.registers))[0] == pytest.approx(231.4)
    energy = await client.read_holding_registers(0x5000, count=8, device_id=8)
    assert struct.unpack(">QQ", struct.pack(">8H", *energy.registers)) == (456_789, 123)
    serial = await client.read_holding_registers(0x8900, count=2, device_id=8)
    assert serial.registers == [40000001 >> 16, 40000001 & 0xFFFF]
    refusals = [
        await client.read_holding_registers(0x2000, count=2, device_id=7),
        await client.read_input_registers(0, count=100, device_id=7),
        await client.read_input_registers(0x5000, count=2, device_id=8),
        await client.write_register(0, 1, device_id=7),
        await client.write_registers(0, [1, 2, 3], device_id=7),
        await client.read_coils(0, count=1, device_id=7),
    ]
    assert [r.exception_code for r in refusals] == [2, 3, 2, 1, 2, 1]
    client.ctx.comm_params.timeout_connect = 0.3  # for a unit that does not answer
    if rtu:
        with pytest.raises(ModbusIOException):
            await client.read_input_registers(0, count=2, device_id=99)
    else:
        assert (await client.read_input_registers(0, count=2, device_id=99)).exception_code == 11
    client.close()


async def test_pymodbus_polls_over_tcp() -> None:
    server = await serve_tcp(meters())
    await poll(
        AsyncModbusTcpClient("127.0.0.1", port=server.port or 0, timeout=PATIENCE, retries=0), rtu=False
    )
    await server.close()
    await server.close()


async def test_pymodbus_polls_rtu_over_tcp() -> None:
    server = await serve_rtu_tcp(meters())
    client = AsyncModbusTcpClient(
        "127.0.0.1", port=server.port or 0, framer=FramerType.RTU, timeout=PATIENCE, retries=0
    )
    await poll(client, rtu=True)
    await server.close()


async def test_pymodbus_polls_rtu_on_a_pty_again_and_again() -> None:
    async with pty() as (master, device):
        server = await serve_rtu(meters(), master)
        for _ in range(2):
            await poll(
                AsyncModbusSerialClient(device, baudrate=115200, timeout=PATIENCE, retries=0), rtu=True
            )
        await server.close()


async def test_the_bus_survives_that_nobody_has_it_open() -> None:
    master, slave = os.openpty()
    device = os.ttyname(slave)
    server = await serve_rtu(meters(), master)
    os.close(slave)
    await asyncio.sleep(0.05)
    await poll(AsyncModbusSerialClient(device, baudrate=115200, timeout=PATIENCE, retries=0), rtu=True)
    await server.close()
    os.close(master)


async def exchange(port: int, octets: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


async def test_noise_before_a_request_and_bad_check_sums_on_the_bus() -> None:
    server = await serve_rtu_tcp(meters())
    assert server.port is not None
    request = bytes((7, 4, 0, 0, 0, 2))
    sound = request + LOW_FIRST.pack(crc16(request))
    answer = await exchange(server.port, sound)
    assert answer[:3] == b"\x07\x04\x04"
    assert crc16(answer) == 0
    assert await exchange(server.port, b"\xff\x00\xfe" + sound) == answer
    assert await exchange(server.port, request + b"\0\0") == b""
    assert await exchange(server.port, os.urandom(3000)) == b""
    await server.close()


async def test_what_is_not_modbus_is_hung_up_on() -> None:
    server = await serve_tcp(meters())
    assert server.port is not None
    assert await exchange(server.port, b"GET / HTTP/1.1\r\n\r\n") == b""
    short = await exchange(server.port, b"\0\1\0\0\0\2\7\3")
    assert short == b"\0\1\0\0\0\3\7\x83\3"
    await server.close()


async def test_a_state_that_no_register_holds_is_a_device_failure() -> None:
    odd = StillMeter("EAS", "10000001", replace(STATE, total_recharged_paise=-1))
    server = await serve_tcp([ModbusMeter(odd, "sdm320y-sim", 7, CLOCK)])
    assert server.port is not None
    assert await exchange(server.port, b"\0\1\0\0\0\6\7\3\x70\2\0\2") == b"\0\1\0\0\0\3\7\x83\4"
    await server.close()


def test_impossible_streets_are_refused() -> None:
    with pytest.raises(ValueError, match="which u32 needs"):
        ModbusMeter(StillMeter("EAS", "SM0001"), "sdm120", 1, CLOCK)


async def test_two_meters_with_one_unit_are_refused() -> None:
    with pytest.raises(ValueError, match="two meters with unit 7"):
        await serve_tcp([meters()[0], meters()[0]])
