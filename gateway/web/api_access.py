"""Who asks the API: a machine by token or client certificate, a person by the token of a terminal's session."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request

from gateway.central.office.actors import Actor
from gateway.central.office.office import Office
from gateway.central.office.proofs import TOKEN_PREFIX
from gateway.central.portal.limits import SlidingLimit
from gateway.web.problems import Problem, waits
from gateway.web.security import client_address
from protocols.session import Clock

REQUESTS: Final = 300
"""Of one actor in a minute."""
WRONG: Final = 30
"""Requests with a wrong proof, or none, of one address in a quarter of an hour."""
MAX_CREDENTIAL: Final = 200
MAX_CERTIFICATE: Final = 12_000
"""Characters of a certificate in a header; a chain does not belong there."""
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Lets in whoever proves to be somebody; `header` is where a trusted proxy says whose certificate it saw."""

    office: Office
    clock: Clock
    header: str | None = None
    trusted: Sequence[str] = ()
    asked: SlidingLimit = field(default_factory=lambda: SlidingLimit(REQUESTS, timedelta(minutes=1)))
    wrong: SlidingLimit = field(default_factory=lambda: SlidingLimit(WRONG, timedelta(minutes=15)))

    def actor(self, request: Request) -> Actor:
        """Return who asks; blocking. Problem 401 for nobody, 429 for one who asks too often."""
        address, now = client_address(request), self.clock.now()
        if (left := self.wrong.left(address, now)) is not None:
            raise _too_often(left)
        actor = self._proved(request, address, now)
        if actor is None:
            self.wrong.hit(address, now)
            raise Problem(
                401,
                "who-are-you",
                "Nobody that is known here",
                "send `Authorization: Bearer TOKEN` with a token that lives, or use a client certificate that is"
                " registered (`meter-gateway staff tokens`)",
                headers={"WWW-Authenticate": 'Bearer realm="meter-gateway"'},
            )
        if (left := self.asked.hit(actor.name, now)) is not None:
            raise _too_often(left)
        return actor

    def _proved(self, request: Request, address: str, now: datetime) -> Actor | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            if scheme.lower() != "bearer" or len(token) > MAX_CREDENTIAL:
                return None
            token = token.strip()
            if token.startswith(TOKEN_PREFIX):
                return self.office.machines.of_token(token, source=address, at=now)
            return self.office.staff.of_session(token, kind="terminal", source=address, at=now)
        shown = self._certificate(request)
        return None if shown is None else self.office.machines.of_certificate(shown, source=address, at=now)

    def _certificate(self, request: Request) -> str | None:
        """Return the SHA-256 of the client's certificate, that of this connection or what a trusted proxy saw."""
        own: str | None = getattr(request.state, "client_certificate", None)
        if own is not None or self.header is None or not self._is_proxy(request):
            return own
        return certificate_digest(request.headers.get(self.header, ""), self.clock.now())

    def _is_proxy(self, request: Request) -> bool:
        try:
            peer = ip_address(getattr(request.state, "peer", ""))
        except ValueError:
            return False
        return any(peer in ip_network(network) for network in self.trusted)


def certificate_digest(told: str, now: datetime) -> str | None:
    """Return the SHA-256 of a certificate as proxies tell it: the digest itself, or the certificate as escaped PEM.

    None for neither, and for a certificate that is not valid now.
    """
    text = told.strip()
    if _SHA256.fullmatch(text):
        return text.lower()
    if not text or len(text) > MAX_CERTIFICATE:
        return None
    try:
        found = x509.load_pem_x509_certificate(unquote(text).encode())
        if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
            return None
        return hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest()
    except ValueError:
        return None


def _too_often(left: timedelta) -> Problem:
    return Problem(429, "too-often", "Too many requests", "wait as Retry-After says", headers=waits(left))
