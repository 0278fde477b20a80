"""What guards the pages: signed cookies, response headers, hosts, bounds, who a client is for rate limits."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections import Counter, OrderedDict
from datetime import UTC, datetime, timedelta

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.web.site import Site, address_key

SESSION_LIFETIME = timedelta(minutes=15)
MAX_REVOKED = 20_000
"""Sessions that were logged out, remembered at once."""
MAX_BODY = 16 * 1024
"""Octets of a posted form; ours have some hundreds."""
MAX_API_BODY = 4 * 1024 * 1024
"""Octets of a change set: 10,000 changes have some two million."""
API_PATH = "/v1/directory/"
MAX_TOKEN = 2048
"""Characters of a signed cookie; ours have some hundreds."""
MAX_UNDER_WAY = 64
"""Requests of one address answered at once, also behind a proxy; one takes some milliseconds."""
HEALTH = "/healthz"
"""Answers whatever Host it is asked by: those who watch a service ask by address. It tells nothing."""
WRONG_HOST = (
    "421 This portal is not served under that name. Use the address on your bill; "
    "staff: see [web] public_url in the settings.\n"
)
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


def client_address(request: Request) -> str:
    """Return who asks, for shares: the connection's peer, or what a trusted proxy says; never a client's word."""
    return address_key(request.client.host) if request.client else "unknown"


class GuardMiddleware:
    """Refuses requests for other hosts, too many at once of one address, and bodies that no form of ours has.

    Adds the security headers to every answer.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        static = scope["path"].startswith("/static/")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (HEADERS | self._site.headers).items():
                    headers[name] = value
                headers["Cache-Control"] = "public, max-age=3600" if static else "no-store"
            await send(message)

        if (refusal := self._refusal(Request(scope))) is not None:
            await refusal(scope, receive, guarded)
            return
        key = client_address(Request(scope))
        self._under_way[key] += 1
        try:
            await self._app(scope, _bounded(receive, _most(scope["path"])), guarded)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    def _refusal(self, request: Request) -> Response | None:
        client = request.client.host if request.client else None
        # The path as it was asked for: in `request.url` a Host such as `x/healthz?` would stand before it.
        if request.scope["path"] != HEALTH and not self._site.knows_host(
            request.headers.get("host", ""), client
        ):
            return PlainTextResponse(WRONG_HOST, status_code=421)
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:12]) > _most(request.scope["path"]):
            return PlainTextResponse("too large\n", status_code=413)
        if self._under_way[client_address(request)] >= MAX_UNDER_WAY:
            return PlainTextResponse("too many at once\n", status_code=503, headers={"Retry-After": "1"})
        return None


def _most(path: str) -> int:
    """Return the octets that a body may have; the API reads none before it knows who asks."""
    return MAX_API_BODY if path.startswith(API_PATH) else MAX_BODY


def _bounded(receive: Receive, most: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            return {"type": "http.disconnect"}
        return message

    return bounded
