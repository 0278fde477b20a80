"""High-level security (Green Book 9.2.7.4): how each mechanism proves that both sides know the secret; pure."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.dlms.security import curves
from protocols.dlms.security.ciphered_forms import AUTHENTICATED, KEY_OCTETS
from protocols.dlms.security.curves import PrivateKey, PublicKey
from protocols.dlms.security.suites import TAG_OCTETS, TITLE_OCTETS, Keys, protect, unprotect
from protocols.errors import MeterConfigError, SecurityFailure
from protocols.session import Auth

MECHANISMS = {
    Auth.NONE: 0,
    Auth.LLS: 1,
    Auth.HLS2: 2,
    Auth.HLS_MD5: 3,
    Auth.HLS_SHA1: 4,
    Auth.HLS_GMAC: 5,
    Auth.HLS_SHA256: 6,
    Auth.HLS_ECDSA: 7,
}
"""Last octet of the mechanism name."""
HLS = frozenset(auth for auth, mechanism in MECHANISMS.items() if mechanism >= 2)
MIN_CHALLENGE, MAX_CHALLENGE = 8, 64
CHALLENGE_OCTETS = 16
SIGNED_CHALLENGE = 32
"""Octets of a challenge that is signed (mechanism 7), at least; shorter ones of others are taken all the same."""
WITH_TITLE = (Auth.HLS_GMAC, Auth.HLS_SHA256, Auth.HLS_ECDSA)
"""Mechanisms whose proof has both sides' system titles in it."""
_BLOCK = 16
_DIGESTS = {Auth.HLS_MD5: "md5", Auth.HLS_SHA1: "sha1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One side of the proof: its system title and the challenge that it sent."""

    title: bytes
    challenge: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What proves: the HLS secret (mechanisms 2, 3, 4, 6), the ciphering keys (5), or signing keys (7)."""

    auth: Auth
    secret: bytes = field(default=b"", repr=False)
    keys: Keys | None = None
    own: PrivateKey | None = field(default=None, repr=False)
    peer: PublicKey | None = field(default=None, repr=False)


def challenge_octets(auth: Auth) -> int:
    """Return how long a challenge of ours is."""
    return SIGNED_CHALLENGE if auth is Auth.HLS_ECDSA else CHALLENGE_OCTETS


def prove(credentials: Credentials, *, prover: Party, verifier: Party, counter: int = 0) -> bytes:
    """Answer the verifier's challenge (pass 3 by the client, pass 4 by the server).

    `counter` is the prover's invocation counter, which mechanism 5 alone uses.
    """
    auth, secret = credentials.auth, credentials.secret
    if auth is Auth.HLS2:
        return _ecb(secret, verifier.challenge)
    if auth in _DIGESTS:
        return hashlib.new(_DIGESTS[auth], verifier.challenge + secret, usedforsecurity=False).digest()
    if auth is Auth.HLS_SHA256:
        text = secret + prover.title + verifier.title + verifier.challenge + prover.challenge
        return hashlib.sha256(text).digest()
    if auth is Auth.HLS_ECDSA:
        if credentials.own is None:
            raise MeterConfigError("HLS-ECDSA needs a signing key: see signing_key_ref")
        return curves.sign(credentials.own, signed_text(prover, verifier))
    keys = _gmac_keys(credentials)
    protected = protect(keys, prover.title, counter, verifier.challenge, control=AUTHENTICATED)
    return protected[:5] + protected[-TAG_OCTETS:]


def check(credentials: Credentials, answer: bytes, *, prover: Party, verifier: Party) -> int:
    """Check an answer to the verifier's challenge; returns the counter inside (mechanism 5), else 0.

    Raises SecurityFailure when the prover does not know the secret.
    """
    if credentials.auth is Auth.HLS_ECDSA:
        if credentials.peer is None:
            raise MeterConfigError("HLS-ECDSA needs the far side's signing key: see meter_signing_ref")
        curves.verify(credentials.peer, signed_text(prover, verifier), answer)
        return 0
    if credentials.auth is not Auth.HLS_GMAC:
        if not same(answer, prove(credentials, prover=prover, verifier=verifier)):
            raise SecurityFailure("the answer to our challenge is wrong: the far side does not know the key")
        return 0
    if len(answer) != 5 + TAG_OCTETS:
        raise SecurityFailure(f"an HLS-GMAC answer has {5 + TAG_OCTETS} octets, not {len(answer)}")
    if len(prover.title) != TITLE_OCTETS:
        raise SecurityFailure(f"HLS-GMAC needs a system title of {TITLE_OCTETS} octets")
    body = answer[:5] + verifier.challenge + answer[5:]
    return unprotect(_gmac_keys(credentials), prover.title, body, required=AUTHENTICATED).counter


def signed_text(prover: Party, verifier: Party) -> bytes:
    """Return what mechanism 7 signs (Green Book 9.2.7.4)."""
    return prover.title + verifier.title + verifier.challenge + prover.challenge


def reflects(auth: Auth, own: bytes, challenge: bytes) -> bool:
    """Return whether an answer to `challenge` would also answer our `own`, so that it must not be given.

    Mechanism 2 ciphers a challenge block by block, so any block of ours in it is enough.
    """
    if auth is not Auth.HLS2:
        return own == challenge
    return not _blocks(own).isdisjoint(_blocks(challenge))


def _blocks(challenge: bytes) -> set[bytes]:
    padded = _padded(challenge)
    return {padded[i : i + _BLOCK] for i in range(0, len(padded), _BLOCK)}


def _padded(challenge: bytes) -> bytes:
    return challenge + bytes(-len(challenge) % _BLOCK)


def same(left: bytes, right: bytes) -> bool:
    """Return whether two secrets are equal, in constant time."""
    return hmac.compare_digest(left, right)


def _gmac_keys(credentials: Credentials) -> Keys:
    if credentials.keys is None:
        raise MeterConfigError("HLS-GMAC needs an encryption key and an authentication key")
    return credentials.keys


def _ecb(key: bytes, challenge: bytes) -> bytes:
    """Cipher a challenge as Indian meters ask for: AES-128-ECB, key and challenge zero-padded to 16."""
    if not key or len(key) > KEY_OCTETS:
        raise MeterConfigError(f"the HLS key has {len(key)} octets; 1 to {KEY_OCTETS} are allowed")
    # The Indian companion prescribes ECB here; it covers one random challenge, never data.
    cipher = Cipher(algorithms.AES(key.ljust(KEY_OCTETS, b"\0")), modes.ECB())  # noqa: S305
    return cipher.encryptor().update(_padded(challenge))
