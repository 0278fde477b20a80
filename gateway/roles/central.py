"""Central put together: directory, ledger and ingest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.central.directory.service import DirectoryService
from gateway.central.history.pages import HistoryPages
from gateway.central.history.service import HistoryService
from gateway.central.intake.service import Central
from gateway.central.intake.systems import Systems
from gateway.central.intake.time_answers import TimeAnswers
from gateway.central.intake.times import TimeService
from gateway.central.keys.desk import KeyDesk, usable_store_secret
from gateway.central.ledger.ledger import Ledger
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.inbox import SystemsInbox
from gateway.central.office.office import Office
from gateway.config.file import Config
from gateway.contract.topics import Topics
from gateway.errors import ConfigError
from gateway.roles.central_files import CentralFiles, central_files_of
from gateway.roles.due_plans import apply_due_plans
from gateway.roles.mqtt_settings import mqtt_settings, password
from gateway.timekeeping.clock import EvidenceClock
from gateway.timekeeping.host import machine_name
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.meters.secrets import FileSecrets
from protocols.session import Clock


class CentralRole:
    """A running central, made by `central_role`; ConfigError when it has no key to sign the directory with."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        ledger: Ledger,
        directory: DirectoryStore,
        office: Office,
        files: CentralFiles,
    ) -> None:
        settings = mqtt_settings(config.mqtt, f"{config.gateway.name}-central")
        ref = config.directory.signing_key_ref
        if ref is None:
            raise ConfigError(
                "the central role signs the directory: set [directory] signing_key_ref "
                "(`meter-gateway directory keys` makes the pair)"
            )
        self.ledger = ledger
        self.directory = directory
        self.plans = files.rekey
        self.trail = office.trail
        self.clock = clock
        signing_key = FileSecrets(config.secrets).secret(ref)
        self.service = DirectoryService(
            store=directory,
            ledger=ledger,
            topics=Topics(config.mqtt.root),
            signing_key=signing_key,
            clock=clock,
        )
        topics = Topics(config.mqtt.root)
        pages = HistoryPages(ledger, self.service.present, topics, clock)
        # People and systems act by the real time, whatever time a simulation shows.
        wall = SystemClock()
        desk = ChangeSetDesk(
            office,
            directory,
            now=wall.now,
            sure=EvidenceClock().disciplined,
            approve_above=config.directory.approve_above,
            ledger=ledger,
        )
        inbox = SystemsInbox(office, desk, root=config.mqtt.root, now=wall.now)
        self.keys = key_desk(config, clock, ledger, files, signing_key)
        self.central = Central(
            settings=settings,
            ledger=ledger,
            signing_key=signing_key,
            clock=clock,
            password=password(config),
            directory=self.service,
            verdicts=TimeService(
                ledger=ledger, topics=Topics(config.mqtt.root), clock=clock, standing=self.service.standing
            ),
            keys=self.keys,
            history=HistoryService(pages, topics, clock),
            systems=Systems(inbox, topics, key=signing_key, now=wall.now),
            times=TimeAnswers(root=config.mqtt.root, key=signing_key, clock=clock, host=machine_name()),
        )

    async def run(self) -> None:
        """Ingest, publish, and apply what was scheduled, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(apply_due_plans(self.directory, self.plans, self.clock, trail=self.trail))
            tasks.create_task(self.central.run())


@asynccontextmanager
async def central_role(config: Config, clock: Clock) -> AsyncIterator[CentralRole]:
    """Open ledger and directory; close them when the block ends."""
    files = central_files_of(config).made()
    ledger = Ledger(files.ledger)
    try:
        if "edge" in config.gateway.roles:
            # One file names both: whoever wrote it gave this gateway its meters.
            meters = [meter.meter for meter in config.meters]
            ledger.allocations.give_new(meters, config.gateway.name, by="the configuration", at=clock.now())
        with DirectoryStore(files.directory) as directory, Office(files.office, files.folder) as office:
            role = CentralRole(config, clock, ledger, directory, office, files)
            try:
                yield role
            finally:
                role.keys.close()
    finally:
        await asyncio.to_thread(ledger.close)


def key_desk(
    config: Config, clock: Clock, ledger: Ledger, files: CentralFiles, signing_key: bytes
) -> KeyDesk:
    """Return central's desk for meters' keys, with the keys that [keys] names; ConfigError for one of no use."""
    section, secrets = config.keys, FileSecrets(config.secrets)
    ref, escrow = section.store_secret_ref, section.escrow_key_ref
    return KeyDesk(
        files.keys,
        ledger,
        root=config.mqtt.root,
        key=signing_key,
        clock=clock,
        copy=files.second_copy,
        store_secret=None if ref is None else usable_store_secret(secrets.secret(ref)),
        escrow=None if escrow is None else secrets.secret(escrow),
    )
