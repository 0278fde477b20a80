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
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.web.device import KNOWN_FOR, Device, new_device, read_device
from gateway.web.i18n import LANGUAGES, Words, choose_language, grouped, iso, masked, with_commands
from gateway.web.security import Signer
from gateway.web.site import Site, own_path
from protocols.session import Clock

DEVICE_COOKIE = "device"
LANGUAGE_COOKIE = "lang"
SHOWN_AT = {"/me/resend": "/me/code", "/me/logout": "/me"}
"""Where the page is to be asked for again, in another language, that answered a form of another path."""
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
    env.filters.update(grouped=grouped, masked=masked, iso=iso, with_commands=with_commands)
    return env


@dataclass(frozen=True, slots=True)
class Pages:
    """Renders pages. `clock` is a real one: form and session lifetimes are lived by people."""

    clock: Clock
    signer: Signer
    zone: ZoneInfo
    site: Site
    env: Environment = field(default_factory=_environment)

    def words(self, request: Request) -> Words:
        """Return the language of this request: `?lang=`, then the cookie, then Accept-Language."""
        return Words(self.language(request), self.zone)

    def language(self, request: Request) -> str:
        """Return the code of the language of this request."""
        return choose_language(
            request.query_params.get("lang"),
            self.cookie(request, LANGUAGE_COOKIE),
            request.headers.get("accept-language"),
        )

    def render(
        self, request: Request, template: str, *, status: int = 200, wide: bool = False, **context: Any
    ) -> HTMLResponse:
        """Make a page in the request's language, with a fresh device cookie where the browser has none."""
        words = self.words(request)
        path: str = request.scope["path"]
        held = self.device(request)
        device = held or new_device()
        html = self.env.get_template(template).render(
            t=words,
            other=words.other(),
            request_path=own_path(SHOWN_AT.get(path, path)),
            form_token=self.signer.tag("form", device.id),
            wide=wide,
            logged_in=context.pop("logged_in", False),
            staff=context.pop("staff", None),
            **context,
        )
        response = HTMLResponse(html, status_code=status)
        response.headers["Content-Language"] = words.language
        response.headers["Vary"] = "Accept-Language, Cookie"
        if held is None:
            self.set_device(request, response, device)
        if request.query_params.get("lang") in LANGUAGES:
            self.set_cookie(request, response, LANGUAGE_COOKIE, words.language, lifetime=LANGUAGE_LIFETIME)
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
        device = self.device(request)
        if device is None or not token.isascii() or not self.comes_from_here(request):
            return False
        return hmac.compare_digest(token, self.signer.tag("form", device.id))

    def comes_from_here(self, request: Request) -> bool:
        """Say whether the browser says that a form came from these pages; browsers that say nothing pass."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = request.headers.get("origin")
        # Our Referrer-Policy has browsers write `null`, which is why the form carries a token, too.
        return origin in (None, "null") or self.site.is_own_origin(request, str(origin))

    def device(self, request: Request) -> Device | None:
        """Return the device that asks, None when it has no cookie of ours."""
        return read_device(self.signer, self.cookie(request, DEVICE_COOKIE), self.clock.now())

    def set_device(self, request: Request, response: Response, device: Device) -> None:
        """Give the browser its device cookie: one that proved something is kept when the browser closes."""
        lifetime = KNOWN_FOR if device.proven else None
        signed = device.signed(self.signer, self.clock.now())
        self.set_cookie(request, response, DEVICE_COOKIE, signed, lifetime=lifetime)

    def cookie(self, request: Request, name: str) -> str | None:
        """Return the value of a cookie of ours, None when there is none."""
        return request.cookies.get(self.site.cookie(request, name))

    def set_cookie(
        self,
        request: Request,
        response: Response,
        name: str,
        value: str,
        *,
        lifetime: timedelta | None = None,
    ) -> None:
        """Set a cookie that scripts cannot read and other sites do not send; `__Host-` and Secure with TLS."""
        response.set_cookie(
            self.site.cookie(request, name),
            value,
            max_age=None if lifetime is None else int(lifetime.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=self.site.is_secure(request),
        )

    def delete_cookie(self, request: Request, response: Response, name: str) -> None:
        """Have the browser drop a cookie of ours."""
        response.delete_cookie(
            self.site.cookie(request, name),
            httponly=True,
            samesite="strict",
            secure=self.site.is_secure(request),
        )


def go(where: str) -> RedirectResponse:
    """Return the answer to a form: look there."""
    return RedirectResponse(where, status_code=303)


def style_version() -> str:
    """Return a text that changes whenever the style sheet does, so that browsers may keep it."""
    sheet = resources.files("gateway.web").joinpath("static", "style.css").read_bytes()
    return hashlib.sha256(sheet).hexdigest()[:8]


def static_folder() -> str:
    """Return the folder of the style sheet and icon."""
    return str(resources.files("gateway.web").joinpath("static"))
