"""The consumer's pages: a number, a one-time code, the account. A number alone reveals nothing."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.central.portal.contacts import Contact, ContactStore, typed_number
from gateway.central.portal.limits import SlidingLimit
from gateway.central.portal.otp import CODE_LIFETIME, CODES_PER_ACCOUNT, OneTimeCodes
from gateway.central.portal.views import Views
from gateway.errors import GatewayError, UsageError
from gateway.web.home import home_context
from gateway.web.pages import Pages
from gateway.web.security import SESSION_LIFETIME, Revoked, client_key, set_cookie
from mapping.directory import NumberKind
from mapping.errors import MappingError

LOOKUPS_PER_CLIENT = 5
"""Numbers that one client may ask about in CLIENT_WINDOW."""
CHECKS_PER_CLIENT = 30
"""Codes that one client may try in CLIENT_WINDOW: a family behind one address mistypes, too."""
CLIENT_WINDOW = timedelta(minutes=15)
NUMBER_WINDOW = timedelta(hours=1)
MAX_TYPED = 64
"""Characters looked at of what was typed."""
MAX_SENDING = 64
"""Codes under way at once; beyond it requests are dropped, so that a flood costs no memory."""
_KINDS = {"new": NumberKind.ACCOUNT, "old": NumberKind.LEGACY}
_PLAUSIBLE = re.compile(r"[A-Z0-9./_]{4,32}")
_CHALLENGE = "challenge"
_SESSION = "session"
_PATH = "/me"
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

    def ask(self, challenge: str, typed: str, kind: NumberKind | None) -> None:
        """Begin in the background; when too many are under way this one is dropped and counted in the log."""
        if len(self.tasks) >= MAX_SENDING:
            log.warning("code_request_dropped", under_way=len(self.tasks))
            return
        task = asyncio.create_task(self._send(challenge, typed, kind))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _send(self, challenge: str, typed: str, kind: NumberKind | None) -> None:
        try:
            found = await asyncio.to_thread(self._find, typed, kind)
            if found is not None:
                contact, number, legacy = found
                await self.otp.issue(challenge, contact, number=number, legacy=legacy)
        except (GatewayError, MappingError) as error:
            log.warning("code_not_sent", error=str(error))

    def _find(self, typed: str, kind: NumberKind | None) -> tuple[Contact, str | None, str | None] | None:
        """Return the contact behind a typed number, and the account's new and old number."""
        account_id = self.views.find_account(typed, kind)
        contact = None if account_id is None else self.contacts.get(account_id)
        if account_id is None or contact is None:
            return None
        return contact, *self.views.account_names(account_id)


@dataclass(slots=True)
class _Limits:
    lookups: SlidingLimit = field(default_factory=lambda: SlidingLimit(LOOKUPS_PER_CLIENT, CLIENT_WINDOW))
    numbers: SlidingLimit = field(default_factory=lambda: SlidingLimit(CODES_PER_ACCOUNT, NUMBER_WINDOW))
    checks: SlidingLimit = field(default_factory=lambda: SlidingLimit(CHECKS_PER_CLIENT, CLIENT_WINDOW))


def consumer_routes(pages: Pages, requests: CodeRequests) -> APIRouter:
    """Make the routes under /me."""
    routes = APIRouter()
    limits = _Limits()
    revoked = Revoked()

    def session(request: Request) -> dict[str, str] | None:
        held = pages.signer.read("session", request.cookies.get(_SESSION), pages.clock.now())
        return None if held is None or held["sid"] in revoked else held

    def challenge(request: Request) -> dict[str, str] | None:
        return pages.signer.read("challenge", request.cookies.get(_CHALLENGE), pages.clock.now())

    @routes.get("/me")
    async def enter(request: Request) -> Response:
        if session(request) is not None:
            return _go("/me/home")
        typed = (challenge(request) or {}).get("typed", "")
        return pages.render(request, "number.html", typed=typed, unreadable="")

    @routes.post("/me")
    async def ask(
        request: Request,
        number: Annotated[str, Form()] = "",
        kind: Annotated[str, Form()] = "",
        form: Annotated[str, Form()] = "",
    ) -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        typed = typed_number(number[:MAX_TYPED])
        if _PLAUSIBLE.fullmatch(typed) is None:
            return pages.render(
                request, "number.html", status=422, typed="", unreadable=number.strip()[:MAX_TYPED] or "–"
            )
        now = pages.clock.now()
        key = hashlib.sha256(typed.encode()).hexdigest()
        left = limits.lookups.hit(client_key(request), now) or limits.numbers.hit(key, now)
        if left is not None:
            return pages.wait(request, left)
        # From here on the answer is the same for every number: who it belongs to is found out beside it.
        opened = requests.otp.begin()
        requests.ask(opened, number[:MAX_TYPED], _KINDS.get(kind))
        response = _go("/me/code")
        token = pages.signer.sign("challenge", {"id": opened, "typed": typed}, now + CODE_LIFETIME)
        set_cookie(request, response, _CHALLENGE, token, path=_PATH, lifetime=CODE_LIFETIME)
        return response

    @routes.get("/me/code")
    async def code_page(request: Request) -> Response:
        if challenge(request) is None:
            return _go("/me")
        return pages.render(request, "code.html", wrong=False)

    @routes.post("/me/code")
    async def check(
        request: Request, code: Annotated[str, Form()] = "", form: Annotated[str, Form()] = ""
    ) -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        now = pages.clock.now()
        left = limits.checks.hit(client_key(request), now)
        if left is not None:
            return pages.wait(request, left)
        held = challenge(request) or {"id": ""}
        account_id = requests.otp.check(held["id"], typed_number(code[:MAX_TYPED]))
        if account_id is None:
            return pages.render(request, "code.html", status=422, wrong=True)
        response = _go("/me/home")
        token = pages.signer.sign(
            "session", {"account": account_id, "sid": secrets.token_urlsafe(12)}, now + SESSION_LIFETIME
        )
        set_cookie(request, response, _SESSION, token, path=_PATH, lifetime=SESSION_LIFETIME)
        response.delete_cookie(_CHALLENGE, path=_PATH)
        return response

    @routes.get("/me/home")
    async def home(request: Request) -> HTMLResponse:
        held = session(request)
        if held is None:
            return pages.message(request, "session", status=401)
        try:
            view = await asyncio.to_thread(requests.views.consumer, held["account"])
        except UsageError:
            return pages.message(request, "session", status=401)
        words = pages.words(request)
        return pages.render(request, "home.html", logged_in=True, **home_context(view, words))

    @routes.post("/me/logout")
    async def logout(request: Request, form: Annotated[str, Form()] = "") -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        held = session(request)
        if held is not None:
            revoked.add(held["sid"], pages.clock.now())
        response = _go("/me")
        for name in (_SESSION, _CHALLENGE):
            response.delete_cookie(name, path=_PATH)
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    return routes


def _go(where: str) -> RedirectResponse:
    return RedirectResponse(where, status_code=303)
