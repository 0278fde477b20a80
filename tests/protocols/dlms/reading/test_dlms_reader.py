"""The reader of profiles copes with meters that choose, order, stamp and scale their rows in their own ways."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    capture_object,
    double_long_unsigned,
    enum,
    long_unsigned,
    octets,
    scaler_unit,
    structure,
)
from protocols.dlms.reading.layout_cache import CHECK_EVERY, Layouts
from protocols.dlms.server.model import AccessDenied
from protocols.errors import MeterBusy, MeterProtocolError, MeterRefused, NotSupported
from protocols.reading import Missing, MissingReason, Number, Obis, ProfileName
from tests.support.dlms.bench import START, SmallMeter
from tests.support.dlms.reader_bench import (
    BLOCKS,
    NOW,
    Answer,
    ScriptedExchange,
    collect,
    in_range,
    plain,
    reader_of,
    stamp_of,
    wall,
)

pytestmark = pytest.mark.virtual_time

BLOCK = ProfileName.BLOCK_LOAD
NAME = str(BLOCKS)
Rows = list[Data]
Selection = RangeSelection | EntrySelection | None


def instants(meter: SmallMeter) -> list[Any]:
    return [at for at, _ in meter.blocks]


def refuse(*kinds: type | None, code: int = 250) -> Answer:
    def answer(rows: Rows, selection: Selection) -> Rows:
        if (type(selection) if selection else None) in kinds:
            raise AccessDenied(code)
        return plain(rows, selection)

    return answer


# how rows are chosen


async def test_a_range_is_asked_on_full_hours_with_the_deviation_of_india() -> None:
    exchange = ScriptedExchange(SmallMeter())
    low, high = START + timedelta(minutes=40), START + timedelta(hours=3, minutes=10)
    rows = await collect(reader_of(exchange), BLOCK, low, high)
    assert [r.at for r in rows] == [START + timedelta(minutes=30 * n) for n in range(2, 7)]
    (asked,) = exchange.buffers
    assert isinstance(asked, RangeSelection)
    assert (wall(asked.since), wall(asked.until)) == (START, START + timedelta(hours=4))
    assert asked.since[6:8] == asked.until[6:8] == b"\0\0"
    assert asked.since[9:11] == bytes.fromhex("014A")


@pytest.mark.parametrize(
    "slow", [timedelta(days=3), timedelta(days=900), NOW - datetime(1970, 1, 1, tzinfo=UTC)]
)
async def test_whoever_knows_that_our_clock_is_slow_gets_what_the_meter_has(slow: timedelta) -> None:
    exchange = ScriptedExchange(SmallMeter())
    reader = reader_of(exchange, now=NOW - slow)
    assert len(await collect(reader, BLOCK, until=NOW + timedelta(days=1))) == 96
    assert len(exchange.buffers) < 10  # no request for each three days since the year 2000


async def test_a_meter_that_shows_a_far_year_is_not_asked_for_all_the_days_until_then() -> None:
    exchange = ScriptedExchange(SmallMeter())
    assert len(await collect(reader_of(exchange), BLOCK, until=NOW + timedelta(days=27_000))) == 96
    assert len(exchange.buffers) < 150


@pytest.mark.parametrize("newest_first", [False, True])
async def test_without_ranges_rows_are_selected_by_entry(newest_first: bool) -> None:
    meter = SmallMeter()
    if newest_first:
        meter.attributes[NAME, 5] = enum(2)
        meter.attributes[NAME, 2] = array(*reversed(meter.attributes[NAME, 2].items))
    exchange = ScriptedExchange(meter, refuse(RangeSelection))
    reader = reader_of(exchange)
    low = START + timedelta(hours=40)
    assert [r.at for r in await collect(reader, BLOCK, low)] == [at for at in instants(meter) if at > low]
    assert len(exchange.buffers) < 12  # halving, then one page
    assert [r.at for r in await collect(reader, BLOCK)] == instants(meter)
    assert reader.statistics().methods == ((NAME, "entries"),)


async def test_an_unordered_buffer_is_read_by_entry_from_its_beginning() -> None:
    meter = SmallMeter()
    rows = meter.attributes[NAME, 2].items
    meter.attributes[NAME, 2] = array(*rows[50:], *rows[:50])
    meter.attributes[NAME, 5] = enum(3)  # by largest
    exchange = ScriptedExchange(meter, refuse(RangeSelection))
    low = START + timedelta(hours=20)
    found = await collect(reader_of(exchange), BLOCK, low)
    assert [r.at for r in found] == [at for at in instants(meter) if at > low]


async def test_one_entry_at_a_time_is_enough() -> None:
    def one(rows: Rows, selection: Selection) -> Rows:
        return refuse(RangeSelection)(rows, selection)[:1]

    meter = SmallMeter()
    reader = reader_of(ScriptedExchange(meter, one))
    assert [r.at for r in await collect(reader, BLOCK)] == instants(meter)


async def test_without_any_selection_the_whole_buffer_is_read() -> None:
    meter = SmallMeter()
    reader = reader_of(ScriptedExchange(meter, refuse(RangeSelection, EntrySelection)))
    low, high = START + timedelta(hours=5), START + timedelta(hours=6)
    assert [r.at for r in await collect(reader, BLOCK, low, high)] == [low + timedelta(minutes=30), high]
    assert reader.statistics().methods == ((NAME, "whole"),)


async def test_a_meter_that_refuses_everything_is_refused_with_its_first_reason() -> None:
    exchange = ScriptedExchange(SmallMeter(), refuse(RangeSelection, EntrySelection, None, code=3))
    with pytest.raises(MeterRefused, match="read-write denied"):
        await collect(reader_of(exchange), BLOCK)


async def test_a_buffer_too_long_to_read_whole_is_not_supported() -> None:
    meter = SmallMeter()
    meter.attributes[NAME, 7] = double_long_unsigned(20_001)
    with pytest.raises(NotSupported, match="20001 rows and cannot select them by time"):
        await collect(reader_of(ScriptedExchange(meter, refuse(RangeSelection))), BLOCK)


async def test_a_busy_meter_is_not_taken_for_one_without_ranges() -> None:
    reader = reader_of(ScriptedExchange(SmallMeter(), refuse(RangeSelection, code=2)))
    with pytest.raises(MeterBusy):
        await collect(reader, BLOCK)
    assert reader.statistics().methods == ()


async def test_a_meter_that_gives_everything_for_any_range_is_asked_once() -> None:
    meter = SmallMeter()
    exchange = ScriptedExchange(meter, lambda rows, _: rows)
    reader = reader_of(exchange)
    low, high = START + timedelta(hours=30), START + timedelta(hours=31)
    assert [r.at for r in await collect(reader, BLOCK, low, high)] == [low + timedelta(minutes=30), high]
    assert len(exchange.buffers) == 1
    assert len(await collect(reader, BLOCK)) == 96
    assert reader.statistics().methods == ((NAME, "whole"),)


async def test_newest_first_and_ends_left_out_make_no_difference() -> None:
    def inside(rows: Rows, selection: Selection) -> Rows:
        found = plain(rows, selection)
        if isinstance(selection, RangeSelection):
            ends = (wall(selection.since), wall(selection.until))
            found = [row for row in found if stamp_of(row) not in ends]
        return found

    meter = SmallMeter()
    meter.attributes[NAME, 5] = enum(2)
    meter.attributes[NAME, 2] = array(*reversed(meter.attributes[NAME, 2].items))
    low, high = START + timedelta(hours=2), START + timedelta(hours=4)
    found = await collect(reader_of(ScriptedExchange(meter, inside)), BLOCK, low, high)
    assert [r.at for r in found] == [at for at in instants(meter) if low < at <= high]


# answers that are not whole


@pytest.mark.parametrize("most", [1, 7])
@pytest.mark.parametrize("exclusive", [False, True])
async def test_truncated_answers_are_taken_up_from_the_last_row(most: int, exclusive: bool) -> None:
    def first(rows: Rows, selection: Selection) -> Rows:
        if not isinstance(selection, RangeSelection):
            return plain(rows, selection)
        low = wall(selection.since)
        return [r for r in in_range(rows, selection) if stamp_of(r) > low or not exclusive][:most]

    meter = SmallMeter()
    reader = reader_of(ScriptedExchange(meter, first))
    assert [r.at for r in await collect(reader, BLOCK)] == instants(meter)
    assert reader.statistics().continued > 10


async def test_answers_truncated_at_the_beginning_are_completed_backwards() -> None:
    def newest(rows: Rows, selection: Selection) -> Rows:
        return plain(rows, selection)[-9:]

    meter = SmallMeter()
    since = START + timedelta(hours=1)
    reader = reader_of(ScriptedExchange(meter, newest))
    assert [r.at for r in await collect(reader, BLOCK, since)] == [a for a in instants(meter) if a > since]


async def test_truncated_events_keep_all_codes_of_one_second() -> None:
    log = Obis(0, 0, 99, 98, 6)

    def two(rows: Rows, selection: Selection) -> Rows:
        return plain(rows, selection)[:2]

    exchange = ScriptedExchange(SmallMeter(), two, only=log)
    events = await collect(reader_of(exchange), ProfileName.EVENTS)
    codes = [v.mantissa for e in events for q, v in e if q.obis.d == 11 and isinstance(v, Number)]
    assert codes == [101, 301, 302, 301]
    assert len({(e.at, e.occurrence) for e in events}) == 4


async def test_a_whole_answer_costs_one_request() -> None:
    exchange = ScriptedExchange(SmallMeter())
    assert len(await collect(reader_of(exchange), BLOCK, START, START + timedelta(hours=48))) == 96
    assert len(exchange.buffers) == 1


async def test_a_range_in_another_deviation_is_tried_when_rows_of_other_hours_come() -> None:
    def blue_book(rows: Rows, selection: Selection) -> Rows:
        """Heed the deviation by the Blue Book's sign: a range with +330 begins eleven hours too late."""
        assert isinstance(selection, RangeSelection)
        shift = timedelta(minutes=330 + int.from_bytes(selection.since[9:11], "big", signed=True))
        if selection.since[9:11] == b"\x80\x00":
            shift = timedelta()
        low, high = wall(selection.since) + shift, wall(selection.until) + shift
        return [row for row in rows if low <= stamp_of(row) <= high]

    exchange = ScriptedExchange(SmallMeter(), blue_book)
    reader = reader_of(exchange)
    low = START + timedelta(hours=3)
    found = await collect(reader, BLOCK, low, low + timedelta(hours=1))
    assert [r.at for r in found] == [low + timedelta(minutes=30), low + timedelta(hours=1)]
    assert len(exchange.buffers) == 2
    await collect(reader, BLOCK, low, low + timedelta(hours=1))
    assert len(exchange.buffers) == 3  # remembered


async def test_what_was_given_before_a_failure_is_complete() -> None:
    def failing(rows: Rows, selection: Selection) -> Rows:
        if isinstance(selection, RangeSelection) and wall(selection.since) > START + timedelta(hours=20):
            raise AccessDenied(2)
        return plain(rows, selection)

    meter = SmallMeter()
    exchange = ScriptedExchange(meter, failing)
    reader = reader_of(exchange)
    found = []

    async def read(since: datetime) -> None:
        async for row in reader.read(BLOCK, since, None):
            found.append(row.at)  # noqa: PERF401 (what came before the failure counts)

    with pytest.raises(MeterBusy):
        await read(START - timedelta(days=5))
    assert 0 < len(found) < 96
    exchange.answer = plain
    await read(found[-1])
    assert found == instants(meter)


# how rows are stamped


def with_rows(meter: SmallMeter, change: Any) -> SmallMeter:
    meter.attributes[NAME, 2] = array(
        *(change(n, row.items) for n, row in enumerate(meter.attributes[NAME, 2].items))
    )
    return meter


def as_date_time(stamp: bytes) -> Data:
    return Data(Tag.DATE_TIME, stamp)


def as_structure(stamp: bytes) -> Data:
    return structure(octets(stamp[:5]), octets(stamp[5:9]))


@pytest.mark.parametrize("form", [as_date_time, as_structure])
async def test_the_clock_may_be_a_date_time_or_a_structure(form: Any) -> None:
    meter = with_rows(SmallMeter(), lambda _, cells: structure(form(cells[0].octets), *cells[1:]))
    exchange = ScriptedExchange(meter, lambda rows, _: rows)
    assert [r.at for r in await collect(reader_of(exchange), BLOCK)] == instants(meter)


async def test_rows_before_the_first_stamp_are_counted_and_left_out() -> None:
    def nulls(rows: Rows, selection: Selection) -> Rows:
        found = plain(rows, selection)
        return [structure(NULL, *found[0].items[1:]), *found[1:]]

    exchange = ScriptedExchange(SmallMeter(), nulls)
    reader = reader_of(exchange)
    found = await collect(reader, BLOCK, START - timedelta(hours=2), START + timedelta(hours=2))
    assert [r.at for r in found] == [START + timedelta(minutes=30 * n) for n in (2, 3, 4)]
    assert reader.statistics().unstamped_rows >= 1


@pytest.mark.parametrize("period", [None, 0, 90_000])
async def test_a_missing_capture_period_is_found_in_the_stamps(period: int | None) -> None:
    meter = SmallMeter()
    if period is None:
        del meter.attributes[NAME, 4]
    else:
        meter.attributes[NAME, 4] = double_long_unsigned(period)
    found = await collect(reader_of(ScriptedExchange(meter)), BLOCK)
    assert [r.at for r in found] == instants(meter)
    assert {r.at - (r.start or r.at) for r in found} == {timedelta(minutes=30)}


async def test_a_missing_capture_period_may_be_declared_by_an_object() -> None:
    meter = SmallMeter()
    meter.attributes[NAME, 4] = double_long_unsigned(0)
    meter.attributes[NAME, 2] = array(meter.attributes[NAME, 2].items[0])
    exchange = ScriptedExchange(meter)
    with pytest.raises(MeterProtocolError, match="capture period is 0 s and its stamps do not tell it"):
        await collect(reader_of(exchange), BLOCK)
    meter.attributes["1-0:0.8.4*255", 2] = long_unsigned(900)
    (row,) = await collect(reader_of(exchange), BLOCK)
    assert row.start == row.at - timedelta(minutes=15)


async def test_an_empty_block_load_needs_no_capture_period() -> None:
    meter = SmallMeter()
    meter.attributes[NAME, 4] = double_long_unsigned(0)
    meter.attributes[NAME, 2] = array()
    assert await collect(reader_of(ScriptedExchange(meter)), BLOCK) == []


# columns and scales


def columns(meter: SmallMeter, *captured: Data) -> None:
    meter.attributes[NAME, 3] = array(*captured)


CLOCK_COLUMN = capture_object(8, Obis(0, 0, 1, 0, 0))
VOLTS = capture_object(3, Obis(1, 0, 12, 27, 0))
ENERGY = capture_object(3, Obis(1, 0, 1, 29, 0))


async def test_columns_of_what_is_billed_are_checked_against_their_fingerprint_in_each_session() -> None:
    meter, cache = SmallMeter(), fresh_cache()
    exchange = ScriptedExchange(meter)
    await collect(reader_of(exchange, cache=cache), BLOCK)
    assert exchange.asked[f"{NAME}#3"] == 1
    # the utility swaps two columns of one width: only the fingerprint shows it
    columns(meter, CLOCK_COLUMN, ENERGY, VOLTS)
    with_rows(meter, lambda _, cells: structure(cells[0], cells[2], cells[1]))
    found = await collect(reader_of(exchange, cache=cache), BLOCK)
    assert exchange.asked[f"{NAME}#3"] == 2
    assert exchange.asked["1-0:94.91.4*255#2"] == 2
    assert found[5].value("1-0:12.27.0*255") == Number(23005, -2, "V")
    assert found[5].value("1-0:1.29.0*255") == Number(5, 0, "Wh")


async def test_columns_of_the_present_are_checked_after_a_while() -> None:
    meter, cache = SmallMeter(), fresh_cache()
    exchange, name = ScriptedExchange(meter), "1-0:94.91.0*255#3"
    await collect(reader_of(exchange, cache=cache), ProfileName.INSTANTANEOUS)
    await collect(reader_of(exchange, cache=cache, now=NOW + CHECK_EVERY / 2), ProfileName.INSTANTANEOUS)
    assert exchange.asked[name] == 1
    await collect(reader_of(exchange, cache=cache, now=NOW + CHECK_EVERY), ProfileName.INSTANTANEOUS)
    assert exchange.asked[name] == 2


def fresh_cache() -> Layouts:
    return {}


async def test_meters_of_one_firmware_share_nothing() -> None:
    cache = fresh_cache()
    first = ScriptedExchange(SmallMeter())
    await collect(reader_of(first, cache=cache, meter="1"), BLOCK)
    second = ScriptedExchange(SmallMeter())
    await collect(reader_of(second, cache=cache, meter="2"), BLOCK)
    assert second.asked[f"{NAME}#3"] == 1
    assert second.asked["1-0:94.91.4*255#2"] == 1
    other = SmallMeter()
    columns(other, CLOCK_COLUMN, ENERGY, VOLTS)
    with_rows(other, lambda _, cells: structure(cells[0], cells[2], cells[1]))
    found = await collect(reader_of(ScriptedExchange(other), cache=cache, meter="3"), BLOCK)
    assert found[5].value("1-0:12.27.0*255") == Number(23005, -2, "V")


async def test_columns_that_change_in_mid_session_are_read_again_within_the_read() -> None:
    meter, cache = SmallMeter(), fresh_cache()
    exchange = ScriptedExchange(meter)
    reader = reader_of(exchange, cache=cache)
    await collect(reader, BLOCK)
    columns(meter, CLOCK_COLUMN, ENERGY)
    with_rows(meter, lambda _, cells: structure(cells[0], cells[2]))
    found = await collect(reader, BLOCK)
    assert [r.at for r in found] == instants(meter)
    assert found[3].value("1-0:1.29.0*255") == Number(3, 0, "Wh")
    assert reader.statistics().layouts_reread == 1


async def test_rows_whose_stamp_is_elsewhere_now_are_read_with_fresh_columns() -> None:
    meter, cache = SmallMeter(), fresh_cache()
    exchange = ScriptedExchange(meter, lambda rows, _: rows)
    reader = reader_of(exchange, cache=cache)
    await collect(reader, BLOCK)
    columns(meter, ENERGY, CLOCK_COLUMN, VOLTS)
    with_rows(meter, lambda _, cells: structure(cells[2], cells[0], cells[1]))
    found = await collect(reader, BLOCK)
    assert [r.at for r in found] == instants(meter)
    assert (reader.statistics().layouts_reread, reader.statistics().unstamped_rows) == (1, 0)


@pytest.mark.parametrize("attribute", [0, -1])
async def test_an_attribute_below_one_means_the_value(attribute: int) -> None:
    meter = SmallMeter()
    columns(
        meter,
        capture_object(8, Obis(0, 0, 1, 0, 0), attribute),
        capture_object(3, Obis(1, 0, 12, 27, 0), attribute, 7),
        ENERGY,
    )
    found = await collect(reader_of(ScriptedExchange(meter)), BLOCK)
    assert [r.at for r in found] == instants(meter)
    assert found[0].value("1-0:12.27.0*255") == Number(23000, -2, "V")


async def test_an_empty_scaler_profile_is_made_up_for_by_the_registers() -> None:
    meter = SmallMeter()
    meter.attributes["1-0:94.91.4*255", 2] = array()
    meter.attributes["1-0:12.27.0*255", 3] = scaler_unit(-2, 35)
    (first, *_) = await collect(reader_of(ScriptedExchange(meter)), BLOCK)
    assert first.value("1-0:12.27.0*255") == Number(23000, -2, "V")
    assert first.value("1-0:1.29.0*255") == Missing(MissingReason.NOT_SUPPORTED)


async def test_a_scaler_profile_that_contradicts_the_energy_register_is_not_believed() -> None:
    meter, cache = SmallMeter(), fresh_cache()
    meter.attributes["1-0:1.8.0*255", 3] = scaler_unit(3, 30)  # the scaler profile says 1
    exchange = ScriptedExchange(meter)
    reader = reader_of(exchange, cache=cache)
    (now,) = await collect(reader, ProfileName.INSTANTANEOUS)
    assert now.value("1-0:1.8.0*255") == Number(1234, 3, "Wh")
    assert now.value("1-0:12.7.0*255") == Number(23012, -2, "V")
    assert reader.statistics().scale_conflicts == 1
    again = reader_of(exchange, cache=cache)
    (now,) = await collect(again, ProfileName.INSTANTANEOUS)
    assert now.value("1-0:1.8.0*255") == Number(1234, 3, "Wh")
    assert exchange.asked["1-0:1.8.0*255#3"] == 2, "looked at in each session"


async def test_a_profile_may_be_at_its_other_place() -> None:
    meter = SmallMeter()
    meter.attributes["1-0:94.91.10*255", 3] = array(capture_object(1, Obis(0, 0, 96, 1, 0)))
    meter.attributes["1-0:94.91.10*255", 2] = array(structure(octets(b"00000007")))
    (plate,) = await collect(reader_of(ScriptedExchange(meter)), ProfileName.NAMEPLATE)
    assert plate.value("0-0:96.1.0*255") is not None
    with pytest.raises(NotSupported):
        await collect(reader_of(ScriptedExchange(meter)), ProfileName.DAILY)


async def test_duplicates_under_one_stamp_stay_apart_across_answers() -> None:
    meter = SmallMeter()
    rows = list(meter.attributes[NAME, 2].items)
    twin = structure(rows[10].items[0], long_unsigned(1), double_long_unsigned(1))
    meter.attributes[NAME, 2] = array(*rows[:11], twin, *rows[11:])
    found = await collect(reader_of(ScriptedExchange(meter, lambda r, s: plain(r, s)[:11])), BLOCK)
    assert len(found) == 97
    pair = [r for r in found if r.at == meter.blocks[10][0]]
    assert [r.occurrence for r in pair] == [0, 1]
    assert replace(pair[0], occurrence=1, values=pair[1].values) == pair[1]


def test_a_stamp_survives_the_wall_clock() -> None:
    assert wall(cosem_time.encode(START)) == START
