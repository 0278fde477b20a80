"""The whole program in one process: simulated meters on real sockets, a broker, edge, central and portal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.central.people.database import PeopleStore
from gateway.central.people.imports import import_contacts
from gateway.central.portal.view_models import MeterRow, Overview
from gateway.central.telling.messages import Provider
from gateway.config import file as configuration
from gateway.demo.broker import embedded_broker
from gateway.errors import GatewayError
from gateway.private_file import write_private
from gateway.roles.app import Running, running
from gateway.roles.central_files import (
    SIGNING_KEY,
    VERIFY_KEY,
    central_files,
    central_files_of,
    make_directory_keys,
)
from mapping.imports import apply_import, plan_import
from mapping.rekey import apply_rekey, plan_rekey
from mapping.store import DirectoryStore
from protocols.clock import SimulatedClock
from protocols.errors import MeterConfigError
from protocols.simulator.neighbourhood.files import read_plan, write_files
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import MeterPlan, Plan

NAME = "demo"
APPROVER = "demo clerk"
"""Who lets the re-key pass: in a demonstration nobody else has a list of the numbers."""
PATIENCE = 120.0
"""Longest wait, in seconds, for any step of the demonstration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What is to be shown.

    `folder` takes all files; `meters` and `seed` make the neighbourhood. Simulated time begins `behind` before
    now and runs `speed` times as fast until it is there. `unnamed` consumers have no 10-digit number at first
    (None: nobody has one). `port` is that of the pages (0: any that is free). Without `poll` the meters are read
    only when asked for; the first reading goes back `backfill_days`.
    """

    folder: Path
    meters: int = 26
    seed: int = 1
    speed: float = 60.0
    behind: timedelta = timedelta(hours=2)
    unnamed: int | None = 3
    port: int = 0
    poll: bool = True
    backfill_days: int = 35


class Demo:
    """A running demonstration, made by `demonstration`: what can be seen of it, and its steps."""

    def __init__(self, options: DemoOptions, town: Neighbourhood, parts: Running) -> None:
        self.options = options
        self.plan: Plan = town.plan
        self._town = town
        self._parts = parts

    @property
    def url(self) -> str:
        """Return the address of the pages."""
        assert self._parts.portal is not None
        return self._parts.portal.url

    @property
    def config_file(self) -> Path:
        """Return the path of the configuration that this demonstration runs on."""
        return self.options.folder / "gateway.toml"

    @property
    def late(self) -> tuple[MeterPlan, ...]:
        """Return the consumers whose numbers are not known at first."""
        count = self.options.unnamed
        return self.plan.consumers if count is None else self.plan.consumers[:count]

    def overview(self) -> Overview:
        """Return what the operator's page shows. Blocking."""
        assert self._parts.portal is not None
        return self._parts.portal.views.overview()

    async def rows(self) -> dict[str, MeterRow]:
        """Return what the ledger and the directory say of each meter."""
        overview = await asyncio.to_thread(self.overview)
        return {row.meter: row for row in overview.meters}

    async def repeated(self) -> int:
        """Return how many readings the ledger was sent more than once."""
        central = self._parts.central
        assert central is not None
        return await asyncio.to_thread(lambda: central.ledger.counts().repeated)

    def journaled(self) -> int:
        """Return how many entries the edge has journaled so far."""
        assert self._parts.edge is not None
        return self._parts.edge.journal.last_seq

    async def rekey(self) -> int:
        """Apply the re-key file; return how many accounts got their number."""

        def apply() -> int:
            with _directory(self.options) as store:
                now = datetime.now(UTC)
                with plan_rekey(store.snapshot(), _town(self.options) / "rekey.csv", at=now) as plan:
                    apply_rekey(store, plan, by=NAME, approver=APPROVER, at=now)
                    return plan.counts["applied"]

        return await asyncio.to_thread(apply)

    async def wait_directory(self) -> None:
        """Wait until the edge stamps with the directory's present version of its part."""
        edge, central = self._parts.edge, self._parts.central
        assert edge is not None
        assert central is not None
        wanted = await asyncio.to_thread(lambda: central.directory.version)
        await wait_until(
            lambda: edge.link.directory_version >= wanted, "central's directory reaches the edge"
        )

    async def poll_once(self) -> list[str]:
        """Read every profile of every meter once; return what went wrong, one line each."""
        assert self._parts.edge is not None
        report = await self._parts.edge.poller.poll_once()
        return [f"{r.meter} on {r.line}: {r.error}" for r in report.meters if not r.ok]

    async def wait_ledger(self) -> None:
        """Wait until the ledger holds every entry of the journal."""
        edge, central = self._parts.edge, self._parts.central
        assert edge is not None
        assert central is not None
        last = edge.journal.last_seq

        def complete() -> bool:
            return central.ledger.journals.state(edge.journal.uuid).contiguous >= last

        await wait_until(complete, "the ledger holds every journaled entry")

    async def faults(self) -> list[str]:
        """Compare the ledger with what the meters recorded and with the plan; return one line for each difference."""
        assert self._parts.central is not None
        rows = await self.rows()
        found = []
        for meter in self.plan.meters:
            row = rows.get(meter.meter)
            if row is None or row.last_at is None:
                found.append(f"{meter.meter}: nothing of it is in the ledger")
            elif meter.role == "consumer" and row.account_number != meter.account_number:
                found.append(
                    f"{meter.meter}: stands under {row.account_number or row.reason or 'no account'}, "
                    f"should be {meter.account_number}"
                )
        return found + await asyncio.to_thread(self._missing)

    def _missing(self) -> list[str]:
        assert self._parts.central is not None
        ledger = self._parts.central.ledger
        found = []
        for meter in self.plan.meters:
            if meter.spec.dlms is None:
                continue
            held = ledger.captures.between(meter.meter, "block_load")
            if not held:
                found.append(f"{meter.meter}: no block load in the ledger")
                continue
            last = max(capture.at for capture in held)
            since = last - timedelta(days=self.options.backfill_days) + timedelta(hours=1)
            recorded = self._town.recorded(meter.meter, since, last).blocks
            missing = {row.at for row in recorded} - {capture.at for capture in held}
            if missing:
                found.append(
                    f"{meter.meter}: {len(missing)} half-hours that it recorded are not in the ledger"
                )
        return found


@asynccontextmanager
async def demonstration(options: DemoOptions, provider: Provider) -> AsyncIterator[Demo]:
    """Start everything and stop it when the block ends.

    In the order of what needs what: meters, broker, directory and keys, then the roles that use them all.
    Raises GatewayError when `options.folder` holds another demonstration.
    """
    options.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    time = SimulatedClock.ending_now(behind=options.behind, speed=options.speed)
    async with AsyncExitStack() as stack:
        town = await _start_town(options, time)
        stack.push_async_callback(town.stop)
        port = await stack.enter_async_context(embedded_broker())
        config = await asyncio.to_thread(_prepare, options, port)
        parts = await stack.enter_async_context(running(config, provider=provider, poll=options.poll))
        yield Demo(options, town, parts)


async def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Return when `condition` holds (asked in a thread); GatewayError after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise GatewayError(f"waited {seconds:g} s in vain until {what}") from error


async def _start_town(options: DemoOptions, time: SimulatedClock) -> Neighbourhood:
    try:
        before = read_plan(_town(options))
    except MeterConfigError:
        before = None
    if before is not None and (before.seed, len(before.meters)) != (options.seed, options.meters):
        raise GatewayError(f"{options.folder} holds another demonstration: choose a new folder")
    town = await Neighbourhood.start(
        seed=options.seed,
        clock=time,
        meters=options.meters,
        history_from=before.history_from if before else None,
        cuts_until=before.cuts_until if before else None,
    )
    write_files(town.plan, _town(options), time=time, unnamed=options.unnamed)
    return town


def _prepare(options: DemoOptions, mqtt_port: int) -> configuration.Config:
    """Write keys and configuration, load directory and contacts. Blocking."""
    town = _town(options)
    make_directory_keys(town / "keys")
    path = options.folder / "gateway.toml"
    text = _toml(options, mqtt_port) + (town / "edge.toml").read_text(encoding="utf-8")
    write_private(path, text.encode())
    config = configuration.load(path)
    now = datetime.now(UTC)
    files = central_files_of(config).made()
    with DirectoryStore(files.directory) as store:
        apply_import(store, plan_import(store.snapshot(), town / "directory.csv", at=now), by=NAME, at=now)
        snapshot = store.snapshot()
    people = PeopleStore(files.people)
    try:
        import_contacts(people, town / "contacts.csv", snapshot.account_by_number, by=NAME, now=now)
    finally:
        people.close()
    return config


def _toml(options: DemoOptions, mqtt_port: int) -> str:
    return f"""# Written by `meter-gateway demo`; it runs on this file.
[gateway]
name = "{NAME}"
data = {_quoted(options.folder / "data")}
secrets = {_quoted(_town(options) / "keys")}
roles = ["edge", "central", "portal"]
log_level = "error"

[time]
trust = "host"  # a demonstration must run where nothing disciplines the clock

[mqtt]
host = "127.0.0.1"
port = {mqtt_port}
batch_age = 0.1
version = "3.1.1"

[schedule]
backfill_days = {options.backfill_days}

[directory]
signing_key_ref = "{SIGNING_KEY}"
verify_key_ref = "{VERIFY_KEY}"

[web]
port = {options.port}

"""


def _quoted(path: Path) -> str:
    """Return a path as a TOML string, which JSON's is."""
    return json.dumps(str(path), ensure_ascii=False)


def _town(options: DemoOptions) -> Path:
    return options.folder / "town"


def _directory(options: DemoOptions) -> DirectoryStore:
    return DirectoryStore(central_files(options.folder / "data").directory)
