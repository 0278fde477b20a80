"""The portal put together: the pages, which read central's files, and the API, which changes the directory."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter

from gateway.central.campaign.store import CampaignStore
from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import Actor, Proof
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.office import Office
from gateway.central.people.contacts import ContactStore
from gateway.central.portal.asking import AskingLimits
from gateway.central.portal.otp import CodeSender, OneTimeCodes
from gateway.central.portal.views import Views
from gateway.config.file import Config
from gateway.errors import ConfigError
from gateway.roles.central_files import central_files_of
from gateway.timekeeping.clock import EvidenceClock
from gateway.web.api_access import Door
from gateway.web.app import BackOffice, create_app
from gateway.web.connections import ConnectionLimits
from gateway.web.consumer import LoginSeen
from gateway.web.report_door import TakeReports, report_door
from gateway.web.server import serve, tls_context
from gateway.web.site import Site
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.errors import MeterConfigError
from protocols.meters.secrets import FileSecrets
from protocols.session import Clock

MIN_SECRET = 16
"""Octets of a session secret and of a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalRole:
    """The running pages."""

    views: Views
    url: str


@asynccontextmanager
async def portal_role(
    config: Config,
    clock: Clock,
    contacts: ContactStore,
    codes: CodeSender,
    reports: TakeReports | None = None,
) -> AsyncIterator[PortalRole]:
    """Serve the pages and the API while the block runs, on central's files.

    `codes` carries one-time codes; `reports` keeps delivery reports, where [sms.reports] names a secret for them.
    """
    files = central_files_of(config).made()
    ledger = Ledger(files.ledger, read_only=files.has_ledger)
    known = FileSecrets(config.secrets)
    web = config.web
    if problems := portal_problems(config):
        raise ConfigError("\n".join(f"[web] {field}: {problem}" for (_, field), problem in problems))
    token, number_token = web.operator_token_ref, web.number_token_ref
    secret = web.session_secret_ref
    protocols = {meter.meter: "DLMS" if meter.dlms else "Modbus" for meter in config.meters}
    wall_clock = SystemClock()  # people log in by the real time, whatever time a simulation shows
    try:
        with (
            DirectoryStore(files.directory) as directory,
            CampaignStore(files.campaign) as campaign,
            Office(files.office, files.folder) as office,
        ):
            views = Views(
                ledger,
                directory.snapshot,
                clock,
                silent_after=timedelta(seconds=max(7200, 3 * config.schedule.instantaneous)),
                protocol_of=protocols.get,
                wall=wall_clock,
            )
            desk = ChangeSetDesk(
                office,
                directory,
                now=wall_clock.now,
                sure=EvidenceClock().disciplined,
                approve_above=config.directory.approve_above,
                ledger=ledger,
            )
            door = Door(
                office=office,
                clock=wall_clock,
                header=web.client_certificate_header,
                trusted=web.trusted_proxies,
            )
            app = create_app(
                views,
                contacts,
                OneTimeCodes(clock=wall_clock, sender=codes),
                clock=wall_clock,
                secret=known.secret(secret) if secret else secrets.token_bytes(32),
                operator_token=known.secret(token).decode() if token else None,
                number_token=known.secret(number_token).decode() if number_token else None,
                site=Site(public_url=web.public_url),
                doors=_doors(config, reports, wall_clock),
                logins=_logins(office, wall_clock),
                limits=AskingLimits(web.asks_per_address),
                campaign=campaign,
                back_office=BackOffice(office=office, desk=desk, door=door),
            )
            limits = ConnectionLimits(
                header_seconds=web.header_seconds,
                body_seconds=web.body_seconds,
                per_address=web.connections_per_address,
            )
            tls = None
            if web.cert_file and web.key_file:
                tls = tls_context(web.cert_file, web.key_file, web.client_ca_file)
            async with serve(
                app, web.host, web.port, tls=tls, trusted_proxies=web.trusted_proxies, limits=limits
            ) as port:
                scheme = "http" if tls is None else "https"
                host = f"[{web.host}]" if ":" in web.host else web.host
                yield PortalRole(views=views, url=f"{scheme}://{host}:{port}")
    finally:
        await asyncio.to_thread(ledger.close)


def _logins(office: Office, clock: Clock) -> LoginSeen:
    """Return what writes into the audit trail whom a consumer's session could see."""

    def seen(account_id: str, session: str, address: str) -> None:
        actor = Actor(name="consumer", roles=frozenset(), proof=Proof.SESSION, source=address)
        office.trail.record(
            actor, "consumer.login", f"account:{account_id}", at=clock.now(), detail={"session": session}
        )

    return seen


def _doors(config: Config, reports: TakeReports | None, clock: Clock) -> list[APIRouter]:
    section = config.sms.reports
    if section is None or reports is None:
        return []
    secret = FileSecrets(config.secrets).secret(section.secret_ref).decode().strip()
    return [report_door(reports, secret, clock)]


def portal_problems(config: Config) -> list[tuple[tuple[str, str], str]]:
    """Return what makes the pages unsafe in the files that [web] names: each field's place, and why with its mend.

    Secrets that are not there are no concern of this: whoever needs them says so.
    """
    web = config.web
    if "portal" not in config.gateway.roles:
        return []
    problems: list[tuple[tuple[str, str], str]] = []
    known = FileSecrets(config.secrets)
    refs = {
        "session_secret_ref": web.session_secret_ref,
        "operator_token_ref": web.operator_token_ref,
        "number_token_ref": web.number_token_ref,
    }
    for field, ref in refs.items():
        try:
            size = MIN_SECRET if ref is None else len(known.secret(ref))
        except MeterConfigError:
            continue
        if size < MIN_SECRET:
            problem = f"the secret `{ref}` has {size} octets, and the pages need at least {MIN_SECRET}"
            problems.append((("web", field), f"{problem}: `openssl rand -base64 32` makes one"))
    if web.cert_file is not None and web.key_file is not None:
        try:
            tls_context(web.cert_file, web.key_file, web.client_ca_file)
        except ConfigError as error:
            problems.append((("web", "cert_file"), str(error)))
    return problems
