"""Key pairs and certificates of a simulated meter's security setup (class 64 version 1)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protocols.dlms.data.types import Data, Tag, octets
from protocols.dlms.objects.codec import Where
from protocols.dlms.objects.security_setup import (
    CERTIFICATE_NAME,
    CERTIFICATES,
    CertificateEntity,
    CertificateInfo,
    CertificateType,
)
from protocols.dlms.security import certificates, curves
from protocols.dlms.security.curves import PrivateKey
from protocols.dlms.security.key_use import KeyUse
from protocols.dlms.server.model import OTHER_REASON, TYPE_UNMATCHED, AccessDenied
from protocols.errors import MeterProtocolError, SecurityFailure
from protocols.simulator.cosem.objects import Method

MAX_HELD = 12
DER_INTEGER = 2
_WHERE = Where("security setup")


class CertificateStore:
    """What a meter holds: a key pair for each use, new ones that wait for their certificate, and certificates.

    A new pair rules once its certificate is imported; `adopt` is told.
    """

    def __init__(
        self, title: bytes, keys: dict[KeyUse, PrivateKey], adopt: Callable[[KeyUse, PrivateKey], None]
    ):
        self._title = title
        self._keys = keys
        self._new: dict[KeyUse, PrivateKey] = {}
        self._adopt = adopt
        self._held: list[tuple[CertificateInfo, bytes]] = []

    def listed(self) -> Data:
        """Return attribute 6."""
        return CERTIFICATES.build(tuple(info for info, _ in self._held))

    def methods(self, suite: int) -> dict[int, Method]:
        """Return methods 4 to 8."""

        def generate(parameter: Data | None) -> None:
            self._new[_use(parameter)] = curves.new_key(suite)

        def request(parameter: Data | None) -> Data:
            return octets(self._request(_use(parameter)))

        return {4: generate, 5: request, 6: self._import, 7: self._export, 8: self._remove}

    def _request(self, use: KeyUse) -> bytes:
        key = self._new.get(use) or self._keys.get(use)
        if key is None:
            raise AccessDenied(OTHER_REASON)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._title.hex().upper())])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return made.sign(key, curves.curve_of(key).digest).public_bytes(Encoding.DER)

    def _import(self, parameter: Data | None) -> None:
        if parameter is None or parameter.octets is None:
            raise AccessDenied(TYPE_UNMATCHED)
        try:
            found = certificates.received(parameter.octets)
            key = found.public_key()
        except (SecurityFailure, ValueError):
            raise AccessDenied(OTHER_REASON) from None
        if len(self._held) >= MAX_HELD:
            raise AccessDenied(OTHER_REASON)
        entity, use = CertificateEntity.OTHER, CertificateType.OTHER
        for pairs in (self._keys, self._new):
            for own, pair in list(pairs.items()):
                if pair.public_key() == key:
                    entity, use = CertificateEntity.SERVER, CertificateType(own)
        if entity is CertificateEntity.SERVER and KeyUse(use) in self._new:
            self._keys[KeyUse(use)] = self._new.pop(KeyUse(use))
            self._adopt(KeyUse(use), self._keys[KeyUse(use)])
        info = CertificateInfo(
            entity=entity,
            type=use,
            serial_number=found.serial_number.to_bytes(
                (found.serial_number.bit_length() + 7) // 8 or 1, "big"
            ),
            issuer=found.issuer.public_bytes(),
            subject=found.subject.public_bytes(),
            subject_alt_name=b"",
        )
        self._held = [one for one in self._held if one[0] != info] + [(info, parameter.octets)]

    def _export(self, parameter: Data | None) -> Data:
        return octets(self._named(parameter)[1])

    def _remove(self, parameter: Data | None) -> None:
        self._held.remove(self._named(parameter))

    def _named(self, parameter: Data | None) -> tuple[CertificateInfo, bytes]:
        if parameter is None:
            raise AccessDenied(TYPE_UNMATCHED)
        try:
            wanted = CERTIFICATE_NAME.parse(parameter, _WHERE).options
        except MeterProtocolError:
            raise AccessDenied(TYPE_UNMATCHED) from None
        for info, held in self._held:
            if info.issuer == wanted.issuer and _number(info.serial_number) == _number(wanted.serial_number):
                return info, held
        raise AccessDenied(OTHER_REASON)


def _number(serial: bytes) -> int:
    """Read a serial number, which some clients write with tag and length (DER) before it."""
    der = len(serial) > 2 and serial[0] == DER_INTEGER and serial[1] == len(serial) - 2
    return int.from_bytes(serial[2:] if der else serial, "big")


def _use(parameter: Data | None) -> KeyUse:
    if parameter is None or parameter.tag is not Tag.ENUM or parameter.integer not in tuple(KeyUse):
        raise AccessDenied(TYPE_UNMATCHED)
    return KeyUse(parameter.integer)
