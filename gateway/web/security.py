"""What guards the pages: signed cookies, form tokens, response headers, who a client is for rate limits."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import secrets
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Literal

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION_LIFETIME = timedelta(minutes=15)
MAX_REVOKED = 20_000
"""Sessions that were logged out, remembered at once."""
MAX_BODY = 16 * 1024
"""Octets of a posted form; ours have some hundreds."""
MAX_TOKEN = 2048
"""Characters of a signed cookie; ours have some hundreds."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Signer:
    """Signs small payloads with an expiry, each for one purpose only."""

    def __init__(self, secret: bytes) -> None:
        """Keep the secret; ValueError when it has fewer than 16 octets."""
        if len(secret) < 16:
            raise ValueError("the session secret needs at least 16 octets")
        self._secret = secret

    def tag(self, purpose: str, text: str) -> str:
        """Return a keyed hash of a text for one purpose."""
        return hmac.new(self._secret, f"{purpose}|{text}".encode(), hashlib.sha256).hexdigest()

    def sign(self, purpose: str, payload: dict[str, str], until: datetime) -> str:
        """Write a payload that `read` accepts until an instant."""
        body = json.dumps({**payload, "exp": str(int(until.timestamp()))}, separators=(",", ":"))
        packed = base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")
        return f"{packed}.{self.tag(purpose, packed)}"

    def read(self, purpose: str, token: str | None, now: datetime) -> dict[str, str] | None:
        """Return the payload, or None when it is forged, of another purpose, or too old."""
        packed, _, tag = (token or "").partition(".")
        genuine = tag.isascii() and hmac.compare_digest(tag, self.tag(purpose, packed))
        if not genuine or len(packed) > MAX_TOKEN:
            return None
        try:
            body = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        except (ValueError, binascii.Error):
            return None
        if not isinstance(body, dict) or datetime.fromtimestamp(int(body["exp"]), UTC) <= now:
            return None
        return {str(key): str(value) for key, value in body.items()}


class Revoked:
    """Sessions that were logged out, remembered until they would have ended anyway."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, datetime] = OrderedDict()

    def add(self, session: str, now: datetime) -> None:
        """Refuse this session from now on."""
        self._until[session] = now + SESSION_LIFETIME
        while self._until and (len(self._until) > MAX_REVOKED or next(iter(self._until.values())) <= now):
            self._until.popitem(last=False)

    def __contains__(self, session: object) -> bool:
        return session in self._until


def set_cookie(
    request: Request,
    response: Response,
    name: str,
    value: str,
    *,
    path: str = "/",
    lifetime: timedelta | None = None,
    same_site: Literal["lax", "strict"] = "strict",
) -> None:
    """Set a cookie that scripts cannot read and other sites do not send; Secure wherever TLS is used."""
    response.set_cookie(
        name,
        value,
        path=path,
        max_age=None if lifetime is None else int(lifetime.total_seconds()),
        httponly=True,
        samesite=same_site,
        secure=request.url.scheme == "https",
    )


def new_form_cookie() -> str:
    """Make the random half of a form token."""
    return secrets.token_urlsafe(18)


def same_origin(request: Request) -> bool:
    """Say whether the browser says that a form came from these pages; browsers that say nothing pass."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    if origin is None or origin == "null":
        return True
    return origin.partition("://")[2] == request.headers.get("host")


def client_key(request: Request) -> str:
    """Return who asks, for rate limits: the IPv4 address, or the /64 that one IPv6 household has."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if address.version == 6:
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)


def is_loopback_name(host: str | None) -> bool:
    """Say whether the address in the browser names this machine (a foreign name may be DNS rebinding)."""
    name = (host or "").rsplit(":", 1)[0] if not (host or "").endswith("]") else (host or "")
    return name.strip("[]").lower() in ("localhost", "127.0.0.1", "::1")


class GuardMiddleware:
    """Adds the security headers to every answer and refuses bodies that no form of ours has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        static = scope["path"].startswith("/static/")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["Cache-Control"] = "public, max-age=3600" if static else "no-store"
            await send(message)

        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                return {"type": "http.disconnect"}
            return message

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length[:12]) > MAX_BODY:
            await Response("too large", status_code=413)(scope, receive, guarded)
            return
        await self._app(scope, bounded, guarded)
