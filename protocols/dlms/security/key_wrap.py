"""AES key wrap (RFC 3394), as security setup's key transfer uses it: a new key under the master key."""

from __future__ import annotations

from cryptography.hazmat.primitives import keywrap

from protocols.dlms.security.ciphered_forms import KEY_OCTETS
from protocols.errors import MeterConfigError, SecurityFailure

WRAPPED_OCTETS = KEY_OCTETS + 8


def wrap_key(master: bytes, key: bytes) -> bytes:
    """Wrap a key of suite 0 (16 octets) in 24 octets; MeterConfigError for a length that is wrong."""
    _check("master", master)
    _check("new", key)
    return keywrap.aes_key_wrap(master, key)


def unwrap_key(master: bytes, wrapped: bytes) -> bytes:
    """Return the key inside; SecurityFailure when it was not wrapped under `master` or was changed."""
    _check("master", master)
    if len(wrapped) != WRAPPED_OCTETS:
        raise SecurityFailure(f"a wrapped key has {WRAPPED_OCTETS} octets, not {len(wrapped)}")
    try:
        return keywrap.aes_key_unwrap(master, wrapped)
    except keywrap.InvalidUnwrap as error:
        raise SecurityFailure("the wrapped key does not open under this master key") from error


def _check(name: str, key: bytes) -> None:
    if len(key) != KEY_OCTETS:
        raise MeterConfigError(f"the {name} key has {len(key)} octets; suite 0 needs {KEY_OCTETS}")
