"""A signed message."""

from __future__ import annotations

from gateway.contract.messages.base import Message


class Signed(Message):
    """A signed message: compact JWS (RFC 7515), EdDSA; its payload is the message as JSON."""

    jws: str
