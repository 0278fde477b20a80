"""One simulated meter with a fault script, on a real socket or pty, and our client before it."""

from __future__ import annotations

import os
import tty
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.model import AssociationPolicy
from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.reading import Number, ProfileName, ReadingSet
from protocols.session import Auth, DlmsSettings, MeterSession, MeterSpec, SessionContext
from protocols.simulator.cosem.model import PUBLIC, READER, UTILITY, HouseholdModel
from protocols.simulator.dlms.ports import (
    HdlcPort,
    HdlcTcpPort,
    SimulatedMeter,
    WrapperPort,
    simulated_meter,
)
from protocols.simulator.faults.script import FaultScript, shipped
from protocols.simulator.household.household import Household
from tests.support.fakes import Counters, ManualClock, Secrets

START = datetime(2026, 10, 29, 18, 30, tzinfo=UTC)
NOW = START + timedelta(days=4, hours=3, minutes=11)
SPAN = timedelta(days=2)
SECRETS = {"hls": b"h" * 16, "ek": b"e" * 16, "ak": b"a" * 16, "lls": b"password"}
PHYSICAL = 17
BLOCKS = "1-0:99.1.0*255"


def policies() -> dict[int, AssociationPolicy]:
    return {
        PUBLIC: AssociationPolicy(auth=Auth.NONE),
        READER: AssociationPolicy(auth=Auth.LLS, secret=SECRETS["lls"]),
        UTILITY: AssociationPolicy(
            auth=Auth.HLS2,
            ciphered=True,
            secret=SECRETS["hls"],
            encryption_key=SECRETS["ek"],
            authentication_key=SECRETS["ak"],
            may_write=True,
        ),
    }


def utility(**changes: object) -> DlmsSettings:
    values: dict[str, object] = {
        "client": 48,
        "auth": Auth.HLS2,
        "ciphered": True,
        "password_ref": "hls",
        "encryption_key_ref": "ek",
        "authentication_key_ref": "ak",
        "timeout": 2.0,
    }
    return DlmsSettings(**(values | changes))  # type: ignore[arg-type]


@dataclass
class TrapSite:
    """A served meter; `open` gives our client's session with it."""

    household: Household
    meter: SimulatedMeter
    line: Line
    clock: ManualClock
    settings: DlmsSettings
    counters: Counters = field(default_factory=Counters)
    port: int = 0
    layouts: dict[tuple[str, str, str], object] = field(default_factory=dict)

    @asynccontextmanager
    async def open(self, **changes: object) -> AsyncIterator[MeterSession]:
        values = {n: getattr(self.settings, n) for n in self.settings.__dataclass_fields__}
        spec = MeterSpec(meter="GEN:10000001", dlms=DlmsSettings(**(values | changes)))
        async with open_session(
            self.line,
            spec,
            SessionContext(secrets=Secrets(SECRETS), counters=self.counters, clock=self.clock),
            layouts=self.layouts,
        ) as session:
            yield session

    async def blocks(self, session: MeterSession, span: timedelta = SPAN) -> list[ReadingSet]:
        return [s async for s in session.read(ProfileName.BLOCK_LOAD, NOW - span, NOW)]

    def true_blocks(self, span: timedelta = SPAN) -> list[tuple[datetime, int, int]]:
        rows = self.household.block_rows(NOW - span, NOW)
        return [(r.at, r.energy_import_wh, r.apparent_energy_vah) for r in rows]


def energies(sets: list[ReadingSet]) -> list[tuple[datetime, int, int]]:
    return [(s.at, whole(s, "1-0:1.29.0*255"), whole(s, "1-0:9.29.0*255")) for s in sets]


def whole(reading: ReadingSet, quantity: str) -> int:
    value = reading.value(quantity)
    assert isinstance(value, Number), (quantity, value)
    return int(value.decimal())


@asynccontextmanager
async def site(
    script: str | FaultScript,
    framing: str = "wrapper",
    *,
    extra: Mapping[int, AssociationPolicy] | None = None,
    master_key: bytes | None = None,
    limits: ServerSettings | None = None,
) -> AsyncIterator[TrapSite]:
    """Serve one meter with a shipped script (by name) or another; `limits` are what it grants at most."""
    home = Household(4, "GEN", "10000001", START, cuts_until=NOW - timedelta(hours=2))
    clock = ManualClock(NOW)
    model = HouseholdModel(home, clock, {**policies(), **(extra or {})}, master_key=master_key)
    faults = shipped()[script] if isinstance(script, str) else script
    meter = simulated_meter(model, counter_start=5, script=faults)
    if framing in ("wrapper", "hdlc-tcp"):
        port = WrapperPort(meter, limits) if framing == "wrapper" else HdlcTcpPort({PHYSICAL: meter})
        at = await port.start("127.0.0.1")
        line: Line = TcpLine("trap", "127.0.0.1", at)
        bus = {"framing": "hdlc", "physical": PHYSICAL} if framing == "hdlc-tcp" else {}
        try:
            yield TrapSite(home, meter, line, clock, utility(**bus), port=at)
        finally:
            await line.close()
            await port.close()
        return
    master, slave = os.openpty()
    tty.setraw(slave)
    port_ = HdlcPort({PHYSICAL: meter}, master, limits)
    port_.start()
    line = SerialLine("trap", os.ttyname(slave), baud=115_200)
    try:
        yield TrapSite(home, meter, line, clock, utility(framing="hdlc", physical=PHYSICAL))
    finally:
        await line.close()
        await port_.close()
        os.close(master)
        os.close(slave)
