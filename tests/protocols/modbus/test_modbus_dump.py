"""Images of meters without a model: all that a meter has of a range, in as few requests as it allows."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import MeterConfigError, MeterSilent
from protocols.modbus.client.account import account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from protocols.modbus.client.unit import MeterUnit
from protocols.modbus.dump import DumpRange, dump_registers
from protocols.modbus.image import RegisterImage
from tests.support.modbus.far_side import far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters

pytestmark = pytest.mark.virtual_time


@dataclass
class Counted(RawMeter):
    """A meter that gives at most `most` registers, and notes what it was asked."""

    most: int = 125
    asked: list[tuple[int, int]] = field(default_factory=list)

    def pdu(self, request: bytes) -> bytes:
        if request[0] in (3, 4):
            address, count = struct.unpack(">HH", request[1:5])
            self.asked.append((address, count))
            if count > self.most:
                return bytes((request[0] | 0x80, 3))
        return super().pdu(request)


@asynccontextmanager
async def unit_of(meter: RawMeter, unit: int | None = None) -> AsyncIterator[MeterUnit]:
    async with far_endpoint(RawMeters([meter], "tcp")) as line:
        async with line.exclusive() as io:
            client = ModbusClient(
                io, frames_for("tcp"), timeout=0.3, worst_latency=0.3, account=account_of(line)
            )
            yield MeterUnit(client, meter.unit if unit is None else unit)
        await line.close()


async def image_of(meter: RawMeter, *ranges: str) -> RegisterImage:
    async with unit_of(meter) as unit:
        lines = [line for text in ranges async for line in dump_registers(unit, DumpRange.parse(text))]
    return RegisterImage.parse("\n".join(lines), where="image")


async def test_all_that_a_meter_has_is_in_its_image() -> None:
    meter = Counted(7, {(3, a): a * 3 for a in (*range(10), *range(50, 90))} | {(1, 5): 1, (1, 6): 0})
    meter.server_id, meter.objects = b"\x01\xffAB", {0: b"Maker", 2: b"V1"}
    image = await image_of(meter, "3:0-99", "1:5-6", "17", "43:0-6", "4:0-10")
    assert {a for a in range(100) if image.words(3, a, 1) == [a * 3]} == {*range(10), *range(50, 90)}
    assert image.words(1, 5, 2) == [1, 0]
    assert image.words(17, 2, 1) == [0x4142]
    assert image.words(43, 0, 3) == [0x4D61, 0x6B65, 0x7200]
    assert image.words(43, 1, 1) is None
    assert image.words(4, 0, 1) is None


async def test_a_meter_that_gives_few_registers_at_once_is_read_in_parts() -> None:
    meter = Counted(7, {(4, a): a for a in range(40)}, most=11)
    image = await image_of(meter, "4:0-39")
    assert image.words(4, 0, 40) == list(range(40))
    assert len(meter.asked) < 16


async def test_a_meter_that_is_not_there_is_silent() -> None:
    async with unit_of(Counted(7), unit=8) as unit:
        with pytest.raises(MeterSilent):
            await anext(dump_registers(unit, DumpRange.parse("3:0-99")))


@pytest.mark.parametrize(
    "text", ["", "3", "3:", "3:9-1", "5:0", "3:0-65536", "43:0-256", "20:1", "3:0x1-0xG", "3:1 "]
)
def test_what_is_no_range_is_told(text: str) -> None:
    with pytest.raises(MeterConfigError, match="is no range of registers"):
        DumpRange.parse(text)


@given(st.sampled_from([1, 2, 3, 4]), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_ranges_are_read_as_they_are_written(function: int, one: int, two: int) -> None:
    first, last = sorted((one, two))
    assert DumpRange.parse(f"{function}:{first}-{last:#x}") == DumpRange(function, first, last)
