"""Ciphered APDUs (Green Book 9.5): service-specific and general ciphering, with global and dedicated keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.data.cursor import Cursor
from protocols.dlms.security.ciphered_forms import (
    AUTHENTICATED_ENCRYPTED,
    DED_TAGS,
    GENERAL_CIPHERED,
    GENERAL_DED,
    GENERAL_GLO,
    GLO_TAGS,
    PLAIN_TAGS,
    SERVICE_CIPHERED,
    CipheredApdu,
    Form,
    form_of,
)
from protocols.dlms.security.suites import TITLE_OCTETS, Keys, Opened, secure, unsecure
from protocols.errors import SecurityFailure


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


def protect_apdu(
    keys: Keys,
    title: bytes,
    counter: int,
    plain: bytes,
    *,
    control: int = AUTHENTICATED_ENCRYPTED,
    form: Form = Form.GLO,
) -> bytes:
    """Return a plain APDU ciphered in one of its forms.

    `title` is the sender's system title (8 octets), `counter` its invocation counter, never used before with
    these keys; `control` says whether to authenticate, encipher or both. Raises SecurityFailure when the
    counter is used up.
    """
    tags = DED_TAGS if form.dedicated else GLO_TAGS
    if plain[0] not in tags:  # ACCESS and general-signing have no form of their own
        form = Form.GENERAL_DED if form.dedicated else Form.GENERAL_GLO
    ciphered = CipheredApdu(secure(keys, title, counter, plain, control=control), title)
    if form.general:
        return bytes((GENERAL_DED if form.dedicated else GENERAL_GLO,)) + GENERAL_CIPHERED.write(ciphered)
    return bytes((tags[plain[0]],)) + SERVICE_CIPHERED.write(ciphered)


def unprotect_apdu(
    keys: Keys | KeySet, title: bytes, apdu: bytes, *, required: int = AUTHENTICATED_ENCRYPTED
) -> OpenedApdu:
    """Return what a ciphered APDU holds; an empty title inside means `title` (the one from AARQ or AARE).

    The counter is returned and not compared: the caller knows the last one.

    Raises SecurityFailure for a plain APDU, a wrong tag, a weaker protection than `required`, and a title
    that is not the known one; MeterProtocolError where the octets end early.
    """
    form = form_of(apdu)
    if form is None:
        raise SecurityFailure(f"APDU {apdu[:1].hex()} is not ciphered, which was agreed")
    if form is Form.CIPHERING:
        raise SecurityFailure("general-ciphering, which was not agreed: see key_info")
    cursor = Cursor(apdu)
    cursor.u8()
    ciphered = cursor.field(GENERAL_CIPHERED if form.general else SERVICE_CIPHERED)
    cursor.finish("the ciphered APDU")
    sender = ciphered.title or title  # some meters leave the title in a general form empty
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
    # Without an authentication tag a wrong key deciphers to noise, which no check before this one finds.
    if not opened.plain:
        raise SecurityFailure("the ciphered APDU is empty")
    if not form.general and opened.plain[0] != PLAIN_TAGS[tag]:
        raise SecurityFailure("the ciphered APDU holds another than its tag says (wrong key?)")
