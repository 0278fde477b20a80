"""What a key pair is for, without the libraries that certificates need."""

from __future__ import annotations

from enum import IntEnum

MAX_CERTIFICATE = 4096
"""Octets of a certificate; one of a meter has some 500."""


class KeyUse(IntEnum):
    """What a key pair is for; numbered as class 64 does (Blue Book 4.4.7)."""

    SIGNING = 0
    AGREEMENT = 1
    TLS = 2
