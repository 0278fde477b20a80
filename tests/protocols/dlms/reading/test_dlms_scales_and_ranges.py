"""Scales and ranges: no energy is lost or invented between meter and reading set."""

from __future__ import annotations

from datetime import timedelta

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.core.outcomes import service_refusal
from protocols.dlms.data.types import (
    Data,
    array,
    scaler_unit,
    structure,
)
from protocols.dlms.reading.layout_cache import CHECK_EVERY, Layouts
from protocols.errors import MeterBusy
from protocols.reading import Number, ProfileName
from tests.support.dlms.bench import START, SmallMeter
from tests.support.dlms.reader_bench import (
    BLOCKS,
    NOW,
    ScriptedExchange,
    collect,
    reader_of,
    stamp_of,
    wall,
)

BLOCK = ProfileName.BLOCK_LOAD
NAME = str(BLOCKS)
SCALERS = "1-0:94.91.4*255"
ENERGY = "1-0:1.29.0*255"
VOLTS = "1-0:12.27.0*255"
Found = list[Data]
Selection = RangeSelection | EntrySelection | None


def of_kilo(meter: SmallMeter) -> SmallMeter:
    """Another rating of the same firmware: energies in units a thousand times as large."""
    energy, *rest = meter.attributes[SCALERS, 2].items[0].items
    assert energy.items[0].integer == 0
    meter.attributes[SCALERS, 2] = array(structure(scaler_unit(3, 30), *rest))
    return meter


# scales and the shared cache


async def test_meters_of_one_firmware_and_other_ratings_keep_their_own_scales() -> None:
    cache: Layouts = {}
    await collect(reader_of(ScriptedExchange(SmallMeter()), cache=cache, meter="1"), BLOCK)
    found = await collect(reader_of(ScriptedExchange(of_kilo(SmallMeter())), cache=cache, meter="2"), BLOCK)
    assert found[5].value(ENERGY) == Number(5, 3, "Wh")


async def test_a_meter_whose_scaler_is_changed_is_believed_when_its_columns_are_checked_again() -> None:
    cache: Layouts = {}
    exchange = ScriptedExchange(SmallMeter())
    await collect(reader_of(exchange, cache=cache), BLOCK)
    of_kilo(exchange.meter)
    found = await collect(reader_of(exchange, cache=cache, now=NOW + CHECK_EVERY), BLOCK)
    assert found[5].value(ENERGY) == Number(5, 3, "Wh")


# ranges


def by_the_blue_book(rows: Found, selection: Selection) -> Found:
    """Heed the deviation by the Blue Book's sign: a range with +330 lies eleven hours too late."""
    assert isinstance(selection, RangeSelection)
    deviation = int.from_bytes(selection.since[9:11], "big", signed=True)
    shift = timedelta() if deviation == -0x8000 else timedelta(minutes=330 + deviation)
    low, high = wall(selection.since) + shift, wall(selection.until) + shift
    return [row for row in rows if low <= stamp_of(row) <= high]


@pytest.mark.parametrize("hours", [2, 8, 14, 47])
async def test_a_range_heard_as_a_later_one_is_not_taken_for_an_end_of_the_rows(hours: int) -> None:
    meter = SmallMeter()
    exchange = ScriptedExchange(meter, by_the_blue_book)
    end = START + timedelta(hours=48)
    found = await collect(reader_of(exchange), BLOCK, end - timedelta(hours=hours), NOW)
    assert [r.at for r in found] == [at for at, _ in meter.blocks if at > end - timedelta(hours=hours)]


@pytest.mark.parametrize("busy", ["1-0:1.29.0*255#3", f"{NAME}#5"])
async def test_a_busy_meter_is_not_taken_for_one_without_a_scale_or_an_order(busy: str) -> None:
    class Busy(ScriptedExchange):
        async def get_octets(self, target: Target) -> bytes:
            if str(target) == busy and not self.asked[busy]:
                self.asked[busy] += 1
                raise service_refusal(2, busy)
            return await super().get_octets(target)

    cache: Layouts = {}
    meter = SmallMeter()
    meter.attributes[SCALERS, 2] = array()
    meter.attributes[ENERGY, 3] = scaler_unit(0, 30)
    exchange = Busy(meter)
    with pytest.raises(MeterBusy):
        await collect(reader_of(exchange, cache=cache), BLOCK)
    found = await collect(reader_of(exchange, cache=cache), BLOCK)
    assert found[5].value(ENERGY) == Number(5, 0, "Wh")
