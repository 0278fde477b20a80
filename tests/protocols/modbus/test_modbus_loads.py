"""Load surveys: the records that are asked for, and the intervals that they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import MeterProtocolError
from protocols.modbus.decoding.codec import Scales
from protocols.modbus.format.model import MeterModel
from protocols.modbus.session.load_reader import LoadReader, LoadRow
from protocols.reading import Missing, MissingReason, Number, ProfileName

INDIA = ZoneInfo("Asia/Kolkata")
START = datetime(2026, 11, 23, tzinfo=UTC)
PERIOD = timedelta(minutes=30)
IMPORT = "1-0:1.29.0*255"
HEAD, COUNT, FIRST = 0x10, 0x11, 0x1000
NO_SCALES: Scales = {}


def model(**log: Any) -> MeterModel:
    """A model whose records are seconds since 1970 and 0.01 kWh: three registers."""
    return MeterModel.model_validate(
        {
            "name": "x",
            "title": "X",
            "manufacturer": "XXX",
            "source": "nowhere",
            "serial": False,
            "max_read": 20,
            "fingerprint": {"growing": ["1-0:1.8.0"]},
            "registers": [
                {
                    "quantity": "1-0:1.8.0",
                    "profiles": ["instantaneous"],
                    "function": 3,
                    "address": 0,
                    "type": "u32",
                    "unit": "Wh",
                }
            ],
            "scales": [{"name": "ct", "function": 3, "address": 8, "type": "u16"}],
            "log": {
                "function": 3,
                "address": FIRST,
                "record": 3,
                "records": 8,
                "period": 1800,
                "time": {"offset": 0, "type": "time_seconds", "count": 2},
                "values": [{"quantity": IMPORT, "offset": 2, "type": "u16", "scaler": -2, "unit": "kWh"}],
                **log,
            },
        }
    )


def record(at: datetime, count: int) -> list[int]:
    return [*divmod(int(at.timestamp()), 65536), count]


class Meter:
    """Holds records at their places, and counts what it is asked."""

    def __init__(self, made: MeterModel, records: Sequence[list[int]], **heads: int) -> None:
        assert made.log is not None
        self.model, self.log = made, made.log
        self.records = list(records)
        self.heads = {HEAD: heads.get("head", 0), COUNT: heads.get("count", len(records))}
        self.asked: list[tuple[int, int]] = []

    async def read(self, function: int, address: int, count: int, *, file: int = 0) -> list[int]:
        if address in self.heads and function == 3:
            return [self.heads[address]]
        self.asked.append((address, count))
        assert count <= self.model.max_read
        assert (function, file) == (self.log.function, self.log.file or 0)
        first, odd = divmod(address - self.log.address, self.log.step)
        assert not odd
        size = self.log.record
        empty = [0] * size
        held = [*self.records, *[empty] * (self.log.records - len(self.records))]
        return [word for one in held[first : first + count // size] for word in one]

    def rows(self, since: datetime | None = None, until: datetime | None = None) -> list[LoadRow]:
        reader = LoadReader(self.model, self.log, self.read, INDIA)
        rows = asyncio.run(reader.rows(NO_SCALES, since, until))
        self.unplaced = reader.unplaced
        return rows


def at(number: int) -> datetime:
    return START + number * PERIOD


def numbers(rows: Sequence[LoadRow]) -> list[int]:
    return [(row.at - START) // PERIOD for row in rows]


HEADS = {"newest": {"function": 3, "address": HEAD, "type": "u16"}}
FILLED = {"filled": {"function": 3, "address": COUNT, "type": "u16"}}


def test_the_newest_first_is_read_until_it_is_too_old() -> None:
    meter = Meter(model(order="newest_first"), [record(at(n), n) for n in (9, 8, 7, 6, 5, 4, 3, 2)])
    assert numbers(meter.rows()) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert meter.asked == [(FIRST, 18), (FIRST + 18, 6)]
    meter.asked.clear()
    assert numbers(meter.rows(since=at(6))) == [7, 8, 9]
    assert meter.asked == [(FIRST, 18)]
    assert numbers(meter.rows(since=at(3), until=at(5))) == [4, 5]
    (row,) = meter.rows(since=at(8))
    assert [(str(q), v) for q, v in row.values] == [(IMPORT, Number(9, 1, "Wh"))]


def test_a_ring_is_read_backwards_from_its_newest() -> None:
    ring = [record(at(n), n) for n in (8, 9, 10, 3, 4, 5, 6, 7)]
    meter = Meter(model(**HEADS), ring, head=2)
    assert numbers(meter.rows()) == [3, 4, 5, 6, 7, 8, 9, 10]
    meter.asked.clear()
    assert numbers(meter.rows(since=at(9))) == [10]
    assert meter.asked == [(FIRST, 9)]
    following = Meter(model(**HEADS, newest_from=1, newest_is_next=True), ring, head=4)
    assert numbers(following.rows(since=at(6))) == [7, 8, 9, 10]


def test_a_ring_without_a_head_is_read_whole() -> None:
    meter = Meter(model(), [record(at(n), n) for n in (8, 9, 2, 3)])
    assert numbers(meter.rows(since=at(8))) == [9]
    assert sum(count for _, count in meter.asked) == 8 * 3


def test_only_filled_records_are_read() -> None:
    meter = Meter(model(**FILLED), [record(at(n), n) for n in (1, 2)])
    assert numbers(meter.rows()) == [1, 2]
    assert meter.asked == [(FIRST, 6)]
    assert numbers(Meter(model(**FILLED), [], count=0).rows()) == []


def test_records_with_holes_between_them_and_those_of_files_are_read_one_by_one() -> None:
    meter = Meter(model(order="newest_first", stride=10), [record(at(n), n) for n in (3, 2)])
    assert numbers(meter.rows(since=at(1))) == [2, 3]
    assert meter.asked[:3] == [(FIRST, 3), (FIRST + 10, 3), (FIRST + 20, 3)]
    filed = Meter(model(order="newest_first", function=20, file=4, address=0, stride=1), [record(at(3), 1)])
    assert numbers(filed.rows(since=at(2))) == [3]
    assert filed.asked[0] == (0, 3)


def test_a_record_that_is_met_twice_is_one_and_two_of_one_time_are_two() -> None:
    shifted = [record(at(3), 3), record(at(2), 2), record(at(2), 2), record(at(2), 7)]
    rows = Meter(model(order="newest_first"), shifted).rows()
    assert [(n, row.occurrence) for n, row in zip(numbers(rows), rows, strict=True)] == [
        (2, 0),
        (2, 1),
        (3, 0),
    ]
    # The older one keeps its number: what was journaled before a clock was set back is not revised by what came later.
    assert [row.values[0][1] for row in rows] == [Number(n, 1, "Wh") for n in (7, 2, 3)]


def test_a_time_that_is_none_belongs_to_no_interval_and_is_counted() -> None:
    log = {
        "time": {
            "offset": 0,
            "type": "time_fields",
            "count": 2,
            "fields": dict.fromkeys(("year", "month", "day", "hour", "minute"), "0:0-15+2000"),
        }
    }
    meter = Meter(model(**log), [[99, 0, 1]])
    assert meter.rows() == []
    assert meter.unplaced == 1


def test_a_start_stamp_is_the_beginning_of_its_interval() -> None:
    meter = Meter(model(stamp="start"), [record(at(3), 1)])
    assert numbers(meter.rows()) == [4]


def test_a_head_beyond_the_ring_is_the_meters_fault() -> None:
    with pytest.raises(MeterProtocolError, match="the meter shows record 9 as its newest, and model x has 8"):
        Meter(model(**HEADS), [], head=9).rows()


def test_values_of_records_are_scaled() -> None:
    made = model(
        values=[{"quantity": IMPORT, "offset": 2, "type": "u16", "unit": "kWh", "multiply_by": ["ct"]}]
    )
    meter = Meter(made, [record(at(1), 5)])
    reader = LoadReader(made, meter.log, meter.read, INDIA)
    (row,) = asyncio.run(reader.rows({"ct": Fraction(40)}, None, None))
    assert row.values[0][1] == Number(200, 3, "Wh")
    refused = Missing(MissingReason.METER_REFUSED)
    (row,) = asyncio.run(reader.rows({"ct": refused}, None, None))
    assert row.values[0][1] == refused


def test_a_model_with_a_log_has_block_load() -> None:
    assert ProfileName.BLOCK_LOAD in model().profiles


@settings(max_examples=200)
@given(
    written=st.integers(0, 30),
    records=st.integers(1, 12),
    record_size=st.integers(3, 12),
    since=st.integers(-1, 30) | st.none(),
    newest_is_next=st.booleans(),
    first=st.integers(0, 1),
)
def test_whatever_a_ring_holds_each_interval_is_read_once(
    written: int, records: int, record_size: int, since: int | None, newest_is_next: bool, first: int
) -> None:
    """A meter that has written so many records holds the last of them; those later than `since` are read, once."""
    made = model(
        **HEADS,
        **FILLED,
        records=records,
        record=record_size,
        newest_from=first,
        newest_is_next=newest_is_next,
    )
    places: list[list[int]] = [[0] * record_size for _ in range(records)]
    for number in range(written):
        places[number % records] = [*record(at(number), number), *[0] * (record_size - 3)]
    newest = (written if newest_is_next else max(written - 1, 0)) % records
    meter = Meter(made, places, head=newest + first, count=min(written, records))
    low = 0 if since is None else since + 1
    held = range(max(0, written - records), written)
    assert numbers(meter.rows(since=None if since is None else at(since))) == [n for n in held if n >= low]
