"""What proves an identity: passwords (Argon2id), codes (TOTP, RFC 6238), tokens; and how they are kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_PASSWORD: Final = 12
MAX_PASSWORD: Final = 256
"""Characters. What is longer is no password that anybody types, and hashing it costs."""
STEP_SECONDS: Final = 30
"""A code's life, RFC 6238 section 5.2."""
WINDOW: Final = 1
"""Steps by which an authenticator's clock may differ, to either side."""
ISSUER: Final = "meter-gateway"
TOKEN_PREFIX: Final = "mgt_"  # noqa: S105  # so that a token is recognised where it does not belong
_TOKEN_OCTETS: Final = 32
_NONCE: Final = 12
_AT_ONCE: Final = threading.BoundedSemaphore(2)
"""Passwords hashed at once: each takes 46 MiB."""


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    # OWASP's first choice for Argon2id (Password Storage Cheat Sheet): 46 MiB, one pass.
    return PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1)


@cache
def _nobodys() -> str:
    return _hasher().hash(secrets.token_urlsafe(16))


def check_new_password(password: str, name: str) -> None:
    """Raise UsageError for a password that is too short, too long, or made of the account's name."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UsageError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if name.lower() in password.lower() or len(set(password)) < 5:
        raise UsageError(
            "a password that holds the account's name or few different characters is guessed at once"
        )


def hashed(password: str) -> str:
    """Return the Argon2id hash of a password, with its salt and parameters."""
    with _AT_ONCE:
        return _hasher().hash(password)


def is_password(password: str, held: str | None) -> bool:
    """Say whether a password has this hash; for None one is computed all the same, so that time tells nothing."""
    from argon2.exceptions import InvalidHashError, VerificationError

    if len(password) > MAX_PASSWORD:
        password = ""
    with _AT_ONCE:
        try:
            return _hasher().verify(held or _nobodys(), password) and held is not None
        except (VerificationError, InvalidHashError):
            return False


def new_seed() -> str:
    """Return the secret of a new authenticator, 160 bits in base32."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def seed_uri(seed: str, name: str) -> str:
    """Return what an authenticator app reads, `otpauth://totp/…`."""
    from pyotp import TOTP

    return TOTP(seed, interval=STEP_SECONDS).provisioning_uri(name=name, issuer_name=ISSUER)


def code_at(seed: str, step: int) -> str:
    """Return the six digits of a step (the time in seconds since 1970 by 30)."""
    from pyotp import TOTP

    return TOTP(seed, interval=STEP_SECONDS).generate_otp(step)


def step_of(code: str, seed: str, now: datetime, used: int) -> int | None:
    """Return the step that a code belongs to, None for a wrong, old or used one.

    Steps up to `used` were used: neither their code nor an earlier one counts again (RFC 6238 section 5.2).
    """
    present = int(now.timestamp()) // STEP_SECONDS
    given = "".join(code.split()).encode()  # apps show "123 456"
    found = None
    for step in range(present - WINDOW, present + WINDOW + 1):
        # Every step is compared: which one it was shows in no time.
        if hmac.compare_digest(given, code_at(seed, step).encode()) and step > used:
            found = step
    return found


def new_token(prefix: str = "") -> tuple[str, str]:
    """Return a new token, 256 random bits, and the digest of it that is kept."""
    token = prefix + secrets.token_urlsafe(_TOKEN_OCTETS)
    return token, token_digest(token)


def token_digest(token: str) -> str:
    """Return what is kept of a token: nobody finds 256 random bits from their SHA-256."""
    return hashlib.sha256(token.encode()).hexdigest()


class Seal:
    """The office's own key: it seals what must be read again (authenticators' secrets) and hashes references."""

    def __init__(self, key: bytes) -> None:
        """Take 32 octets; ConfigError for any other number."""
        if len(key) != 32:
            raise ConfigError("the office's key does not have 32 octets: restore `office.key` from its copy")
        self._seal = AESGCM(hmac.digest(key, b"seal", hashlib.sha256))
        self._hash = hmac.digest(key, b"references", hashlib.sha256)

    def close(self, text: str, about: str) -> str:
        """Return a text sealed for one purpose."""
        nonce = secrets.token_bytes(_NONCE)
        return base64.b64encode(nonce + self._seal.encrypt(nonce, text.encode(), about.encode())).decode()

    def open(self, sealed: str, about: str) -> str:
        """Return the text again; ConfigError where another key sealed it."""
        octets = base64.b64decode(sealed)
        try:
            return self._seal.decrypt(octets[:_NONCE], octets[_NONCE:], about.encode()).decode()
        except InvalidTag:
            raise ConfigError(
                f"what is kept of {about} was sealed with another `office.key`: restore that file from its copy, or"
                " give a new authenticator with `staff reset`"
            ) from None

    def reference(self, text: str) -> str:
        """Return a keyed hash that stands for a text in the audit trail, and cannot be turned back into it."""
        return "ref:" + hmac.new(self._hash, text.encode(), hashlib.sha256).hexdigest()[:32]
