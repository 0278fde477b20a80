"""Telling people put together: the people store, templates, queue, and the sender of the configured provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from gateway.central.campaign.feeding import Feeder
from gateway.central.campaign.reaching import Messages
from gateway.central.campaign.store import CampaignStore
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.people.retention import Kept
from gateway.central.portal.otp import CodeMessage, CodeSender
from gateway.central.telling.codes import QueuedCodes
from gateway.central.telling.lint import TemplateMistakes, load_library, unregistered
from gateway.central.telling.messages import Provider
from gateway.central.telling.pace import Pace
from gateway.central.telling.providers import ConsoleProvider, FileProvider
from gateway.central.telling.queue import SmsQueue
from gateway.central.telling.reports import ReportRules, reports_in
from gateway.central.telling.sender import Sender
from gateway.central.telling.templates import Library
from gateway.config.file import Config
from gateway.config.sms import SmsSection
from gateway.errors import ConfigError
from gateway.roles.central_files import central_files_of
from gateway.roles.retention import keep_retention, kept_of
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.meters.secrets import FileSecrets
from protocols.session import Clock

log = structlog.get_logger("gateway.roles")


@dataclass(frozen=True, slots=True, kw_only=True)
class TellingRole:
    """What portal and central share; `sender` and `feeder` are None where no provider is configured."""

    people: PeopleStore
    contacts: ContactStore
    queue: SmsQueue
    codes: CodeSender
    sender: Sender | None
    feeder: Feeder | None
    reports: Callable[[bytes, str, str], int] | None
    """Keeps the delivery reports of a provider's call; None where none come."""
    kept: Kept

    async def run(self) -> None:
        """Send what is queued, feed the queue from campaigns, remove what is kept too long, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_retention(self.people, self.queue, self.kept, SystemClock()))
            if self.sender is not None:
                tasks.create_task(self.sender.run())
            if self.feeder is not None:
                tasks.create_task(self.feeder.run())


@asynccontextmanager
async def telling_role(config: Config, provider: Provider | None = None) -> AsyncIterator[TellingRole]:
    """Open store, templates and provider; `provider` takes the place of what [sms] names.

    Raises ConfigError for templates with mistakes, and where a provider would refuse them.
    """
    clock = SystemClock()  # people live by the real time, whatever time a simulation shows
    library = library_of(config.sms)
    used = provider or provider_of(config, library)
    files = central_files_of(config).made()
    people = PeopleStore(files.people)
    try:
        queue = SmsQueue(people, library, pace_of(config.sms))
        with CampaignStore(files.campaign) as campaign, DirectoryStore(files.directory) as directory:
            yield TellingRole(
                people=people,
                contacts=ContactStore(people),
                queue=queue,
                codes=_NoCodes() if used is None else QueuedCodes(queue, clock),
                sender=None if used is None else Sender(queue, used, clock),
                feeder=None if used is None else Feeder(campaign, directory, Messages(people, queue), clock),
                reports=_reports(config.sms, queue, clock),
                kept=kept_of(config.privacy),
            )
    finally:
        if used is not None:
            await used.close()
        await asyncio.to_thread(people.close)


class _NoCodes:
    """Stands where no provider is configured: says that a code was asked for, never the code."""

    async def send(self, message: CodeMessage) -> None:
        log.error("code_not_sent", kind=message.kind.value, error="no provider: see [sms] provider")


def library_of(section: SmsSection) -> Library:
    """Return the templates that a configuration names; TemplateMistakes lists what is wrong."""
    return load_library(section.templates, language=section.language)


def telling_problems(config: Config) -> list[str]:
    """Return what is wrong with the templates that [sms] names, for the provider that it names."""
    try:
        library = library_of(config.sms)
        _need_registered(config.sms, library)
    except TemplateMistakes as error:
        return [str(mistake) for mistake in error.mistakes]
    except ConfigError as error:
        return [str(error)]
    return []


def _need_registered(section: SmsSection, library: Library) -> None:
    if section.provider == "http" and (missing := unregistered(library)):
        raise ConfigError(
            f"[sms] templates: the operators would refuse {len(missing)} of them ({missing[0]} …): "
            "`meter-gateway sms templates check` lists what is not registered"
        )


def pace_of(section: SmsSection) -> Pace:
    """Return how fast and when messages go."""
    return Pace(
        per_second=section.per_second,
        quiet_from=section.quiet_from,
        quiet_until=section.quiet_until,
        tries=section.tries,
        service_lives=timedelta(hours=section.give_up_hours),
        repeats_safe=section.http is not None and section.http.repeats_safe,
    )


def provider_of(config: Config, library: Library) -> Provider | None:
    """Return the configured way to phones, None for none; ConfigError where it cannot work."""
    section = config.sms
    match section.provider:
        case "none":
            return None
        case "console":
            return ConsoleProvider(lambda text: log.warning("sms_shown", text=text))
        case "file":
            return FileProvider(section.file or Path())
        case "http":
            return _http(config, library)


def _http(config: Config, library: Library) -> Provider:
    from gateway.central.telling.answers import AnswerRules
    from gateway.central.telling.http_provider import HttpProvider, HttpSettings

    section = config.sms.http
    assert section is not None
    _need_registered(config.sms, library)
    answer = section.answer
    return HttpProvider(
        HttpSettings(
            url=section.url,
            method=section.method,
            body=section.body,
            fields=section.fields,
            headers=section.headers,
            secret_fields=_secrets(config, section.secret_fields),
            secret_headers=_secrets(config, section.secret_headers),
            codings=section.codings,
            ca_file=section.ca_file,
            seconds=section.seconds,
            rules=AnswerRules(
                accepted_status=answer.accepted_status,
                busy_status=answer.busy_status,
                where=answer.where,
                accepted=answer.accepted,
                busy=answer.busy,
                id_at=answer.id,
                id_pattern=answer.id_pattern,
            ),
            reports=config.sms.reports is not None,
        )
    )


def _reports(section: SmsSection, queue: SmsQueue, clock: Clock) -> Callable[[bytes, str, str], int] | None:
    asked = section.reports
    if asked is None:
        return None
    rules = ReportRules(
        id_at=asked.id,
        reference_at=asked.reference,
        status_at=asked.status,
        delivered=asked.delivered,
        undelivered=asked.undelivered,
        reason_at=asked.reason,
        list_at=asked.list,
    )

    def take(body: bytes, content_type: str, query: str) -> int:
        found = reports_in(rules, body, content_type, query)
        for report in found:
            queue.report(report, now=clock.now())
        return len(found)

    return take


def _secrets(config: Config, refs: dict[str, str]) -> dict[str, str]:
    known = FileSecrets(config.secrets)
    found = {}
    for name, ref in refs.items():
        text = known.secret(ref).decode("utf-8", "replace").strip()
        if not text.isascii() or not text.isprintable() or not text:
            raise ConfigError(f"the secret `{ref}` is no line of plain letters, as {name} must be")
        found[name] = text
    return found
