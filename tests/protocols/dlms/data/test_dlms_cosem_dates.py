"""COSEM dates and times: octets come back as they were, impossible ones are refused, all forms of a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_dates import (
    DST_BEGIN,
    LAST_DAY,
    SECOND_LAST_DAY,
    ClockStatus,
    CosemDate,
    CosemDateTime,
    CosemTime,
)
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    integer,
    long_unsigned,
    octets,
    structure,
    text,
    unsigned,
)
from protocols.errors import LocalError, MeterProtocolError

FAST = settings(max_examples=300)
ROW = bytes.fromhex("07EA0601FF0E0F00FF014AFF")
PARIS = ZoneInfo("Europe/Paris")


def _octet(*values: int) -> st.SearchStrategy[int]:
    return st.one_of(st.sampled_from(values), st.integers(0, 255))


YEARS = st.one_of(st.integers(0, 0xFFFF), st.sampled_from((2024, 2026, 0xFFFF))).map(
    lambda year: year.to_bytes(2, "big")
)
DATES = st.tuples(
    YEARS,
    st.tuples(_octet(1, 2, 12, 0xFD, 0xFE, 0xFF), _octet(1, 29, 31, 0xFD, 0xFE, 0xFF), _octet(1, 7, 0xFF)),
).map(lambda parts: parts[0] + bytes(parts[1]))
TIMES = st.tuples(_octet(0, 23, 0xFF), _octet(0, 59, 0xFF), _octet(0, 59, 0xFF), _octet(0, 99, 0xFF)).map(
    bytes
)
TAILS = st.tuples(
    st.sampled_from((b"\x01\x4a", b"\xfe\xb6", b"\x80\x00", b"\x00\x00")) | st.binary(min_size=2, max_size=2),
    st.binary(min_size=1, max_size=1),
).map(b"".join)


@FAST
@given(DATES | st.binary(min_size=5, max_size=5))
def test_a_date_that_decodes_comes_back_and_any_other_is_one_error(octets_: bytes) -> None:
    try:
        date = CosemDate.decode(octets_)
    except MeterProtocolError:
        return
    assert date.octets == octets_
    assert str(date)


@FAST
@given(TIMES | st.binary(min_size=4, max_size=4))
def test_a_time_that_decodes_comes_back_and_any_other_is_one_error(octets_: bytes) -> None:
    try:
        time = CosemTime.decode(octets_)
    except MeterProtocolError:
        return
    assert time.octets == octets_
    assert str(time)


@FAST
@given(st.tuples(DATES, TIMES, TAILS).map(b"".join) | st.binary(min_size=12, max_size=12))
def test_a_date_time_that_decodes_comes_back_and_its_stamp_agrees(octets_: bytes) -> None:
    stamp = cosem_time.decode(octets_)  # the lenient reader takes every twelve octets
    try:
        value = CosemDateTime.decode(octets_)
    except MeterProtocolError:
        return
    assert value.octets == octets_
    assert value.stamp() == stamp
    assert (value.deviation, value.status) == (stamp.deviation, stamp.status)
    assert str(value)


@pytest.mark.parametrize(
    ("hexes", "wrong"),
    [
        ("07EA0D0101", "month 13"),
        ("07EAFC0101", "month 252"),
        ("07EA012001", "day 32"),
        ("07EA01FC01", "day 252"),
        ("07EA010108", "day of week 8"),
    ],
)
def test_impossible_dates_are_errors(hexes: str, wrong: str) -> None:
    with pytest.raises(MeterProtocolError, match=wrong):
        CosemDate.decode(bytes.fromhex(hexes))


@pytest.mark.parametrize("hexes", ["18000000", "003C0000", "00003C00", "00000064"])
def test_impossible_times_are_errors(hexes: str) -> None:
    with pytest.raises(MeterProtocolError, match="outside"):
        CosemTime.decode(bytes.fromhex(hexes))


@pytest.mark.parametrize("length", [0, 3, 6, 11, 13])
def test_another_number_of_octets_is_an_error(length: int) -> None:
    for kind in (CosemDate, CosemTime, CosemDateTime):
        with pytest.raises(MeterProtocolError, match=f"not {length}"):
            kind.decode(bytes(length))


def test_our_own_impossible_values_are_local_errors() -> None:
    with pytest.raises(LocalError, match="month 13"):
        CosemDate(month=13)
    with pytest.raises(LocalError, match="hour 24"):
        CosemTime(hour=24)
    with pytest.raises(LocalError, match="deviation"):
        CosemDateTime(deviation=-0x8000)


def test_wildcards_read_as_words() -> None:
    assert str(CosemDate.decode(bytes.fromhex("FFFFFF01FF"))) == "*-*-01"
    assert str(CosemDate(month=DST_BEGIN, day=LAST_DAY, weekday=7)) == "*-month of DST begin-last day Sun"
    assert str(CosemDate(year=2026, month=2, day=SECOND_LAST_DAY)) == "2026-02-second-last day"
    assert str(CosemTime.decode(bytes(4))) == "00:00:00"
    assert str(CosemTime(hour=1, minute=2, second=3, hundredths=5)) == "01:02:03.05"


def test_clock_status_bits_have_names() -> None:
    assert ClockStatus(0x8F).names == (
        "invalid value",
        "doubtful value",
        "different clock base",
        "invalid clock status",
        "daylight saving active",
    )
    assert ClockStatus(0x10).names == ("bit 4",)
    assert str(CosemDateTime.decode(ROW)) == "2026-06-01 14:15:00 deviation +330 min"


def test_zero_as_month_or_day_is_kept_and_gives_no_instant() -> None:
    value = CosemDateTime.decode(bytes.fromhex("07EA000000000000008000FF"))
    assert (value.date.month, value.date.day, value.date.weekday) == (0, 0, 0)
    assert value.stamp().at is None


@FAST
@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=st.just(UTC)))
def test_an_instant_comes_back_to_the_second(at: datetime) -> None:
    value = CosemDateTime.of(at)
    assert value.stamp().at == at.replace(microsecond=0)
    assert value.time.hundredths == at.microsecond // 10_000


@pytest.mark.parametrize(
    "data",
    [
        octets(ROW),
        Data(Tag.DATE_TIME, ROW),
        structure(octets(ROW)),
        structure(Data(Tag.DATE, ROW[:5]), Data(Tag.TIME, ROW[5:9]), Data(Tag.LONG, 330), unsigned(0xFF)),
        structure(octets(ROW[5:9]), octets(ROW[:5]), Data(Tag.LONG, 330), unsigned(0xFF)),
        structure(
            long_unsigned(2026),
            *map(unsigned, (6, 1, 255, 14, 15, 0, 255)),
            Data(Tag.LONG, 330),
            unsigned(255),
        ),
    ],
)
def test_a_clock_is_read_in_every_form_that_meters_use(data: Data) -> None:
    assert cosem_time.octets_of(data) == ROW


def test_a_structure_without_deviation_and_status_leaves_them_unspecified() -> None:
    data = structure(octets(ROW[:5]), octets(ROW[5:9]))
    assert cosem_time.octets_of(data) == ROW[:9] + b"\x80\x00\xff"


@pytest.mark.parametrize(
    "data",
    [
        NULL,
        text("2026-06-01 14:15:00"),
        octets(ROW[:11]),
        structure(),
        structure(octets(ROW), unsigned(0)),
        structure(text("x" * 12)),
        structure(structure(octets(ROW))),
        structure(*[integer(0)] * 13),
    ],
)
def test_what_is_no_time_is_none(data: Data) -> None:
    assert cosem_time.octets_of(data) is None


@pytest.mark.parametrize("deviation", [-120, -60, 120, 60, None])
def test_the_hour_that_comes_twice_is_told_apart_by_deviation_or_status(deviation: int | None) -> None:
    summer = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 CEST; 02:30 CET is an hour later
    status = 0x80 if deviation is None else 0
    first = cosem_time.encode(summer, PARIS, deviation=deviation, status=status)
    winter = deviation is not None and abs(deviation) == 60
    assert cosem_time.decode(first, PARIS).at == summer + timedelta(hours=winter)
    if deviation is None:
        assert cosem_time.decode(first[:11] + b"\x00", PARIS).at == summer + timedelta(hours=1)
        assert cosem_time.decode(first[:11] + b"\xff", PARIS).at == summer
