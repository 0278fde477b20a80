"""What real registers hold: orders, bits, parts, scales, times; by example, and there and back for any value."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.modbus.decoding.codec import decode, encode, rollover, scale_factor
from protocols.modbus.format.encoding import WORDS
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec, Scale
from protocols.modbus.format.units import UNITS, expected_unit
from protocols.reading import Instant, Missing, MissingReason, Number, Quantity, Text, Value

INDIA = ZoneInfo("Asia/Kolkata")
OUT_OF_RANGE, SENTINEL = Missing(MissingReason.OUT_OF_RANGE), Missing(MissingReason.SENTINEL)
COUNT, ENERGY, FACTOR = "0-0:94.91.0", "1-0:1.8.0", "1-0:13.7.0"


def cell(type_: str, quantity: str = COUNT, **more: object) -> RegisterSpec:
    table = {"quantity": quantity, "profiles": ["instantaneous"], "function": 3, "address": 0, "type": type_}
    return RegisterSpec.model_validate({**table, **more})


def model(*registers: RegisterSpec, **more: object) -> MeterModel:
    table: dict[str, Any] = {"name": "x", "title": "X", "manufacturer": "XXX", "source": "nowhere"}
    kept = [register.model_dump(exclude_unset=True) for register in registers]
    return MeterModel.model_validate(
        {
            **table,
            "serial": False,
            "fingerprint": {"same": [registers[0].quantity]},
            "registers": kept,
            "scales": [{"name": n, "function": 3, "address": 99, "type": "u16"} for n in ("ct", "pt")],
            **more,
        }
    )


def scale(type_: str = "u16", **more: object) -> Scale:
    return Scale.model_validate({"name": "ct", "function": 3, "address": 9, "type": type_, **more})


def single(value: float) -> list[int]:
    return list(struct.unpack(">HH", struct.pack(">f", value)))


FIELDS = {
    "year": "0:0-6+2000",
    "month": "1:8-11",
    "day": "1:0-4",
    "hour": "2:8-12",
    "minute": "2:0-5",
    "millisecond": "3",
}
NOON = Instant(datetime(2026, 11, 23, 6, 30, tzinfo=UTC))
"""Noon in India."""


@pytest.mark.parametrize(
    ("register", "words", "value"),
    [
        (cell("sm16"), [0x8005], Number(-5)),
        (cell("sm16"), [0x0005], Number(5)),
        (cell("sm32"), [0x8000, 7], Number(-7)),
        (cell("s48"), [0xFFFF, 0xFFFF, 0xFFFE], Number(-2)),
        (cell("u16", bits=[8, 15]), [0x12FF], Number(0x12)),
        (cell("s16", bits=[0, 7]), [0x12FF], Number(-1)),
        (cell("u16", bits=[3, 3]), [0x0008], Number(1)),
        (cell("u32", bits=[16, 19]), [0x00A5, 0], Number(5)),
        (cell("u16", byte_order="little"), [0x3412], Number(0x1234)),
        (cell("u32", byte_order="little"), [0x3412, 0x7856], Number(0x12345678)),
        (cell("u32", byte_order="little", word_order="little"), [0x7856, 0x3412], Number(0x12345678)),
        (cell("mod10000", count=3), [12, 3456, 7890], Number(12_3456_7890)),
        (cell("mod10000", count=2), [0xFFFF, 0xFFFF - 22], Number(-1_0023)),
        (cell("mod10000", count=2), [1, 10_000], OUT_OF_RANGE),
        (cell("bit", function=1), [1], Number(1)),
        (cell("u32", ENERGY, unit="kWh", scaler=-2), [0, 1234], Number(1234, 1, "Wh")),
        (cell("u32", ENERGY, unit="MWh", scaler=-3), [0, 5], Number(5, 3, "Wh")),
        (cell("u16", ENERGY, unit="kWh", factor="1/8"), [3], Number(3 * 125, 0, "Wh")),
        (cell("u16", ENERGY, unit="Wh", factor=-1), [3], Number(-3, 0, "Wh")),
        (cell("u16", ENERGY, unit="kWh", factor="1/3", resolution=-3), [2], Number(667, 0, "Wh")),
        (cell("u16", ENERGY, unit="kWh", factor="0.25"), [3], Number(75, 1, "Wh")),
        (
            cell("u32", ENERGY, unit="kWh", plus=[{"address": 2, "type": "u16", "scaler": -3}]),
            [0, 12, 345],
            Number(12_345, 0, "Wh"),
        ),
        (
            cell("u16", ENERGY, unit="kWh", address=4, plus=[{"address": 2, "type": "u16", "scaler": -4}]),
            [345, 0xAAAA, 12],
            Number(12_0345, -1, "Wh"),
        ),
        (cell("f32", FACTOR, resolution=-3, four_quadrant=True), single(1.1), Number(900, -3)),
        (cell("f32", FACTOR, resolution=-3, four_quadrant=True), single(-1.25), Number(-750, -3)),
        (cell("f32", FACTOR, resolution=-3, four_quadrant=True), single(0.95), Number(950, -3)),
        (cell("f32", FACTOR, resolution=-3, four_quadrant=True), single(2.5), OUT_OF_RANGE),
        (cell("s16", FACTOR, scaler=-3, four_quadrant=True), [1200], Number(800, -3)),
        (cell("time_seconds", count=2), list(divmod(int(NOON.at.timestamp()), 65536)), NOON),
        (
            cell("time_seconds", count=2, epoch="2000-01-01T00:00:00", utc=False),
            list(divmod(848_750_400, 65536)),
            NOON,
        ),
        (cell("time_seconds", count=4), [0xFFFF] * 3 + [0xFFFE], OUT_OF_RANGE),
        (cell("time_seconds", count=2), [0, 0], Missing(MissingReason.NOT_SPECIFIED)),
        (cell("time_fields", count=4, fields=FIELDS), [26, 11 << 8 | 2 << 5 | 23, 12 << 8, 0], NOON),
        (cell("time_fields", count=4, fields=FIELDS), [26, 13 << 8 | 23, 12 << 8, 0], OUT_OF_RANGE),
        (
            cell(
                "time_fields",
                count=3,
                fields={
                    "year": "0:8-15+2000 bcd",
                    "month": "0:0-7 bcd",
                    "day": "1:8-15 bcd",
                    "hour": "1:0-7 bcd",
                    "minute": "2:8-15 bcd",
                    "second": "2:0-7 bcd",
                },
            ),
            [0x2611, 0x2312, 0],
            NOON,
        ),
        (cell("hex", "0-0:96.1.2", count=2), [0x00AB, 0x1234], Text("00AB1234")),
        (cell("time_bcd", utc=True), [0x2611, 0x2306, 0x3000], NOON),
    ],
)
def test_decodes(register: RegisterSpec, words: list[int], value: Value) -> None:
    assert decode(model(register), register, words, INDIA) == value


def test_orders_of_the_model_are_those_of_numbers() -> None:
    """Text, BCD and times keep theirs, as meters that swap the words of numbers do not swap their texts."""
    number, text = cell("u32"), cell("text", "0-0:96.1.1", count=2, address=4)
    digits, time = cell("bcd", "0-0:96.1.2", count=2, address=8), cell("time_bcd", "0-0:1.0.0", address=12)
    turned = model(number, text, digits, time, word_order="little", byte_order="little")
    assert decode(turned, number, [0x7856, 0x3412], INDIA) == Number(0x12345678)
    assert decode(turned, text, [0x4142, 0x4344], INDIA) == Text("ABCD")
    assert decode(turned, digits, [0x1234, 0x5678], INDIA) == Number(12345678)
    assert decode(turned, time, [0x2611, 0x2312, 0], INDIA) == NOON
    own = cell("text", "0-0:96.1.1", count=2, byte_order="little")
    assert decode(turned, own, [0x4241, 0x4443], INDIA) == Text("ABCD")


def test_absent_patterns_of_the_model_count_for_registers_without_their_own() -> None:
    plain, own = cell("u16"), cell("u16", "0-0:94.91.8", address=1, sentinel=[0x8000])
    both = model(plain, own, absent={"u16": [0xFFFF]})
    assert decode(both, plain, [0xFFFF], INDIA) == SENTINEL
    assert decode(both, own, [0xFFFF], INDIA) == Number(0xFFFF)
    assert decode(both, own, [0x8000], INDIA) == SENTINEL


@pytest.mark.parametrize(
    ("register", "words", "factor"),
    [
        (scale(), [40], Fraction(40)),
        (scale(scaler=-1), [5], Fraction(1, 2)),
        (scale(), [0], OUT_OF_RANGE),
        (scale(high=100), [101], OUT_OF_RANGE),
        (scale("s16"), [0xFFFF], OUT_OF_RANGE),
        (scale("s16", exponent=True), [0xFFFE], Fraction(1, 100)),
        (scale(exponent=True), [13], OUT_OF_RANGE),
        (scale(values={"0": 1, "0x1": "1000", "2": "1/3"}), [1], Fraction(1000)),
        (scale(values={"0": 1}), [3], OUT_OF_RANGE),
        (scale("f32", resolution=-1), single(12.5), Fraction(25, 2)),
        (scale("f32", resolution=-1), single(float("nan")), SENTINEL),
        (scale(), None, Missing(MissingReason.METER_REFUSED)),
    ],
)
def test_scales(register: Scale, words: list[int] | None, factor: Fraction | Missing) -> None:
    assert scale_factor(model(cell("u16")), register, words) == factor


def test_a_value_that_is_scaled_has_no_value_without_its_scale() -> None:
    register = cell("u16", ENERGY, unit="kWh", multiply_by=["ct", "pt"])
    known = model(register)
    scales: dict[str, Fraction | Missing] = {"ct": Fraction(40), "pt": Fraction(5, 2)}
    assert decode(known, register, [3], INDIA, scales=scales) == Number(300, 3, "Wh")
    assert decode(known, register, [3], INDIA, scales={**scales, "pt": OUT_OF_RANGE}) == OUT_OF_RANGE
    assert decode(known, register, [3], INDIA) == Missing(MissingReason.NOT_SPECIFIED)


def test_where_a_register_rolls_over_is_in_the_base_unit() -> None:
    register = cell("u32", ENERGY, unit="kWh", scaler=-2, multiply_by=["ct"], digits=8)
    assert rollover(register, {"ct": Fraction(40)}) == Decimal(40_000_000_000)
    assert rollover(cell("u32", ENERGY, unit="kWh", rollover=1 << 32)) == Decimal((1 << 32) * 1000)
    assert rollover(cell("u32", ENERGY, unit="kWh")) is None
    assert rollover(register) is None


def test_every_phase_and_kind_has_its_unit() -> None:
    expected = {
        "1-0:1.8.0": "Wh",
        "1-0:41.8.0": "Wh",
        "1-0:15.8.1": "Wh",
        "1-0:3.8.0": "varh",
        "1-0:9.29.0": "VAh",
        "1-0:1.6.0": "W",
        "1-0:36.7.0": "W",
        "1-0:23.7.0": "var",
        "1-0:9.6.0": "VA",
        "1-0:72.7.0": "V",
        "1-0:91.7.0": "A",
        "1-0:33.7.0": "",
        "1-0:14.7.0": "Hz",
    }
    assert {code: expected_unit(Quantity.of(code)) for code in expected} == expected
    assert expected_unit(Quantity.of("0-0:94.96.24")) is None
    assert expected_unit(Quantity.of("1-0:1.6.0#5")) is None
    assert expected_unit(Quantity.of("1-0:32.7.124")) is None  # distortion, in %


# There and back

INTEGERS = sorted(kind for kind in WORDS if kind[0] in "us")
ORDERS = st.sampled_from(["big", "little"])


def least_and_most(kind: str, bits: int) -> tuple[int, int]:
    half = 1 << (bits - 1)
    if kind.startswith("sm"):
        return 1 - half, half - 1
    return (-half, half - 1) if kind[0] == "s" else (0, 2 * half - 1)


@settings(max_examples=300)
@given(data=st.data(), word_order=ORDERS, byte_order=ORDERS)
def test_integers_of_all_kinds_come_back(data: st.DataObject, word_order: str, byte_order: str) -> None:
    kind = data.draw(st.sampled_from(INTEGERS))
    size = 16 * WORDS[kind]
    low = high = None
    if not kind.startswith("sm") and data.draw(st.booleans()):
        low = data.draw(st.integers(0, size - 1))
        high = data.draw(st.integers(low, size - 1))
    width = size if low is None or high is None else high - low + 1
    raw = data.draw(st.integers(*least_and_most(kind, width)))
    factor = data.draw(st.fractions(max_denominator=1).filter(bool) | st.sampled_from(["1/8", "0.05", "-3"]))
    register = cell(
        kind,
        ENERGY,
        unit=data.draw(st.sampled_from(["Wh", "kWh", "MWh"])),
        scaler=data.draw(st.integers(-6, 6)),
        factor=str(factor) if abs(Fraction(factor)) < 10**20 else "7",
        bits=None if low is None else [low, high],
        multiply_by=["ct"],
        word_order=word_order,
        byte_order=byte_order,
    )
    known = model(register)
    scales: dict[str, Fraction | Missing] = {"ct": data.draw(st.sampled_from([Fraction(40), Fraction(5, 2)]))}
    ratio = scales["ct"]
    assert isinstance(ratio, Fraction)
    exact = raw * register.factor * ratio * Fraction(10) ** (register.scaler + UNITS[register.unit][1])
    words = encode(known, register, number_of(exact), INDIA, scales=scales)
    assert len(words) == register.size
    value = decode(known, register, words, INDIA, scales=scales)
    assert isinstance(value, Number)
    assert Fraction(value.decimal()) == exact
    assert value.unit == "Wh"


def number_of(exact: Fraction) -> Number:
    scaler = 0
    while exact.denominator != 1:
        exact, scaler = exact * 10, scaler - 1
    return Number(exact.numerator, scaler, "Wh")


@settings(max_examples=200)
@given(raw=st.integers(-(10**7), 10**7), divisor=st.integers(1, 400), resolution=st.integers(-6, 0))
def test_a_quotient_is_the_nearest_at_its_resolution(raw: int, divisor: int, resolution: int) -> None:
    how: dict[str, object] = {"factor": f"1/{divisor}"} if has_no_end(divisor) else {"divide_by": ["ct"]}
    register = cell("s32", ENERGY, unit="kWh", resolution=resolution, **how)
    scales: dict[str, Fraction | Missing] = {"ct": Fraction(divisor)}
    words = [raw >> 16 & 0xFFFF, raw & 0xFFFF]
    value = decode(model(register), register, words, INDIA, scales=scales)
    assert isinstance(value, Number)
    step = Fraction(10) ** (resolution + 3)
    assert abs(Fraction(value.decimal()) - Fraction(raw, divisor) * 1000) <= step / 2
    assert value.scaler == resolution + 3


def has_no_end(divisor: int) -> bool:
    """Return whether its quotients have no decimal that ends."""
    while divisor % 2 == 0 or divisor % 5 == 0:
        divisor //= 2 if divisor % 2 == 0 else 5
    return divisor != 1


@settings(max_examples=100)
@given(whole=st.integers(0, 2**32 - 1), part=st.integers(0, 999), more=st.integers(0, 9))
def test_integer_and_decimal_parts_come_back(whole: int, part: int, more: int) -> None:
    parts = [{"address": 9, "type": "u16", "scaler": -4}, {"address": 4, "type": "u16", "scaler": -3}]
    register = cell("u32", ENERGY, unit="kWh", address=6, plus=parts)
    value = Number(whole * 10_000 + part * 10 + more, -1, "Wh")
    words = encode(model(register), register, value, INDIA)
    assert len(words) == 6
    assert decode(model(register), register, words, INDIA) == value


@settings(max_examples=100)
@given(count=st.integers(1, 5), data=st.data())
def test_numbers_modulo_10000_come_back(count: int, data: st.DataObject) -> None:
    most = 10_000**count - 1
    register = cell("mod10000", count=count)
    value = Number(data.draw(st.integers(-most, most)))
    assert decode(model(register), register, encode(model(register), register, value, INDIA), INDIA) == value


@settings(max_examples=150)
@given(
    at=st.datetimes(datetime(2001, 1, 1), datetime(2068, 12, 31), timezones=st.just(UTC)),
    zone=st.sampled_from(["Asia/Kolkata", "UTC", "Asia/Kathmandu"]),
    register=st.sampled_from(
        [
            cell("time_bcd"),
            cell("time_bcd", utc=True),
            cell("time_seconds", count=2),
            cell("time_seconds", count=2, epoch="2000-01-01T00:00:00", utc=False),
            cell("time_seconds", count=4, epoch="1900-01-01T00:00:00"),
            cell("time_fields", count=4, fields=FIELDS),
        ]
    ),
)
def test_times_come_back(at: datetime, zone: str, register: RegisterSpec) -> None:
    second = at.replace(microsecond=0)
    known, place = model(register), ZoneInfo(zone)
    words = encode(known, register, Instant(second), place)
    assert decode(known, register, words, place) == Instant(second)


@settings(max_examples=200)
@given(data=st.data())
def test_any_words_are_a_value_or_missing(data: st.DataObject) -> None:
    register = data.draw(
        st.sampled_from(
            [
                *(cell(kind) for kind in INTEGERS),
                cell("mod10000", count=5),
                cell("bcd", count=8),
                cell("text", count=32),
                cell("f64", resolution=-12, divide_by=["ct"]),
                cell("f32", FACTOR, resolution=-3, four_quadrant=True),
                cell("time_seconds", count=4),
                cell("time_fields", count=4, fields=FIELDS),
            ]
        )
    )
    words = data.draw(
        st.lists(st.integers(0, 0xFFFF), min_size=register.span.size, max_size=register.span.size)
    )
    value = decode(model(register), register, words, INDIA, scales={"ct": Fraction(7)})
    assert isinstance(value, Number | Text | Instant | Missing)


def test_a_time_before_its_epoch_or_a_value_that_does_not_fit_is_refused() -> None:
    register = cell("time_seconds", count=2, epoch="2000-01-01T00:00:00")
    with pytest.raises(ValueError, match="does not fit 2 registers of seconds"):
        encode(model(register), register, Instant(datetime(1999, 1, 1, tzinfo=UTC)), INDIA)
    small = cell("time_fields", count=4, fields=FIELDS)
    with pytest.raises(ValueError, match="does not fit bits 0 to 6"):
        encode(model(small), small, Instant(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=40_000)), INDIA)
    digits = cell("hex", "0-0:96.1.2", count=2)
    assert encode(model(digits), digits, Text("00ab1234"), INDIA) == [0x00AB, 0x1234]
    with pytest.raises(ValueError, match="is not 8 hex digits"):
        encode(model(digits), digits, Text("xyz"), INDIA)
    for kind, value in (("sm16", -0x8000), ("u16", -1), ("mod10000", 10**20)):
        register = cell(kind, count=5 if kind == "mod10000" else None)
        with pytest.raises(ValueError, match="does not fit"):
            encode(model(register), register, Number(value), INDIA)
