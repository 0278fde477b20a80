"""A meter that is not what it was at the last poll: another scale, other columns, another meter; no wrong row comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from protocols.dlms.apdu.conformance import BUILT, Conformance
from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.association_pool import AssociationPool
from protocols.dlms.data.types import Data, array, integer, octets, structure
from protocols.dlms.reading.visit_plan import SERIAL
from protocols.reading import Number, Obis, ProfileName, ReadingSet
from protocols.simulator.faults.script import FaultScript
from tests.support.dlms.trap_site import whole
from tests.support.edge.half_hour import WARM, PolledSite, polled

pytestmark = pytest.mark.virtual_time

LISTS = Conformance.MULTIPLE_REFERENCES | Conformance.ACCESS
IMPORTED, APPARENT = "1-0:1.29.0*255", "1-0:9.29.0*255"
TOTAL = "1-0:1.8.0*255"
BLOCKS = Obis(1, 0, 99, 1, 0)
SCALED = {Obis(1, 0, 94, 91, code) for code in (3, 4, 5, 6, 7)}
GRANTED = pytest.mark.parametrize("granted", [BUILT, BUILT & ~LISTS], ids=["lists", "one by one"])


@contextmanager
def meter_says(p: PolledSite, other: Callable[[Target, Data], Data]) -> Iterator[None]:
    """Let the meter's answers be other ones."""
    model: Any = p.site.meter.household
    true = model.get
    model.get = lambda client, target: other(target, true(client, target))
    yield
    model.get = true


def tenfold(target: Target, found: Data) -> Data:
    """Say of energy what a meter says that counts in tens: scaler profiles and registers alike."""
    if target.class_id == 7 and target.index == 2 and target.obis in SCALED:
        return array(*(structure(*map(_raised, items(row))) for row in items(found)))
    if target.class_id in (3, 4) and target.index == 3 and target.obis.d in (8, 29):
        return _raised(found)
    return found


def _raised(scaler_unit: Data) -> Data:
    scaler, unit = items(scaler_unit)
    return structure(integer((scaler.integer or 0) + (unit.integer in (30, 31, 32))), unit)


def swapped(target: Target, found: Data) -> Data:
    """Exchange imported and apparent energy in columns and rows of the block load: as many, of the same types."""
    if (target.class_id, target.obis) != (7, BLOCKS) or target.index not in (2, 3):
        return found
    if target.index == 3:
        return array(*_exchanged(found))
    return array(*(structure(*_exchanged(row)) for row in items(found)))


def _exchanged(row: Data) -> tuple[Data, ...]:
    stamp, voltage, imported, apparent, *rest = items(row)
    return (stamp, voltage, apparent, imported, *rest)


def items(found: Data) -> tuple[Data, ...]:
    """Return the parts of an array or structure."""
    assert isinstance(found.value, tuple)
    return found.value


def newest(p: PolledSite, profile: ProfileName) -> ReadingSet:
    return max((row for row in p.journal.rows.values() if row.profile is profile), key=lambda row: row.at)


def scaler(row: ReadingSet, quantity: str) -> int:
    value = row.value(quantity)
    assert isinstance(value, Number)
    return value.scaler


@GRANTED
async def test_a_changed_scale_is_seen_before_the_first_row_that_it_would_spoil(granted: Conformance) -> None:
    async with polled(FaultScript(), granted=granted) as p:
        for _ in range(WARM):
            report, _ = await p.poll()
            assert report.ok
            p.pass_time()
        before = {
            (profile, quantity): scaler(newest(p, profile), quantity)
            for profile, quantity in (
                (ProfileName.BLOCK_LOAD, IMPORTED),
                (ProfileName.INSTANTANEOUS, TOTAL),
            )
        }
        with meter_says(p, tenfold):
            report, _ = await p.poll()
        assert report.ok, report.error
        assert {key: scaler(newest(p, key[0]), key[1]) for key in before} == {
            key: was + 1 for key, was in before.items()
        }


@GRANTED
async def test_swapped_columns_are_seen_before_the_first_row_that_they_would_spoil(
    granted: Conformance,
) -> None:
    async with polled(FaultScript(), granted=granted) as p:
        for _ in range(WARM):
            report, _ = await p.poll()
            assert report.ok
            p.pass_time()
        before = {(key[1], key[2]): row for key, row in p.journal.rows.items()}
        with meter_says(p, swapped):
            report, _ = await p.poll((ProfileName.BLOCK_LOAD,))
        assert report.ok, report.error
        row = newest(p, ProfileName.BLOCK_LOAD)
        home = next(
            r for r in p.site.household.block_rows(row.at - timedelta(hours=1), row.at) if r.at == row.at
        )
        assert (str(ProfileName.BLOCK_LOAD), row.at) not in before, "a new row"
        assert whole(row, IMPORTED) == home.energy_import_wh
        assert whole(row, APPARENT) == home.apparent_energy_vah


@pytest.mark.parametrize(
    ("granted", "keep_open"),
    [(BUILT, 0), (BUILT & ~LISTS, 0), (BUILT, 3_600)],
    ids=["lists", "one by one", "standing"],
)
async def test_row_45_nothing_is_taken_from_another_meter_with_the_same_keys(
    granted: Conformance, keep_open: int
) -> None:
    """Same address, keys and title: only the serial tells. In an association that stood it comes with the list."""
    pool = AssociationPool(now=lambda: 0.0)
    async with polled(FaultScript(), granted=granted, pool=pool, keep_open=keep_open) as p:
        for _ in range(WARM):
            report, _ = await p.poll()
            assert report.ok
            p.pass_time()
        before = dict(p.journal.rows)
        with meter_says(p, another):
            report, _ = await p.poll()
        assert report.error_code == "identity_mismatch"
        assert p.journal.rows == before
        p.pass_time()
        report, _ = await p.poll()
        assert report.ok, "the right one is back"
        await pool.close()


def another(target: Target, found: Data) -> Data:
    """Say the serial of another meter."""
    return octets(b"10000002") if target == Target(1, SERIAL) else found
