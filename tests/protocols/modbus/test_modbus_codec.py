"""Registers become exact values: by example, and there and back for any value."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.modbus.decoding.codec import decode, encode
from protocols.modbus.format.library import load_model
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.reading import Instant, Missing, MissingReason, Number, Text, Value

INDIA = ZoneInfo("Asia/Kolkata")
MODEL: MeterModel = load_model("abb-b23")


QUANTITY = {"Wh": "1-0:1.8.0", "kWh": "1-0:1.8.0", "V": "1-0:12.7.0", "Hz": "1-0:14.7.0"}


def register(type_: str, **more: object) -> RegisterSpec:
    quantity = QUANTITY.get(str(more.get("unit", "")), "0-0:94.91.0")
    table = {"quantity": quantity, "profiles": ["instantaneous"], "function": 3, "address": 0}
    return RegisterSpec.model_validate({**table, "type": type_, **more})


def single(value: float) -> list[int]:
    return list(struct.unpack(">HH", struct.pack(">f", value)))


@pytest.mark.parametrize(
    ("cell", "words", "value"),
    [
        (register("u16", scaler=-2, unit="Hz"), [4997], Number(4997, -2, "Hz")),
        (register("s16", scaler=-3), [0xFC18], Number(-1000, -3)),
        (register("u32"), [1, 2], Number(65538)),
        (register("u32", word_order="little"), [2, 1], Number(65538)),
        (register("s32"), [0xFFFF, 0xFFFE], Number(-2)),
        (register("u64", scaler=1, unit="Wh"), [0, 0, 7, 1], Number(7 * 65536 + 1, 1, "Wh")),
        (register("s64"), [0xFFFF] * 4, Number(-1)),
        (register("u64", sentinel=[(1 << 64) - 1]), [0xFFFF] * 4, Missing(MissingReason.SENTINEL)),
        (register("u16", zero_is_absent=True), [0], Missing(MissingReason.NOT_MEASURED)),
        (register("f32", resolution=-1, unit="V"), single(230.4), Number(2304, -1, "V")),
        (register("f32", resolution=-2, scaler=3, unit="Wh"), single(1234.56), Number(123456, 1, "Wh")),
        (register("f32", resolution=-2), single(-0.004), Number(0, -2)),
        (register("f32", resolution=-1), single(float("nan")), Missing(MissingReason.SENTINEL)),
        (register("f32", resolution=-1), single(float("-inf")), Missing(MissingReason.OUT_OF_RANGE)),
        (register("f32", resolution=-9), single(3.4e38), None),
        (register("bcd", count=2), [0x1234, 0x5678], Number(12345678)),
        (register("bcd", count=2), [0x1234, 0x567F], Missing(MissingReason.OUT_OF_RANGE)),
        (register("u32", as_text=True), [0, 42], Text("42")),
        (register("text", count=3), [0x4142, 0x4320, 0], Text("ABC")),
        (register("text", count=1), [0], Missing(MissingReason.NOT_SPECIFIED)),
        (register("text", count=1), [0x41FF], Missing(MissingReason.OUT_OF_RANGE)),
        (
            register("time_bcd"),
            [0x2611, 0x2312, 0x0000],
            Instant(datetime(2026, 11, 23, 6, 30, tzinfo=UTC)),
        ),
        (register("time_bcd"), [0, 0, 0], Missing(MissingReason.NOT_SPECIFIED)),
        (register("time_bcd"), [0x2613, 0x2312, 0], Missing(MissingReason.OUT_OF_RANGE)),
        (register("time_bcd"), [0xABCD, 0x2312, 0], Missing(MissingReason.OUT_OF_RANGE)),
    ],
)
def test_decodes(cell: RegisterSpec, words: list[int], value: Value | None) -> None:
    got = decode(MODEL, cell, words, INDIA)
    if value is None:
        assert isinstance(got, Number)
        assert len(got.text()) > 40
    else:
        assert got == value


BITS = {"u16": 16, "s16": 16, "u32": 32, "s32": 32, "u64": 64, "s64": 64}


@settings(max_examples=100)
@given(st.data())
def test_integers_come_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(BITS)))
    half = 1 << (BITS[kind] - 1)
    raw = data.draw(st.integers(-half, half - 1) if kind[0] == "s" else st.integers(0, 2 * half - 1))
    cell = register(
        kind, scaler=data.draw(st.integers(-4, 4)), word_order=data.draw(st.sampled_from(["big", "little"]))
    )
    value = Number(raw, cell.scaler)
    assert decode(MODEL, cell, encode(MODEL, cell, value, INDIA), INDIA) == value


@settings(max_examples=100)
@given(raw=st.integers(-99_999, 99_999), resolution=st.integers(-3, 0))
def test_floats_of_few_digits_come_back_exactly(raw: int, resolution: int) -> None:
    cell = register("f32", resolution=resolution)
    value = Number(raw, resolution)
    assert decode(MODEL, cell, encode(MODEL, cell, value, INDIA), INDIA) == value


@settings(max_examples=60)
@given(
    at=st.datetimes(datetime(2001, 1, 1), datetime(2068, 12, 31), timezones=st.just(UTC)),
    digits=st.integers(0, 99_999_999),
    text=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8),
)
def test_times_digits_and_texts_come_back(at: datetime, digits: int, text: str) -> None:
    for cell, value in (
        (register("time_bcd"), Instant(at.replace(microsecond=0))),
        (register("bcd", count=2), Number(digits)),
        (register("text", count=4), Text(text)),
        (register("u32", as_text=True), Text(str(digits))),
    ):
        assert decode(MODEL, cell, encode(MODEL, cell, value, INDIA), INDIA) == value


@settings(max_examples=100)
@given(data=st.data())
def test_any_words_decode_to_a_value(data: st.DataObject) -> None:
    cell = data.draw(
        st.sampled_from([r for n in ("sdm320y-sim", "abb-b23") for r in load_model(n).registers])
    )
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=cell.size, max_size=cell.size))
    assert isinstance(decode(MODEL, cell, words, INDIA), Number | Text | Instant | Missing)


@pytest.mark.parametrize(
    ("cell", "value", "message"),
    [
        (register("u16"), Number(70000), "70000 does not fit u16"),
        (register("u32"), Number(-1), "-1 does not fit u32"),
        (register("u32", as_text=True), Text("A1"), "is not a number, which u32 needs"),
        (register("u16"), Missing(MissingReason.NOT_MEASURED), "cannot say that a value is absent"),
        (register("text", count=1), Text("ABC"), "does not fit text of 2 octets"),
    ],
)
def test_what_does_not_fit_is_refused(cell: RegisterSpec, value: Value, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(MODEL, cell, value, INDIA)
