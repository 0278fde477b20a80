"""The consumer's pages: a number, a one-time code, the account. A number alone reveals nothing."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.central.portal.contacts import typed_number
from gateway.central.portal.otp import Asker
from gateway.errors import UsageError
from gateway.web.asking import Ask, AskingLimits
from gateway.web.code_requests import CodeRequests
from gateway.web.device import Device, new_device
from gateway.web.home import home_context
from gateway.web.pages import Pages
from gateway.web.security import SESSION_LIFETIME, Revoked, client_address
from mapping.directory import NumberKind

MAX_TYPED = 64
"""Characters looked at of what was typed."""
CHALLENGE_LIFETIME = timedelta(minutes=15)
"""How long a browser remembers the number that it asked for: an SMS may be asked for again, codes live shorter."""
_KINDS = {"new": NumberKind.ACCOUNT, "old": NumberKind.LEGACY}
_PLAUSIBLE = re.compile(r"[A-Z0-9./_]{4,32}")
_CHALLENGE = "challenge"
_SESSION = "session"


class _Proven(Container[str]):
    """The accounts whose mobile a device proved before."""

    def __init__(self, pages: Pages, device: Device) -> None:
        self._pages = pages
        self._device = device

    def __contains__(self, account_id: object) -> bool:
        return self._device.has_proven(self._pages.signer, f"account:{account_id}")


def consumer_routes(pages: Pages, requests: CodeRequests, limits: AskingLimits) -> APIRouter:
    """Make the routes under /me."""
    routes = APIRouter()
    revoked = Revoked()

    def session(request: Request) -> dict[str, str] | None:
        held = pages.signer.read("session", pages.cookie(request, _SESSION), pages.clock.now())
        return None if held is None or held["sid"] in revoked else held

    def challenge(request: Request) -> dict[str, str] | None:
        return pages.signer.read("challenge", pages.cookie(request, _CHALLENGE), pages.clock.now())

    def send(request: Request, typed: str, kind: str, former: str | None) -> Response:
        """Have a code sent for what was typed; the answer is the same for every number."""
        now = pages.clock.now()
        device = pages.device(request) or new_device()
        address = client_address(request)
        known = device.has_proven(pages.signer, f"number:{typed}")
        left = limits.ask(Ask(number=typed, device=device.id, address=address, known=known), now)
        if left is not None:
            return pages.wait(request, left)
        # From here on nothing differs between numbers: who it belongs to is found out beside the answer.
        opened = requests.otp.begin() if former is None else requests.otp.again(former)
        limits.resends.hit(opened, now)
        asker = Asker(address=address, device=device.id, known_for=_Proven(pages, device))
        requests.ask(opened, typed, _KINDS.get(kind), asker)
        response = _go("/me/code")
        payload = {"id": opened, "typed": typed, "kind": kind if kind in _KINDS else ""}
        token = pages.signer.sign("challenge", payload, now + CHALLENGE_LIFETIME)
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
        left = None if held is None else limits.resends.left(held["id"], now)
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
        return send(request, typed, kind, None)

    @routes.get("/me/code")
    async def code_page(request: Request) -> Response:
        held = challenge(request)
        return _go("/me") if held is None else code_form(request, held)

    @routes.post("/me/resend")
    async def resend(request: Request, form: Annotated[str, Form()] = "") -> Response:
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        held = challenge(request)
        if held is None:
            return _go("/me")
        if limits.resends.left(held["id"], pages.clock.now()) is not None:
            return code_form(request, held, status=429, early=True)
        return send(request, held["typed"], held["kind"], held["id"])

    @routes.post("/me/code")
    async def check(
        request: Request, code: Annotated[str, Form()] = "", form: Annotated[str, Form()] = ""
    ) -> Response:
        device = pages.device(request)
        if device is None or not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        now = pages.clock.now()
        left = limits.tries.left(device.id, now)
        if left is not None:
            return pages.wait(request, left)
        held = challenge(request)
        account_id = requests.otp.check((held or {}).get("id", ""), typed_number(code[:MAX_TYPED]))
        if account_id is None:
            limits.tries.hit(device.id, now)
            return code_form(request, held, status=422, wrong=True)
        limits.succeeded(device.id)
        response = _go("/me/home")
        token = pages.signer.sign(
            "session", {"account": account_id, "sid": secrets.token_urlsafe(12)}, now + SESSION_LIFETIME
        )
        pages.set_cookie(request, response, _SESSION, token, lifetime=SESSION_LIFETIME)
        numbers = await asyncio.to_thread(requests.views.account_names, account_id)
        forms = {typed_number(number) for number in numbers if number} | {(held or {}).get("typed", "")}
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
            view = await asyncio.to_thread(requests.views.consumer, held["account"])
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
        response = _go("/me")
        for name in (_SESSION, _CHALLENGE):
            pages.delete_cookie(request, response, name)
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    return routes


def _go(where: str) -> RedirectResponse:
    return RedirectResponse(where, status_code=303)


def _whole_minute(at: datetime) -> datetime:
    """Return the next whole minute, which is what a page's HH:MM can promise."""
    return at + timedelta(minutes=1) - timedelta(microseconds=1)
