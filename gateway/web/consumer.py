"""The consumer's pages: a number, a one-time code, the account. A number alone reveals nothing."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, Response

from gateway.central.portal.lookup import KINDS, SLIP, NumberLookup
from gateway.errors import UsageError
from gateway.web.askers import asked_by, unreadable
from gateway.web.home import home_context
from gateway.web.pages import Pages, go
from gateway.web.security import SESSION_LIFETIME, Revoked, client_address
from mapping.typed import TypedNumber

CHALLENGE_LIFETIME = timedelta(minutes=15)
"""How long a browser remembers the number that it asked for: an SMS may be asked for again, codes live shorter."""
_CHALLENGE = "challenge"
_SESSION = "session"


LoginSeen = Callable[[str, str, str], None]
"""Keeps durably that a session of an account began: account id, session id, address."""


def consumer_routes(pages: Pages, lookup: NumberLookup, seen: LoginSeen) -> APIRouter:
    """Make the routes under /me."""
    routes = APIRouter()
    revoked = Revoked()

    def session(request: Request) -> dict[str, str] | None:
        held = pages.signer.read("session", pages.cookie(request, _SESSION), pages.clock.now())
        return None if held is None or held["sid"] in revoked else held

    def challenge(request: Request) -> dict[str, str] | None:
        return pages.signer.read("challenge", pages.cookie(request, _CHALLENGE), pages.clock.now())

    def send(request: Request, typed: TypedNumber, kind: str, former: str | None) -> Response:
        """Have a code sent for what was typed; the answer is the same for every number."""
        asked = asked_by(pages, request, typed, kind)
        opened = lookup.code(asked, former)
        if isinstance(opened, timedelta):
            return pages.wait(request, opened)
        response = go("/me/code")
        payload = {"id": opened, "typed": typed.shown, "kind": kind if kind in (*KINDS, SLIP) else ""}
        token = pages.signer.sign("challenge", payload, pages.clock.now() + CHALLENGE_LIFETIME)
        pages.set_cookie(request, response, _CHALLENGE, token, lifetime=CHALLENGE_LIFETIME)
        return response

    def code_form(
        request: Request,
        held: dict[str, str] | None,
        *,
        status: int = 200,
        wrong: bool = False,
        early: bool = False,
    ) -> HTMLResponse:
        """Return the page for the code; `early`: another SMS was asked for too soon."""
        now = pages.clock.now()
        left = None if held is None else lookup.limits.resends.left(held["id"], now)
        again = "" if left is None else pages.words(request).clock(_whole_minute(now + left))
        response = pages.render(
            request,
            "code.html",
            status=status,
            wrong=wrong,
            early=early,
            again=again,
            resend=held is not None,
        )
        if early and left is not None:
            response.headers["Retry-After"] = str(math.ceil(left.total_seconds()))
        return response

    def number_form(request: Request, typed: str, *, wrong: str = "") -> HTMLResponse:
        """Return the form for a number; `wrong`: what was typed cannot be one."""
        return pages.render(
            request,
            "number.html",
            status=422 if wrong else 200,
            about="number",
            action="/me",
            typed=typed,
            unreadable=wrong,
        )

    @routes.get("/me")
    async def enter(request: Request) -> Response:
        if session(request) is not None:
            return go("/me/home")
        held = challenge(request) or {}
        return number_form(request, "" if held.get("kind") == SLIP else held.get("typed", ""))

    @routes.post("/me")
    async def ask(
        request: Request,
        number: Annotated[str, Form()] = "",
        kind: Annotated[str, Form()] = "",
        form: Annotated[str, Form()] = "",
    ) -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        typed = TypedNumber.of(number)
        if not typed.plausible:
            return number_form(request, "", wrong=unreadable(number))
        return send(request, typed, kind, None)

    @routes.get("/q/{token}")
    async def slip(request: Request, token: str) -> Response:
        """Answer a slip's QR code: the same page for every code, also for one that is none of ours."""
        if not TypedNumber.of(token).plausible:
            return pages.message(request, "missing", status=404)
        return pages.render(request, "slip.html", token=TypedNumber.of(token).key)

    @routes.post("/q/{token}")
    async def ask_by_slip(request: Request, token: str, form: Annotated[str, Form()] = "") -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        typed = TypedNumber.of(token)
        return send(request, typed, SLIP, None) if typed.plausible else go("/me")

    @routes.get("/me/code")
    async def code_page(request: Request) -> Response:
        held = challenge(request)
        return go("/me") if held is None else code_form(request, held)

    @routes.post("/me/resend")
    async def resend(request: Request, form: Annotated[str, Form()] = "") -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        held = challenge(request)
        if held is None:
            return go("/me")
        if lookup.limits.resends.left(held["id"], pages.clock.now()) is not None:
            return code_form(request, held, status=429, early=True)
        return send(request, TypedNumber.of(held["typed"]), held["kind"], held["id"])

    @routes.post("/me/code")
    async def check(
        request: Request, code: Annotated[str, Form()] = "", form: Annotated[str, Form()] = ""
    ) -> Response:
        device = pages.device(request)
        if device is None or not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        now = pages.clock.now()
        left = lookup.limits.tries.left(device.id, now)
        if left is not None:
            return pages.wait(request, left)
        held = challenge(request)
        account_id = lookup.otp.check((held or {}).get("id", ""), TypedNumber.of(code).key)
        if account_id is None:
            lookup.limits.tries.hit(device.id, now)
            return code_form(request, held, status=422, wrong=True)
        lookup.limits.succeeded(device.id)
        response = go("/me/home")
        sid = secrets.token_urlsafe(12)
        # Written before anything is shown: after a breach it says whom this session could see.
        await asyncio.to_thread(seen, account_id, sid, client_address(request))
        token = pages.signer.sign("session", {"account": account_id, "sid": sid}, now + SESSION_LIFETIME)
        pages.set_cookie(request, response, _SESSION, token, lifetime=SESSION_LIFETIME)
        numbers = await asyncio.to_thread(lookup.views.account_names, account_id)
        forms = {TypedNumber.of(number).key for number in (*numbers, (held or {}).get("typed")) if number}
        proven = [f"account:{account_id}", *(f"number:{text}" for text in sorted(forms) if text)]
        pages.set_device(request, response, device.proving(pages.signer, proven))
        pages.delete_cookie(request, response, _CHALLENGE)
        return response

    @routes.get("/me/home")
    async def home(request: Request) -> HTMLResponse:
        held = session(request)
        if held is None:
            return pages.message(request, "session", status=401)
        try:
            # A session stands for a mobile that was proved: when the account has none any more, it ends.
            if await asyncio.to_thread(lookup.contacts.get, held["account"]) is None:
                return pages.message(request, "session", status=401)
            view = await asyncio.to_thread(lookup.views.consumer, held["account"])
        except UsageError:
            return pages.message(request, "session", status=401)
        words = pages.words(request)
        ends = datetime.fromtimestamp(int(held["exp"]), UTC)
        # The browser asks for this page again when the session is over, and is told so: nothing stays on view.
        closes = max(1, math.ceil((ends - pages.clock.now()).total_seconds()))
        return pages.render(
            request,
            "home.html",
            logged_in=True,
            closes=closes,
            closes_at=words.clock(ends),
            **home_context(view, words),
        )

    @routes.post("/me/logout")
    async def logout(request: Request, form: Annotated[str, Form()] = "") -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        held = session(request)
        if held is not None:
            revoked.add(held["sid"], pages.clock.now())
        response = go("/me")
        for name in (_SESSION, _CHALLENGE):
            pages.delete_cookie(request, response, name)
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    return routes


def _whole_minute(at: datetime) -> datetime:
    """Return the next whole minute, which is what a page's HH:MM can promise."""
    return at + timedelta(minutes=1) - timedelta(microseconds=1)
