"""The one look-up of numbers, behind the pages, SMS and calls: counts every wish, and answers none of them.

Whoever asks is told the same at once, whether the number exists or not; what is sent goes to the registered mobile
only. So neither the answer nor its time says whose a number is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from gateway.central.people.contacts import Contact
from gateway.central.people.contacts import ContactStore as ContactStore  # the pages know it from here
from gateway.central.portal.asking import Ask, AskingLimits
from gateway.central.portal.otp import Asker, OneTimeCodes
from gateway.central.portal.views import Views
from gateway.errors import GatewayError
from mapping.directory import NumberKind
from mapping.errors import MappingError
from mapping.typed import TypedNumber
from protocols.session import Clock

MAX_SENDING = 64
"""Messages under way at once; beyond it requests are dropped, so that a flood costs no memory."""
KINDS = {"new": NumberKind.ACCOUNT, "old": NumberKind.LEGACY}
"""What people call the kinds of number."""
SLIP: Final = "slip"
"""Kind of the opaque token in a slip's QR code: it stands for an account, and opens nothing either."""
log = structlog.get_logger("gateway.central.portal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A wish about a number: what was typed, its kind ("", "new", "old", "slip"), and who asks.

    `known`: a device that proved the number's mobile before.
    """

    typed: TypedNumber
    kind: str = ""
    asker: Asker
    known: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The account behind a number, and where its messages go."""

    contact: Contact
    account_number: str | None
    legacy_number: str | None


@dataclass(slots=True)
class NumberLookup:
    """Looks numbers up for every channel, with one limiter and the same steps whoever's the number is."""

    views: Views
    contacts: ContactStore
    otp: OneTimeCodes
    clock: Clock
    limits: AskingLimits = field(default_factory=AskingLimits)
    slips: Callable[[str], str | None] = lambda _token: None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def code(self, asked: Asked, former: str | None = None) -> str | timedelta:
        """Have a one-time code sent; return the challenge to answer, or how long to wait.

        `former` is the challenge of which another code is wanted.
        """
        wait = self._count(asked)
        if wait is not None:
            return wait
        challenge = self.otp.begin() if former is None else self.otp.again(former)
        self.limits.resends.hit(challenge, self.clock.now())

        async def send(found: Found) -> None:
            await self.otp.issue(
                challenge,
                found.contact,
                number=found.account_number,
                legacy=found.legacy_number,
                asker=asked.asker,
            )

        self._begin(asked, send)
        return challenge

    def number(self, asked: Asked) -> timedelta | None:
        """Have the account's new number sent to its verified mobile; return how long to wait, None when it is begun."""
        wait = self._count(asked)
        if wait is not None:
            return wait

        async def send(found: Found) -> None:
            await self.otp.tell_number(
                found.contact, number=found.account_number, legacy=found.legacy_number, asker=asked.asker
            )

        self._begin(asked, send)
        return None

    def _count(self, asked: Asked) -> timedelta | None:
        ask = Ask(
            number=asked.typed.key, device=asked.asker.device, address=asked.asker.address, known=asked.known
        )
        return self.limits.ask(ask, self.clock.now())

    def _begin(self, asked: Asked, send: Callable[[Found], Awaitable[None]]) -> None:
        """Look up in the background: the answer neither waits for it nor tells of it."""
        if len(self.tasks) >= MAX_SENDING:
            log.warning("number_request_dropped", under_way=len(self.tasks))
            return
        task = asyncio.create_task(self._send(asked, send))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _send(self, asked: Asked, send: Callable[[Found], Awaitable[None]]) -> None:
        try:
            found = await asyncio.to_thread(self._find, asked)
            if found is not None:
                await send(found)
        except (GatewayError, MappingError) as error:
            log.warning("number_not_sent", error=str(error))

    def _find(self, asked: Asked) -> Found | None:
        if asked.kind == SLIP:
            account_id = self.slips(asked.typed.key)
        else:
            account_id = self.views.find_account(asked.typed.exact, KINDS.get(asked.kind))
        contact = None if account_id is None else self.contacts.get(account_id)
        if account_id is None or contact is None:
            return None
        return Found(contact, *self.views.account_names(account_id))
