"""Commissioning proves before it binds: whatever fails on the way, the directory is as it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.central.ledger.records import StoredCapture
from gateway.config.file import Config
from gateway.edge.journal.journal import Journal
from gateway.errors import PeerUnavailable, UsageError
from gateway.roles.central_files import CentralFiles
from gateway.roles.fieldwork import FieldWork, Proof, commission, replace
from gateway.roles.visit import Reading
from mapping.changes import Change, Install, MoveIn, SetMultiplier
from mapping.directory import Role
from mapping.errors import ChangeRefused
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.errors import MeterSilent
from protocols.reading import Nameplate, Number, ProfileName, Quantity, ReadingSet

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
BEGUN = NOW - timedelta(days=300)
OLD, NEW = "GEN:1", "SEC:2"


class Clock(SystemClock):
    def now(self) -> datetime:
        return NOW


class Visit(FieldWork):
    """A visit whose meters answer from memory, and whose deliveries central holds at once unless told otherwise."""

    def __init__(self, files: CentralFiles) -> None:
        super().__init__(
            cast("Config", None),
            files,
            Clock(),
            cast("Journal", None),
            DirectoryStore(files.directory),
            purpose="commission",
            tell=print,
        )
        self.files = files
        self.steps: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.meanwhile: Callable[[], None] = lambda: None

    @property
    def version(self) -> int:
        return self._store.version

    async def read(self, meter: str) -> tuple[Nameplate, Reading]:
        self._step(f"read {meter}")
        values = ((Quantity.of("1-0:1.8.0*255"), Number(1234, 0, "Wh")),)
        taken = ReadingSet(profile=ProfileName.INSTANTANEOUS, at=NOW, values=values, received_at=NOW)
        plate = Nameplate(manufacturer=meter[:3], serial=meter[4:], model="m", firmware="f")
        return plate, Reading(meter=meter, at=NOW, taken=taken)

    async def deliver(self, reading: Reading, *, by: str) -> StoredCapture:
        assert by
        self._step(f"deliver {reading.meter}")
        self.meanwhile()
        held: Any = SimpleNamespace(capture_id=f"{reading.meter}/instantaneous", ingested_at=NOW)
        return cast("StoredCapture", held)

    def _step(self, step: str) -> None:
        self.steps.append(f"{step} at version {self.version}")
        if error := self.fails.get(step):
            raise error


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    """A street with one house, UP-0101, whose meter OLD is held by account `a`."""
    files = CentralFiles(tmp_path)
    with DirectoryStore(files.directory) as store:
        changes: list[Change] = [Install(OLD, "UP-0101", Role.CONSUMER, BEGUN), MoveIn("UP-0101", "a", BEGUN)]
        store.apply(changes, by="test", source="test", at=BEGUN)
    return Visit(files)


async def commissioned(visit: Visit, point: str = "UP-0102", *, new: bool = True) -> Proof:
    _, found = await commission(
        visit, meter=NEW, usage_point=point, role=Role.CONSUMER, by="engineer", new_usage_point=new
    )
    return found


async def replaced(visit: Visit, point: str = "UP-0101", old: str = OLD) -> tuple[Proof, Proof]:
    final, _, opening = await replace(
        visit, old=old, new=NEW, usage_point=point, by="engineer", no_final=None
    )
    return final, opening


async def test_the_reading_is_at_central_before_the_meter_is_bound(visit: Visit) -> None:
    found = await commissioned(visit)
    assert visit.steps == [f"read {NEW} at version 1", f"deliver {NEW} at version 1"]
    assert visit.version == found.directory_version == 2
    assert (await visit.directory()).usage_point(NEW, NOW) == "UP-0102"


@pytest.mark.parametrize("step", [f"read {NEW}", f"deliver {NEW}"])
async def test_what_fails_on_the_way_leaves_nothing_bound(visit: Visit, step: str) -> None:
    visit.fails[step] = PeerUnavailable("not today") if "deliver" in step else MeterSilent("not today")
    with pytest.raises(type(visit.fails[step]), match="not today"):
        await commissioned(visit)
    assert visit.version == 1


@pytest.mark.parametrize("step", [f"read {NEW}", f"deliver {OLD}", f"deliver {NEW}"])
async def test_a_replacement_that_fails_leaves_the_old_meter_in_place(visit: Visit, step: str) -> None:
    visit.fails[step] = PeerUnavailable("not today")
    with pytest.raises(PeerUnavailable):
        await replaced(visit)
    assert visit.version == 1


async def test_a_replacement_hands_over_when_central_holds_both_readings(visit: Visit) -> None:
    final, opening = await replaced(visit)
    assert [step.removesuffix(" at version 1") for step in visit.steps][-2:] == [
        f"deliver {OLD}",
        f"deliver {NEW}",
    ]
    assert (final.role, opening.role, visit.version) == ("final", "opening", 2)


async def test_a_replacement_keeps_the_multiplier_that_was_declared(visit: Visit) -> None:
    """It turned 10 into 1, and a mill's bill into a tenth."""
    with DirectoryStore(visit.files.directory) as store:
        store.apply([SetMultiplier(OLD, Decimal(10), BEGUN)], by="test", source="test", at=BEGUN)
    await replaced(visit)
    [row] = (await visit.directory()).installations(NEW)
    assert row.multiplier == 10


async def test_what_the_directory_would_refuse_is_told_before_the_meter_is_read(visit: Visit) -> None:
    with pytest.raises(ChangeRefused, match=f"has the consumer's meter {OLD} then: remove it first"):
        await commissioned(visit, "UP-0101", new=False)
    assert visit.steps == []


async def test_a_directory_that_changed_during_the_visit_refuses_to_bind(visit: Visit) -> None:
    def another() -> None:
        with DirectoryStore(visit.files.directory) as store:
            change = Install("GEN:9", "UP-0102", Role.CONSUMER, BEGUN)
            store.apply([change], by="another", source="test", at=NOW)

    visit.meanwhile = another
    with pytest.raises(ChangeRefused, match="GEN:9"):
        await commissioned(visit)
    assert (await visit.directory()).installations(NEW) == ()


@pytest.mark.parametrize("given", ["UP-0110", "up0101", "UP-101", "UP-00101"])
async def test_a_mistyped_usage_point_is_refused_with_the_nearest(visit: Visit, given: str) -> None:
    with pytest.raises(UsageError, match=r"Did you mean `UP-0101`.*--new-usage-point"):
        await commissioned(visit, given, new=False)
    with pytest.raises(UsageError, match="is fitted at `UP-0101`, not at"):
        await replaced(visit, given)
    with pytest.raises(UsageError, match="has the usage point `UP-0101` already"):
        await commissioned(visit, "UP-0101", new=True)
    with pytest.raises(UsageError, match=r"no meter `GEN:11` fitted now\. Did you mean `GEN:1`"):
        await replaced(visit, old="GEN:11")
    assert (visit.steps, visit.version) == ([], 1)


async def test_a_change_set_of_2099_stops_no_visit(visit: Visit) -> None:
    """Its author's clock was wrong; the directory would take the change, and says so before as it does after."""
    with DirectoryStore(visit.files.directory) as store:
        far = NOW.replace(year=2099)
        store.apply([MoveIn("UP-0103", "b", BEGUN)], by="test", source="test", at=far)
    assert (await commissioned(visit)).directory_version == 3
