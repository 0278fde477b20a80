"""X.509 certificates of meters and clients (Green Book 9.2.6): read, and checked against trust anchors; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID, NameOID

from protocols.dlms.security.curves import CURVES, PeerKey, PublicKey, curve_of, public_key
from protocols.dlms.security.key_use import MAX_CERTIFICATE, KeyUse
from protocols.errors import MeterConfigError, SecurityFailure

TITLE_OCTETS = 8
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for octets that are no certificate, request or key, or that it does not know."""
_KNOWN_CRITICAL = {
    ExtensionOID.KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.EXTENDED_KEY_USAGE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchors:
    """Certificates that vouch for others, and the instant (UTC) at which all must be valid."""

    anchors: tuple[x509.Certificate, ...] = field(repr=False)
    at: datetime

    def check(self, certificate: x509.Certificate, use: KeyUse, title: bytes = b"") -> PeerKey:
        """Return the certified key.

        Raises SecurityFailure, which says what is wrong: not signed by an anchor, not valid now, for another use,
        for another system title than `title` (empty: any), or with a critical extension that nobody here knows.
        """
        self._check_issuer(certificate)
        _check_time(certificate, self.at)
        _check_use(certificate, use)
        return PeerKey(_key_of(certificate), _named(certificate, title))

    def _check_issuer(self, certificate: x509.Certificate) -> None:
        for anchor in self.anchors:
            if anchor.subject != certificate.issuer:
                continue
            try:
                certificate.verify_directly_issued_by(anchor)
            except (InvalidSignature, *UNREADABLE):
                continue
            _check_authority(anchor, certificate)
            _check_time(anchor, self.at)
            return
        raise SecurityFailure(
            f"no trust anchor vouches for the certificate of {_name(certificate)}: see trust_anchor_ref"
        )


def certificates(octets: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates in PEM (several may follow each other) or DER; MeterConfigError when there is none."""
    try:
        if octets.lstrip().startswith(b"-----BEGIN"):
            return tuple(_legible(one) for one in x509.load_pem_x509_certificates(octets))
        return (_legible(x509.load_der_x509_certificate(octets)),)
    except UNREADABLE:
        raise MeterConfigError(f"{what} is no certificate: PEM or DER") from None


def received(octets: bytes) -> x509.Certificate:
    """Return a certificate (DER) that the far side sent; SecurityFailure when it is none."""
    if len(octets) > MAX_CERTIFICATE:
        raise SecurityFailure(f"a certificate of {len(octets)} octets; {MAX_CERTIFICATE} are read")
    try:
        return _legible(x509.load_der_x509_certificate(octets))
    except UNREADABLE as error:
        raise SecurityFailure("what came as a certificate is none") from error


def _legible(certificate: x509.Certificate) -> x509.Certificate:
    """Return a certificate whose names and times can be read, one of UNREADABLE otherwise.

    `cryptography` reads each part when it is first asked for; key and extensions have errors of their own here.
    """
    for name in (certificate.subject, certificate.issuer):
        name.rfc4514_string()
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate


def der(certificate: x509.Certificate) -> bytes:
    """Return the octets of a certificate."""
    return certificate.public_bytes(serialization.Encoding.DER)


def peer_key(octets: bytes, what: str, use: KeyUse, trust: TrustAnchors | None) -> PeerKey:
    """Return the far side's key from its file: a certificate, or a bare public key (PEM, or both coordinates).

    A certificate is checked where there are anchors; without them, and for a bare key, the file itself is the
    trust. Raises MeterConfigError for what is neither, SecurityFailure for a certificate that does not hold.
    """
    for suite in CURVES.values():
        if len(octets) == 2 * suite.octets:
            return PeerKey(public_key(octets, suite))
    if octets.lstrip().startswith(b"-----BEGIN PUBLIC KEY"):
        return PeerKey(_bare(octets, what))
    certificate = certificates(octets, what)[0]
    if trust is not None:
        return trust.check(certificate, use)
    return PeerKey(_key_of(certificate), title_of(certificate))


def title_of(certificate: x509.Certificate) -> bytes:
    """Return the system title that a certificate names as its subject's common name, empty where it names none.

    Written as 16 hex digits (Green Book 9.2.6.4), or as the eight characters themselves.
    """
    for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        text = name.value if isinstance(name.value, str) else name.value.decode("latin-1")
        if len(text) == 2 * TITLE_OCTETS and all(c in "0123456789abcdefABCDEF" for c in text):
            return bytes.fromhex(text)
        if len(text) == TITLE_OCTETS and text.isascii():
            return text.encode()
    return b""


def _named(certificate: x509.Certificate, title: bytes) -> bytes:
    named = title_of(certificate)
    if not named:
        raise SecurityFailure(f"the certificate of {_name(certificate)} names no system title in its CN")
    if title and named != title:
        raise SecurityFailure(f"the certificate is that of {named.hex()}, not of {title.hex()}")
    return named


def _key_of(certificate: x509.Certificate) -> PublicKey:
    try:
        key = certificate.public_key()
    except UNREADABLE as error:
        raise SecurityFailure(f"the key of {_name(certificate)} cannot be read") from error
    if not isinstance(key, PublicKey):
        raise SecurityFailure(f"the key of {_name(certificate)} is not of an elliptic curve")
    try:
        curve_of(key)
    except MeterConfigError as error:
        raise SecurityFailure(str(error)) from error
    return key


def _check_time(certificate: x509.Certificate, at: datetime) -> None:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= at <= last:
        raise SecurityFailure(
            f"the certificate of {_name(certificate)} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        )


def _check_use(certificate: x509.Certificate, use: KeyUse) -> None:
    extensions = _extensions(certificate)
    try:
        given = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise SecurityFailure(
            f"the certificate of {_name(certificate)} does not say what it is for"
        ) from error
    if not (given.digital_signature if use is KeyUse.SIGNING else given.key_agreement):
        raise SecurityFailure(
            f"the certificate of {_name(certificate)} is not for {use.name.lower()}: its key usage is another"
        )


def _check_authority(anchor: x509.Certificate, certificate: x509.Certificate) -> None:
    """Refuse an anchor that may not issue, or on a weaker curve than what it vouches for (Green Book 9.2.6.5)."""
    extensions = _extensions(anchor)
    try:
        may = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        may = may and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        may = False
    if not may:
        raise SecurityFailure(f"{_name(anchor)} may not issue certificates: see trust_anchor_ref")
    if curve_of(_key_of(anchor)).octets < curve_of(_key_of(certificate)).octets:
        raise SecurityFailure("a P-256 authority vouches for no P-384 key")


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        found = certificate.extensions
    except UNREADABLE as error:
        raise SecurityFailure(f"the extensions of {_name(certificate)} cannot be read") from error
    for extension in found:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise SecurityFailure(
                f"the certificate of {_name(certificate)} has a critical extension not known here"
            )
    return found


def _bare(octets: bytes, what: str) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(octets)
    except UNREADABLE:
        raise MeterConfigError(f"{what} is no public key") from None
    if not isinstance(key, PublicKey):
        raise MeterConfigError(f"{what} is no key of an elliptic curve")
    curve_of(key)
    return key


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:80] or "(no subject)"
