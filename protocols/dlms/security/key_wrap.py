"""AES key wrap (RFC 3394), as security setup's key transfer uses it: a new key under the master key.

The library is imported when a key is wrapped: names of the security setup are shown without it.
"""

from __future__ import annotations

from protocols.dlms.security.ciphered_forms import KEY_OCTETS, LONG_KEY_OCTETS
from protocols.errors import MeterConfigError, SecurityFailure

WRAPPED_OCTETS = KEY_OCTETS + 8
LONG_WRAPPED_OCTETS = LONG_KEY_OCTETS + 8
"""Octets of a wrapped key of suite 2."""


def wrap_key(master: bytes, key: bytes) -> bytes:
    """Wrap a key: 16 octets in 24 under suites 0 and 1, 32 in 40 under suite 2.

    Raises MeterConfigError for a length that is wrong: master key and new key are of one suite.
    """
    _check("master", master, (KEY_OCTETS, LONG_KEY_OCTETS))
    _check("new", key, (len(master),))
    from cryptography.hazmat.primitives import keywrap

    return keywrap.aes_key_wrap(master, key)


def unwrap_key(master: bytes, wrapped: bytes) -> bytes:
    """Return the key inside; SecurityFailure when it was not wrapped under `master` or was changed."""
    from cryptography.hazmat.primitives import keywrap

    _check("master", master, (KEY_OCTETS, LONG_KEY_OCTETS))
    if len(wrapped) != len(master) + 8:
        raise SecurityFailure(f"a wrapped key has {len(master) + 8} octets, not {len(wrapped)}")
    try:
        return keywrap.aes_key_unwrap(master, wrapped)
    except keywrap.InvalidUnwrap as error:
        raise SecurityFailure("the wrapped key does not open under this master key") from error


def _check(name: str, key: bytes, lengths: tuple[int, ...]) -> None:
    if len(key) not in lengths:
        wanted = " or ".join(map(str, lengths))
        raise MeterConfigError(f"the {name} key has {len(key)} octets; {wanted} are needed")
