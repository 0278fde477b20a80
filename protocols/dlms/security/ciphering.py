"""Ciphered APDUs (Green Book 9.5): service-specific and general ciphering, with global and dedicated keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import OctetString, Record, Sized
from protocols.dlms.security.suites import (
    AUTHENTICATED_ENCRYPTED,
    SECURED_TEXT,
    TITLE_OCTETS,
    Keys,
    Opened,
    SecuredText,
    secure,
    unsecure,
)
from protocols.errors import SecurityFailure

GLO_TAGS = {
    0x01: 0x21,
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
_GENERAL = {GENERAL_GLO, GENERAL_DED}
_NOT_BUILT = {0xDD: "general-ciphering (suites 1 and 2)", 0xDF: "general-signing"}


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

    @property
    def dedicated(self) -> bool:
        """Say whether the dedicated key is used."""
        return self in (Form.DED, Form.GENERAL_DED)

    @property
    def general(self) -> bool:
        """Say whether the APDU carries its sender's title."""
        return self in (Form.GENERAL_GLO, Form.GENERAL_DED)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The global keys, and the dedicated ones where an association has them."""

    keys: Keys
    dedicated: Keys | None = field(default=None, repr=False)

    def of(self, form: Form) -> Keys:
        """Return the keys of a form; SecurityFailure where there is no dedicated key."""
        if not form.dedicated:
            return self.keys
        if self.dedicated is None:
            raise SecurityFailure("ciphered with a dedicated key, and none was agreed")
        return self.dedicated


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedApdu:
    """A ciphered APDU after its checks. `title` is the sender's, from the APDU or as given."""

    plain: bytes = field(repr=False)
    counter: int
    control: int
    form: Form
    title: bytes


def form_of(apdu: bytes) -> Form | None:
    """Tell by its tag how an APDU is ciphered; None for a plain one."""
    tag = apdu[0] if apdu else 0
    if tag in _GENERAL:
        return Form.GENERAL_GLO if tag == GENERAL_GLO else Form.GENERAL_DED
    if tag in PLAIN_TAGS:
        return Form.DED if tag in _DED else Form.GLO
    return None


def is_ciphered(apdu: bytes) -> bool:
    """Tell a ciphered APDU by its tag."""
    return form_of(apdu) is not None


def protect_apdu(
    keys: Keys,
    title: bytes,
    counter: int,
    plain: bytes,
    *,
    control: int = AUTHENTICATED_ENCRYPTED,
    form: Form = Form.GLO,
) -> bytes:
    """Cipher a plain APDU in one of its forms."""
    ciphered = CipheredApdu(secure(keys, title, counter, plain, control=control), title)
    if form.general:
        return bytes((GENERAL_DED if form.dedicated else GENERAL_GLO,)) + GENERAL_CIPHERED.write(ciphered)
    tags = DED_TAGS if form.dedicated else GLO_TAGS
    return bytes((tags[plain[0]],)) + SERVICE_CIPHERED.write(ciphered)


def unprotect_apdu(
    keys: Keys | KeySet, title: bytes, apdu: bytes, *, required: int = AUTHENTICATED_ENCRYPTED
) -> OpenedApdu:
    """Open a ciphered APDU; an empty title inside means `title` (the one from AARQ or AARE).

    Raises SecurityFailure for a plain APDU, a wrong tag, a weaker protection than `required`, and a title
    that is not the known one; MeterProtocolError where the octets end early.
    """
    form = form_of(apdu)
    if form is None:
        what = _NOT_BUILT.get(apdu[0] if apdu else 0)
        plain = f"APDU {apdu[:1].hex()} is not ciphered, which was agreed"
        raise SecurityFailure(plain if what is None else f"{what} is not supported")
    cursor = Cursor(apdu)
    cursor.u8()
    ciphered = cursor.field(GENERAL_CIPHERED if form.general else SERVICE_CIPHERED)
    cursor.finish("the ciphered APDU")
    sender = ciphered.title or title
    if title and sender != title:
        raise SecurityFailure(f"the sender's title is {sender.hex()}, {title.hex()} is expected")
    if len(sender) != TITLE_OCTETS:
        raise SecurityFailure(f"a system title has {TITLE_OCTETS} octets, not {len(sender)}")
    known = keys if isinstance(keys, KeySet) else KeySet(keys=keys)
    opened = unsecure(known.of(form), sender, ciphered.secured, required=required)
    _check_inner(apdu[0], form, opened)
    return OpenedApdu(
        plain=opened.plain, counter=opened.counter, control=opened.control, form=form, title=sender
    )


def _check_inner(tag: int, form: Form, opened: Opened) -> None:
    if not opened.plain:
        raise SecurityFailure("the ciphered APDU is empty")
    if not form.general and opened.plain[0] != PLAIN_TAGS[tag]:
        raise SecurityFailure("the ciphered APDU holds another than its tag says (wrong key?)")
