"""Certificates: whom an anchor vouches for, when, for what and under which title; anything else is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.security import certificates
from protocols.dlms.security.certificates import TrustAnchors, peer_key, received
from protocols.dlms.security.curves import (
    CURVES,
    OwnKeys,
    PeerKey,
    PeerKeys,
    PublicKey,
    new_key,
    public_octets,
)
from protocols.dlms.security.key_use import KeyUse
from protocols.errors import MeterConfigError, SecurityFailure
from protocols.session import Auth
from protocols.simulator.neighbourhood.authority import Authority, pem
from tests.support.dlms.bench import TITLE, Joined, SmallMeter, of_suite

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OTHER = b"GEN\x00\x00\x00\x00\x08"
TOWN = Authority(1, 1)
KEY = TOWN.key("meter")


def trust(town: Authority = TOWN, at: datetime = NOW) -> TrustAnchors:
    return TrustAnchors(anchors=(town.anchor,), at=at)


def shown(title: bytes = TITLE, use: KeyUse = KeyUse.SIGNING, town: Authority = TOWN) -> x509.Certificate:
    return town.certificate(title, town.key("meter").public_key(), use)


def built(
    key: PublicKey | rsa.RSAPublicKey, *, name: str = TITLE.hex(), extra: bool = False
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(TOWN.anchor.subject)
        .public_key(key)
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(
            TOWN.certificate(TITLE, KEY.public_key(), KeyUse.SIGNING).extensions[0].value, critical=True
        )
    )
    if extra:
        builder = builder.add_extension(
            x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=[x509.DNSName("x")]),
            critical=True,
        )
    return builder.sign(TOWN.key("authority"), CURVES[1].digest)


def test_a_certificate_gives_its_key_and_title() -> None:
    found = trust().check(shown(), KeyUse.SIGNING, TITLE)
    assert found == PeerKey(KEY.public_key(), TITLE)
    assert trust().check(built(KEY.public_key(), name="GENABCDE"), KeyUse.SIGNING).title == b"GENABCDE"


@pytest.mark.parametrize(
    ("certificate", "use", "at", "words"),
    [
        (shown(), KeyUse.SIGNING, NOW.replace(year=2019), "is valid from 2020-01-01"),
        (shown(), KeyUse.SIGNING, NOW.replace(year=2071), "to 2070-01-01"),
        (shown(), KeyUse.AGREEMENT, NOW, "is not for agreement"),
        (shown(use=KeyUse.AGREEMENT), KeyUse.SIGNING, NOW, "is not for signing"),
        (shown(OTHER), KeyUse.SIGNING, NOW, f"is that of {OTHER.hex()}"),
        (shown(town=Authority(2, 1)), KeyUse.SIGNING, NOW, "no trust anchor vouches"),
        (built(KEY.public_key(), name="a name"), KeyUse.SIGNING, NOW, "names no system title"),
        (built(KEY.public_key(), extra=True), KeyUse.SIGNING, NOW, "critical extension not known"),
        (built(Authority(1, 2).key("meter").public_key()), KeyUse.SIGNING, NOW, "vouches for no P-384"),
        (
            built(rsa.generate_private_key(65537, 2048).public_key()),
            KeyUse.SIGNING,
            NOW,
            "not of an elliptic curve",
        ),
    ],
)
def test_what_does_not_hold_is_refused(
    certificate: x509.Certificate, use: KeyUse, at: datetime, words: str
) -> None:
    with pytest.raises(SecurityFailure, match=words):
        trust(at=at).check(certificate, use, TITLE)


def test_somebody_of_the_authoritys_name_is_not_the_authority() -> None:
    """The issuer's name is right, its key is another."""
    impostor = Authority(3, 1)
    wrong = x509.CertificateBuilder().subject_name(shown().subject).issuer_name(TOWN.anchor.subject)
    wrong = wrong.public_key(KEY.public_key()).serial_number(1)
    wrong = wrong.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    with pytest.raises(SecurityFailure, match="no trust anchor vouches"):
        trust().check(wrong.sign(impostor.key("authority"), CURVES[1].digest), KeyUse.SIGNING, TITLE)


def test_a_meter_is_no_authority() -> None:
    """A meter's own certificate, set as an anchor or not, vouches for nobody."""
    own = built(KEY.public_key())
    builder = x509.CertificateBuilder().subject_name(own.subject).issuer_name(own.subject)
    builder = builder.public_key(KEY.public_key()).serial_number(2)
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    child = builder.sign(KEY, CURVES[1].digest)
    with pytest.raises(SecurityFailure, match="may not issue"):
        TrustAnchors(anchors=(own,), at=NOW).check(child, KeyUse.SIGNING)


def test_a_file_may_hold_a_certificate_or_a_bare_key() -> None:
    key, title = KEY.public_key(), shown()
    spki = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert peer_key(public_octets(key), "x", KeyUse.SIGNING, None) == PeerKey(key)
    assert peer_key(spki, "x", KeyUse.SIGNING, trust()) == PeerKey(key)
    assert peer_key(pem(title), "x", KeyUse.SIGNING, None) == PeerKey(key, TITLE)
    assert peer_key(certificates.der(title), "x", KeyUse.SIGNING, trust()) == PeerKey(key, TITLE)
    with pytest.raises(SecurityFailure, match="not for agreement"):
        peer_key(pem(title), "x", KeyUse.AGREEMENT, trust())
    with pytest.raises(MeterConfigError, match="x is no certificate"):
        peer_key(b"nothing", "x", KeyUse.SIGNING, None)


@pytest.mark.parametrize("octets", [b"", b"\x30\x03\x02\x01\x01", bytes(5000)])
def test_octets_that_are_no_certificate_are_a_security_failure(octets: bytes) -> None:
    with pytest.raises(SecurityFailure):
        received(octets)


SHOWN = certificates.der(shown())


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(at=st.integers(0, len(SHOWN) - 1), octet=st.integers(0, 255))
def test_a_certificate_with_one_wrong_octet_is_refused(at: int, octet: int) -> None:
    """Whatever the library makes of it: it reads names, times and version when they are first asked for."""
    octets = bytearray(SHOWN)
    if octets[at] == octet:
        return
    octets[at] = octet
    with pytest.raises(SecurityFailure):
        trust().check(received(bytes(octets)), KeyUse.SIGNING)
    with pytest.raises((SecurityFailure, MeterConfigError)):
        peer_key(bytes(octets), "x", KeyUse.SIGNING, trust())


def _joined(certificate: bytes, anchors: TrustAnchors | None, peer: PeerKey | None) -> Joined:
    policy, settings = of_suite(1, Auth.HLS_ECDSA)
    meter = OwnKeys(signing=KEY, certificate=certificate)
    client = settings.own.signing
    assert client is not None
    policy = replace(policy, own=meter, peer=PeerKeys(signing=PeerKey(client.public_key())))
    settings = AssociationSettings(
        auth=Auth.HLS_ECDSA,
        ciphered=True,
        keys=settings.keys,
        own=settings.own,
        peer=PeerKeys(signing=peer),
        trust=anchors,
    )
    return Joined(SmallMeter({48: policy}), settings)


def test_a_meter_may_show_its_certificate_in_the_association() -> None:
    assert _joined(certificates.der(shown()), trust(), None).associate()


@pytest.mark.parametrize(
    ("certificate", "anchors", "peer", "words"),
    [
        (b"", trust(), None, "shows no certificate"),
        (certificates.der(shown(OTHER)), trust(), None, f"that of {OTHER.hex()}"),
        (certificates.der(shown(town=Authority(2, 1))), trust(), None, "no trust anchor"),
        (b"no certificate", trust(), None, "is none"),
        (b"", None, PeerKey(KEY.public_key(), OTHER), f"that of {OTHER.hex()}"),
        (b"", None, PeerKey(new_key(1).public_key(), TITLE), "a signature is wrong"),
    ],
)
def test_a_meter_that_cannot_prove_who_it_is_gets_no_request(
    certificate: bytes, anchors: TrustAnchors | None, peer: PeerKey | None, words: str
) -> None:
    with pytest.raises(SecurityFailure, match=words):
        _joined(certificate, anchors, peer).associate()


def test_hls_ecdsa_asks_for_its_keys() -> None:
    _, settings = of_suite(1, Auth.HLS_ECDSA)
    with pytest.raises(MeterConfigError, match="signing_key_ref"):
        AssociationSettings(auth=Auth.HLS_ECDSA, keys=settings.keys)
    with pytest.raises(MeterConfigError, match="trust_anchor_ref"):
        AssociationSettings(auth=Auth.HLS_ECDSA, keys=settings.keys, own=settings.own)


def test_no_key_shows_in_a_text() -> None:
    policy, settings = of_suite(1, Auth.HLS_ECDSA)
    for shown_text in (repr(policy), repr(settings), str(settings.own), str(settings.peer)):
        assert "EllipticCurve" not in shown_text
        assert "0x" not in shown_text.replace("0xFFFF", "")
