"""Everything that a page needs: templates, language, form token, cookies; shared by the routes."""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from gateway.web.i18n import LANGUAGES, Words, choose_language, grouped, iso, masked
from gateway.web.security import Signer, new_form_cookie, same_origin, set_cookie
from protocols.session import Clock

FORM_COOKIE = "form"
LANGUAGE_COOKIE = "lang"
LANGUAGE_LIFETIME = timedelta(days=365)


def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("gateway.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals["style"] = style_version()
    env.filters.update(grouped=grouped, masked=masked, iso=iso)
    return env


@dataclass(frozen=True, slots=True)
class Pages:
    """Renders pages. `clock` is a real one: form and session lifetimes are lived by people."""

    clock: Clock
    signer: Signer
    zone: ZoneInfo
    env: Environment = field(default_factory=_environment)

    def words(self, request: Request) -> Words:
        """Return the language of this request: `?lang=`, then the cookie, then Accept-Language."""
        return Words(self.language(request), self.zone)

    def language(self, request: Request) -> str:
        """Return the code of the language of this request."""
        return choose_language(
            request.query_params.get("lang"),
            request.cookies.get(LANGUAGE_COOKIE),
            request.headers.get("accept-language"),
        )

    def render(
        self, request: Request, template: str, *, status: int = 200, wide: bool = False, **context: Any
    ) -> HTMLResponse:
        """Make a page in the request's language, with a fresh form cookie where the browser has none."""
        words = self.words(request)
        cookie = request.cookies.get(FORM_COOKIE) or new_form_cookie()
        html = self.env.get_template(template).render(
            t=words,
            other=words.other(),
            request_path=request.url.path,
            form_token=self.signer.tag("form", cookie),
            wide=wide,
            logged_in=context.pop("logged_in", False),
            **context,
        )
        response = HTMLResponse(html, status_code=status)
        response.headers["Content-Language"] = words.language
        response.headers["Vary"] = "Accept-Language, Cookie"
        if FORM_COOKIE not in request.cookies:
            set_cookie(request, response, FORM_COOKIE, cookie)
        if request.query_params.get("lang") in LANGUAGES:
            set_cookie(request, response, LANGUAGE_COOKIE, words.language, lifetime=LANGUAGE_LIFETIME)
        return response

    def message(self, request: Request, key: str, *, status: int, **values: str) -> HTMLResponse:
        """Return a page with one message in both languages (`error.{key}_title`, `error.{key}`)."""
        return self.render(
            request, "message.html", status=status, key=key, values=values, other_values=values
        )

    def wait(self, request: Request, left: timedelta) -> HTMLResponse:
        """Return the answer to too many tries: 429 with the wait time in both languages and in Retry-After."""
        words = self.words(request)
        response = self.render(
            request,
            "message.html",
            status=429,
            key="wait",
            values={"wait": words.wait(left)},
            other_values={"wait": words.other().wait(left)},
        )
        response.headers["Retry-After"] = str(max(1, math.ceil(left.total_seconds())))
        return response

    def form_is_ours(self, request: Request, token: str) -> bool:
        """Say whether a posted form was made by these pages for this browser."""
        cookie = request.cookies.get(FORM_COOKIE)
        if cookie is None or not token.isascii() or not same_origin(request):
            return False
        return hmac.compare_digest(token, self.signer.tag("form", cookie))


def style_version() -> str:
    """Return a text that changes whenever the style sheet does, so that browsers may keep it."""
    sheet = resources.files("gateway.web").joinpath("static", "style.css").read_bytes()
    return hashlib.sha256(sheet).hexdigest()[:8]


def static_folder() -> str:
    """Return the folder of the style sheet and icon."""
    return str(resources.files("gateway.web").joinpath("static"))
