"""How to associate: mechanism, ciphering, keys and limits, and what of it fits together."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.conformance import BUILT, Conformance
from protocols.dlms.security import hls, suites
from protocols.dlms.security.certificates import TrustAnchors
from protocols.dlms.security.ciphered_forms import CIPHER_OVERHEAD
from protocols.dlms.security.curves import NO_KEYS, NO_PEER, OwnKeys, PeerKeys
from protocols.dlms.security.general import GeneralKeys
from protocols.dlms.security.general_forms import GENERAL_OVERHEAD, SIGNING_OVERHEAD
from protocols.dlms.security.suites import Keys
from protocols.errors import MeterConfigError
from protocols.reading import Obis
from protocols.session import Auth, KeyInfo, Protection, ReleaseMode

CURRENT_ASSOCIATION = Obis(0, 0, 40, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSettings:
    """How to associate. `secret` is the LLS password or the HLS secret, `keys` say the security suite.

    `own` are our private keys, `peer` the meter's public ones; `trust` checks a certificate that the meter shows.

    `gbt_window` blocks of a general block transfer are taken in a row. See `DlmsSettings` for the rest.
    """

    auth: Auth = Auth.NONE
    ciphered: bool = False
    protection: Protection = Protection.AUTHENTICATED_ENCRYPTED
    dedicated_key: bool = False
    general: bool = False
    accept_plain: bool = False
    secret: bytes | None = field(default=None, repr=False)
    keys: Keys | None = None
    own: OwnKeys = NO_KEYS
    peer: PeerKeys = NO_PEER
    trust: TrustAnchors | None = None
    master: bytes | None = field(default=None, repr=False)
    key_info: KeyInfo | None = None
    signed: bool = False
    system_title: bytes = b"MGW\x00\x00\x00\x00\x01"
    max_pdu: int = 0xFFFF
    conformance: Conformance = BUILT
    short_names: bool = False
    gbt_window: int = 1
    hls_object: Obis = CURRENT_ASSOCIATION
    release: ReleaseMode = ReleaseMode.PLAIN

    def __post_init__(self) -> None:
        if (self.ciphered or self.auth is Auth.HLS_GMAC) and self.keys is None:
            raise MeterConfigError("this association needs an encryption key and an authentication key")
        if self.auth.needs_secret and not self.secret:
            raise MeterConfigError(f"authentication {self.auth} needs a password or key (password_ref)")
        if len(self.system_title) != suites.TITLE_OCTETS:
            raise MeterConfigError(f"a system title has {suites.TITLE_OCTETS} octets")
        if self.dedicated_key and not self.ciphered:
            raise MeterConfigError("a dedicated key needs ciphering")
        if (self.signed or self.key_info is not None) and not self.ciphered:
            raise MeterConfigError("key_info and signed need ciphering")
        if self.signed or self.key_info is not None:
            shown = self.auth is Auth.HLS_ECDSA and self.trust is not None
            self.general_keys.check(self.key_info, signed=self.signed, signer_shown=shown)
        if self.short_names and self.auth in hls.HLS:
            raise MeterConfigError(
                f"{self.auth} by short names is not supported: none or lls, ciphered or not"
            )
        if self.auth is Auth.HLS_ECDSA:
            if self.own.signing is None:
                raise MeterConfigError("HLS-ECDSA needs our signing key (signing_key_ref)")
            if self.peer.signing is None and self.trust is None:
                raise MeterConfigError(
                    "HLS-ECDSA needs the meter's signing key (meter_signing_ref) or an anchor (trust_anchor_ref)"
                )

    @property
    def needs_title(self) -> bool:
        """Say whether the meter must know our system title."""
        return self.ciphered or self.auth in hls.WITH_TITLE

    @property
    def context(self) -> int:
        """The application context."""
        logical = acse.CONTEXT_CIPHERED if self.ciphered else acse.CONTEXT_PLAIN
        return acse.SHORT_NAMES[logical] if self.short_names else logical

    @property
    def general_keys(self) -> GeneralKeys:
        """What the keys of general-ciphering and general-signing come from."""
        assert self.keys is not None
        return GeneralKeys(keys=self.keys, master=self.master, own=self.own, peer=self.peer)

    @property
    def overhead(self) -> int:
        """Octets that ciphering and signing add at the most."""
        signing = SIGNING_OVERHEAD if self.signed else 0
        ciphering_ = GENERAL_OVERHEAD if self.key_info is not None else CIPHER_OVERHEAD
        return signing + ciphering_ if self.ciphered else 0

    @property
    def suite(self) -> int:
        """The security suite."""
        return 0 if self.keys is None else self.keys.suite
