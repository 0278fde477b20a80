"""Serves a planned neighbourhood on real sockets and ptys, and knows what its meters truly recorded."""

from __future__ import annotations

import os
import time
import tty
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from protocols.clock import NowSource
from protocols.dlms.companion import companion
from protocols.dlms.security.curves import NO_KEYS, NO_PEER, OwnKeys, PeerKey, PeerKeys
from protocols.dlms.security.key_use import KeyUse
from protocols.dlms.server.model import AssociationPolicy
from protocols.errors import LineUnavailable, LocalError
from protocols.open_files import raise_file_limit
from protocols.reading import ProfileName
from protocols.session import Auth
from protocols.simulator.cosem.meter import Build
from protocols.simulator.cosem.model import (
    DISPLAY,
    FIRMWARE,
    PUBLIC,
    PUSH,
    READER,
    UTILITY,
    HouseholdModel,
    system_title,
)
from protocols.simulator.dlms.ports import (
    ConcentratorPort,
    HdlcPort,
    HdlcTcpPort,
    SimulatedMeter,
    WrapperPort,
    simulated_meter,
)
from protocols.simulator.faults.script import FaultFile
from protocols.simulator.household.household import Household
from protocols.simulator.household.state import BillingRow, BlockRow, DailyRow, EventRow
from protocols.simulator.modbus.faults import modbus_faults
from protocols.simulator.modbus.meter import ModbusMeter
from protocols.simulator.modbus.server import serve_rtu, serve_rtu_tcp, serve_tcp
from protocols.simulator.neighbourhood.authority import Authority
from protocols.simulator.neighbourhood.plan import (
    AGREEMENT_KEY,
    CONCENTRATOR,
    SIGNING_KEY,
    LinePlan,
    MeterKind,
    MeterPlan,
    Plan,
    plan_neighbourhood,
)

HISTORY = timedelta(days=36)
"""How long before its start a neighbourhood began to record."""
FILES_PER_LINE, SPARE_FILES = 3, 256
"""Files that a line may hold open (listening, two clients), and what the process needs besides."""
CALM = timedelta(hours=1)
"""How long before its start the last power cut of a neighbourhood has ended."""
_MAKERS_THAT_NUMBER_EVENTS = ("GEN", "HPL")
_FIRMWARE = {
    ("D1", False): "SIM-W-1.4.2",
    ("D1", True): "SIM-H-1.2.0",
    ("D2", False): "SIM-W3-1.1.0",
    ("D2", True): "SIM-H3-1.1.0",
    ("D3", False): "SIM-CT-1.0.3",
    ("D3", True): "SIM-CT-1.0.3",
}
"""By category and framing: what profiles capture differs by it, so clients keep layouts apart."""
_COUNTER_EPOCH = 1_577_836_800
"""2020-01-01: counters of a restarted process go on above those of the earlier one."""


class _Port(Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRecord:
    """What a meter truly recorded: stored rows and events, stamped in UTC; empty for a Modbus meter."""

    meter: str
    blocks: tuple[BlockRow, ...] = ()
    daily: tuple[DailyRow, ...] = ()
    billing: tuple[BillingRow, ...] = ()
    events: tuple[EventRow, ...] = ()


class Neighbourhood:
    """A running neighbourhood; `plan` holds every address. Use `start`, then `stop`."""

    def __init__(
        self, plan: Plan, clock: NowSource, faults: FaultFile | None = None, *, converters: bool = False
    ) -> None:
        self.plan = plan
        self._converters = converters
        self.faults = faults
        self.clock = clock
        self.households = {meter.meter: household_of(plan, meter) for meter in plan.meters}
        self.models: dict[str, HouseholdModel] = {}
        self._ports: list[_Port] = []
        self._descriptors: list[int] = []
        self._counter_start = counter_start()

    @classmethod
    async def start(
        cls,
        *,
        seed: int,
        clock: NowSource,
        meters: int = 26,
        history_from: datetime | None = None,
        cuts_until: datetime | None = None,
        faults: FaultFile | None = None,
        suite: int = 0,
        converters: bool = False,
        concentrator: bool = False,
    ) -> Neighbourhood:
        """Plan and serve.

        `history_from` defaults to 36 days before the clock's present, `cuts_until` to one hour before it:
        cuts lie in the history, and every meter answers from now on. With `converters` HDLC buses are on TCP ports
        instead of ptys. Raises MeterConfigError for a wrong
        number of meters, LineUnavailable when a port or pty cannot be had.
        """
        plan = plan_neighbourhood(
            seed=seed,
            meters=meters,
            history_from=history_from or clock.now() - HISTORY,
            cuts_until=cuts_until or clock.now() - CALM,
            suite=suite,
            concentrator=concentrator,
        )
        served = cls(plan, clock, faults, converters=converters)
        try:
            await served.open()
        except OSError as error:
            await served.stop()
            raise LineUnavailable(f"the simulator cannot open a port or pty: {error}") from error
        return served

    def has_supply(self, meter: str, during: timedelta) -> bool:
        """Say whether no cut takes the supply of a meter away from now on for so long, minute by minute."""
        now, household = self.clock.now(), self.households[meter]
        minutes = range(during // timedelta(minutes=1) + 1)
        return all(household.state(now + timedelta(minutes=m)).powered for m in minutes)

    async def open(self) -> None:
        """Serve every line and note its address in the plan."""
        raise_file_limit(FILES_PER_LINE * len(self.plan.lines) + SPARE_FILES)
        on_line: dict[str, list[MeterPlan]] = {}
        for meter in self.plan.meters:
            on_line.setdefault(meter.line, []).append(meter)
        lines = [await self._serve(line, tuple(on_line[line.name])) for line in self.plan.lines]
        self.plan = replace(self.plan, lines=tuple(lines))

    async def stop(self) -> None:
        """Close every port and pty. Idempotent."""
        while self._ports:
            await self._ports.pop().close()
        while self._descriptors:
            with suppress(OSError):
                os.close(self._descriptors.pop())

    def recorded(self, meter: str, since: datetime, until: datetime) -> MeterRecord:
        """Return what a meter recorded with since < stamp <= until, relay and clock orders included."""
        return record_of(self.households[meter], self.plan.meter(meter), since, until)

    async def _serve(self, line: LinePlan, meters: tuple[MeterPlan, ...]) -> LinePlan:
        host = line.host or "127.0.0.1"
        match line.serves:
            case MeterKind.DLMS_TCP if line.name == CONCENTRATOR:
                port = ConcentratorPort({meter.spec: self._dlms(meter) for meter in meters})
                self._ports.append(port)
                return replace(line, port=await port.start(host))
            case MeterKind.DLMS_TCP:
                wrapper = WrapperPort(self._dlms(meters[0]))
                self._ports.append(wrapper)
                return replace(line, port=await wrapper.start(host))
            case MeterKind.DLMS_HDLC if self._converters:
                bus_port = HdlcTcpPort({_physical(meter): self._dlms(meter) for meter in meters})
                self._ports.append(bus_port)
                return replace(line, kind="tcp", host=host, port=await bus_port.start(host))
            case MeterKind.DLMS_HDLC:
                master, device = self._pty()
                bus = HdlcPort({_physical(meter): self._dlms(meter) for meter in meters}, master)
                self._ports.append(bus)
                bus.start()
                return replace(line, device=device)
            case MeterKind.MODBUS_RTU:
                master, device = self._pty()
                self._ports.append(await serve_rtu(self._modbus(meters), master))
                return replace(line, device=device)
            case MeterKind.MODBUS_TCP | MeterKind.MODBUS_RTU_TCP:
                serve = serve_tcp if line.serves is MeterKind.MODBUS_TCP else serve_rtu_tcp
                server = await serve(self._modbus(meters), host)
                self._ports.append(server)
                return replace(line, port=server.port)

    def _dlms(self, meter: MeterPlan) -> SimulatedMeter:
        hdlc = meter.kind is MeterKind.DLMS_HDLC
        model = HouseholdModel(
            self.households[meter.meter],
            self.clock,
            policies_of(meter, self.plan.seed),
            build=Build(
                category=meter.category,
                older_prepayment=hdlc,
                firmware=_FIRMWARE[meter.category, hdlc],
                numbered_events=meter.manufacturer in _MAKERS_THAT_NUMBER_EVENTS,
                physical=meter.spec.dlms.physical if meter.spec.dlms else None,
            ),
            master_key=meter.secrets.master_key if meter.secrets else None,
        )
        self.models[meter.meter] = model
        script = self.faults.script(meter.meter) if self.faults else None
        return simulated_meter(model, counter_start=self._counter_start, script=script)

    def _modbus(self, meters: tuple[MeterPlan, ...]) -> list[ModbusMeter]:
        return [
            ModbusMeter(
                self.households[m.meter],
                m.spec.modbus.model,
                m.spec.modbus.unit,
                self.clock,
                faults=modbus_faults(m.meter, self.faults),
            )
            for m in meters
            if m.spec.modbus is not None
        ]

    def _pty(self) -> tuple[int, str]:
        """Open a pty in raw mode; our hold on its far side keeps it alive between clients."""
        master, slave = os.openpty()
        self._descriptors += [master, slave]
        tty.setraw(slave)
        return master, os.ttyname(slave)


def household_of(plan: Plan, meter: MeterPlan) -> Household:
    """Return the household behind a planned meter: the same in every process."""
    kind = companion().categories[meter.category]
    return Household(
        plan.seed,
        meter.manufacturer,
        meter.serial,
        plan.history_from,
        area=meter.locality,
        load_percent=meter.load_percent,
        prepaid=meter.role == "consumer",
        cuts_until=plan.cuts_until,
        three_phase=kind.phases == 3,
        period=kind.profiles[ProfileName.BLOCK_LOAD].capture_period,
    )


def record_of(household: Household, meter: MeterPlan, since: datetime, until: datetime) -> MeterRecord:
    """Return what a household's meter recorded with since < stamp <= until."""
    if meter.spec.dlms is None:
        return MeterRecord(meter=meter.meter)
    return MeterRecord(
        meter=meter.meter,
        blocks=tuple(household.block_rows(since, until)),
        daily=tuple(household.daily_rows(since, until)),
        billing=tuple(household.billing_rows(since, until)),
        events=tuple(household.event_rows(since, until)),
    )


def policies_of(meter: MeterPlan, seed: int) -> dict[int, AssociationPolicy]:
    """Say what a DLMS meter asks of each client; `seed` is the town's, for key pairs under suites 1 and 2.

    Public nothing; reader a password, plain on meters that are read with it and ciphered on others; utility and
    firmware upgrade HLS; push and the display are pre-established.
    """
    dlms, secrets = meter.spec.dlms, meter.secrets
    if dlms is None or secrets is None:
        raise LocalError(f"{meter.meter} is not a DLMS meter")
    keyed = dlms.auth in (Auth.HLS_GMAC, Auth.HLS_ECDSA)
    own, peer = (NO_KEYS, NO_PEER) if not dlms.suite else _pairs(meter, seed, dlms.suite)
    keys = AssociationPolicy(
        auth=Auth.NONE,
        ciphered=True,
        suite=dlms.suite,
        own=own,
        peer=peer,
        encryption_key=secrets.encryption_key,
        authentication_key=secrets.authentication_key,
        master_key=secrets.master_key,
    )
    hls = replace(keys, auth=dlms.auth if keyed else Auth.HLS2, may_write=True)
    reader = AssociationPolicy(auth=Auth.NONE) if dlms.auth is Auth.LLS else keys
    return {
        PUBLIC: AssociationPolicy(auth=Auth.NONE),
        READER: replace(reader, auth=Auth.LLS, secret=secrets.password),
        UTILITY: replace(hls, secret=None if keyed else secrets.hls_key),
        PUSH: replace(keys, pre_established=True),
        FIRMWARE: replace(hls, secret=None if keyed else secrets.firmware_key),
        DISPLAY: AssociationPolicy(auth=Auth.NONE, pre_established=True),
    }


def _pairs(meter: MeterPlan, seed: int, suite: int) -> tuple[OwnKeys, PeerKeys]:
    """Return the meter's private keys, and the public ones of its clients."""
    town = Authority(seed, suite)
    key = town.key(meter.key, "signing")
    title = system_title(meter.manufacturer, meter.serial)
    shown = town.certificate_octets(title, key.public_key(), KeyUse.SIGNING)
    own = OwnKeys(signing=key, agreement=town.key(meter.key, "agreement"), certificate=shown)
    signing, agreement = (PeerKey(town.key(name).public_key()) for name in (SIGNING_KEY, AGREEMENT_KEY))
    return own, PeerKeys(signing=signing, agreement=agreement)


def counter_start() -> int:
    """Return the first invocation counter of a meter that starts now: seconds since 2020."""
    return max(0, int(time.time()) - _COUNTER_EPOCH)


def _physical(meter: MeterPlan) -> int:
    if meter.spec.dlms is None or meter.spec.dlms.physical is None:
        raise LocalError(f"{meter.meter} has no physical address")
    return meter.spec.dlms.physical
