"""Columnar decoding equals the simple path (`profile_model`) on random, damaged and cut buffers, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.data.types import Data, Tag, array, double_long_unsigned, octets, structure
from protocols.dlms.profile import stamps
from protocols.dlms.profile.buffer import DecodedRows
from protocols.dlms.profile.columnwise import from_columns
from protocols.dlms.profile.decoder import (
    MAX_TAIL,
    buffer_of,
    decode_buffer,
    decode_cut_buffer,
)
from protocols.dlms.profile.layouts import CapturedColumn, Layout
from protocols.dlms.profile.runs import FIRST_GLANCE
from protocols.errors import LocalError, MeterProtocolError
from protocols.reading import MeterTime, Number, Obis, ProfileName, Quantity
from tests.support.dlms import profile_model
from tests.support.dlms.random_profiles import (
    START,
    compact_rows_for,
    layout_of,
    rows_for,
    stamp_octets,
)
from tests.support.steps import Steps

ZONES = [cosem_time.INDIA, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Amman")]
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def model(layout: Layout, data: bytes, zone: ZoneInfo, **bounds: datetime | None) -> DecodedRows | None:
    """Decode by the simple path; None for an error of the meter."""
    try:
        return profile_model.decode_rows(layout, axdr.decode(data), zone=zone, received_at=NOW, **bounds)
    except MeterProtocolError:
        return None


def columnar(layout: Layout, data: bytes, zone: ZoneInfo, **bounds: datetime | None) -> DecodedRows | None:
    try:
        return decode_buffer(layout, data, zone=zone).sets(received_at=NOW, **bounds)
    except MeterProtocolError:
        return None


def check(rng: Random, layout: Layout, data: bytes) -> None:
    zone = rng.choice(ZONES)
    bounds: dict[str, datetime | None] = {}
    if rng.random() < 0.5:
        bounds["since"] = START + timedelta(minutes=30 * rng.randrange(-1, 60))
    if rng.random() < 0.5:
        bounds["until"] = START + timedelta(minutes=30 * rng.randrange(-1, 90))
    assert columnar(layout, data, zone, **bounds) == model(layout, data, zone, **bounds)


@settings(max_examples=400)
@given(st.integers(0, 2**63))
def test_a_buffer_gives_the_sets_of_the_simple_path(seed: int) -> None:
    rng = Random(seed)
    layout = layout_of(rng)
    rows = rows_for(rng, layout)
    check(rng, layout, axdr.encode(array(*rows)))
    zone = rng.choice(ZONES)
    simple = profile_model.decode_rows(layout, array(*rows), zone=zone, received_at=NOW)
    assert buffer_of(layout, array(*rows), zone=zone).sets(received_at=NOW) == simple
    assert list(buffer_of(layout, array(*rows), zone=zone).rows()) == list(
        profile_model.rows_of(layout, array(*rows), zone)
    )
    assert decode_buffer(layout, axdr.encode(array(*rows)), zone=zone) == buffer_of(
        layout, array(*rows), zone=zone
    )


@settings(max_examples=150)
@given(st.integers(0, 2**63))
def test_a_compact_array_gives_the_sets_of_the_simple_path(seed: int) -> None:
    rng = Random(seed)
    layout = layout_of(rng)
    try:
        data = axdr.encode(compact_rows_for(rng, layout))
    except LocalError:  # cells of differing types, or none with octets
        return
    check(rng, layout, data)


@settings(max_examples=400)
@given(st.integers(0, 2**63))
def test_damaged_octets_give_what_the_simple_path_gives_or_an_error_of_the_meter(seed: int) -> None:
    rng = Random(seed)
    layout = layout_of(rng)
    rows = rows_for(rng, layout)
    data = bytearray(axdr.encode(array(*rows)))
    for _ in range(rng.randrange(1, 4)):
        if not data:
            break
        place = rng.randrange(len(data) if rng.random() < 0.5 else min(80, len(data)))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place]
            case 2:
                data.insert(place, rng.randrange(256))
            case 3:
                del data[place + 1 :]
    check(rng, layout, bytes(data))


@given(st.binary(max_size=200), st.integers(0, 2**63), st.sampled_from([b"", b"\x01", b"\x13\x02"]))
def test_hostile_octets_raise_only_errors_of_the_meter(data: bytes, seed: int, head: bytes) -> None:
    rng = Random(seed)
    layout = layout_of(rng)
    check(rng, layout, head + data)
    try:
        decode_cut_buffer(layout, head + data, zone=cosem_time.INDIA).sets(received_at=NOW)
    except MeterProtocolError:
        pass


@settings(max_examples=150)
@given(st.integers(0, 2**63))
def test_of_a_buffer_cut_anywhere_the_whole_rows_are_kept(seed: int) -> None:
    rng = Random(seed)
    layout = layout_of(rng)
    rows = rows_for(rng, layout)
    data = axdr.encode(array(*rows))
    ends = [len(data) - sum(map(len, map(axdr.encode, rows)))]
    for row in rows:
        ends.append(ends[-1] + len(axdr.encode(row)))
    for cut in [*rng.sample(range(len(data) + 1), min(6, len(data))), len(data), rng.choice(ends)]:
        whole = rows[: sum(end <= cut for end in ends[1:])]
        simple = profile_model.decode_rows(layout, array(*whole), zone=cosem_time.INDIA, received_at=NOW)
        assert decode_cut_buffer(layout, data[:cut], zone=cosem_time.INDIA).sets(received_at=NOW) == simple


def daily(columns: int = 1) -> Layout:
    clock = CapturedColumn(class_id=8, quantity=Quantity.of("0-0:1.0.0*255"))
    values = [
        CapturedColumn(class_id=3, quantity=Quantity(Obis(1, 0, n, 8, 0)), scale=(0, "Wh"))
        for n in range(columns)
    ]
    return Layout(profile=ProfileName.DAILY, obis=Obis(1, 0, 99, 2, 0), columns=(clock, *values))


def daily_rows(count: int) -> list[Data]:
    return [
        structure(octets(cosem_time.encode(START + timedelta(days=n))), double_long_unsigned(n))
        for n in range(count)
    ]


def test_a_cut_compact_array_keeps_its_whole_rows() -> None:
    layout = daily()
    data = axdr.encode(Data(Tag.COMPACT_ARRAY, tuple(daily_rows(20))))
    whole = decode_buffer(layout, data, zone=cosem_time.INDIA).sets(received_at=NOW)
    for cut in range(len(data)):
        kept = decode_cut_buffer(layout, data[:cut], zone=cosem_time.INDIA).sets(received_at=NOW)
        assert kept.sets == whole.sets[: max(0, cut - 8) // 17]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:39] + b"\x63" + d[40:-3], "data type 99 is not known"),
        (lambda d: d + b"\x00", "1 octets after the end of the buffer"),
        (
            lambda d: d[:2] + b"\x02\x02\x09\x82\xff\xff" + bytes(MAX_TAIL),
            "octets from offset 2 on make no row",
        ),
        (lambda d: b"\x02" + d[1:], "a profile buffer is an array, not data type 2"),
        (lambda d: d[:2] + b"\x02\x01" + d[4:], "row 0 has 1 cells, capture_objects names 2"),
    ],
    ids=["unknown type", "octets after the end", "a row without an end", "no array", "another row"],
)
def test_damage_in_a_cut_buffer_is_an_error(damage: Callable[[bytes], bytes], message: str) -> None:
    data = damage(axdr.encode(array(*daily_rows(20))))
    with pytest.raises(MeterProtocolError, match=message):
        decode_cut_buffer(daily(), data, zone=cosem_time.INDIA).sets(received_at=NOW)


def test_a_column_of_integers_is_exact_and_knows_its_scale() -> None:
    rows = daily_rows(50)
    block = decode_buffer(daily(), axdr.encode(array(*rows)), zone=cosem_time.INDIA)
    assert block.columns[1].values == tuple(range(50))
    assert block.columns[1].tags is Tag.DOUBLE_LONG_UNSIGNED
    assert block.columns[1].captured.scale == (0, "Wh")
    assert block.instants[49] == START + timedelta(days=49)
    assert block.cells(3) == rows[3].items


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01\x84\x00\x20\x00\x00" + bytes(MAX_OCTETS), "octets are more than"),
        # 100,001 rows of one null and one don't-care: three elements each
        (b"\x01\x83\x01\x86\xa1" + b"\x02\x02\x00\xff" * 100_001, "more than 200000 elements"),
        (b"\x13\x02\x02\x0f\x0f\x83\x03\x00\x00" + bytes(0x30000), "more than 197129 elements"),
        # an array of 65,535 nulls in each element
        (b"\x13\x02\x02\x0f\x01\xff\xff\x00\x03" + bytes(3), "more than 524 elements"),
        (b"\x01\x01" + b"\x02\x01" * (axdr.MAX_DEPTH + 1) + b"\x00", "nested deeper than"),
    ],
    ids=["octets", "elements", "elements of a compact-array", "elements without octets", "depth"],
)
def test_no_bound_can_be_exceeded(data: bytes, message: str) -> None:
    with pytest.raises(MeterProtocolError, match=message):
        decode_buffer(daily(), data, zone=cosem_time.INDIA)


def _hostile_buffers(rows: int = 2000) -> dict[str, bytes]:
    rng = Random(4)
    row = axdr.encode(daily_rows(1)[0])
    other = axdr.encode(structure(octets(cosem_time.encode(START)), Data(Tag.UNSIGNED, 1)))
    wild = [structure(octets(rng.randbytes(12)), Data(Tag.UNSIGNED, n % 256)) for n in range(rows)]
    days = [
        structure(octets(cosem_time.encode(START + timedelta(days=n))), Data(Tag.UNSIGNED, 1))
        for n in range(rows)
    ]
    twins = [structure(octets(cosem_time.encode(START)), double_long_unsigned(n)) for n in range(rows)]
    texts = [structure(octets(bytes(12)), octets(b"a" * 100 + bytes((n % 256,)))) for n in range(rows // 4)]
    head = b"\x01\x82" + rows.to_bytes(2, "big")
    return {
        "alternating layouts": head + (row + other) * (rows // 2),
        "runs just too short": head + (row * 5 + other * 5) * (rows // 10),
        "a change after each glance": head
        + (row * (FIRST_GLANCE + 1) + other) * (rows // 18)
        + row * (rows % 18),
        "stamps of any octets": axdr.encode(array(*wild)),
        "another day in each row": axdr.encode(array(*days)),
        "one stamp in all rows": axdr.encode(array(*twins)),
        "nulls only": head + b"\x02\x02\x00\x00" * rows,
        "texts": axdr.encode(array(*texts)),
        "stamps left out": head + row + b"\x02\x02\x00\x11\x05" * (rows - 1),
        "small rows that alternate": head + b"\x02\x02\x00\xff\x02\x02\xff\x00" * (rows // 2),
        "small rows that alternate, with an instant": head
        + row
        + b"\x02\x02\x00\xff\x02\x02\x00\x11\x01" * (rows // 2 - 1)
        + row,
        "texts in a compact-array": b"\x13\x02\x02\x0c\x0c\x82"
        + rows.to_bytes(2, "big")
        + b"\x04text\x04text" * (rows // 10),
    }


@pytest.mark.parametrize("name", _hostile_buffers())
def test_no_buffer_costs_more_than_forty_steps_an_octet(name: str) -> None:
    """Nor a hundred for each reading set; twice the rows cost about twice as much."""
    costs = []
    for rows in (1000, 2000):
        data = _hostile_buffers(rows)[name]
        stamps.forget()
        with Steps() as decoding:
            block = decode_buffer(daily(), data, zone=cosem_time.INDIA)
        with Steps() as making:
            block.sets(received_at=NOW)
        assert decoding.count <= 40 * len(data), rows
        assert making.count <= 100 * block.count + 1000, rows
        costs.append((decoding.count, making.count))
    assert costs[1][0] <= 2.5 * costs[0][0]
    assert costs[1][1] <= 2.5 * costs[0][1]


# stamps


def test_a_column_of_stamps_is_resolved_as_each_by_itself() -> None:
    rng = Random(7)
    for zone in [*ZONES, ZoneInfo("UTC"), ZoneInfo("Africa/Casablanca"), ZoneInfo("Australia/Lord_Howe")]:
        every = [
            cosem_time.encode(START + timedelta(minutes=15 * n), zone, deviation=None) for n in range(2000)
        ]
        some = [stamp_octets(rng, rng.randrange(20_000)) for _ in range(2000)]
        for column in (every, some):
            expected = [cosem_time.decode(one, zone) for one in column]
            assert stamps.instants(b"".join(column), zone) == [one.at for one in expected]
            assert stamps.meter_times(b"".join(column), zone) == [stamps.meter_time(one) for one in expected]


@given(
    st.lists(st.binary(min_size=12, max_size=12), max_size=3),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),
    st.sampled_from([330, -330, 0, 60, 719, -0x8000]),
    st.sampled_from(ZONES),
)
def test_stamps_of_any_time_and_octets_are_resolved_by_the_same_rule(
    wild: list[bytes], local: datetime, deviation: int, zone: ZoneInfo
) -> None:
    plain = local.replace(tzinfo=UTC)
    written = cosem_time.encode(plain, ZoneInfo("UTC"), deviation=deviation)
    for column in ([written], [*wild, written], wild):
        expected = [cosem_time.decode(one, zone) for one in column]
        assert stamps.instants(b"".join(column), zone) == [one.at for one in expected]
        assert stamps.meter_times(b"".join(column), zone) == [stamps.meter_time(one) for one in expected]


# objects made by columns


def test_objects_made_by_columns_are_those_that_the_class_makes() -> None:
    made = from_columns(Number, 3, mantissa=[1, 2, 3], scaler=[0, 0, -2], unit=["", "V", "A"])
    assert made == [Number(1), Number(2, 0, "V"), Number(3, -2, "A")]
    assert [hash(one) for one in made] == [
        hash(one) for one in (Number(1), Number(2, 0, "V"), Number(3, -2, "A"))
    ]


def test_a_column_that_is_left_out_or_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="Number has the fields mantissa, scaler, unit"):
        from_columns(Number, 1, mantissa=[1])
    with pytest.raises(ValueError, match="the column status has fewer than 2 values"):
        from_columns(MeterTime, 2, wall=["", ""], deviation=[0, 0], status=[0], trusted=[True, True])
