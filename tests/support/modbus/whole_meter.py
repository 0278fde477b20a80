"""A meter that needs nearly all of the format, in raw octets: scales, identification, coil, clock, relay, survey."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from protocols.modbus.format.library import forget_models
from tests.support.modbus.raw_meters import Cells, RawMeter

NOON = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
"""Noon in India."""
MODEL = """
name = "whole"
title = "Whole meter"
manufacturer = "WHO"
source = "nowhere"
max_read = 40
word_order = "little"
absent = { u16 = [0xFFFF] }

[[scales]]
name = "ct"
function = 3
address = 100
type = "u16"
low = 1
high = 4000

[[scales]]
name = "energy unit"
function = 3
address = 101
type = "u16"
values = { 0 = 1, 1 = 1000 }

[[registers]]
quantity = "0-0:96.1.0*255"
profiles = ["nameplate"]
function = 17
address = 2
type = "text"
count = 4

[[registers]]
quantity = "1-0:0.2.0*255"
profiles = ["nameplate"]
function = 43
address = 2
type = "text"
count = 8

[[registers]]
quantity = "0-0:96.1.4*255"
profiles = ["nameplate"]
function = 43
address = 9
type = "text"
count = 2

[[registers]]
quantity = "1-0:1.8.0*255"
profiles = ["instantaneous"]
function = 3
address = 10
type = "u32"
scaler = -1
unit = "Wh"
multiply_by = ["ct", "energy unit"]

[[registers]]
quantity = "1-0:12.7.0*255"
profiles = ["instantaneous"]
function = 4
address = 0
type = "u16"
scaler = -1
unit = "V"

[[registers]]
quantity = "1-0:14.7.0*255"
profiles = ["instantaneous"]
function = 4
address = 1
type = "u16"
scaler = -2
unit = "Hz"
isolated = true

[[registers]]
quantity = "0-0:96.3.10*255"
profiles = ["prepayment"]
function = 1
address = 16
type = "bit"

[[registers]]
quantity = "0-0:1.0.0*255"
profiles = []
function = 3
address = 60
type = "time_bcd"

[relay]
closed = [1]
open = [0]

[writes.unlock]
function = 6
address = 70
type = "u16"
value = 0x5AA5

[writes.relay]
function = 5
address = 16
type = "bit"
close = 1
open = 0

[writes.clock]
function = 16
address = 60
type = "time_bcd"

[log]
function = 20
file = 4
address = 0
record = 4
stride = 1
records = 6
period = 1800
order = "newest_first"
time = { offset = 0, type = "time_seconds", count = 2, word_order = "big" }
values = [{ quantity = "1-0:1.29.0*255", offset = 2, type = "u32", unit = "Wh", multiply_by = ["ct"] }]
"""
CLOCK_WORDS = (0x2611, 0x2312, 0x0000)


def cells() -> Cells:
    held: Cells = {(3, a): 0 for a in range(10, 110)}
    held |= {(3, 10): 1234, (3, 11): 1, (3, 100): 40, (3, 101): 1}
    held |= {(4, 0): 2304, (4, 1): 4998, (1, 16): 1, (2, 3): 1}
    return held | {(3, 60 + i): word for i, word in enumerate(CLOCK_WORDS)}


def record(number: int) -> list[int]:
    at = int((NOON - number * timedelta(minutes=30)).timestamp())
    return [*divmod(at, 65536), 7 + number, 0]


def whole() -> RawMeter:
    return RawMeter(
        9,
        cells(),
        server_id=b"\x01\xffAB123456",
        objects={2: b"V1.07"},
        records={(4, n): record(n) for n in range(6)},
        writable=frozenset((16, 60, 61, 62, 70)),
    )


def put_model(folder: Path) -> Path:
    """Write the model into a folder of models, and return the folder."""
    (folder / "whole.toml").write_text(MODEL, encoding="utf-8")
    forget_models()
    return folder
