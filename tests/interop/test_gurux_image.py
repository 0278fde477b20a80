"""Firmware images with gurux-dlms as another process: its client fills our meter, its object and our client agree."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from protocols.dlms.companion import companion
from protocols.dlms.data import axdr
from protocols.dlms.data.types import Data
from protocols.dlms.firmware.image import FirmwareImage
from protocols.dlms.firmware.steps import Activation, Kept, Note, Result
from protocols.dlms.firmware.visit import upgrade_visit
from protocols.dlms.objects import ImageInfo, ImageStatus, ImageTransfer
from protocols.dlms.objects.image import IMAGE_TRANSFER, ImageBlock, Initiation
from protocols.dlms.server.model import AssociationPolicy
from protocols.dlms.session import DlmsSession
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.session import Auth, MeterSpec, SessionContext
from protocols.simulator.cosem.image import image_for
from protocols.simulator.cosem.model import FIRMWARE
from protocols.simulator.dlms.ports import HdlcTcpPort, SimulatedMeter, WrapperPort
from protocols.simulator.faults.script import FaultScript
from tests.support.dlms.trap_site import PHYSICAL, site
from tests.support.fakes import Counters, HandClock
from tests.support.interop.gurux_meter import SECRETS, meter_task, settings_of
from tests.support.interop.peers import PeerProcess
from tests.support.interop.table import IMAGE_METERS, IMAGES, Case

NAME = b"SIM-9.0.0"
PLAIN_WRITER = {FIRMWARE: AssociationPolicy(auth=Auth.NONE, may_write=True)}


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_image.py")
    yield process
    process.close()


@pytest.fixture(scope="module")
def meter() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_server.py")
    yield process
    process.close()


@asynccontextmanager
async def served(meter: SimulatedMeter, framing: str) -> AsyncIterator[int]:
    port = HdlcTcpPort({PHYSICAL: meter}) if framing == "hdlc" else WrapperPort(meter)
    try:
        yield await port.start("127.0.0.1")
    finally:
        await port.close()


@pytest.mark.parametrize("framing", IMAGES)
async def test_a_foreign_client_brings_an_image_into_our_meter(peer: PeerProcess, framing: str) -> None:
    image = image_for("GEN", NAME.decode(), 1100)
    async with site(FaultScript(), extra=PLAIN_WRITER) as at, served(at.meter, framing) as port:
        found = await peer.ask(
            {
                "do": "send",
                "framing": framing,
                "client": FIRMWARE,
                "physical": PHYSICAL,
                "port": port,
                "image": image.hex(),
                "name": NAME.hex(),
            }
        )
        assert found == {
            "enabled": True,
            "size": 256,
            "initiated": ImageStatus.INITIATED,
            "bits": "11111",
            "first_missing": 5,
            "verified": ImageStatus.VERIFIED,
            "waits": [[len(image), NAME.hex()]],
            "activated": ImageStatus.ACTIVATED,
            "version": NAME.decode(),
        }
        assert at.meter.household.image.content == image


async def test_our_client_reads_what_a_foreign_object_shows(peer: PeerProcess) -> None:
    found = await peer.ask(
        {
            "do": "show",
            "size": 200,
            "bits": "1101",
            "first_missing": 2,
            "enabled": True,
            "status": 3,
            "image_size": 700,
            "name": NAME.hex(),
        }
    )

    assert "error" not in found, found

    def data(attribute: int) -> Data:
        return axdr.decode(bytes.fromhex(found[str(attribute)]))

    meter = ImageTransfer(IMAGE_TRANSFER)
    assert meter.image_block_size.parse(data(2)) == 200
    assert meter.image_transferred_blocks_status.parse(data(3)) == "1101"
    assert meter.image_first_not_transferred_block_number.parse(data(4)) == 2
    assert meter.image_transfer_enabled.parse(data(5)) is True
    assert meter.image_transfer_status.parse(data(6)) == ImageStatus.VERIFIED
    assert meter.image_to_activate_info.parse(data(7)) == (ImageInfo(700, NAME, b""),)


async def test_a_foreign_stack_reads_what_our_client_sends(peer: PeerProcess) -> None:
    meter = ImageTransfer(IMAGE_TRANSFER)
    requests = (
        meter.image_transfer_initiate.request(Initiation(NAME, 1100)),
        meter.image_block_transfer.request(ImageBlock(4, b"\x01\x02")),
        meter.image_verify.request(None),
        meter.image_activate.request(None),
    )
    sent = [axdr.encode(request.parameter).hex() for request in requests if request.parameter is not None]
    found = await peer.ask({"do": "parse", "parameters": sent})
    assert found.get("values", found) == [[NAME.hex(), 1100], [4, "0102"], [0], [0]]


@pytest.mark.parametrize("case", IMAGE_METERS, ids=str)
async def test_our_client_brings_an_image_into_a_meter_of_gurux(meter: PeerProcess, case: Case) -> None:
    """In two visits, the second from the first missing block on; then verified, named, activated, the version read."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    content = b"GRX image" * 300
    image = FirmwareImage(
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        maker="GRX",
        models=("6",),
        hardware={},
        version="G2.0",
        identification=b"G2.0",
    )
    model = {"class": 1, "obis": "0.0.94.91.9.255", "value": list(b"6"), "type": 9}
    task = meter_task(case, now, now - timedelta(days=1)) | {"image_block": 200, "objects": [model]}
    told = await meter.ask(task)
    line = TcpLine("gurux", "127.0.0.1", told["port"])
    spec = MeterSpec(meter="GRX:00000007", dlms=settings_of(case))
    context = SessionContext(secrets=SECRETS, counters=Counters(), clock=HandClock(now))
    kept, looks = Kept(), 0

    async def keep(new: Kept) -> None:
        nonlocal kept
        kept = new

    async def note(_: Note) -> None:
        pass

    def may_go_on() -> bool:
        nonlocal looks
        looks += 1
        return looks != 8

    try:
        ends = []
        for _ in range(3):
            async with open_session(line, spec, context) as session:
                assert isinstance(session, DlmsSession)
                ends.append(
                    await upgrade_visit(
                        session,
                        companion(),
                        image,
                        Activation(watch=timedelta(0)),
                        kept,
                        zone=ZoneInfo("Asia/Kolkata"),
                        now=lambda: now,
                        may_go_on=may_go_on,
                        keep=keep,
                        note=note,
                    )
                )
            if ends[-1].result is Result.DONE:
                break
    finally:
        await line.close()
        seen = await meter.ask({"do": "stop"})
    assert ends[-1].result is Result.DONE, (ends, seen["failed"])
    assert len(ends) >= 2
    assert (bytes.fromhex(seen["image"]), seen["failed"]) == (content, [])
