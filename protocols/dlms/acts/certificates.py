"""Certificates in a meter's security setup (class 64 version 1): listed, requested, imported, removed, each proved."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data
from protocols.dlms.objects.interface import Access
from protocols.dlms.objects.security_setup import BySerial, CertificateInfo, CertificateName, SecuritySetup
from protocols.dlms.security import certificates, curves
from protocols.dlms.security.certificates import TrustAnchors
from protocols.dlms.security.curves import PublicKey
from protocols.dlms.security.key_use import KeyUse
from protocols.errors import MeterProtocolError, NotSupported, SecurityFailure
from protocols.reading import Obis

SUITE = 3
"""Attribute of the security setup that says which suite holds."""
MAX_REQUEST = 4096
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificate:
    """A certificate that a meter lists, and the certificate itself where the meter exports it."""

    info: CertificateInfo
    certificate: x509.Certificate | None

    @property
    def name(self) -> CertificateName:
        """How the meter knows it."""
        return CertificateName(BySerial(serial_number=self.info.serial_number, issuer=self.info.issuer))

    @property
    def serial(self) -> int:
        """Its serial number."""
        return int.from_bytes(self.info.serial_number, "big")


@dataclass(frozen=True, slots=True)
class CertificateSite:
    """The security setup of one meter, in an association that may use it."""

    exchange: Access
    obis: Obis

    @property
    def _setup(self) -> SecuritySetup:
        return SecuritySetup(self.obis, self.exchange, version=VERSION)

    async def suite(self) -> int:
        """Return the suite; NotSupported for one without key pairs."""
        found = self._setup.security_suite.parse(await self.exchange.get(Target(64, self.obis, SUITE)))
        if found not in curves.CURVES:
            raise NotSupported(f"the meter's security suite is {found}: it has no key pairs and certificates")
        return found

    async def held(self) -> tuple[HeldCertificate, ...]:
        """Read the list and each certificate; one that the meter does not export, or that is none, is listed alone."""
        return tuple([await self._held(info) for info in await self._setup.certificates.get()])

    async def _held(self, info: CertificateInfo) -> HeldCertificate:
        alone = HeldCertificate(info=info, certificate=None)
        try:
            octets = await self.export(alone)
            return HeldCertificate(info=info, certificate=certificates.received(octets))
        except (NotSupported, SecurityFailure):
            return alone

    async def export(self, one: HeldCertificate) -> bytes:
        """Return the octets (DER) of a certificate that the meter lists."""
        return _octets(await self._setup.export_certificate.run(one.name), "certificate")

    async def find(self, serial: int) -> HeldCertificate:
        """Return the one certificate with a serial number; NotSupported where there is none, or more than one."""
        found = [one for one in await self.held() if one.serial == serial]
        if len(found) != 1:
            raise NotSupported(f"the meter lists {len(found)} certificates with serial number {serial:X}")
        return found[0]

    async def request(self, use: KeyUse, *, new_pair: bool = False) -> x509.CertificateSigningRequest:
        """Return the meter's certificate request (PKCS 10), for a new key pair where `new_pair` says so.

        Raises SecurityFailure for a request whose signature is not that of its key, that is on another curve than the
        suite's, or that still shows the old key although a new pair was made.
        """
        suite = await self.suite()
        before = await self._requested(use, suite) if new_pair else None
        if new_pair:
            await self._setup.generate_key_pair.run(use)
        found = await self._requested(use, suite)
        if before is not None and found.public_key() == before.public_key():
            raise SecurityFailure("the meter made no new key pair: its request still shows the old key")
        return found

    async def _requested(self, use: KeyUse, suite: int) -> x509.CertificateSigningRequest:
        octets = _octets(await self._setup.generate_certificate_request.run(use), "certificate request")
        return checked_request(octets, suite)

    async def install(
        self, octets: bytes, use: KeyUse, *, own: bool, trust: TrustAnchors, title: bytes
    ) -> None:
        """Check a certificate (DER) against its anchors, import it, and prove by list and export that it is there.

        `own`: it is the meter's, for the key that its request shows now. Raises SecurityFailure where it does not hold,
        is for another key, or the meter does not show it afterwards.
        """
        certificate = certificates.received(octets)
        key = trust.check(certificate, use, title).key
        suite = await self.suite()
        if curves.curve_of(key) is not curves.CURVES[suite]:
            raise SecurityFailure(
                f"the certificate is on {key.curve.name}: another than that of suite {suite}"
            )
        if own and (await self._requested(use, suite)).public_key() != key:
            raise SecurityFailure("the certificate is for another key than the meter's request shows")
        await self._setup.import_certificate.run(octets)
        if octets not in [certificates.der(one.certificate) for one in await self.held() if one.certificate]:
            raise SecurityFailure("the meter took the certificate, and does not show it afterwards")

    async def remove(self, one: HeldCertificate) -> None:
        """Remove a certificate and prove by the list that it is gone; SecurityFailure when it is not."""
        await self._setup.remove_certificate.run(one.name)
        if one.info in await self._setup.certificates.get():
            raise SecurityFailure("the meter still lists the certificate that it removed")


def checked_request(octets: bytes, suite: int) -> x509.CertificateSigningRequest:
    """Return a request that is signed by its own key, on the curve of a suite; SecurityFailure otherwise."""
    if len(octets) > MAX_REQUEST:
        raise SecurityFailure(f"a certificate request of {len(octets)} octets; {MAX_REQUEST} are read")
    try:
        found = x509.load_der_x509_csr(octets)
        key = found.public_key()
        signed = found.is_signature_valid
    except certificates.UNREADABLE as error:
        raise SecurityFailure("what came as a certificate request is none") from error
    if not isinstance(key, PublicKey) or key.curve.name != curves.CURVES[suite].curve.name:
        raise SecurityFailure(f"the certificate request is not on the curve of suite {suite}")
    if not signed:
        raise SecurityFailure("the certificate request is not signed by its own key")
    return found


def _octets(answer: Data | None, what: str) -> bytes:
    if answer is None or not answer.octets:
        raise MeterProtocolError(f"the meter returned no {what}")
    return answer.octets
