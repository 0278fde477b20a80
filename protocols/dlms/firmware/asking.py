"""What a visit of an upgrade asks of a meter, whatever it is for: version, status, clock; and what it keeps."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import NULL
from protocols.dlms.data.values import text_of
from protocols.dlms.firmware.image import FirmwareImage, misfit
from protocols.dlms.firmware.steps import Activation, Get, Keep, Kept, Look, Note, Now, Run, Step
from protocols.dlms.objects.clock import CLOCK, Clock
from protocols.dlms.objects.image import ImageTransfer
from protocols.dlms.objects.interface import AttributeRef, MethodRef
from protocols.errors import MeterRefused, NotSupported, ProtocolError
from protocols.reading import Nameplate, Obis

T = TypeVar("T")
Doing = Generator[Step, Any, T]

MAX_DRIFT = timedelta(minutes=5)
"""How wrong the clock of a meter may be that is to activate by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageObjects:
    """Where a companion has what an upgrade needs: image transfer, activation schedule, firmware's version, clock."""

    image: Obis
    schedule: Obis | None
    versions: tuple[Obis, ...]
    clock: Obis = CLOCK


class Asking:
    """Asks and keeps; what follows from it is the visit's."""

    def __init__(
        self,
        image: FirmwareImage,
        activation: Activation,
        objects: ImageObjects,
        plate: Nameplate,
        kept: Kept,
        zone: ZoneInfo,
    ) -> None:
        self._image = image
        self._activation = activation
        self._objects = objects
        self._plate = plate
        self._kept = kept
        self._zone = zone
        self._meter = ImageTransfer(objects.image)
        self._gained = False  # whether this visit brought blocks into the meter

    def _version(self) -> Doing[str]:
        """Read the firmware's version afresh: a nameplate may be of before the activation."""
        refusal: ProtocolError | None = None
        for obis in self._objects.versions:
            try:
                return text_of((yield Get(Target(1, obis, 2))))
            except (NotSupported, MeterRefused) as error:
                refusal = error
        raise refusal or NotSupported("the companion names no object with the firmware's version")

    def _now(self) -> Doing[Now]:
        now = yield Look()
        assert isinstance(now, Now)
        return now

    def _get(self, attribute: AttributeRef[T]) -> Doing[T]:
        data = yield Get(Target(attribute.class_id, attribute.obis, attribute.number))
        return attribute.parse(data)

    def _run(self, method: MethodRef[T], parameter: T) -> Doing[None]:
        request = method.request(parameter)
        yield Run(request.target, NULL if request.parameter is None else request.parameter)

    def _keep(self, **changes: Any) -> Doing[None]:
        kept = replace(self._kept, **changes)
        yield Keep(kept)
        self._kept = kept

    def _status(self) -> Doing[int]:
        return (yield from self._get(self._meter.image_transfer_status))

    def _signature(self) -> Doing[str | None]:
        """Return the signature (hex) of our image, by name and size, among those to activate; None where it is not."""
        waiting = yield from self._get(self._meter.image_to_activate_info)
        for one in waiting:
            name, size = one.image_to_activate_identification, one.image_to_activate_size
            if (name, size) == (self._image.identification, len(self._image.content)):
                return one.image_to_activate_signature.hex()
        return None

    def _another_s(self, version: str) -> Doing[bool]:
        """Say whether an image of our name and size is another one than we left there: its signature differs."""
        shown = yield from self._signature()
        if not shown or not self._kept.signature or shown == self._kept.signature:
            return False
        yield Note("another image stands under our image's name; ours is sent anew", version)
        return True

    def _misfit(self, version: str) -> Doing[str]:
        shown: dict[Obis, str] = {}
        for obis in self._image.hardware:
            try:
                shown[obis] = text_of((yield Get(Target(1, obis, 2))))
            except (NotSupported, MeterRefused):
                shown[obis] = ""
        return misfit(self._image, self._plate, version, shown)

    def _wrong_clock(self) -> Doing[str]:
        """Say why the meter's own clock is not one to activate by; "" when it is."""
        shown = yield from self._get(Clock(self._objects.clock).time)
        date, time = shown.date, shown.time
        parts = (date.year, date.month, date.day, time.hour, time.minute)
        if None in parts:
            return f"the meter's clock shows {shown}: no schedule runs by it"
        year, month, day, hour, minute = (part or 0 for part in parts)
        try:
            found = datetime(year, month, day, hour, minute, time.second or 0, tzinfo=self._zone)
        except ValueError:
            return f"the meter's clock shows {shown}: no schedule runs by it"
        local = (yield from self._now()).at.astimezone(self._zone)
        if abs(found - local) > MAX_DRIFT:
            shows, now = f"{found:%Y-%m-%d %H:%M:%S}", f"{local:%Y-%m-%d %H:%M:%S}"
            return f"the meter's clock shows {shows}, and it is {now}: set it first"
        return ""
