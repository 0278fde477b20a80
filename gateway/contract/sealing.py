"""Sealing of keys to whoever may open them: X25519, HKDF-SHA-256 and AES-256-GCM.

Layout: `MGK1`, number of recipients, an ephemeral public key (32), for each recipient its name (8) and the content key
wrapped to it (48), then the text with its tag (16). Nonces are zero: each key ciphers one text. What comes before the
text and a context that is not sent (whose keys these are) are authenticated with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.errors import ConfigError, ContractError

MAX_RECIPIENTS: Final = 8
MAX_SEALED: Final = 700_000
"""Octets of the largest sealed text: it fits a message of the contract as base64."""
_MAGIC = b"MGK1"
_NAME, _KEY, _WRAPPED, _TAG = 8, 32, 48, 16
_NONCE = bytes(12)
_PURPOSE = b"meter-gateway sealed keys 1"


def new_sealing_pair(passphrase: bytes | None = None) -> tuple[bytes, bytes]:
    """Make a key pair: (private PEM, enciphered where a passphrase is given, and public PEM)."""
    key = X25519PrivateKey.generate()
    how: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_of(private: bytes, passphrase: bytes | None = None) -> bytes:
    """Return the public PEM that belongs to a private key; ConfigError as `open_sealed`."""
    key = _private(private, passphrase).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_name(public: bytes) -> str:
    """Return the 16 hex digits that name a public key, to compare by eye; ConfigError when it is none."""
    return _name(_public(public)).hex()


def public_text(public: bytes) -> str:
    """Return a public key as a message carries it: base64 of its 32 octets."""
    return base64.b64encode(_raw(_public(public))).decode()


def needs_passphrase(private: bytes) -> bool:
    """Say whether a private key's file is enciphered."""
    return b"ENCRYPTED PRIVATE KEY" in private


def seal(plain: bytes, *, to: Sequence[bytes], context: str) -> bytes:
    """Return `plain` so that only the owners of these public keys (PEM, or 32 octets, or their base64) open it.

    `context` has to be given again to open it: a text sealed for one meter never passes as another's. ConfigError for
    a key that is none, for no recipient or more than MAX_RECIPIENTS.
    """
    if not 1 <= len(to) <= MAX_RECIPIENTS:
        raise ConfigError(f"keys are sealed to 1 to {MAX_RECIPIENTS} public keys, not {len(to)}")
    ephemeral = X25519PrivateKey.generate()
    content = secrets.token_bytes(_KEY)
    ours = _raw(ephemeral.public_key())
    head = _MAGIC + bytes((len(to),)) + ours
    for recipient in map(_public, to):
        wrapping = _wrapping_key(ephemeral, recipient, ours, _raw(recipient))
        head += _name(recipient) + AESGCM(wrapping).encrypt(_NONCE, content, None)
    return head + AESGCM(content).encrypt(_NONCE, plain, head + context.encode())


def open_sealed(sealed: bytes, *, private: bytes, context: str, passphrase: bytes | None = None) -> bytes:
    """Return what was sealed to the owner of a private key.

    ContractError for octets that are none of ours, were altered, belong to another context, or were sealed to others
    only; ConfigError for a private key that cannot be read.
    """
    key = _private(private, passphrase)
    head, wrapped, text = _parts(sealed)
    found = wrapped.get(_name(key.public_key()))
    if found is None:
        names = ", ".join(sorted(name.hex() for name in wrapped))
        raise ContractError(f"sealed to {names}; this key is {_name(key.public_key()).hex()}")
    ours = sealed[len(_MAGIC) + 1 :][:_KEY]
    try:
        wrapping = _wrapping_key(key, X25519PublicKey.from_public_bytes(ours), ours, _raw(key.public_key()))
        content = AESGCM(wrapping).decrypt(_NONCE, found, None)
        return AESGCM(content).decrypt(_NONCE, text, head + context.encode())
    except (InvalidTag, ValueError) as error:
        raise ContractError("the sealed text was altered, or belongs to another") from error


def recipients(sealed: bytes) -> frozenset[str]:
    """Return the names of those who can open a sealed text; ContractError when it is none."""
    return frozenset(name.hex() for name in _parts(sealed)[1])


def sealed_octets(text: str) -> bytes:
    """Return a sealed text that a message carries as base64; ContractError when it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ContractError("the sealed text is not base64") from error


def digest(sealed: bytes) -> str:
    """Return the name of a sealed text: SHA-256, in hex."""
    return hashlib.sha256(sealed).hexdigest()


def _parts(sealed: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    start = len(_MAGIC) + 1
    if len(sealed) > MAX_SEALED or sealed[: len(_MAGIC)] != _MAGIC or len(sealed) < start + _KEY:
        raise ContractError("not a sealed text")
    count = sealed[len(_MAGIC)]
    end = start + _KEY + count * (_NAME + _WRAPPED)
    if not 1 <= count <= MAX_RECIPIENTS or len(sealed) < end + _TAG:
        raise ContractError("not a sealed text: its recipients do not fit its length")
    rows = range(start + _KEY, end, _NAME + _WRAPPED)
    wrapped = {sealed[at : at + _NAME]: sealed[at + _NAME : at + _NAME + _WRAPPED] for at in rows}
    return sealed[:end], wrapped, sealed[end:]


def _wrapping_key(own: X25519PrivateKey, other: X25519PublicKey, ephemeral: bytes, recipient: bytes) -> bytes:
    shared = own.exchange(other)
    return HKDF(SHA256(), _KEY, salt=None, info=_PURPOSE + ephemeral + recipient).derive(shared)


def _raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _name(key: X25519PublicKey) -> bytes:
    return hashlib.sha256(_raw(key)).digest()[:_NAME]


def _public(octets: bytes) -> X25519PublicKey:
    if b"-----BEGIN" in octets:
        try:
            key = load_pem_public_key(octets)
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError("the sealing key is PEM that cannot be read") from None
        if not isinstance(key, X25519PublicKey):
            raise ConfigError("the sealing key is not an X25519 public key (`keys escrow-new` makes one)")
        return key
    if len(octets) != _KEY:
        try:
            octets = base64.b64decode(octets.strip(), validate=True)
        except (binascii.Error, ValueError):
            octets = b""
    if len(octets) != _KEY:
        raise ConfigError("the sealing key is neither PEM nor 32 octets nor their base64 text")
    return X25519PublicKey.from_public_bytes(octets)


def _private(octets: bytes, passphrase: bytes | None) -> X25519PrivateKey:
    try:
        key = load_pem_private_key(octets, password=passphrase if needs_passphrase(octets) else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("the private key is no PEM that this passphrase opens") from None
    if not isinstance(key, X25519PrivateKey):
        raise ConfigError("the private key is not an X25519 key (`keys escrow-new` makes one)")
    return key
