"""Central put together: directory, ledger, ingest and, with the portal's role, the pages."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gateway.central.directory.service import DirectoryService
from gateway.central.intake.service import Central
from gateway.central.ledger.ledger import Ledger
from gateway.central.portal.contacts import ContactStore
from gateway.central.portal.otp import CodeSender, OneTimeCodes
from gateway.central.portal.views import Views
from gateway.config.file import Config
from gateway.contract.signing import new_key_pair
from gateway.contract.topics import Topics
from gateway.errors import ConfigError
from gateway.roles.mqtt_settings import mqtt_settings, password
from gateway.web.app import create_app
from gateway.web.server import serve
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.meters.secrets import FileSecrets
from protocols.session import Clock

SIGNING_KEY = "directory-signing"
VERIFY_KEY = "directory-verify"


@dataclass(frozen=True, slots=True)
class CentralFiles:
    """Central's files under one data folder."""

    folder: Path

    @property
    def directory(self) -> Path:
        """Who holds which meter."""
        return self.folder / "directory.db"

    @property
    def ledger(self) -> Path:
        """Every reading for ever."""
        return self.folder / "ledger.db"

    @property
    def contacts(self) -> Path:
        """Registered mobiles."""
        return self.folder / "contacts.db"

    def made(self) -> CentralFiles:
        """Make the folder, private."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self


def central_files(data: Path) -> CentralFiles:
    """Return central's files under a gateway's data folder."""
    return CentralFiles(data / "central")


class CentralRole:
    """A running central; made by `central_role`."""

    def __init__(self, config: Config, clock: Clock, ledger: Ledger, directory: DirectoryStore) -> None:
        settings = mqtt_settings(config.mqtt, f"{config.gateway.name}-central")
        ref = config.directory.signing_key_ref
        if ref is None:
            raise ConfigError(
                "the central role signs the directory: set [directory] signing_key_ref "
                "(`meter-gateway directory keys` makes the pair)"
            )
        self.ledger = ledger
        self.directory = directory
        self.service = DirectoryService(
            store=directory,
            ledger=ledger,
            topics=Topics(config.mqtt.root),
            signing_key=FileSecrets(config.secrets).secret(ref),
            clock=clock,
        )
        self.central = Central(
            settings=settings,
            ledger=ledger,
            clock=clock,
            password=password(config),
            directory=self.service,
        )

    async def run(self) -> None:
        """Ingest and publish until cancelled."""
        await self.central.run()


@asynccontextmanager
async def central_role(config: Config, clock: Clock) -> AsyncIterator[CentralRole]:
    """Open ledger and directory; close them when the block ends."""
    files = central_files(config.gateway.data).made()
    ledger = Ledger(files.ledger)
    try:
        with DirectoryStore(files.directory) as directory:
            yield CentralRole(config, clock, ledger, directory)
    finally:
        await asyncio.to_thread(ledger.close)


@asynccontextmanager
async def portal_role(
    config: Config,
    clock: Clock,
    sender: CodeSender,
    *,
    protocol_of: Callable[[str], str | None] | None = None,
) -> AsyncIterator[PortalRole]:
    """Serve the pages while the block runs; reads central's files only."""
    files = central_files(config.gateway.data).made()
    ledger = Ledger(files.ledger, read_only=files.ledger.is_file())
    contacts = ContactStore(files.contacts)
    known = FileSecrets(config.secrets)
    token = config.web.operator_token_ref
    secret = config.web.session_secret_ref
    people = SystemClock()
    try:
        with DirectoryStore(files.directory) as directory:
            views = Views(
                ledger,
                directory.snapshot,
                clock,
                silent_after=timedelta(seconds=max(7200, 3 * config.schedule.instantaneous)),
                protocol_of=protocol_of or (lambda _: None),
            )
            app = create_app(
                views,
                contacts,
                OneTimeCodes(clock=people, sender=sender),
                clock=people,
                secret=known.secret(secret) if secret else secrets.token_bytes(32),
                operator_token=known.secret(token).decode() if token else None,
            )
            async with serve(app, config.web.host, config.web.port) as port:
                yield PortalRole(views=views, url=f"http://{config.web.host}:{port}")
    finally:
        contacts.close()
        await asyncio.to_thread(ledger.close)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalRole:
    """The running pages."""

    views: Views
    url: str


def make_directory_keys(folder: Path) -> tuple[Path, Path]:
    """Write a new signing key pair as secrets (0600) unless they are there; gives both paths."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signing, verify = folder / SIGNING_KEY, folder / VERIFY_KEY
    if not signing.exists():
        private, public = new_key_pair()
        for path, octets in ((signing, private), (verify, public)):
            path.touch(mode=0o600)
            path.write_bytes(octets)
    return signing, verify
