"""The pages "Know your account number": a number in, and the same answer out; the new number goes by SMS only."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, Response

from gateway.central.portal.lookup import NumberLookup
from gateway.web.askers import asked_by, unreadable
from gateway.web.pages import Pages, go
from mapping.typed import TypedNumber

ASKED_LIFETIME = timedelta(minutes=15)
"""How long a browser remembers what it asked about, to show it again in the form."""
_ASKED = "asked"


def knowing_routes(pages: Pages, lookup: NumberLookup) -> APIRouter:
    """Make the routes under /number."""
    routes = APIRouter()

    def number_form(request: Request, typed: str, *, wrong: str = "") -> HTMLResponse:
        """Return the form for a number; `wrong`: what was typed cannot be one."""
        return pages.render(
            request,
            "number.html",
            status=422 if wrong else 200,
            about="know",
            action="/number",
            typed=typed,
            unreadable=wrong,
        )

    @routes.get("/number")
    async def enter(request: Request) -> Response:
        held = pages.signer.read("asked", pages.cookie(request, _ASKED), pages.clock.now())
        return number_form(request, (held or {}).get("typed", ""))

    @routes.post("/number")
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
        wait = lookup.number(asked_by(pages, request, typed, kind))
        if wait is not None:
            return pages.wait(request, wait)
        response = go("/number/sent")
        token = pages.signer.sign("asked", {"typed": typed.shown}, pages.clock.now() + ASKED_LIFETIME)
        pages.set_cookie(request, response, _ASKED, token, lifetime=ASKED_LIFETIME)
        return response

    @routes.get("/number/sent")
    async def sent(request: Request) -> Response:
        return pages.render(request, "know_sent.html")

    return routes
