"""Finds the account behind a number and has the code sent, apart from the answer to the browser."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from gateway.central.portal.contacts import Contact, ContactStore
from gateway.central.portal.otp import Asker, OneTimeCodes
from gateway.central.portal.views import Views
from gateway.errors import GatewayError
from mapping.directory import NumberKind
from mapping.errors import MappingError

MAX_SENDING = 64
"""Codes under way at once; beyond it requests are dropped, so that a flood costs no memory."""
log = structlog.get_logger("gateway.web")


@dataclass(slots=True)
class CodeRequests:
    """Finds the account behind a number and has the code sent, apart from the answer to the browser.

    The answer neither waits for it nor tells of it, so its time does not reveal whether the number exists.
    """

    views: Views
    contacts: ContactStore
    otp: OneTimeCodes
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def ask(self, challenge: str, typed: str, kind: NumberKind | None, asker: Asker) -> None:
        """Begin in the background; when too many are under way this one is dropped and counted in the log."""
        if len(self.tasks) >= MAX_SENDING:
            log.warning("code_request_dropped", under_way=len(self.tasks))
            return
        task = asyncio.create_task(self._send(challenge, typed, kind, asker))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _send(self, challenge: str, typed: str, kind: NumberKind | None, asker: Asker) -> None:
        try:
            found = await asyncio.to_thread(self._find, typed, kind)
            if found is not None:
                contact, number, legacy = found
                await self.otp.issue(challenge, contact, number=number, legacy=legacy, asker=asker)
        except (GatewayError, MappingError) as error:
            log.warning("code_not_sent", error=str(error))

    def _find(self, typed: str, kind: NumberKind | None) -> tuple[Contact, str | None, str | None] | None:
        """Return the contact behind a typed number, and the account's new and old number."""
        account_id = self.views.find_account(typed, kind)
        contact = None if account_id is None else self.contacts.get(account_id)
        if account_id is None or contact is None:
            return None
        return contact, *self.views.account_names(account_id)
