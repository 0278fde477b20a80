"""From a box without central's files: the meters are read, and what shall be learned is kept as a signed request."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.config.file import Config
from gateway.contract.field_request import read_request
from gateway.edge.journal.journal import Journal
from gateway.errors import ContractError, GatewayError
from gateway.roles.asked_visit import AskingVisit, ask_to_commission, ask_to_replace, request_keys
from gateway.roles.visit import Reading
from mapping.change_sets import changes_of
from mapping.changes import Install, Replace
from mapping.directory import Role
from mapping.snapshot import DirectorySnapshot
from protocols.clock import SystemClock
from protocols.errors import IdentityMismatch, MeterSilent
from protocols.reading import MissingReason, Nameplate, Number, ProfileName, Quantity, ReadingSet

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
OLD, NEW = "GEN:1", "SEC:2"


class Clock(SystemClock):
    def now(self) -> datetime:
        return NOW


class FieldBox(AskingVisit):
    """A box far from central, whose meters answer from memory and whose broker is away."""

    def __init__(self, folder: Path) -> None:
        config: Any = SimpleNamespace(gateway=SimpleNamespace(name="edge-7", data=folder))
        super().__init__(
            cast("Config", config), Clock(), cast("Journal", None), purpose="commission", tell=print
        )
        self.fails: dict[str, Exception] = {}
        self.journaled: list[str] = []

    async def read(self, meter: str) -> tuple[Nameplate, Reading]:
        if error := self.fails.get(meter):
            raise error
        values = ((Quantity.of("1-0:1.8.0*255"), Number(1234, 0, "Wh")),)
        taken = ReadingSet(profile=ProfileName.INSTANTANEOUS, at=NOW, values=values, received_at=NOW)
        plate = Nameplate(manufacturer=meter[:3], serial=meter[4:], model="m", firmware="f")
        return plate, Reading(meter=meter, at=NOW, taken=taken)

    async def journal(self, reading: Reading, directory: DirectorySnapshot) -> str:
        assert directory.version == 0  # nobody's yet: central says whose, once it has the change
        self.journaled.append(reading.meter)
        return f"{reading.meter}/instantaneous"

    async def send(self) -> bool:
        return False


@pytest.fixture
def box(tmp_path: Path) -> FieldBox:
    return FieldBox(tmp_path)


async def asked(box: FieldBox, file: Path) -> None:
    await ask_to_commission(box, file, meter=NEW, usage_point="UP-1", role=Role.CONSUMER, by="ravi")


async def test_a_request_says_what_was_read_and_who_asks(box: FieldBox, tmp_path: Path) -> None:
    file = tmp_path / "job.request"
    plate, done = await ask_to_commission(
        box, file, meter=NEW, usage_point="UP-1", role=Role.CONSUMER, by="ravi"
    )
    assert (plate.meter_id, done.energy, done.delivered) == (NEW, "1234 Wh", False)
    assert file.stat().st_mode & 0o077 == 0
    request = read_request(file.read_bytes(), (done.verify_key.read_bytes(),))
    assert (request.gateway, request.asked_by, request.source) == ("edge-7", "ravi", "commission")
    assert changes_of(request.changes, DirectorySnapshot()) == [Install(NEW, "UP-1", Role.CONSUMER, NOW)]
    assert [(one.meter, one.energy) for one in request.readings] == [(NEW, "1234 Wh")]


async def test_a_replacement_has_both_readings_of_one_instant(box: FieldBox, tmp_path: Path) -> None:
    file = tmp_path / "job.request"
    await ask_to_replace(
        box, file, old=OLD, new=NEW, usage_point="UP-1", by="ravi", no_final=MissingReason.METER_SILENT
    )
    _, verify = request_keys(tmp_path / "field")
    request = read_request(file.read_bytes(), (verify.read_bytes(),))
    assert changes_of(request.changes, DirectorySnapshot()) == [Replace(OLD, NEW, NOW, "UP-1")]
    assert [(one.meter, one.energy) for one in request.readings] == [
        (OLD, f"missing: {MissingReason.METER_SILENT}"),
        (NEW, "1234 Wh"),
    ]
    assert box.journaled == [OLD, NEW]


async def test_where_the_meter_does_not_answer_nothing_is_written(box: FieldBox, tmp_path: Path) -> None:
    file = tmp_path / "job.request"
    box.fails[NEW] = IdentityMismatch(expected=NEW, found="SEC:3")
    with pytest.raises(IdentityMismatch):
        await asked(box, file)
    box.fails = {OLD: MeterSilent("not today")}
    with pytest.raises(GatewayError, match="--no-final"):
        await ask_to_replace(box, file, old=OLD, new=NEW, usage_point="UP-1", by="ravi", no_final=None)
    assert not file.exists()
    assert box.journaled == []


async def test_another_box_and_a_changed_request_are_not_believed(box: FieldBox, tmp_path: Path) -> None:
    file = tmp_path / "job.request"
    await asked(box, file)
    _, other = request_keys(tmp_path / "another")
    _, own = request_keys(tmp_path / "field")
    text = file.read_bytes()
    for given, key in ((text, other), (text[:-20] + b"A" * 20, own), (b"nothing", own)):
        with pytest.raises(ContractError):
            read_request(given, (key.read_bytes(),))
