"""The portal put together: central's files, read only, and the pages."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from gateway.central.ledger.ledger import Ledger
from gateway.central.portal.contacts import ContactStore
from gateway.central.portal.otp import CodeMessage, CodeSender, ConsoleSender, OneTimeCodes
from gateway.central.portal.views import Views
from gateway.config.file import Config
from gateway.roles.central_files import central_files
from gateway.web.app import create_app
from gateway.web.server import serve
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.meters.secrets import FileSecrets
from protocols.session import Clock

log = structlog.get_logger("gateway.roles")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalRole:
    """The running pages."""

    views: Views
    url: str


@asynccontextmanager
async def portal_role(
    config: Config, clock: Clock, sender: CodeSender | None = None
) -> AsyncIterator[PortalRole]:
    """Serve the pages while the block runs; reads central's files only.

    `sender` carries one-time codes in place of what [web] `codes` names.
    """
    files = central_files(config.gateway.data).made()
    ledger = Ledger(files.ledger, read_only=files.ledger.is_file())
    contacts = ContactStore(files.contacts)
    known = FileSecrets(config.secrets)
    token = config.web.operator_token_ref
    secret = config.web.session_secret_ref
    protocols = {meter.meter: "DLMS" if meter.dlms else "Modbus" for meter in config.meters}
    wall_clock = SystemClock()  # people log in by the real time, whatever time a simulation shows
    try:
        with DirectoryStore(files.directory) as directory:
            views = Views(
                ledger,
                directory.snapshot,
                clock,
                silent_after=timedelta(seconds=max(7200, 3 * config.schedule.instantaneous)),
                protocol_of=protocols.get,
            )
            app = create_app(
                views,
                contacts,
                OneTimeCodes(clock=wall_clock, sender=sender or _sender(config)),
                clock=wall_clock,
                secret=known.secret(secret) if secret else secrets.token_bytes(32),
                operator_token=known.secret(token).decode() if token else None,
            )
            async with serve(app, config.web.host, config.web.port) as port:
                yield PortalRole(views=views, url=f"http://{config.web.host}:{port}")
    finally:
        contacts.close()
        await asyncio.to_thread(ledger.close)


class _NoSender:
    """Stands where an SMS adapter will: says that a code was asked for, never the code."""

    async def send(self, message: CodeMessage) -> None:
        log.error("code_not_sent", kind=message.kind.value, error="no SMS adapter: see [web] codes")


def _sender(config: Config) -> CodeSender:
    if config.web.codes == "console":
        return ConsoleSender(lambda text: log.warning("one_time_code_shown", text=text))
    return _NoSender()
