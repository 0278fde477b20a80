"""Compact arrays: one type description and packed contents, both ways, and what a hostile one may not do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.data import axdr
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    double_long_unsigned,
    long_unsigned,
    octets,
    structure,
)
from protocols.errors import LocalError, MeterProtocolError


def compact(*items: Data) -> Data:
    return Data(Tag.COMPACT_ARRAY, items)


def rows(numbers: list[tuple[bytes, int, int]]) -> list[Data]:
    return [
        structure(octets(at), array(long_unsigned(a), long_unsigned(a)), double_long_unsigned(b), NULL)
        for at, a, b in numbers
    ]


ROWS = st.lists(
    st.tuples(st.binary(max_size=140), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)), max_size=12
).map(rows)


@settings(max_examples=80)
@given(ROWS)
def test_rows_survive_the_round_trip(items: list[Data]) -> None:
    data = compact(*items)
    encoded = axdr.encode(data)
    assert axdr.decode(encoded) == data
    with pytest.raises(MeterProtocolError):
        axdr.decode(encoded[:-1])
    with pytest.raises(MeterProtocolError, match="after the end"):
        axdr.decode(encoded + b"\0")


def test_layout_is_type_then_length_then_packed_values() -> None:
    data = compact(*(structure(long_unsigned(n), NULL) for n in (1, 2)))
    assert axdr.encode(data).hex() == "13" + "0202" + "1200" + "04" + "0001" + "0002"
    numbers = compact(structure(array(long_unsigned(1), long_unsigned(2))))
    assert axdr.encode(numbers).hex() == "13" + "0201" + "01000212" + "04" + "00010002"
    assert axdr.encode(compact()).hex() == "130000"


def test_a_compact_array_stands_inside_other_values() -> None:
    data = structure(compact(long_unsigned(7)), long_unsigned(8))
    assert axdr.decode(axdr.encode(data)) == data


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        ("13000100", "no octets"),
        ("1301000000" + "0100", "no octets"),
        ("13" + "01FFFF" * 3 + "00" + "0100", "elements"),
        ("13" + "0202" + "11" + "01FFFF" + "01FFFF" + "00" + "0105", "elements"),
        ("13" + "010001" * 40 + "11" + "0105", "deeper"),
        ("13" + "0284FFFFFFFF", "types announced"),
        ("1312" + "03000102", "2 octets wanted"),
        ("1312" + "84FFFFFFFF00", "octets wanted"),
        ("1313" + "120000", "not known"),
        ("1363" + "00", "not known"),
    ],
)
def test_hostile_ones_are_refused(hostile: str, reason: str) -> None:
    with pytest.raises(MeterProtocolError, match=reason):
        axdr.decode(bytes.fromhex(hostile))


@pytest.mark.parametrize(
    "data",
    [
        compact(long_unsigned(1), double_long_unsigned(1)),
        compact(NULL),
        compact(compact(long_unsigned(1))),
        compact(structure(array(long_unsigned(1), octets(b"")))),
    ],
)
def test_what_it_cannot_hold_is_our_error(data: Data) -> None:
    with pytest.raises(LocalError):
        axdr.encode(data)
