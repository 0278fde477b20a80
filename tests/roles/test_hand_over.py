"""A hand-over is dated by our own time when the clock of the meter that comes or goes is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import stamp
from gateway.roles.hand_over import dated, read_at
from mapping.changes import Install, MoveIn, Remove
from mapping.directory import Role
from mapping.store import DirectoryStore
from protocols.reading import MeterTime, Number, ProfileName, Quantity, ReadingSet
from tests.support.journal_records import heard

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


def reading(at: datetime, *, trusted: bool, received: datetime) -> ReadingSet:
    return ReadingSet(
        profile=ProfileName.INSTANTANEOUS,
        at=at,
        values=((Quantity.of("1-0:1.8.0*255"), Number(1, 0, "Wh")),),
        received_at=received,
        meter_time=MeterTime(wall="", deviation=330, status=0, trusted=trusted),
    )


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("off", [timedelta(days=3), timedelta(days=-9000)])
def test_a_wrong_clock_dates_no_hand_over(tmp_path: Path, trusted: bool, off: timedelta) -> None:
    old = dated(reading(NOW + off, trusted=trusted, received=NOW))
    new = dated(reading(NOW + timedelta(seconds=4), trusted=True, received=NOW + timedelta(seconds=5)))
    at = max(old.at, new.at)
    assert NOW <= at <= NOW + timedelta(seconds=5)
    with DirectoryStore(tmp_path / "d.db") as store:
        since = NOW - timedelta(days=9)
        store.apply(
            [Install("GEN:1", "up", Role.CONSUMER, since), MoveIn("up", "a", since)],
            by="t",
            source="t",
            at=NOW,
        )
        store.apply(
            [Remove("GEN:1", at), Install("GEN:2", "up", Role.CONSUMER, at)], by="t", source="t", at=NOW
        )
        snapshot = store.snapshot()
    roles = []
    for meter, taken in (("GEN:1", read_at(old, at)), ("GEN:2", read_at(new, at))):
        [block] = stamp([taken], meter, StampingPart(snapshot))
        [capture] = heard(block).captures
        assert capture.at == at
        roles += [(a.account_id, a.role) for a in capture.attributions]
    assert roles == [("a", "final"), ("a", "opening")]


def test_a_good_clock_stays(tmp_path: Path) -> None:
    good = reading(NOW, trusted=True, received=NOW + timedelta(seconds=2))
    assert dated(good) == good
    assert replace(good, meter_time=None) == dated(replace(good, meter_time=None))
