"""Security suite 0 (Green Book 9.2): AES-GCM-128 ciphering with tag checks, HLS 2 and HLS-GMAC."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.dlms.axdr import Cursor, encode_length
from protocols.errors import MeterConfigError, SecurityFailure

TAG_OCTETS = 12
KEY_OCTETS = 16
TITLE_OCTETS = 8
AUTHENTICATED = 0x10
ENCRYPTED = 0x20
AUTHENTICATED_ENCRYPTED = 0x30
GENERAL_GLO = 0xDB
MAX_COUNTER = 0xFFFFFFFF

GLO_TAGS = {
    0x01: 0x21,
    0x08: 0x28,
    0x0E: 0x2E,
    0xC0: 0xC8,
    0xC1: 0xC9,
    0xC3: 0xCB,
    0xC4: 0xCC,
    0xC5: 0xCD,
    0xC7: 0xCF,
}
"""Tag of an APDU ciphered with the global key, by tag of the plain one."""
PLAIN_TAGS = {glo: plain for plain, glo in GLO_TAGS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Global unicast encryption key and authentication key, 16 octets each."""

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name, key in (("encryption", self.encryption), ("authentication", self.authentication)):
            if len(key) != KEY_OCTETS:
                raise MeterConfigError(f"the {name} key has {len(key)} octets; suite 0 needs {KEY_OCTETS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A ciphered APDU after its tag was checked."""

    plain: bytes
    counter: int
    control: int


def protect(
    keys: Keys, title: bytes, counter: int, plain: bytes, *, control: int = AUTHENTICATED_ENCRYPTED
) -> bytes:
    """Cipher `plain`: security control, counter, text, tag (as `control` says)."""
    header = bytes((control,)) + _counter_octets(counter)
    secret = plain if control & ENCRYPTED else b""
    cipher = Cipher(algorithms.AES(keys.encryption), modes.GCM(title + header[1:])).encryptor()
    if control & AUTHENTICATED:
        cipher.authenticate_additional_data(_associated(keys, control, plain))
    text = cipher.update(secret) + cipher.finalize()
    tag = cipher.tag[:TAG_OCTETS] if control & AUTHENTICATED else b""
    return header + (text if control & ENCRYPTED else plain) + tag


def unprotect(keys: Keys, title: bytes, body: bytes, *, required: int = AUTHENTICATED_ENCRYPTED) -> Opened:
    """Open what `protect` made; SecurityFailure for a weaker protection than `required` or a wrong tag."""
    cursor = Cursor(body)
    control = cursor.u8()
    counter_octets = cursor.take(4)
    if control & required != required or control & ~AUTHENTICATED_ENCRYPTED:
        raise SecurityFailure(f"security control {control:#04x} where {required:#04x} was agreed")
    text = cursor.rest()
    tag = b""
    if control & AUTHENTICATED:
        if len(text) < TAG_OCTETS:
            raise SecurityFailure("too short for an authentication tag")
        text, tag = text[:-TAG_OCTETS], text[-TAG_OCTETS:]
    plain = _open(keys, title + counter_octets, control, text, tag)
    return Opened(plain=plain, counter=int.from_bytes(counter_octets, "big"), control=control)


def _open(keys: Keys, nonce: bytes, control: int, text: bytes, tag: bytes) -> bytes:
    algorithm = algorithms.AES(keys.encryption)
    if not control & AUTHENTICATED:  # encryption only: GCM without a tag is counter mode from block 2
        return Cipher(algorithm, modes.CTR(nonce + b"\0\0\0\2")).decryptor().update(text)
    cipher = Cipher(algorithm, modes.GCM(nonce, tag, TAG_OCTETS)).decryptor()
    cipher.authenticate_additional_data(_associated(keys, control, text))
    try:
        plain = cipher.update(text if control & ENCRYPTED else b"") + cipher.finalize()
    except InvalidTag as error:
        raise SecurityFailure(
            "authentication tag is wrong (encryption or authentication key, or tampering)"
        ) from error
    return plain if control & ENCRYPTED else text


def _associated(keys: Keys, control: int, plain: bytes) -> bytes:
    head = bytes((control,)) + keys.authentication
    return head if control & ENCRYPTED else head + plain


def _counter_octets(counter: int) -> bytes:
    if not 0 <= counter <= MAX_COUNTER:
        raise SecurityFailure("the invocation counter is used up: the keys must be changed")
    return counter.to_bytes(4, "big")


def protect_apdu(keys: Keys, title: bytes, counter: int, plain: bytes) -> bytes:
    """Wrap a plain APDU in its glo- form, authenticated and encrypted."""
    body = protect(keys, title, counter, plain)
    return bytes((GLO_TAGS[plain[0]],)) + encode_length(len(body)) + body


def unprotect_apdu(
    keys: Keys, title: bytes, apdu: bytes, *, required: int = AUTHENTICATED_ENCRYPTED
) -> Opened:
    """Open a glo- or general-glo APDU; an empty title inside means `title` (the one from AARQ or AARE)."""
    cursor = Cursor(apdu)
    outer = cursor.u8()
    if outer == GENERAL_GLO:
        sender = cursor.take(cursor.length()) or title
        if len(sender) != TITLE_OCTETS:
            raise SecurityFailure(f"a system title has {TITLE_OCTETS} octets, not {len(sender)}")
        body = cursor.take(cursor.length())
        cursor.finish("general-glo")
        return unprotect(keys, sender, body, required=required)
    if outer not in PLAIN_TAGS:
        raise SecurityFailure(f"APDU {outer:#04x} is not ciphered, which was agreed")
    body = cursor.take(cursor.length())
    cursor.finish("the ciphered APDU")
    opened = unprotect(keys, title, body, required=required)
    if not opened.plain or opened.plain[0] != PLAIN_TAGS[outer]:
        raise SecurityFailure("the ciphered APDU holds another than its tag says")
    return opened


def is_ciphered(apdu: bytes) -> bool:
    """Tell a glo- or general-glo APDU by its tag."""
    return bool(apdu) and (apdu[0] in PLAIN_TAGS or apdu[0] == GENERAL_GLO)


def hls2_response(key: bytes, challenge: bytes) -> bytes:
    """Answer a challenge by mechanism 2 as Indian meters do: AES-128-ECB, both sides zero-padded to 16."""
    if not key or len(key) > KEY_OCTETS:
        raise MeterConfigError(f"the HLS key has {len(key)} octets; 1 to {KEY_OCTETS} are allowed")
    padded = challenge + bytes(-len(challenge) % 16)
    # The Indian companion prescribes ECB here; it covers one random challenge, never data.
    cipher = Cipher(algorithms.AES(key.ljust(KEY_OCTETS, b"\0")), modes.ECB())  # noqa: S305
    return cipher.encryptor().update(padded)


def gmac_response(keys: Keys, title: bytes, counter: int, challenge: bytes) -> bytes:
    """Answer a challenge by HLS-GMAC (Green Book 9.2.7.4): security control, counter, tag."""
    protected = protect(keys, title, counter, challenge, control=AUTHENTICATED)
    return protected[:5] + protected[-TAG_OCTETS:]


def check_gmac(keys: Keys, title: bytes, response: bytes, challenge: bytes) -> int:
    """Check the far side's answer to our challenge and give its counter; SecurityFailure when wrong."""
    if len(response) != 5 + TAG_OCTETS:
        raise SecurityFailure(f"an HLS-GMAC answer has {5 + TAG_OCTETS} octets, not {len(response)}")
    body = response[:5] + challenge + response[5:]
    return unprotect(keys, title, body, required=AUTHENTICATED).counter


def same(left: bytes, right: bytes) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(left, right)
