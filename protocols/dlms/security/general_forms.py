"""General-ciphering and general-signing as they are sent (Green Book 9.5): who protects what for whom, and the key.

Like `ciphered_forms` this needs no ciphers; `general` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.data.syntax import Field, OctetString, Optional, Record, Sized, UnsignedNumber
from protocols.dlms.security.ciphered_forms import SECURED_TEXT, SecuredText

GENERAL_SIGNING = 0xDF
GENERAL_OVERHEAD = 290
"""Octets that general-ciphering adds at the most: the header, a signed key of P-384, and what any text has."""
SIGNING_OVERHEAD = 130
"""Octets that general-signing adds at the most: the header again, and a signature on P-384."""
UNICAST, BROADCAST = 0, 1
"""Key ids of an identified key."""
MASTER = 0
"""Key id of what a wrapped key is wrapped under."""
ONE_PASS, STATIC = b"\x01", b"\x02"
"""Key agreement schemes: one-pass Diffie-Hellman C(1e, 1s), static unified model C(0e, 2s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What stands before the text and is authenticated, or signed, with it.

    `originator` and `recipient` are the system titles of who protected it and whom it is for.
    """

    transaction: bytes
    originator: bytes
    recipient: bytes
    date_time: bytes = b""
    other: bytes = b""


@dataclass(frozen=True, slots=True)
class IdentifiedKey:
    """A key that both have: `key_id` 0 the global unicast key, 1 the broadcast key."""

    key_id: int = UNICAST


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key of this APDU alone, wrapped under the master key."""

    wrapped: bytes = field(repr=False)
    kek_id: int = MASTER


@dataclass(frozen=True, slots=True)
class AgreedKey:
    """How the key was agreed; `data` is the originator's ephemeral public key, signed, or nothing."""

    scheme: bytes
    data: bytes = b""


KeyOfApdu = IdentifiedKey | WrappedKey | AgreedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralCiphering:
    """A ciphered APDU that says which key it is ciphered with; without `key` it is the global unicast key."""

    header: Header
    key: KeyOfApdu | None = None
    secured: SecuredText


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralSigning:
    """An APDU with its signature, R‖S."""

    header: Header
    content: bytes = field(repr=False)
    signature: bytes


class KeyOfApduField(Field[KeyOfApdu]):
    """Key-Info: which key, or how to come by it."""

    _kind = UnsignedNumber("key", 1, {0: "identified", 1: "wrapped", 2: "agreed"})
    _key_id = UnsignedNumber("key id", 1, {UNICAST: "global unicast", BROADCAST: "global broadcast"})
    _kek_id = UnsignedNumber("key-encrypting key", 1, {MASTER: "master key"})
    _wrapped = OctetString("wrapped key")
    _scheme, _data = OctetString("key parameters"), OctetString("key data")

    def read(self, cursor: Cursor) -> KeyOfApdu:
        match cursor.field(self._kind):
            case 0:
                return IdentifiedKey(cursor.field(self._key_id))
            case 1:
                kek_id = cursor.field(self._kek_id)
                return WrappedKey(cursor.field(self._wrapped), kek_id)
            case 2:
                scheme = cursor.field(self._scheme)
                return AgreedKey(scheme, cursor.field(self._data))
        raise cursor.error("key information is identified (0), wrapped (1) or agreed (2)")

    def write(self, value: KeyOfApdu) -> bytes:
        match value:
            case IdentifiedKey():
                return bytes((0, value.key_id))
            case WrappedKey():
                return bytes((1, value.kek_id)) + self._wrapped.write(value.wrapped)
            case AgreedKey():
                return b"\x02" + self._scheme.write(value.scheme) + self._data.write(value.data)


class Content(Field[bytes]):
    """An APDU within, which a trace reads."""

    def read(self, cursor: Cursor) -> bytes:
        return cursor.part(cursor.length()).inner_apdu()

    def write(self, value: bytes) -> bytes:
        return encode_length(len(value)) + value


HEADER = Record(
    Header,
    ("transaction", OctetString("transaction id")),
    ("originator", OctetString("system title of the sender")),
    ("recipient", OctetString("system title of the receiver")),
    ("date_time", OctetString("time")),
    ("other", OctetString("other information")),
)
CIPHERING = Record(
    GeneralCiphering,
    ("header", HEADER),
    ("key", Optional("key information present", KeyOfApduField())),
    ("secured", Sized("the ciphered text", SECURED_TEXT)),
)
SIGNING = Record(
    GeneralSigning, ("header", HEADER), ("content", Content()), ("signature", OctetString("signature"))
)
