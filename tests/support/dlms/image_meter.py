"""A meter with an image target, in memory: what an upgrade's steps are played against, with faults and crashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.cosem_dates import CosemDateTime
from protocols.dlms.data.types import Data, array, octets
from protocols.dlms.firmware.asking import ImageObjects
from protocols.dlms.firmware.image import FirmwareImage
from protocols.dlms.firmware.steps import (
    Activation,
    Get,
    Keep,
    Kept,
    Look,
    Note,
    Now,
    Rest,
    Result,
    Run,
    Set,
    Step,
    VisitEnd,
)
from protocols.dlms.firmware.upgrade import upgrade
from protocols.dlms.server.model import AccessDenied
from protocols.errors import MeterBusy, MeterRefused, MeterSilent, NotSupported, ProtocolError
from protocols.reading import Nameplate, Obis
from protocols.simulator.cosem.image import IMAGE_SCHEDULE, IMAGE_TRANSFER, ImageTarget, image_for
from protocols.simulator.cosem.objects import Memory
from protocols.simulator.faults.image import FaultyImage
from protocols.simulator.faults.script import Fault, FaultPlayer, FaultScript

START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OLD, NEW = "SIM-1.4.2", "SIM-1.5.0"
VERSION, CATEGORY = Obis(1, 0, 0, 2, 0), Obis(0, 0, 94, 91, 11)
OBJECTS = ImageObjects(image=IMAGE_TRANSFER, schedule=IMAGE_SCHEDULE, versions=(VERSION,))
PLATE = Nameplate(manufacturer="GEN", serial="1", firmware=OLD, model="6", year=2025)
ACTIVATE = 4
ZONE = ZoneInfo("Asia/Kolkata")


def sim_image(size: int = 1000, **changes: Any) -> FirmwareImage:
    """Return an image for the meter."""
    content = image_for("GEN", NEW, size)
    fields: dict[str, Any] = {
        "content": content,
        "sha256": hashlib.sha256(content).hexdigest(),
        "maker": "GEN",
        "models": ("6",),
        "hardware": {CATEGORY: "D1"},
        "version": NEW,
        "identification": NEW.encode(),
    }
    return FirmwareImage(**(fields | changes))


class Crash(BaseException):
    """The program died at this step."""


class _ClockOf:
    def __init__(self, meter: ImageMeter) -> None:
        self._meter = meter

    def now(self) -> datetime:
        return self._meter.now


@dataclass
class ImageMeter:
    """The meter and the program's durable facts; `mischief` says at each step what goes wrong."""

    image: FirmwareImage
    activation: Activation = field(default_factory=Activation)
    faults: tuple[Fault, ...] = ()
    now: datetime = START
    kept: Kept = field(default_factory=Kept)
    told: int = 0
    changed: int = 0
    blocks_sent: list[int] = field(default_factory=list)
    steps: int = 0
    notes: list[str] = field(default_factory=list)
    clock_off: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.memory = Memory()
        self.target = ImageTarget("GEN", OLD, _ClockOf(self), self.memory, lambda _: None)
        self.faulty = FaultyImage(self.target, FaultPlayer(FaultScript(faults=self.faults), "GEN:1"))
        self.object = self.target.served()

    def visit(
        self,
        mischief: Callable[[Step], str] = lambda _: "",
        *,
        plate: Nameplate = PLATE,
        most: int = 10_000,
    ) -> VisitEnd | ProtocolError | None:
        """Make one visit; return its end, the error that it did not survive, or None when the program died.

        Mischief: `crash-before`, `crash-after`, `lost-before` (no answer, nothing was done), `lost-after`.
        After `most` blocks its time is over.
        """
        steps = upgrade(self.image, self.activation, OBJECTS, plate=plate, kept=self.kept, zone=ZONE)
        self.left = most
        try:
            step = next(steps)
            while True:
                self.steps += 1
                given, error = self._play(step, mischief(step))
                step = steps.send(given) if error is None else steps.throw(error)
        except StopIteration as end:
            found = end.value
            assert isinstance(found, VisitEnd)
            return found
        except Crash:
            return None
        except ProtocolError as error:
            return error
        finally:
            steps.close()

    def run(
        self, mischief: Callable[[Step], str] = lambda _: "", visits: int = 60, most: int = 10_000
    ) -> VisitEnd:
        """Visit until the upgrade has an end; the last visits meet no mischief."""
        for n in range(visits):
            end = self.visit(mischief if n < visits // 2 else lambda _: "", most=most)
            self.now += timedelta(minutes=1)
            if not isinstance(end, VisitEnd):
                continue
            if end.result is Result.DONE or end.final:
                return end
            self.now = max(self.now, end.not_before or self.now)
        raise AssertionError(f"no end after {visits} visits: {end}")

    def _play(self, step: Step, wrong: str) -> tuple[Any, ProtocolError | None]:
        if wrong == "crash-before":
            raise Crash
        on_the_line = isinstance(step, Get | Set | Run)
        if wrong == "lost-before" and on_the_line:
            return None, MeterSilent("no answer")
        try:
            given = self._do(step)
        except ProtocolError as error:
            return None, error
        if wrong == "crash-after":
            raise Crash
        if wrong == "lost-after" and on_the_line:
            return None, MeterSilent("no answer")
        return given, None

    def _do(self, step: Step) -> Any:
        match step:
            case Get(target=target):
                return self._answer(lambda: self._get(target))
            case Set(target=target, value=value):
                self.changed += 1
                return self._answer(lambda: self._set(target, value))
            case Run(target=target, parameter=parameter):
                return self._answer(lambda: self._run(target, parameter))
            case Keep(kept=kept):
                assert Kept.of(kept.as_facts()) == kept
                self.kept = kept
            case Note(text=text):
                self.notes.append(text)
            case Rest(seconds=seconds):
                self.now += timedelta(seconds=seconds)
            case Look():
                return Now(self.now, self.left > 0)
        return None

    def _answer(self, do: Callable[[], Data | None]) -> Data | None:
        try:
            return do()
        except AccessDenied as error:
            kind = {2: MeterBusy, 4: NotSupported}.get(error.code)
            if kind is NotSupported:
                raise NotSupported("refused") from error
            raise (kind or MeterRefused)("refused", reason_code=error.code) from error

    def _get(self, target: Target) -> Data:
        self.target.tick()
        if target.class_id == 18:
            return self.faulty.get(target.index, lambda: self.object.read[target.index](None))
        if target.obis == VERSION:
            self.faulty.version()
            return octets(self.target.version.encode())
        if target.obis == CATEGORY:
            return octets(b"D1")
        if target.class_id == 8:
            return octets(CosemDateTime.of(self.now + self.clock_off, ZONE).octets)
        assert target.obis == IMAGE_SCHEDULE
        return self.memory.get(IMAGE_SCHEDULE, 4) or array()

    def _set(self, target: Target, value: Data) -> None:
        if target.class_id == 18:
            self.object.write[target.index](value)
        else:
            assert target.obis == IMAGE_SCHEDULE
            self.check_content()
            self.memory.put(IMAGE_SCHEDULE, 4, value)

    def _run(self, target: Target, parameter: Data) -> Data | None:
        self.changed += 1
        if target.index == 2:
            self.left -= 1
            self.blocks_sent.append(parameter.items[0].integer or 0)
        if target.index == ACTIVATE:
            self.told += 1
            self.check_content()
        return self.faulty.run(target.index, lambda: self.object.methods[target.index](parameter))

    def check_content(self) -> None:
        """Assert that what is to be activated is verified, whole and ours."""
        assert self.target.content == self.image.content
