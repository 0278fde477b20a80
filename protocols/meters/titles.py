"""System titles of clients: which of the programs that hold a key an invocation counter is of."""

from __future__ import annotations

import hashlib

TITLE_OCTETS = 8


def client_title(client: str) -> bytes:
    """Return the system title of the client with this name: `MGW` and five octets of the name's hash.

    Two clients with one key must differ in it, since nonce = system title + counter (Green Book, suite 0).
    """
    return b"MGW" + hashlib.sha256(client.encode()).digest()[:5]


def system_title(text: str) -> bytes:
    """Read a system title from hex digits; ValueError when it is none."""
    title = bytes.fromhex(text)
    if len(title) != TITLE_OCTETS:
        raise ValueError(text)
    return title
