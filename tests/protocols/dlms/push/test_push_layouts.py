"""Layouts of what is pushed, from the companion and from the meter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import (
    array,
    capture_object,
    long_unsigned,
    octets,
    structure,
)
from protocols.dlms.push.body import PushBody, PushedRows
from protocols.dlms.push.layout import companion_layouts, push_layouts, pushed_sets
from protocols.errors import MeterProtocolError
from protocols.reading import Obis, ProfileName
from tests.support.dlms.bench import START, SmallMeter
from tests.support.dlms.reader_bench import (
    IST,
    NOW,
    ScriptedExchange,
    reader_of,
)

BLOCK = ProfileName.BLOCK_LOAD
ENERGY = "1-0:1.29.0*255"


def test_a_pushed_interval_of_unknown_length_is_a_misfit_and_no_crash() -> None:
    setup, layout = next((s, one) for s, one in companion_layouts().items() if one.profile is BLOCK)
    row = structure(octets(cosem_time.encode(START, IST)), *(long_unsigned(1) for _ in layout.columns[1:]))
    body = PushBody(payload=PushedRows((row,)), device="7", setup=setup)
    (known,) = pushed_sets(layout, body, zone=IST, received_at=NOW)
    assert known.start is not None
    with pytest.raises(MeterProtocolError, match="capture period is not known"):
        pushed_sets(replace(layout, period=0), body, zone=IST, received_at=NOW)


@pytest.mark.parametrize(("setup", "stamp"), [(5, "0-0:1.0.0*255"), (103, "0-0:0.1.2*255")])
async def test_pushed_single_objects_have_the_profiles_period_and_the_billing_date_for_a_stamp(
    setup: int, stamp: str
) -> None:
    meter, name = SmallMeter(), Obis(0, setup, 25, 9, 0)
    billed = [capture_object(3, Obis.parse(stamp))] if setup == 103 else []
    header = [capture_object(1, Obis(0, 0, 42, 0, 0)), capture_object(40, name, 1)]
    meter.attributes[str(name), 2] = array(*header, *billed, capture_object(3, Obis.parse(ENERGY)))
    exchange = ScriptedExchange(meter)
    layout = (await push_layouts(exchange, reader_of(exchange)))[name]  # type: ignore[arg-type]
    assert layout.stamp is not None
    assert str(layout.stamp.quantity) == stamp
    assert layout.period == (1800 if setup == 5 else 0)
