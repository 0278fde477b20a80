"""The device cookie: which browser asks, and whose mobiles it proved before.

It opens nothing. It says apart the devices behind one address, and it lets a household ask for a code while
strangers ask for its number. Whoever throws it away is a stranger's device again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.web.security import Signer

VISIT = timedelta(days=1)
"""How long the cookie of a device that proved nothing is good; the browser drops it when it closes."""
KNOWN_FOR = timedelta(days=180)
MAX_PROVEN = 24
"""Accounts and numbers remembered by one device: a family or an agent has several."""
_TAG = 16


@dataclass(frozen=True, slots=True)
class Device:
    """One browser; `proven` are keyed hashes of the accounts and numbers that it opened."""

    id: str
    proven: tuple[str, ...] = ()

    def has_proven(self, signer: Signer, text: str) -> bool:
        """Say whether this device opened the account or number before."""
        return _tag(signer, text) in self.proven

    def proving(self, signer: Signer, texts: Iterable[str]) -> Device:
        """Return this device with more accounts and numbers proven; the oldest beyond MAX_PROVEN go."""
        tags = [*self.proven, *(_tag(signer, text) for text in texts)]
        return Device(self.id, tuple(dict.fromkeys(reversed(tags)))[:MAX_PROVEN][::-1])

    def signed(self, signer: Signer, now: datetime) -> str:
        """Return the cookie's value."""
        payload = {"id": self.id, "proven": ",".join(self.proven)}
        return signer.sign("device", payload, now + (KNOWN_FOR if self.proven else VISIT))


def new_device() -> Device:
    """Make a device that was never seen."""
    return Device(secrets.token_urlsafe(18))


def read_device(signer: Signer, cookie: str | None, now: datetime) -> Device | None:
    """Return the device of a cookie, None when it is forged or too old."""
    held = signer.read("device", cookie, now)
    if held is None:
        return None
    return Device(held["id"], tuple(tag for tag in held["proven"].split(",") if tag))


def _tag(signer: Signer, text: str) -> str:
    return signer.tag("proven", text)[:_TAG]
