"""Carries out the steps of an upgrade over an association: a thin shell that decides nothing."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import Companion
from protocols.dlms.data.types import Data
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
    Run,
    Set,
    Step,
    Steps,
    VisitEnd,
)
from protocols.dlms.firmware.upgrade import upgrade
from protocols.dlms.objects.image import IMAGE_TRANSFER
from protocols.dlms.session import DlmsSession
from protocols.errors import ProtocolError
from protocols.reading import Obis

BLUE_BOOK = ImageObjects(image=IMAGE_TRANSFER, schedule=Obis(0, 0, 15, 0, 2), versions=(Obis(1, 0, 0, 2, 0),))
"""Image transfer, its activation schedule and the active firmware's identifier (Blue Book 6.2), by default."""


class Association(Protocol):
    """What is asked of an association; `ResumingExchange` opens a new one after a fault."""

    async def get(self, target: Target) -> Data:
        """Read one attribute."""

    async def set(self, target: Target, value: Data) -> None:
        """Write one attribute, once."""

    async def action(self, target: Target, parameter: Data) -> Data | None:
        """Run one method, once."""


async def carry_out(
    steps: Steps,
    association: Association,
    *,
    now: Callable[[], datetime],
    may_go_on: Callable[[], bool],
    keep: Callable[[Kept], Awaitable[None]],
    note: Callable[[Note], Awaitable[None]],
) -> VisitEnd:
    """Return what the visit came to; raises what its steps did not survive. Cancelling leaves the meter as it is."""

    async def answer(step: Step) -> Data | Now | None:
        match step:
            case Get(target=target):
                return await association.get(target)
            case Set(target=target, value=value):
                await association.set(target, value)
            case Run(target=target, parameter=parameter):
                await association.action(target, parameter)
            case Keep(kept=kept):
                await keep(kept)
            case Note():
                await note(step)
            case Rest(seconds=seconds):
                await sleep(seconds)
            case Look():
                return Now(now(), may_go_on())
        return None

    try:
        step = next(steps)
        while True:
            try:
                given = await answer(step)
            except ProtocolError as error:
                step = steps.throw(error)
            else:
                step = steps.send(given)
    except StopIteration as end:
        found = end.value
        assert isinstance(found, VisitEnd)
        return found
    finally:
        steps.close()


def image_objects(companion: Companion) -> ImageObjects:
    """Return where a companion has what an upgrade needs, by the Blue Book where it does not say."""
    declared, clock = companion.control.get("image_transfer"), companion.control.get("clock")
    return ImageObjects(
        image=declared.obis if declared else BLUE_BOOK.image,
        schedule=companion.schedules.get("image_activation", BLUE_BOOK.schedule),
        versions=companion.identity.get("firmware", BLUE_BOOK.versions),
        clock=clock.obis if clock else BLUE_BOOK.clock,
    )


async def upgrade_visit(
    session: DlmsSession,
    companion: Companion,
    image: FirmwareImage,
    activation: Activation,
    kept: Kept,
    *,
    zone: ZoneInfo,
    now: Callable[[], datetime],
    may_go_on: Callable[[], bool],
    keep: Callable[[Kept], Awaitable[None]],
    note: Callable[[Note], Awaitable[None]],
) -> VisitEnd:
    """Make one visit of an upgrade in an open session; returns and raises what `carry_out` does.

    IdentityMismatch and other errors of `DlmsSession.identify` come before anything is asked of the image target.
    """
    steps = upgrade(
        image,
        activation,
        image_objects(companion),
        plate=await session.identify(),
        kept=kept,
        zone=zone,
    )
    return await carry_out(steps, session.exchange, now=now, may_go_on=may_go_on, keep=keep, note=note)
