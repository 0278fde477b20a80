"""Targets about key pairs: certificates, requests for them, trust, and keys that come wrapped (class 64)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from protocols.dlms.acts.certificates import checked_request
from protocols.dlms.data import axdr
from protocols.dlms.objects.security_setup import KeyKind, build_key_transfer, parse_key_transfer
from protocols.dlms.security import certificates
from protocols.dlms.security.certificates import TrustAnchors, peer_key, title_of
from protocols.dlms.security.curves import CURVES, public_octets
from protocols.dlms.security.key_use import KeyUse
from protocols.simulator.neighbourhood.authority import Authority
from tests.support.dlms.bench import TITLE

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MASTER = bytes(range(16))
TOWN = Authority(1, 1)
KEY = TOWN.key("meter")
TRUST = TrustAnchors(anchors=(TOWN.anchor,), at=NOW)
Target_ = Callable[[bytes], object]


def _shown(data: bytes) -> None:
    """Read a certificate as one that a meter shows: its title, and whether it is believed."""
    certificate = certificates.received(data)
    title_of(certificate)
    TRUST.check(certificate, KeyUse.SIGNING)


PAIRS: dict[str, Target_] = {
    "certificate": _shown,
    "certificate-file": lambda data: peer_key(data, "the file", KeyUse.SIGNING, TRUST),
    "certificate-request": lambda data: checked_request(data, 1),
    "key-transfer": lambda data: parse_key_transfer(axdr.decode(data), MASTER),
}


def seeds_of_pairs() -> dict[str, tuple[bytes, ...]]:
    """Give what each of these targets is fed before it is mutated."""
    shown = TOWN.certificate(TITLE, KEY.public_key(), KeyUse.SIGNING)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, TITLE.hex())])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(KEY, CURVES[1].digest)
    new = {KeyKind.GLOBAL_UNICAST_ENCRYPTION: bytes(16), KeyKind.AUTHENTICATION: bytes(16)}
    return {
        "certificate": (shown.public_bytes(Encoding.DER),),
        "certificate-file": (
            shown.public_bytes(Encoding.PEM),
            shown.public_bytes(Encoding.DER),
            KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            public_octets(KEY.public_key()),
        ),
        "certificate-request": (asked.public_bytes(Encoding.DER),),
        "key-transfer": (axdr.encode(build_key_transfer(MASTER, new)),),
    }
