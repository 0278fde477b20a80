"""Certificates in a security setup: what a meter may get wrong is refused, before or after."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.acts.certificates import CertificateSite, checked_request
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data, enum, octets
from protocols.dlms.objects.codec import Where
from protocols.dlms.objects.security_setup import AGREED_KEYS, CERTIFICATES, AgreedKey, KeyKind, SecuritySetup
from protocols.dlms.security import curves
from protocols.dlms.security.certificates import TrustAnchors
from protocols.dlms.security.curves import PrivateKey
from protocols.dlms.security.key_use import KeyUse
from protocols.dlms.server.model import AccessDenied
from protocols.errors import LocalError, MeterProtocolError, NotSupported, SecurityFailure
from protocols.reading import Obis
from protocols.simulator.cosem.certificates import CertificateStore

SETUP = Obis(0, 0, 43, 0, 3)
TITLE = b"GEN\x00\x00\x00\x00\x07"
NOBODY = TrustAnchors(anchors=(), at=datetime(2026, 6, 1, tzinfo=UTC))


class Meter:
    """The security setup of a meter; `answer` is returned in place of what a method returns."""

    def __init__(self, suite: int = 1) -> None:
        self.suite = suite
        self.adopted: list[KeyUse] = []
        self.key = curves.new_key(suite or 1)
        self.store = CertificateStore(TITLE, {KeyUse.SIGNING: self.key}, self._adopt)
        self.methods = self.store.methods(suite or 1)
        self.run: list[int] = []
        self.answer: bytes | None = None

    def _adopt(self, use: KeyUse, _key: PrivateKey) -> None:
        self.adopted.append(use)

    async def get(self, target: Target) -> Data:
        return enum(self.suite) if target.index == 3 else self.store.listed()

    async def set(self, target: Target, value: Data) -> None:
        raise AssertionError("nothing is written")

    async def action(self, target: Target, parameter: Data | None) -> Data | None:
        self.run.append(target.index)
        try:
            answer = self.methods[target.index](parameter)
        except AccessDenied as error:
            raise NotSupported(str(error)) from error
        return answer if self.answer is None or answer is None else octets(self.answer)

    @property
    def site(self) -> CertificateSite:
        return CertificateSite(self, SETUP)


@pytest.mark.parametrize("suite", [1, 2])
async def test_a_request_shows_the_key_in_use_until_a_new_pair_is_made(suite: int) -> None:
    meter = Meter(suite)
    first = await meter.site.request(KeyUse.SIGNING)
    assert first.public_key() == meter.key.public_key()
    second = await meter.site.request(KeyUse.SIGNING, new_pair=True)
    assert second.public_key() != first.public_key()
    assert second.subject.rfc4514_string() == f"CN={TITLE.hex().upper()}"
    assert meter.adopted == []


async def test_a_meter_of_suite_0_has_no_certificates() -> None:
    with pytest.raises(NotSupported, match="suite is 0"):
        await Meter(0).site.request(KeyUse.SIGNING)


async def test_a_pair_that_was_not_made_and_a_request_that_is_none_are_refused() -> None:
    meter = Meter()
    meter.methods[4] = lambda _parameter: None
    with pytest.raises(SecurityFailure, match="made no new key pair"):
        await meter.site.request(KeyUse.SIGNING, new_pair=True)
    good = (await meter.site.request(KeyUse.SIGNING)).public_bytes(Encoding.DER)
    for spoiled, message in (
        (good[:-1] + bytes((good[-1] ^ 1,)), "not signed by its own key|is none"),
        (b"\x30\x03\x02\x01\x05", "is none"),
        (b"\x30" * 5000, "5000 octets"),
    ):
        meter.answer = spoiled
        with pytest.raises(SecurityFailure, match=message):
            await meter.site.request(KeyUse.SIGNING)
    meter.answer = b""
    with pytest.raises(MeterProtocolError, match="returned no certificate request"):
        await meter.site.request(KeyUse.SIGNING)


async def test_a_request_on_another_curve_is_refused() -> None:
    meter = Meter(2)
    meter.suite = 1
    with pytest.raises(SecurityFailure, match="curve of suite 1"):
        await meter.site.request(KeyUse.SIGNING)


async def test_nothing_goes_to_the_meter_that_nobody_vouches_for() -> None:
    meter = Meter()
    request = x509.load_der_x509_csr((await meter.site.request(KeyUse.SIGNING)).public_bytes(Encoding.DER))
    meter.run.clear()
    with pytest.raises(SecurityFailure, match="what came as a certificate is none"):
        await meter.site.install(
            request.public_bytes(Encoding.DER), KeyUse.SIGNING, own=True, trust=NOBODY, title=TITLE
        )
    assert meter.run == []


@given(st.binary(max_size=300))
def test_whatever_comes_as_a_request_is_a_request_or_refused(octets: bytes) -> None:
    with pytest.raises(SecurityFailure):
        checked_request(octets, 1)


def test_keys_of_key_agreement_have_their_shape_and_are_not_shown() -> None:
    keys = (AgreedKey(KeyKind.GLOBAL_UNICAST_ENCRYPTION, bytes(128)),)
    built = SecuritySetup(SETUP).key_agreement.request(keys).parameter
    assert built is not None
    assert AGREED_KEYS.parse(built, Where("here")) == keys
    assert "00" * 8 not in repr(keys)
    with pytest.raises(LocalError):
        AGREED_KEYS.build((AgreedKey(KeyKind.MASTER, bytes(12)),))


def test_the_list_of_certificates_is_bounded_and_typed() -> None:
    with pytest.raises(MeterProtocolError, match="array of at most 64"):
        CERTIFICATES.parse(octets(b"x"), Where("security setup"))
