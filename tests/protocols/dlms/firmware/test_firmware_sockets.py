"""Upgrades over real sockets and ptys: our client against the simulator's image target, with each of its faults."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from protocols.dlms.companion import companion
from protocols.dlms.firmware import visit as firmware_visit
from protocols.dlms.firmware.steps import Activation, Kept, Note, Result, VisitEnd
from protocols.dlms.firmware.visit import upgrade_visit
from protocols.dlms.session import DlmsSession
from protocols.errors import ProtocolError
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault, FaultScript, shipped
from tests.support.dlms.image_meter import sim_image
from tests.support.dlms.trap_site import NOW, TrapSite, site

ENDS = {
    "image-blocks-refused": "",
    "image-blocks-lost": "",
    "image-forgotten": "",
    "image-block-size-changes": "",
    "image-verified-slowly": "",
    "image-not-verified": "verification_failed",
    "image-named-wrong": "wrong_identification",
    "image-activates-itself": "",
    "image-activation-fails": "activation_failed",
    "image-never-activates": "not_activated",
    "image-activates-late": "",
    "image-rolls-back": "rolled_back",
}
"""How an upgrade ends under each shipped script; "" is well."""
IMAGE = sim_image(3000)


def model_of(at: TrapSite) -> HouseholdModel:
    return at.meter.household


async def upgraded(at: TrapSite, image: object = IMAGE, visits: int = 30) -> VisitEnd:
    """Visit the meter until the upgrade has an end."""
    kept = Kept()

    async def keep(new: Kept) -> None:
        nonlocal kept
        kept = new

    async def note(_: Note) -> None:
        pass

    for _ in range(visits):
        try:
            async with at.open() as session:
                assert isinstance(session, DlmsSession)
                end = await upgrade_visit(
                    session,
                    companion(),
                    image,  # type: ignore[arg-type]
                    Activation(),
                    kept,
                    zone=ZoneInfo("Asia/Kolkata"),
                    now=at.clock.now,
                    may_go_on=lambda: True,
                    keep=keep,
                    note=note,
                )
        except ProtocolError:
            continue
        if end.result is Result.DONE or end.final:
            return end
        at.clock.advance(max(timedelta(seconds=30), (end.not_before or NOW) - at.clock.now()))
    raise AssertionError(end)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_seconds: float) -> None:
        return None

    monkeypatch.setattr(firmware_visit, "sleep", at_once)


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("script", [name for name in shipped() if name.startswith("image-")])
async def test_each_fault_of_an_image_target_comes_to_its_end(script: str, framing: str) -> None:
    async with site(script, framing) as at:
        end = await upgraded(at)
        target = model_of(at).image
        assert end.reason == ENDS[script]
        assert target.activations <= 1
        assert (target.version == IMAGE.version) == (end.result is Result.DONE)


@pytest.mark.parametrize("kind", [FaultKind.DROP, FaultKind.HANG_UP, FaultKind.REBOOT, FaultKind.SILENT])
async def test_a_bad_line_delays_an_upgrade_only(kind: FaultKind) -> None:
    async with site(FaultScript(faults=(Fault(kind=kind, after=9, every=11, times=4),))) as at:
        assert (await upgraded(at)).result is Result.DONE
        assert model_of(at).image.activations == 1


async def test_an_image_for_another_hardware_leaves_the_meter_as_it_was() -> None:
    async with site(FaultScript()) as at:
        end = await upgraded(at, sim_image(hardware=dict.fromkeys(IMAGE.hardware, "D2")))
        assert (end.reason, end.final) == ("wrong_image", True)
        assert model_of(at).image.content == b""
