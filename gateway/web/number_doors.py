"""Doors for providers: what people send by SMS or key in on a call about their number (docs/portal.md has the form).

A provider hands over who asked and what he gave; the answer is what to say or send back, the same whether or not
there is such a number. The new number itself goes by SMS to the registered mobile, never back through these doors.
"""

from __future__ import annotations

import hmac
import math
from datetime import timedelta
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from gateway.central.portal.limits import SlidingLimit
from gateway.central.portal.lookup import Asked, NumberLookup
from gateway.central.portal.otp import Asker
from gateway.web.i18n import LANGUAGES, Words
from gateway.web.pages import Pages
from gateway.web.security import client_address
from mapping.typed import TypedNumber

KEYWORDS = ("NUMBER", "NUM", "KNOW", "नंबर", "नम्बर", "खाता")
"""Words that may stand before the number in an SMS; the provider may have cut them off, too."""
TOKEN_TRIES = 10
"""Wrong tokens of one address in 15 minutes."""
MAX_TEXT = 700
"""Characters of a message: ten parts of one."""


class _Handed(BaseModel):
    """What a provider hands over; members that are not known are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["", "new", "old"] = ""


class SmsHanded(_Handed):
    """One SMS that came in: the mobile it is from, and its text."""

    sender: Annotated[str, Field(alias="from", min_length=1, max_length=32)]
    text: Annotated[str, Field(max_length=MAX_TEXT)]


class CallHanded(_Handed):
    """One call: the mobile it is from, the digits that were keyed in, and the caller's language."""

    caller: Annotated[str, Field(min_length=1, max_length=32)]
    digits: Annotated[str, Field(max_length=64)]
    language: Literal["en", "hi"] = "hi"


HandedT = TypeVar("HandedT", SmsHanded, CallHanded)


def number_doors(pages: Pages, lookup: NumberLookup, token: str | None) -> APIRouter:
    """Make the routes under /v1/number; without a token there are none."""
    routes = APIRouter()
    if token is None:
        return routes
    tries = SlidingLimit(TOKEN_TRIES, timedelta(minutes=15))

    def closed(request: Request) -> Response | None:
        """Return the refusal of a request without the token."""
        now = pages.clock.now()
        if (left := tries.left(client_address(request), now)) is not None:
            return _later({"error": "too many wrong tokens"}, left)
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(given.encode(), token.encode()):
            return None
        tries.hit(client_address(request), now)
        return JSONResponse({"error": "the token is wrong: Authorization: Bearer TOKEN"}, status_code=401)

    def ask(channel: str, who: str, text: str, kind: str) -> timedelta | bool | None:
        """Ask for whoever sent or called: how long to wait, None when it is begun, False for what is no number."""
        typed = TypedNumber.of(text)
        if not typed.plausible:
            return False
        caller = f"{channel}:{TypedNumber.of(who).key[-10:]}"
        return lookup.number(Asked(typed=typed, kind=kind, asker=Asker(address=caller, device=caller)))

    @routes.post("/v1/number/sms")
    async def sms(request: Request) -> Response:
        if (refusal := closed(request)) is not None:
            return refusal
        handed = await _read(request, SmsHanded)
        if isinstance(handed, Response):
            return handed
        asked = ask("sms", handed.sender, number_in(handed.text), handed.kind)
        return _answer(pages, asked, LANGUAGES, misread="know.how", name="reply")

    @routes.post("/v1/number/call")
    async def call(request: Request) -> Response:
        if (refusal := closed(request)) is not None:
            return refusal
        handed = await _read(request, CallHanded)
        if isinstance(handed, Response):
            return handed
        asked = ask("call", handed.caller, handed.digits, handed.kind)
        return _answer(pages, asked, (handed.language,), misread="know.keys", name="say")

    return routes


def number_in(text: str) -> str:
    """Return what stands for the number in an SMS: all of it, but for a keyword before it.

    >>> number_in("Number KE 0001"), number_in("KE 0001")
    ('KE 0001', 'KE 0001')
    """
    first, _, rest = text.strip().partition(" ")
    return rest if first.upper().rstrip(":") in KEYWORDS else text.strip()


async def _read(request: Request, form: type[HandedT]) -> HandedT | Response:
    """Return what was posted as JSON or as a form, or the refusal that names the member."""
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            return form.model_validate_json(await request.body())
        return form.model_validate(dict(await request.form()))
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "body"
        return JSONResponse({"error": f"{where}: {wrong['msg']}"}, status_code=422)


def _answer(
    pages: Pages,
    asked: timedelta | bool | None,
    languages: tuple[str, ...],
    *,
    misread: str,
    name: str,
) -> Response:
    words = [Words(language, pages.zone) for language in languages]
    if isinstance(asked, timedelta):
        said = {t.language: t("know.wait", wait=t.wait(asked)) for t in words}
        return _later({"accepted": False, name: said}, asked)
    if asked is False:
        return JSONResponse({"accepted": False, name: {t.language: t(misread) for t in words}})
    said = {t.language: f"{t('know.sent')} {t('know.otherwise')}" for t in words}
    return JSONResponse({"accepted": True, name: said})


def _later(document: dict[str, object], left: timedelta) -> Response:
    seconds = str(max(1, math.ceil(left.total_seconds())))
    return JSONResponse(document, status_code=429, headers={"Retry-After": seconds})
