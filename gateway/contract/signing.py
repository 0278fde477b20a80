"""Signatures of what central says to edges and systems to central: compact JWS (RFC 7515), EdDSA (RFC 8037).

A signature says for what it was made (`typ`), so that a signed directory never passes as an order.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.errors import ConfigError, ContractError

DIRECTORY_TYP: Final = "directory+jws"
ACK_TYP: Final = "ack+jws"
REPLAY_TYP: Final = "replay+jws"
CARRIED_TYP: Final = "carried+jws"
READ_AGAIN_TYP: Final = "read-again+jws"
ORDER_TYP: Final = "order+jws"
TIME_TYP: Final = "time+jws"
KEYS_RECEIPT_TYP: Final = "keys-receipt+jws"
KEYS_GIVEN_TYP: Final = "keys-given+jws"
KEYS_MISSING_TYP: Final = "keys-missing+jws"
CHANGES_TYP: Final = "changes+jws"
CHANGES_ANSWERED_TYP: Final = "changes-answered+jws"
FIRMWARE_TYP: Final = "firmware+jws"
_RAW = 32


def private_key(octets: bytes) -> Ed25519PrivateKey:
    """Read an Ed25519 private key: 32 raw octets, their base64 text, or PEM; ConfigError otherwise."""
    if b"-----BEGIN" in octets:
        try:
            key = load_pem_private_key(octets, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError("the signing key is PEM that cannot be read (without a password)") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError("the signing key is not an Ed25519 private key")
        return key
    return Ed25519PrivateKey.from_private_bytes(_raw(octets, "signing key"))


def public_key(octets: bytes) -> Ed25519PublicKey:
    """Read an Ed25519 public key: 32 raw octets, their base64 text, or PEM; ConfigError otherwise."""
    if b"-----BEGIN" in octets:
        try:
            key = load_pem_public_key(octets)
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError("the verification key is PEM that cannot be read") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError("the verification key is not an Ed25519 public key")
        return key
    return Ed25519PublicKey.from_public_bytes(_raw(octets, "verification key"))


def verify_key_of(signing_key: bytes) -> bytes:
    """Return the public key (32 raw octets) that belongs to a signing key; ConfigError as `private_key`."""
    return private_key(signing_key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def new_key_pair() -> tuple[bytes, bytes]:
    """Make a key: (private PEM, public PEM)."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the short stable name of a key that signatures carry (`kid`)."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def sign(payload: bytes, *, key: bytes, typ: str) -> str:
    """Sign octets: compact JWS text. `key` as in `private_key`; `typ` is one of the names above."""
    secret = private_key(key)
    headers = {"typ": typ, "kid": key_id(secret.public_key())}
    return jwt.PyJWS().encode(payload, secret, algorithm="EdDSA", headers=headers)


def verify(jws: str, *, keys: Mapping[str, bytes] | tuple[bytes, ...], typ: str) -> bytes:
    """Check a signature against any of the trusted public keys and return the signed octets.

    `keys` holds keys as in `public_key` (a mapping's names are for people). ContractError when no key
    made it, when it was made for another purpose, or when it is no signature at all.
    """
    trusted = {key_id(k): k for k in map(public_key, keys.values() if isinstance(keys, Mapping) else keys)}
    try:
        header = jwt.get_unverified_header(jws)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise ContractError(f"$.jws: not a compact JWS: {error}") from error
    if header.get("typ") != typ or header.get("alg") != "EdDSA":
        raise ContractError(
            f"$.jws: signed as {str(header.get('typ'))[:60]!r}, but {typ!r} with EdDSA belongs"
        )
    key = trusted.get(str(header.get("kid")))
    if key is None:
        raise ContractError(f"$.jws: signed with key {str(header.get('kid'))[:60]!r}, which is not trusted")
    try:
        payload = jwt.PyJWS().decode(jws, key, algorithms=["EdDSA"])
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise ContractError(f"$.jws: {error}") from error
    if not isinstance(payload, bytes):
        raise ContractError("$.jws: the payload is not octets")
    return payload


def _raw(octets: bytes, what: str) -> bytes:
    if len(octets) == _RAW:
        return octets
    try:
        decoded = base64.b64decode(octets.strip(), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != _RAW:
        raise ConfigError(f"the {what} is neither {_RAW} octets, nor their base64 text, nor PEM")
    return decoded
