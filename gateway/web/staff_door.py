"""Who of the staff looks at a page: a session in a cookie, begun with password and code, ended by either side."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.central.office.actors import Actor, Right
from gateway.central.office.office import Office
from gateway.central.office.staff import SESSION, LoginRefused
from gateway.central.portal.limits import SlidingLimit
from gateway.web.api_access import Door
from gateway.web.pages import Pages
from gateway.web.problems import Problem
from gateway.web.security import client_address

COOKIE: Final = "staff"
TRIES: Final = 20
"""Logins tried from one address in a quarter of an hour; an account has its own waits."""
NOTED_EVERY: Final = timedelta(minutes=15)
"""A page that refreshes itself is one view in the audit trail for so long."""
MAX_NOTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class StaffDoor:
    """Lets staff in to the pages. Calls run what blocks in a thread."""

    pages: Pages
    office: Office
    api: Door
    _tries: SlidingLimit = field(default_factory=lambda: SlidingLimit(TRIES, timedelta(minutes=15)))
    _noted: OrderedDict[str, datetime] = field(default_factory=OrderedDict)

    async def is_named(self) -> bool:
        """Say whether there are accounts, so that staff pages need a login."""
        return await asyncio.to_thread(self.office.staff.exists)

    async def who(self, request: Request) -> Actor | None:
        """Return who is logged in on this browser; a machine by its proof, for documents; None for nobody."""
        token = self.pages.cookie(request, COOKIE)
        if token is not None:
            return await asyncio.to_thread(
                self.office.staff.of_session,
                token[:200],
                kind="web",
                source=client_address(request),
                at=self.pages.clock.now(),
            )
        if "authorization" not in request.headers:
            return None
        try:
            return await asyncio.to_thread(self.api.actor, request)
        except Problem:
            return None

    async def login(self, request: Request, name: str, password: str, code: str) -> str:
        """Return the token of a new session; LoginRefused, with a wait where one is due.

        It is a new one at each login: what a browser had before counts no more, whoever put it there.
        """
        address, now = client_address(request), self.pages.clock.now()
        if (left := self._tries.hit(address, now)) is not None:
            raise LoginRefused("too many logins from this address", left)
        return await asyncio.to_thread(
            self.office.staff.login, name, password, code, kind="web", source=address, at=now
        )

    def keep(self, request: Request, response: Response, token: str) -> None:
        """Give the browser its session."""
        self.pages.set_cookie(request, response, COOKIE, token, lifetime=SESSION)

    async def logout(self, request: Request, response: Response) -> None:
        """End the session, here and in the browser."""
        token, who = self.pages.cookie(request, COOKIE), await self.who(request)
        if token is not None and who is not None:
            await asyncio.to_thread(self.office.staff.logout, token, by=who, at=self.pages.clock.now())
        self.pages.delete_cookie(request, response, COOKIE)

    def form_token(self, request: Request) -> str:
        """Return what a form of somebody who is logged in carries: it belongs to this session alone."""
        session = self.pages.cookie(request, COOKIE) or ""
        return self.pages.signer.tag("staff-form", hashlib.sha256(session.encode()).hexdigest())

    async def note_view(self, who: Actor, act: str, subject: str, asked: str = "") -> None:
        """Note in the audit trail what somebody looked at; the same again within 15 minutes is one view."""
        # From another address it is another view: a report of a breach asks by address.
        now, key = self.pages.clock.now(), f"{who.name}|{who.source}|{act}|{subject}|{asked}"
        last = self._noted.get(key)
        if last is not None and now - last < NOTED_EVERY:
            return
        # What was typed may be a consumer's number: it stands in the trail as a keyed hash.
        detail = {"asked": self.office.seal.reference(asked)} if asked else {}
        await asyncio.to_thread(self.office.trail.record, who, act, subject, at=now, detail=detail)
        # Only now: while the trail cannot be written, no view counts as noted.
        self._noted[key] = now
        self._noted.move_to_end(key)
        if len(self._noted) > MAX_NOTED:
            self._noted.popitem(last=False)


def first_page(who: Actor) -> str:
    """Return where somebody goes after logging in."""
    return "/operator" if who.may(Right.FLEET) else "/staff"
