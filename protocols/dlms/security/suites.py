"""Security suites (Green Book 9.2.3): AES-GCM protection of octets with tag checks.

What suites 1 and 2 add to suite 0, signatures and key agreement, is in `curves`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.dlms.data.cursor import Cursor
from protocols.dlms.security.ciphered_forms import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    ENCRYPTED,
    KEY_OCTETS,
    LONG_KEY_OCTETS,
    SECURED_TEXT,
    SecuredText,
)
from protocols.errors import MeterConfigError, SecurityFailure
from protocols.session import Protection

TAG_OCTETS = 12
FULL_TAG_OCTETS = 16
"""What AES-GCM gives; the first twelve are sent."""
TITLE_OCTETS = 8
_BROADCAST, _COMPRESSED, _SUITE = 0x40, 0x80, 0x0F
MAX_COUNTER = 0xFFFFFFFF


SUITE_KEY_OCTETS = {0: KEY_OCTETS, 1: KEY_OCTETS, 2: LONG_KEY_OCTETS}
"""Octets of a suite's AES keys, by its number in the security control octet."""

CONTROLS = {
    Protection.AUTHENTICATED: AUTHENTICATED,
    Protection.ENCRYPTED: ENCRYPTED,
    Protection.AUTHENTICATED_ENCRYPTED: AUTHENTICATED_ENCRYPTED,
}
"""Security control by protection; the suite's number comes to it when it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """An encryption key (global unicast or dedicated) and the authentication key, as long as the suite has them.

    Raises MeterConfigError for another length. Neither key is shown by `repr`.
    """

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)
    suite: int = 0

    def __post_init__(self) -> None:
        wanted = SUITE_KEY_OCTETS[self.suite]
        for name, key in (("encryption", self.encryption), ("authentication", self.authentication)):
            if len(key) != wanted:
                raise MeterConfigError(
                    f"the {name} key has {len(key)} octets; suite {self.suite} needs {wanted}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A ciphered APDU after its tag was checked."""

    plain: bytes = field(repr=False)
    counter: int
    control: int


def protect(
    keys: Keys, title: bytes, counter: int, plain: bytes, *, control: int = AUTHENTICATED_ENCRYPTED
) -> bytes:
    """Return the octets of `secure`: security control, counter, text, tag (as `control` says)."""
    return SECURED_TEXT.write(secure(keys, title, counter, plain, control=control))


def secure(
    keys: Keys,
    title: bytes,
    counter: int,
    plain: bytes,
    *,
    control: int = AUTHENTICATED_ENCRYPTED,
    header: bytes = b"",
) -> SecuredText:
    """Cipher `plain` as the sender with this system title; SecurityFailure when the counter is used up.

    `header` is what stands before the text and is authenticated with it (general-ciphering).
    """
    control |= keys.suite
    nonce = title + _counter_octets(counter)
    if not control & AUTHENTICATED:
        return SecuredText(control, counter, _counter_mode(algorithms.AES(keys.encryption), nonce, plain))
    secret = plain if control & ENCRYPTED else b""
    sealed = AESGCM(keys.encryption).encrypt(nonce, secret, _associated(keys, control, header, plain))
    text = sealed[: TAG_OCTETS - FULL_TAG_OCTETS]
    return SecuredText(control, counter, text if control & ENCRYPTED else plain + text)


def unprotect(keys: Keys, title: bytes, body: bytes, *, required: int = AUTHENTICATED_ENCRYPTED) -> Opened:
    """Open what `protect` made; errors as `unsecure`, and MeterProtocolError for less than a header."""
    return unsecure(keys, title, Cursor(body).field(SECURED_TEXT), required=required)


def unsecure(
    keys: Keys,
    title: bytes,
    secured: SecuredText,
    *,
    required: int = AUTHENTICATED_ENCRYPTED,
    header: bytes = b"",
) -> Opened:
    """Open what `secure` made; SecurityFailure for another suite, less protection than `required` or a wrong tag."""
    control, counter, text = secured.control, secured.counter, secured.text
    _check_control(control, required, keys.suite)
    tag = b""
    if control & AUTHENTICATED:
        if len(text) < TAG_OCTETS:
            raise SecurityFailure("too short for an authentication tag")
        text, tag = text[:-TAG_OCTETS], text[-TAG_OCTETS:]
    plain = _open(keys, title + _counter_octets(counter), control, text, tag, header)
    return Opened(plain=plain, counter=counter, control=control)


def _check_control(control: int, required: int, suite: int) -> None:
    if control & _SUITE != suite:
        raise SecurityFailure(
            f"security suite {control & _SUITE} where {suite} is set (security control {control:#04x}): see suite"
        )
    if control & _COMPRESSED:
        raise SecurityFailure(f"compressed APDUs are not supported (security control {control:#04x})")
    if control & _BROADCAST:
        raise SecurityFailure(f"ciphered with a broadcast key (security control {control:#04x})")
    if not control & AUTHENTICATED_ENCRYPTED:
        raise SecurityFailure(f"no protection at all (security control {control:#04x})")
    if control & required != required:
        raise SecurityFailure(f"security control {control:#04x} where {required:#04x} was agreed")


def _open(keys: Keys, nonce: bytes, control: int, text: bytes, tag: bytes, header: bytes) -> bytes:
    algorithm = algorithms.AES(keys.encryption)
    if not control & AUTHENTICATED:
        return _counter_mode(algorithm, nonce, text) if control & ENCRYPTED else text
    cipher = Cipher(algorithm, modes.GCM(nonce, tag, TAG_OCTETS)).decryptor()
    cipher.authenticate_additional_data(_associated(keys, control, header, text))
    try:
        plain = cipher.update(text if control & ENCRYPTED else b"") + cipher.finalize()
    except InvalidTag as error:
        raise SecurityFailure(
            "authentication tag is wrong (encryption or authentication key, or tampering)"
        ) from error
    return plain if control & ENCRYPTED else text


def _counter_mode(algorithm: algorithms.AES, nonce: bytes, text: bytes) -> bytes:
    """Cipher or decipher without a tag: GCM is then counter mode from block 2."""
    return Cipher(algorithm, modes.CTR(nonce + b"\0\0\0\2")).encryptor().update(text)


def _associated(keys: Keys, control: int, header: bytes, plain: bytes) -> bytes:
    head = bytes((control,)) + keys.authentication + header
    return head if control & ENCRYPTED else head + plain


def _counter_octets(counter: int) -> bytes:
    if not 0 <= counter <= MAX_COUNTER:
        raise SecurityFailure("the invocation counter is used up: the keys must be changed")
    return counter.to_bytes(4, "big")
