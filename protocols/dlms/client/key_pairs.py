"""Key pairs and certificates of suites 1 and 2, as a meter's settings name them."""

from __future__ import annotations

from datetime import datetime

from protocols.dlms.security import certificates, curves
from protocols.dlms.security.certificates import TrustAnchors
from protocols.dlms.security.curves import OwnKeys, PeerKey, PeerKeys, PrivateKey
from protocols.dlms.security.key_use import KeyUse
from protocols.errors import MeterConfigError
from protocols.session import DlmsSettings, SecretSource


def key_pairs(
    settings: DlmsSettings, secrets: SecretSource, at: datetime
) -> tuple[OwnKeys, PeerKeys, TrustAnchors | None]:
    """Return our private keys, the meter's public ones, and who vouches for certificates (None: nobody is set).

    Raises MeterConfigError for what is no key or not of the suite's curve, SecurityFailure for a certificate of the
    meter that does not hold at `at`.
    """
    trust = None
    if settings.trust_anchor_ref is not None:
        found = certificates.certificates(
            secrets.secret(settings.trust_anchor_ref), settings.trust_anchor_ref
        )
        trust = TrustAnchors(anchors=found, at=at)
    own = OwnKeys(
        signing=_private(settings, secrets, settings.signing_key_ref),
        agreement=_private(settings, secrets, settings.agreement_key_ref),
        certificate=_shown(secrets, settings.signing_certificate_ref),
    )
    peer = PeerKeys(
        signing=_public(settings, secrets, settings.meter_signing_ref, KeyUse.SIGNING, trust),
        agreement=_public(settings, secrets, settings.meter_agreement_ref, KeyUse.AGREEMENT, trust),
    )
    return own, peer, trust


def _private(settings: DlmsSettings, secrets: SecretSource, ref: str | None) -> PrivateKey | None:
    if ref is None:
        return None
    key = curves.private_key(secrets.secret(ref), ref)
    curves.check_suite(key, settings.suite, ref)
    return key


def _public(
    settings: DlmsSettings, secrets: SecretSource, ref: str | None, use: KeyUse, trust: TrustAnchors | None
) -> PeerKey | None:
    if ref is None:
        return None
    peer = certificates.peer_key(secrets.secret(ref), ref, use, trust)
    curves.check_suite(peer.key, settings.suite, ref)
    return peer


def _shown(secrets: SecretSource, ref: str | None) -> bytes:
    if ref is None:
        return b""
    found = certificates.certificates(secrets.secret(ref), ref)
    if len(found) != 1:
        raise MeterConfigError(f"{ref} holds {len(found)} certificates; the meter is shown one")
    return certificates.der(found[0])
