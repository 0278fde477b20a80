"""Key pairs of the tests: the directory's, the same in every process, and those that keys of meters are sealed to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.contract.signing import new_key_pair, verify_key_of

PRIVATE = bytes(range(32))
PUBLIC = verify_key_of(PRIVATE)
OTHER_PRIVATE, _ = new_key_pair()
"""Somebody else's."""


@cache
def cms_recipient() -> tuple[bytes, bytes]:
    """A utility's certificate and private key (PEM), to which makers encipher consignments."""
    key = rsa.generate_private_key(65_537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "utility")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    shown = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return shown.public_bytes(Encoding.PEM), private
