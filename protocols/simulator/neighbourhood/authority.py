"""Key pairs and certificates of simulated meters of suites 1 and 2, vouched for by an authority of their own town."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocols.dlms.security.certificates import der
from protocols.dlms.security.curves import CURVES, PrivateKey, PublicKey
from protocols.dlms.security.key_use import KeyUse
from protocols.simulator.household.chance import Dice

FIRST_VALID, LAST_VALID = datetime(2020, 1, 1, tzinfo=UTC), datetime(2070, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Authority:
    """Who vouches for the meters of one town; the same keys come of the same seed, in every process."""

    seed: int
    suite: int

    def key(self, *name: str) -> PrivateKey:
        """Return the private key of that name."""
        curve = CURVES[self.suite]
        octets = Dice(self.seed, "pair", self.suite, *name).octets(curve.octets)
        # one bit less than the order of the curve has, and not nought
        return ec.derive_private_key(1 + int.from_bytes(octets, "big") // 2, curve.curve)

    @cached_property
    def anchor(self) -> x509.Certificate:
        """The authority's own certificate."""
        own = self.key("authority")
        return self._certificate(self._name, self._name, own.public_key(), own, None)

    def certificate(self, title: bytes, key: PublicKey, use: KeyUse) -> x509.Certificate:
        """Return a certificate for the party of a system title."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title.hex().upper())])
        return self._certificate(subject, self._name, key, self.key("authority"), use)

    def certificate_octets(self, title: bytes, key: PublicKey, use: KeyUse) -> bytes:
        """Return such a certificate as DER."""
        return der(self.certificate(title, key, use))

    @property
    def _name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Simulated authority {self.seed}")])

    def _certificate(
        self, subject: x509.Name, issuer: x509.Name, key: PublicKey, signer: PrivateKey, use: KeyUse | None
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(FIRST_VALID)
            .not_valid_after(LAST_VALID)
            .add_extension(_usage(use), critical=True)
        )
        if use is None:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(signer, CURVES[self.suite].digest)


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM).rstrip()


def private_pem(key: PrivateKey) -> bytes:
    """Return a private key as text, as its file holds it."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).rstrip()


def _usage(use: KeyUse | None) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=use is KeyUse.SIGNING,
        key_agreement=use is KeyUse.AGREEMENT,
        key_cert_sign=use is None,
        crl_sign=use is None,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        encipher_only=False,
        decipher_only=False,
    )
