"""Forms of ciphered APDUs (Green Book 9.5) as they are sent; what ciphers them is in `suites` and `ciphering`.

A reader that has no keys needs no more than this, and does not wait for the library of ciphers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from protocols.dlms.data.syntax import OctetString, Record, Rest, Sized, UnsignedNumber

KEY_OCTETS = 16
LONG_KEY_OCTETS = 32
"""Octets of the AES keys of suite 2."""
AUTHENTICATED = 0x10
ENCRYPTED = 0x20
AUTHENTICATED_ENCRYPTED = 0x30
GLO_TAGS = {
    0x01: 0x21,
    0x05: 0x25,
    0x0C: 0x2C,
    0x08: 0x28,
    0x0E: 0x2E,
    0xC0: 0xC8,
    0xC1: 0xC9,
    0xC2: 0xCA,
    0xC3: 0xCB,
    0xC4: 0xCC,
    0xC5: 0xCD,
    0xC7: 0xCF,
}
"""Tag of an APDU ciphered with the global key, by tag of the plain one."""
DED_TAGS = {
    0x01: 0x41,
    0x05: 0x45,
    0x0C: 0x4C,
    0x08: 0x48,
    0x0E: 0x4E,
    0xC0: 0xD0,
    0xC1: 0xD1,
    0xC2: 0xD2,
    0xC3: 0xD3,
    0xC4: 0xD4,
    0xC5: 0xD5,
    0xC7: 0xD7,
}
"""Tag of an APDU ciphered with the dedicated key, by tag of the plain one."""
PLAIN_TAGS = {ciphered: plain for tags in (GLO_TAGS, DED_TAGS) for plain, ciphered in tags.items()}
"""Tag of the plain APDU, by the tag of its glo- or ded- form."""
_DED = frozenset(DED_TAGS.values())
CIPHER_OVERHEAD = 30
"""Octets that ciphering adds at the most: tag, title, length, security control, counter, authentication tag."""
GENERAL_GLO = 0xDB
GENERAL_DED = 0xDC
GENERAL_CIPHERING = 0xDD
_GENERAL = {GENERAL_GLO, GENERAL_DED}


@dataclass(frozen=True, slots=True)
class SecuredText:
    """What stands in a ciphered APDU: security control, invocation counter, text with its tag as control says."""

    control: int
    counter: int
    text: bytes = field(repr=False)


_CONTROL_NAMES = {
    0: "none",
    AUTHENTICATED: "authenticated",
    ENCRYPTED: "encrypted",
    AUTHENTICATED_ENCRYPTED: "both",
}
SECURED_TEXT = Record(
    SecuredText,
    (
        "control",
        UnsignedNumber(
            "security control",
            1,
            {control | suite: name for control, name in _CONTROL_NAMES.items() for suite in range(3)},
        ),
    ),
    ("counter", UnsignedNumber("invocation counter", 4)),
    ("text", Rest("text and tag")),
)


@dataclass(frozen=True, slots=True)
class CipheredApdu:
    """A ciphered APDU as it is sent. `title` is the sender's, in the general forms alone."""

    secured: SecuredText
    title: bytes = b""


_SECURED = ("secured", Sized("the ciphered text", SECURED_TEXT))
SERVICE_CIPHERED = Record(CipheredApdu, _SECURED)
GENERAL_CIPHERED = Record(CipheredApdu, ("title", OctetString("system title")), _SECURED)


class Form(Enum):
    """How an APDU is ciphered: which key, in a form of its own service or in the general one."""

    GLO = "glo"
    DED = "ded"
    GENERAL_GLO = "general-glo"
    GENERAL_DED = "general-ded"
    CIPHERING = "general-ciphering"

    @property
    def dedicated(self) -> bool:
        """Whether the dedicated key is used."""
        return self in (Form.DED, Form.GENERAL_DED)

    @property
    def general(self) -> bool:
        """Whether the APDU carries its sender's title."""
        return self in (Form.GENERAL_GLO, Form.GENERAL_DED)


def form_of(apdu: bytes) -> Form | None:
    """Return how an APDU is ciphered, by its tag; None for a plain one."""
    tag = apdu[0] if apdu else 0
    if tag == GENERAL_CIPHERING:
        return Form.CIPHERING
    if tag in _GENERAL:
        return Form.GENERAL_GLO if tag == GENERAL_GLO else Form.GENERAL_DED
    if tag in PLAIN_TAGS:
        return Form.DED if tag in _DED else Form.GLO
    return None


def is_ciphered(apdu: bytes) -> bool:
    """Return whether an APDU is ciphered, by its tag."""
    return form_of(apdu) is not None
