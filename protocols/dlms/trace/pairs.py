"""Keys of suites 1 and 2 that a trace is read with: the master key, an agreement key, and whose signatures count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from protocols.dlms.security import curves, general
from protocols.dlms.security.curves import CURVES, PrivateKey, PublicKey
from protocols.dlms.security.general_forms import (
    ONE_PASS,
    STATIC,
    AgreedKey,
    GeneralCiphering,
    GeneralSigning,
    WrappedKey,
)
from protocols.dlms.security.key_wrap import unwrap_key
from protocols.errors import MeterConfigError, SecurityFailure

_SUITE = 0x0F


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePairs:
    """`agreement` is our private key, `agreement_peer` the far side's public one; `signers` may be either side's."""

    master: bytes | None = field(default=None, repr=False)
    agreement: PrivateKey | None = field(default=None, repr=False)
    agreement_peer: PublicKey | None = None
    signers: tuple[PublicKey, ...] = ()

    def keys_of(self, found: GeneralCiphering) -> Iterator[bytes]:
        """Yield the keys that may open an APDU; NotGiven says what would be needed, SecurityFailure what is wrong."""
        match found.key:
            case WrappedKey(wrapped=wrapped, kek_id=0) if self.master is not None:
                return iter((unwrap_key(self.master, wrapped),))
            case WrappedKey():
                raise NotGiven("its key is wrapped; the master key is not given")
            case AgreedKey(scheme=scheme, data=data) if self.agreement is not None:
                curve = CURVES.get(found.secured.control & _SUITE)
                if curve is None or curves.curve_of(self.agreement) is not curve:
                    raise NotGiven("its key is agreed on another curve than that of the agreement key given")
                if scheme == ONE_PASS:
                    ephemeral = curves.public_key(data[: 2 * curve.octets], curve)
                    return general.agreed_keys(self.agreement, ephemeral, found.header)
                if scheme == STATIC and self.agreement_peer is not None:
                    return general.agreed_keys(self.agreement, self.agreement_peer, found.header, nonce=True)
        raise NotGiven("its key is agreed; the agreement keys are not given")

    def ephemeral_proof(self, found: GeneralCiphering) -> str:
        """Return whose signature an ephemeral key has: `right`, `wrong` or why it is not checked; "" without one."""
        match found.key:
            case AgreedKey(scheme=scheme, data=data) if scheme == ONE_PASS:
                half = len(data) // 2
                return self.checked(data[:half], data[half:])
        return ""

    def signature(self, signed: GeneralSigning) -> str:
        """Return whether general-signing is signed by a key that is given."""
        return self.checked(general.signed_text(signed.header, signed.content), signed.signature)

    def checked(self, text: bytes, signature: bytes) -> str:
        """Return `right` or `wrong`, or why a signature is not checked."""
        signers = [key for key in self.signers if 2 * curves.curve_of(key).octets == len(signature)]
        if not signers:
            return "not checked: the signer's certificate is not given"
        return "right" if any(_verifies(key, text, signature) for key in signers) else "wrong"


class NotGiven(Exception):
    """A key that opening an APDU needs is not given."""


def _verifies(key: PublicKey, text: bytes, signature: bytes) -> bool:
    try:
        curves.verify(key, text, signature)
    except (SecurityFailure, MeterConfigError):
        return False
    return True
