"""Deltas in buffers (Blue Book tags 28 to 33) become the numbers they stand for, exactly, however they are written."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.data import axdr
from protocols.dlms.data.types import DELTAS, INTEGERS, NULL, Data, Tag, array, structure
from protocols.dlms.profile.decoder import buffer_of, decode_buffer
from protocols.dlms.profile.layouts import CapturedColumn, Layout
from protocols.errors import MeterProtocolError
from protocols.reading import Obis, ProfileName, Quantity
from protocols.simulator.faults.rows import delta_columns

ZONE = ZoneInfo("Asia/Kolkata")
TYPES = [tag for tag in INTEGERS if tag is not Tag.BCD]


def layout(columns: int) -> Layout:
    return Layout(
        profile=ProfileName.DAILY,
        obis=Obis(1, 0, 99, 2, 0),
        columns=tuple(
            CapturedColumn(class_id=3, quantity=Quantity(Obis(1, 0, n + 1, 8, 0), 2), scale=(0, "Wh"))
            for n in range(columns)
        ),
        period=86_400,
        newest_first=False,
    )


def numbers(tag: Tag) -> st.SearchStrategy[Data]:
    octets, signed = INTEGERS[tag]
    low = -(1 << 8 * octets - 1) if signed else 0
    most = low + (1 << 8 * octets) - 1
    near = st.integers(max(low, -200), min(most, 200))
    return st.builds(Data, st.just(tag), near | st.integers(low, most) | st.sampled_from([low, most]))


@st.composite
def rows(draw: st.DrawFn) -> list[Data]:
    types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
    count = draw(st.integers(1, 12) | st.integers(40, 60))
    cells = [draw(st.lists(numbers(tag), min_size=count, max_size=count)) for tag in types]
    return [structure(*row) for row in zip(*cells, strict=True)]


@given(rows(), st.lists(st.integers(0, 59), max_size=4))
def test_what_was_written_as_deltas_is_read_as_it_was(given_rows: list[Data], nulls: list[int]) -> None:
    """A null stands for the cell above; a delta after it counts on from there."""
    whole = [list(row.items) for row in given_rows]
    for row in sorted(nulls):
        if 0 < row < len(whole):
            whole[row][0] = whole[row - 1][0]
    plain = [structure(*cells) for cells in whole]
    written = [list(row.items) for row in delta_columns(plain)]
    for row in nulls:
        if 0 < row < len(written):
            written[row][0] = NULL
    buffer = array(*(structure(*cells) for cells in written))
    wanted = buffer_of(layout(len(whole[0])), array(*plain), zone=ZONE)
    columns = layout(len(whole[0]))
    for found in (
        decode_buffer(columns, axdr.encode(buffer), zone=ZONE),
        buffer_of(columns, axdr.decode(axdr.encode(buffer)), zone=ZONE),
    ):
        assert [found.cells(n) for n in range(found.count)] == [wanted.cells(n) for n in range(wanted.count)]


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=100), st.integers(0, 2**31))
def test_a_compact_array_may_hold_deltas(steps: list[int], start: int) -> None:
    """All its elements are of one type, so that the first number stands in a buffer of its own before it."""
    first = array(structure(Data(Tag.LONG64, start)))
    compact = Data(Tag.COMPACT_ARRAY, tuple(structure(Data(Tag.DELTA_INTEGER, step)) for step in steps))
    assert axdr.decode(axdr.encode(compact)) == compact
    with pytest.raises(MeterProtocolError, match="no number before it"):
        decode_buffer(layout(1), axdr.encode(compact), zone=ZONE)
    mixed = array(*first.items, *compact.items)
    found = decode_buffer(layout(1), axdr.encode(mixed), zone=ZONE)
    assert found.cells(len(steps)) == (Data(Tag.LONG64, start + sum(steps)),)


@pytest.mark.parametrize("tag", DELTAS)
def test_a_delta_is_no_number_by_itself(tag: Tag) -> None:
    data = Data(tag, 5)
    assert axdr.decode(axdr.encode(data)) == data
    assert data.integer is None


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([Data(Tag.DELTA_LONG, 1)], "no number before it"),
        ([NULL, Data(Tag.DELTA_LONG, 1)], "no number before it"),
        ([Data(Tag.OCTET_STRING, b"x"), Data(Tag.DELTA_LONG, 1)], "no number before it"),
        ([Data(Tag.FLOAT32, bytes(4)), Data(Tag.DELTA_LONG, 1)], "no number before it"),
        ([Data(Tag.UNSIGNED, 255), Data(Tag.DELTA_UNSIGNED, 1)], "beyond a unsigned"),
        ([Data(Tag.UNSIGNED, 0), Data(Tag.DELTA_INTEGER, -1)], "beyond a unsigned"),
        ([Data(Tag.LONG, 0x7FFF), Data(Tag.DELTA_INTEGER, 1), Data(Tag.DELTA_INTEGER, -1)], "beyond a long"),
    ],
)
def test_a_delta_that_stands_for_no_number_is_an_error(cells: list[Data], words: str) -> None:
    octets = axdr.encode(array(*(structure(cell) for cell in cells)))
    with pytest.raises(MeterProtocolError, match=words):
        decode_buffer(layout(1), octets, zone=ZONE)


INNER: dict[Tag, st.SearchStrategy[Data]] = {
    Tag.OCTET_STRING: st.builds(Data, st.just(Tag.OCTET_STRING), st.binary(max_size=5)),
    Tag.VISIBLE_STRING: st.builds(Data, st.just(Tag.VISIBLE_STRING), st.text("ab", max_size=5)),
    Tag.BIT_STRING: st.builds(Data, st.just(Tag.BIT_STRING), st.text("01", max_size=12)),
    Tag.BOOLEAN: st.builds(Data, st.just(Tag.BOOLEAN), st.booleans()),
    **{tag: numbers(tag) for tag in TYPES},
}


@st.composite
def alike(draw: st.DrawFn, depth: int = 0) -> tuple[Data, Data]:
    """Two values of one type with other contents: structures and arrays inside, texts of any length."""
    kind = draw(st.sampled_from(["plain", "structure", "array"] if depth < 3 else ["plain"]))
    if kind == "structure":
        pairs = draw(st.lists(alike(depth + 1), min_size=1, max_size=3))
        return structure(*(a for a, _ in pairs)), structure(*(b for _, b in pairs))
    if kind == "array":
        pairs = [draw(alike(depth + 1))] * draw(st.integers(1, 3))
        return array(*(a for a, _ in pairs)), array(*(b for _, b in pairs))
    inner = INNER[draw(st.sampled_from(list(INNER)))]
    return draw(inner), draw(inner)


@given(alike(), st.integers(1, 6))
def test_a_compact_array_of_any_type_comes_back(pair: tuple[Data, Data], times: int) -> None:
    value = Data(Tag.COMPACT_ARRAY, pair * times)
    assert axdr.decode(axdr.encode(value)) == value
