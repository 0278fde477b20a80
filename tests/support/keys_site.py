"""One simulated meter whose keys change: its configuration, the edge's file of keys, and an escrow that may fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from gateway.config.file import Config
from gateway.contract.key_text import KeyText, key_text, sealing_context
from gateway.contract.sealing import new_sealing_pair, open_sealed
from gateway.edge.keys.ring import KeyRing
from gateway.edge.keys.rotate import Escrow
from gateway.edge.keys.store import Change, KeyStore
from gateway.private_file import write_private
from gateway.roles.key_ring import key_ring
from gateway.roles.keys import KeyWork, key_work
from gateway.roles.keys_wanted import Wanted, wanted
from protocols.dlms.acts.keys import KeySlot
from protocols.dlms.session import DlmsSession
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.session import SessionContext
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.dlms.ports import SimulatedMeter, WrapperPort, simulated_meter
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import FaultScript, shipped
from protocols.simulator.household.household import Household
from tests.support.dlms.trap_site import NOW, SECRETS, START, policies
from tests.support.fakes import Counters, ManualClock

METER = "GEN:10000001"
MASTER = b"m" * 16
ESCROW_PRIVATE, ESCROW_PUBLIC = new_sealing_pair()
STORE_PRIVATE, STORE_PUBLIC = new_sealing_pair()
FILES = {
    **SECRETS,
    "mk": MASTER,
    "escrow": ESCROW_PUBLIC,
    "store": STORE_PUBLIC,
}
GATEWAY = "edge-1"


class MemoryEscrow:
    """Central's store in memory; `fails` is raised in its place, `after` once it has kept them."""

    def __init__(self) -> None:
        self.kept: dict[str, Change] = {}
        self.fails: Exception | None = None
        self.loses_answer = False

    async def deposit(self, change: Change) -> None:
        if self.fails is not None:
            raise self.fails
        self.kept[change.key_id] = change
        if self.loses_answer:
            raise TimeoutError

    def text(self, change: Change) -> KeyText:
        """Open what was kept, as the utility does with its offline key."""
        context = sealing_context(change.meter, change.key_id)
        return key_text(open_sealed(self.kept[change.key_id].sealed, private=ESCROW_PRIVATE, context=context))

    def known(self, slot: str) -> set[bytes]:
        """Every key of a slot that central could name, old ones and new ones."""
        return {
            entry.key
            for change in self.kept.values()
            for entry in self.text(change).keys
            if entry.slot == slot
        }


@dataclass
class KeysSite:
    """A served meter and all that changing its keys takes."""

    config: Config
    meter: SimulatedMeter
    escrow: MemoryEscrow
    clock: ManualClock
    counters: Counters = field(default_factory=Counters)

    @asynccontextmanager
    async def work(self, escrow: Escrow | None = None) -> AsyncIterator[KeyWork]:
        async with key_work(self.config, self.clock, escrow=escrow or self.escrow) as work:
            yield work

    async def rotate(self, what: str = "global", client: int | None = None) -> Change:
        async with self.work() as work:
            return await work.rotate(self.wanted(what, client))

    def wanted(self, what: str = "global", client: int | None = None) -> Wanted:
        return wanted(self.config, METER, client, what)

    def ring(self) -> KeyRing:
        return key_ring(self.config, self.clock)

    def store(self) -> KeyStore:
        found = self.ring().store(make=True)
        assert found is not None
        return found

    def held(self, client: int = 48) -> dict[KeySlot, bytes | None]:
        """The keys that the meter truly holds for a client, and its master key."""
        access = self.meter.household._access
        policy = access.policies[client]
        return {
            KeySlot.ENCRYPTION: policy.encryption_key,
            KeySlot.AUTHENTICATION: policy.authentication_key,
            KeySlot.SECRET: policy.secret,
            KeySlot.MASTER: access._master,
        }

    @asynccontextmanager
    async def poll(self) -> AsyncIterator[DlmsSession]:
        """Read the meter as the running edge does, with its keys."""
        ring = self.ring()
        section = self.config.meters[0]
        line = self.config.lines[0]
        assert line.host is not None
        assert line.port is not None
        wire = TcpLine("poll", line.host, line.port)
        context = SessionContext(secrets=ring, counters=self.counters, clock=self.clock)
        try:
            async with open_session(wire, self.config.spec(section, GATEWAY), context) as session:
                assert isinstance(session, DlmsSession)
                yield session
        finally:
            await wire.close()
            ring.close()


@asynccontextmanager
async def keys_site(
    folder: Path, script: FaultScript | str = FaultScript(), **keys: object
) -> AsyncIterator[KeysSite]:
    """Serve a meter with a fault script; `keys` goes into its [meters.keys]."""
    secrets = folder / "keys"
    write_secrets(secrets, FILES)
    home = Household(4, "GEN", "10000001", START, cuts_until=NOW - timedelta(hours=2))
    clock = ManualClock(NOW)
    model = HouseholdModel(home, clock, policies(), master_key=MASTER)
    faults = shipped()[script] if isinstance(script, str) else script
    meter = simulated_meter(model, counter_start=5, script=faults)
    port = WrapperPort(meter)
    number = await port.start("127.0.0.1")
    try:
        yield KeysSite(
            config=keys_config(folder, secrets, number, keys, silent=_is_silent(faults)),
            meter=meter,
            escrow=MemoryEscrow(),
            clock=clock,
        )
    finally:
        await port.close()


def keys_config(
    folder: Path,
    secrets: Path,
    port: int,
    keys: Mapping[str, object],
    *,
    silent: bool = False,
    meter: str = METER,
    more: Mapping[str, object] | None = None,
) -> Config:
    """Return the configuration of an edge with one meter, whose keys lie in `secrets`."""
    return Config.model_validate(
        {
            "gateway": {"name": GATEWAY, "data": str(folder / "data"), "secrets": str(secrets)},
            "keys": {"escrow_key_ref": "escrow", "store_key_ref": "store"},
            "lines": [{"name": "l", "kind": "tcp", "host": "127.0.0.1", "port": port}],
            "meters": [
                {
                    "meter": meter,
                    "line": "l",
                    "dlms": {
                        "client": 48,
                        "auth": "hls2",
                        "ciphered": True,
                        "password_ref": "hls",
                        "encryption_key_ref": "ek",
                        "authentication_key_ref": "ak",
                        "timeout": 3.0 if silent else 30.0,
                    },
                    "keys": {"master_key_ref": "mk", **keys},
                }
            ],
            **(more or {}),
        }
    )


def write_secrets(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write secrets into a private folder."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for ref, content in files.items():
        write_private(folder / ref, content if b"-----" in content else b"hex:" + content.hex().encode())


def _is_silent(script: FaultScript) -> bool:
    """Whether the meter leaves something unanswered: then its silence is waited for."""
    return any(fault.kind is FaultKind.ACTION_UNANSWERED for fault in script.faults)
