"""Firmware upgrades as a lot: what a plan holds, and one visit of one meter."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.acts.audit import ActRecord
from gateway.acts.firmware_file import ImageSection, image_of, read_content
from gateway.lots.core import Again, Done, Failed, Outcome
from gateway.lots.runner import Visit
from protocols.clock import NowSource
from protocols.dlms.companion import companion
from protocols.dlms.firmware.image import FirmwareImage
from protocols.dlms.firmware.steps import Activation, How, Kept, Note, Result, VisitEnd
from protocols.dlms.firmware.visit import upgrade_visit
from protocols.dlms.session import DlmsSession
from protocols.session import MeterSpec

KIND = "firmware"
STOP_ON = ("rolled_back", "activation_failed", "not_activated", "wrong_version")
"""Failures that stop a lot at the first: what one meter does after its activation, the next will do, too."""

NOT_COUNTED = ("wrong_image",)
"""Failures that say nothing about the image: it is for other meters, and nothing was sent to this one."""
IMAGE_SUFFIX = ".image"

OpenMeter = Callable[[str], AbstractAsyncContextManager[tuple[DlmsSession, MeterSpec]]]
"""Opens a session with a meter by its name, in the association that takes images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradePlan:
    """What a lot of upgrades is about: the declaration of the image, its own copy of the file, and the activation."""

    section: ImageSection
    activation: Activation

    def as_facts(self) -> dict[str, Any]:
        """Return it as JSON data."""
        at = self.activation.at
        return {
            "image": self.section.model_dump(mode="json"),
            "how": str(self.activation.how),
            "at": None if at is None else at.isoformat(),
            "settle": int(self.activation.settle.total_seconds()),
            "watch": int(self.activation.watch.total_seconds()),
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> UpgradePlan:
        """Read what `as_facts` wrote."""
        at = facts["at"]
        return cls(
            section=ImageSection.model_validate(facts["image"]),
            activation=Activation(
                how=How(facts["how"]),
                at=None if at is None else datetime.fromisoformat(at),
                settle=timedelta(seconds=facts["settle"]),
                watch=timedelta(seconds=facts["watch"]),
            ),
        )


def told_again(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is left of a meter's facts when a person orders its upgrade again."""
    return Kept.of(kept).told_again().as_facts()


def copy_path(lot: Path) -> Path:
    """Return where a lot keeps its own copy of the image."""
    return lot.with_suffix(IMAGE_SUFFIX)


class UpgradeVisitor:
    """Visits meters of a lot; each step that matters is in the record of acts before it is taken."""

    def __init__(
        self,
        plan: UpgradePlan,
        image: FirmwareImage,
        open_meter: OpenMeter,
        record: ActRecord,
        clock: NowSource,
        by: str,
    ) -> None:
        self._plan = plan
        self._image = image
        self._open = open_meter
        self._record = record
        self._clock = clock
        self._by = by

    @classmethod
    def of_lot(
        cls,
        lot: Path,
        facts: Mapping[str, Any],
        open_meter: OpenMeter,
        record: ActRecord,
        clock: NowSource,
        by: str,
    ) -> UpgradeVisitor:
        """Make one for the lot at a path; ConfigError, MeterConfigError when its image is not the planned one."""
        plan = UpgradePlan.of(facts)
        image = image_of(plan.section, read_content(copy_path(lot)))
        return cls(plan, image, open_meter, record, clock, by)

    async def __call__(self, visit: Visit) -> Outcome:
        """Make one visit; raises what the session raises."""
        meter = visit.item.meter
        before = Kept.of(visit.item.kept)
        version = before.from_version

        async def keep(kept: Kept) -> None:
            await visit.keep(kept.as_facts())

        async def note(said: Note) -> None:
            nonlocal version
            version = said.version
            await to_thread(self._note, meter, version, said.text)

        async with self._open(meter) as (session, spec):
            assert spec.dlms is not None
            end = await upgrade_visit(
                session,
                companion(spec.dlms.companion),
                self._image,
                self._plan.activation,
                before,
                zone=spec.time_zone(),
                now=self._clock.now,
                may_go_on=visit.may_go_on,
                keep=keep,
                note=note,
            )
        if end.result is Result.DONE or end.final:
            self._note(meter, version, f"{end.reason or end.result}: {end.note}")
        return _outcome(end)

    def _note(self, meter: str, version: str, outcome: str) -> None:
        self._record.note(
            at=self._clock.now(),
            by=self._by,
            meter=meter,
            act="firmware upgrade",
            before=version,
            after=f"{self._image.version} (SHA-256 {self._image.sha256[:16]}…)",
            outcome=outcome,
        )


def _outcome(end: VisitEnd) -> Outcome:
    match end.result:
        case Result.DONE:
            return Done(note=end.note)
        case Result.AGAIN:
            return Again(note=end.note, not_before=end.not_before, progress=end.progress)
        case Result.FAILED:
            return Failed(reason=end.reason, note=end.note, final=end.final)
