"""Security setup: class 64 (Blue Book 4.4.7): key transfer under the master key (RFC 3394), and certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from protocols.dlms.data.types import Data, Tag
from protocols.dlms.objects.codec import (
    ENUM,
    Codec,
    Shown,
    Where,
    listing,
    members,
    number,
    octet_string,
    record,
)
from protocols.dlms.objects.interface import Attribute, CosemObject, Method
from protocols.dlms.security.key_use import MAX_CERTIFICATE, KeyUse
from protocols.dlms.security.key_wrap import LONG_WRAPPED_OCTETS, WRAPPED_OCTETS, unwrap_key, wrap_key
from protocols.errors import LocalError, MeterProtocolError

TITLE_OCTETS = 8


class KeyKind(IntEnum):
    """Keys that key transfer brings."""

    GLOBAL_UNICAST_ENCRYPTION = 0
    GLOBAL_BROADCAST_ENCRYPTION = 1
    AUTHENTICATION = 2
    MASTER = 3


_POLICIES = {
    0: "nothing",
    1: "authenticated",
    2: "encrypted",
    3: "authenticated and encrypted",
}
_POLICY_BITS = {
    2: "authenticated requests",
    3: "encrypted requests",
    4: "signed requests",
    5: "authenticated responses",
    6: "encrypted responses",
    7: "signed responses",
}
_SUITES = {
    0: "AES-GCM-128, AES-128 key wrap",
    1: "AES-GCM-128, ECDSA P-256, SHA-256",
    2: "AES-GCM-256, ECDSA P-384, SHA-384",
}


def _show_bits(value: int) -> Shown:
    names = [_POLICY_BITS.get(n, f"bit {n}") for n in range(8) if value & 1 << n]
    return f"{value} ({', '.join(names) or 'nothing'})"


POLICY_BITS: Codec[int] = Codec(kind="enum", parse=ENUM.parse, build=ENUM.build, show=_show_bits)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A new key wrapped under the master key."""

    key_id: KeyKind
    key_wrapped: bytes = field(repr=False)


WRAPPED_KEYS = listing(
    record(
        WrappedKey,
        key_id=members(KeyKind),
        key_wrapped=octet_string(WRAPPED_OCTETS, LONG_WRAPPED_OCTETS, secret=True),
    ),
    len(KeyKind),
)
_WHERE = Where("security setup method 2 key_transfer")


def wrap_keys(master: bytes, keys: Mapping[KeyKind, bytes]) -> tuple[WrappedKey, ...]:
    """Wrap new keys; LocalError when there are none, MeterConfigError for a key of a wrong length."""
    if not keys:
        raise LocalError("key transfer without a key")
    return tuple(WrappedKey(KeyKind(kind), wrap_key(master, key)) for kind, key in keys.items())


def build_key_transfer(master: bytes, keys: Mapping[KeyKind, bytes]) -> Data:
    """Return the parameter of key_transfer; errors as `wrap_keys`."""
    return WRAPPED_KEYS.build(wrap_keys(master, keys))


def parse_key_transfer(data: Data, master: bytes) -> dict[KeyKind, bytes]:
    """Return the new keys, as the meter's side does.

    Raises MeterProtocolError for another shape, no key or one kind twice; SecurityFailure when a key does not open
    under this master key: then no key of the transfer is to be taken.
    """
    wrapped = WRAPPED_KEYS.parse(data, _WHERE)
    keys = {entry.key_id: unwrap_key(master, entry.key_wrapped) for entry in wrapped}
    if not keys or len(keys) != len(wrapped):
        raise MeterProtocolError(f"{_WHERE.text}: expected each key once, got {len(wrapped)} entries")
    return keys


MAX_CERTIFICATES = 64
MAX_NAME = 512
MAX_SERIAL = 32


class CertificateEntity(IntEnum):
    """Whose a certificate is."""

    SERVER = 0
    CLIENT = 1
    CERTIFICATION_AUTHORITY = 2
    OTHER = 3


class CertificateType(IntEnum):
    """What the key of a certificate is for: the uses of key pairs, and others."""

    SIGNING = KeyUse.SIGNING
    AGREEMENT = KeyUse.AGREEMENT
    TLS = KeyUse.TLS
    OTHER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateInfo:
    """One certificate that a meter holds; names as the meter writes them, DER or text."""

    entity: CertificateEntity
    type: CertificateType
    serial_number: bytes
    issuer: bytes
    subject: bytes
    subject_alt_name: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BySerial:
    """A certificate named by its serial number and issuer, as the meter lists them."""

    serial_number: bytes
    issuer: bytes


@dataclass(frozen=True, slots=True)
class CertificateName:
    """Which certificate is meant. `kind` 1 names it by serial number; by entity (0) our side asks for none."""

    options: BySerial
    kind: int = 1


@dataclass(frozen=True, slots=True)
class AgreedKey:
    """One key of key agreement C(2e, 0s): an ephemeral public key with its signature."""

    key_id: KeyKind
    key_data: bytes = field(repr=False)


_NAME = octet_string(0, MAX_NAME)
_SERIAL = octet_string(1, MAX_SERIAL)
CERTIFICATES = listing(
    record(
        CertificateInfo,
        entity=members(CertificateEntity),
        type=members(CertificateType),
        serial_number=_SERIAL,
        issuer=_NAME,
        subject=_NAME,
        subject_alt_name=_NAME,
    ),
    MAX_CERTIFICATES,
)
CERTIFICATE_NAME = record(
    CertificateName,
    kind=number(Tag.ENUM, limits=(1, 1)),
    options=record(BySerial, serial_number=_SERIAL, issuer=_NAME),
)
CERTIFICATE = octet_string(1, MAX_CERTIFICATE)
AGREED_KEYS = listing(
    record(AgreedKey, key_id=members(KeyKind), key_data=octet_string(128, 192)), len(KeyKind)
)


class SecuritySetup(CosemObject):
    """Security setup (class 64). The methods of certificates and `certificates` are those of version 1.

    `transfer_keys` is key_transfer with the wrapping done; the new keys rule from the next association on, and
    the invocation counter of a new encryption key starts again.
    """

    CLASS_ID = 64
    security_policy = Attribute(number(Tag.ENUM, _POLICIES), later={1: POLICY_BITS})
    security_suite = Attribute(number(Tag.ENUM, _SUITES))
    client_system_title = Attribute(octet_string(0, TITLE_OCTETS))
    server_system_title = Attribute(octet_string(0, TITLE_OCTETS))
    certificates = Attribute(CERTIFICATES)
    security_activate = Method(ENUM)
    key_transfer = Method(WRAPPED_KEYS)
    key_agreement = Method(AGREED_KEYS)
    generate_key_pair = Method(members(KeyUse))
    generate_certificate_request = Method(members(KeyUse))
    import_certificate = Method(CERTIFICATE)
    export_certificate = Method(CERTIFICATE_NAME)
    remove_certificate = Method(CERTIFICATE_NAME)

    async def transfer_keys(self, master: bytes, keys: Mapping[KeyKind, bytes]) -> None:
        """Bring new keys (16 octets each, 32 under suite 2) to the meter, wrapped under `master`.

        Raises what the exchange raises, LocalError without a key, MeterConfigError for a wrong length.
        """
        await self.key_transfer.run(wrap_keys(master, keys))
