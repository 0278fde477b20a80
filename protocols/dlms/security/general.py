"""General-ciphering and general-signing (Green Book 9.2.7): keys that come with an APDU or are agreed for it; pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.security import curves
from protocols.dlms.security.ciphered_forms import AUTHENTICATED, AUTHENTICATED_ENCRYPTED, GENERAL_CIPHERING
from protocols.dlms.security.curves import (
    CURVES,
    NO_KEYS,
    NO_PEER,
    CurveOfSuite,
    OwnKeys,
    PeerKeys,
    PrivateKey,
)
from protocols.dlms.security.general_forms import (
    CIPHERING,
    GENERAL_SIGNING,
    HEADER,
    ONE_PASS,
    SIGNING,
    STATIC,
    AgreedKey,
    GeneralCiphering,
    GeneralSigning,
    Header,
    IdentifiedKey,
    KeyOfApdu,
    WrappedKey,
)
from protocols.dlms.security.key_wrap import unwrap_key, wrap_key
from protocols.dlms.security.suites import Keys, Opened, secure, unsecure
from protocols.errors import MeterConfigError, SecurityFailure
from protocols.session import KeyInfo

TRANSACTION_OCTETS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralKeys:
    """All that keys may come from: the global ones, the master key, both sides' key pairs."""

    keys: Keys
    master: bytes | None = field(default=None, repr=False)
    own: OwnKeys = NO_KEYS
    peer: PeerKeys = NO_PEER

    @property
    def curve(self) -> CurveOfSuite:
        """The curve of the suite; MeterConfigError under suite 0."""
        if self.keys.suite not in CURVES:
            raise MeterConfigError("suite 0 has no key pairs: see suite")
        return CURVES[self.keys.suite]

    def check(self, kind: KeyInfo | None, *, signed: bool, signer_shown: bool = False) -> None:
        """Raise MeterConfigError where a key is missing that protecting and opening so needs.

        `signer_shown` tells that the far side shows its signing key in the association.
        """
        lacks = []
        if kind is KeyInfo.WRAPPED and self.master is None:
            lacks.append("the master key (master_key_ref)")
        if kind in (KeyInfo.AGREED, KeyInfo.AGREED_STATIC):
            lacks += ["our agreement key (agreement_key_ref)"] * (self.own.agreement is None)
            lacks += ["the meter's agreement key (meter_agreement_ref)"] * (self.peer.agreement is None)
        if signed or kind is KeyInfo.AGREED:
            lacks += ["our signing key (signing_key_ref)"] * (self.own.signing is None)
            unknown = self.peer.signing is None and not signer_shown
            lacks += ["the meter's signing key (meter_signing_ref)"] * unknown
        if lacks:
            raise MeterConfigError(
                f"{'signing' if kind is None else f'key_info {kind}'} needs {', '.join(lacks)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedGeneral:
    """What general-ciphering held, after its checks."""

    plain: bytes = field(repr=False)
    counter: int
    header: Header
    kind: KeyInfo


def protect_general(
    known: GeneralKeys,
    kind: KeyInfo,
    header: Header,
    counter: int,
    plain: bytes,
    *,
    control: int = AUTHENTICATED_ENCRYPTED,
    random_octets: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """Return general-ciphering of an APDU.

    `counter` was never used before with the global key; a key of this APDU alone begins with counter 0 (Green
    Book 9.2.3.3.7.3). For an agreed key without an ephemeral one the transaction id must be new, since it makes
    the key. Raises MeterConfigError where a key is missing.
    """
    key, of_apdu = _new_key(known, kind, header, random_octets)
    used = replace(known.keys, encryption=key)
    number = counter if kind is KeyInfo.IDENTIFIED else 0
    secured = secure(used, header.originator, number, plain, control=control, header=HEADER.write(header))
    return bytes((GENERAL_CIPHERING,)) + CIPHERING.write(
        GeneralCiphering(header=header, key=of_apdu, secured=secured)
    )


def _new_key(
    known: GeneralKeys, kind: KeyInfo, header: Header, random_octets: Callable[[int], bytes]
) -> tuple[bytes, KeyOfApdu]:
    known.check(kind, signed=False, signer_shown=True)
    match kind:
        case KeyInfo.IDENTIFIED:
            return known.keys.encryption, IdentifiedKey()
        case KeyInfo.WRAPPED:
            assert known.master is not None
            key = random_octets(len(known.keys.encryption))
            return key, WrappedKey(wrap_key(known.master, key))
    assert known.own.agreement is not None
    assert known.peer.agreement is not None
    peer = known.peer.agreement.of(header.recipient)
    if kind is KeyInfo.AGREED_STATIC:
        return _agreed(known.own.agreement, peer, known.curve.gcm, header, nonce=True), AgreedKey(STATIC)
    assert known.own.signing is not None
    ephemeral = curves.new_key(known.keys.suite)
    public = curves.public_octets(ephemeral.public_key())
    data = public + curves.sign(known.own.signing, public)
    return _agreed(ephemeral, peer, known.curve.gcm, header), AgreedKey(ONE_PASS, data)


def _agreed(
    own: PrivateKey, peer: curves.PublicKey, algorithm: bytes, header: Header, *, nonce: bool = False
) -> bytes:
    """Derive the key of an APDU; the nonce of the static scheme is the transaction id with its length."""
    transaction = encode_length(len(header.transaction)) + header.transaction if nonce else b""
    return curves.agree(
        own,
        peer,
        algorithm=algorithm,
        originator=header.originator + transaction,
        recipient=header.recipient,
    )


def open_general(
    known: GeneralKeys, apdu: bytes, *, originator: bytes, recipient: bytes, required: int
) -> OpenedGeneral:
    """Open general-ciphering from the party `originator` (a system title) to us, `recipient`.

    Neither counter nor transaction id is judged here. Raises SecurityFailure for another sender or receiver, a
    wrong tag or signature, weaker protection than `required`, a key that we cannot have; MeterProtocolError for
    octets that are none.
    """
    cursor = Cursor(apdu)
    cursor.expect(GENERAL_CIPHERING)
    found = cursor.field(CIPHERING)
    cursor.finish("general-ciphering")
    _check_parties(found.header, originator, recipient)
    kind, keys = _keys_for(known, found)
    opened = _first_that_opens(known, found, keys, required)
    return OpenedGeneral(plain=opened.plain, counter=opened.counter, header=found.header, kind=kind)


def _first_that_opens(
    known: GeneralKeys, found: GeneralCiphering, keys: Iterator[bytes], required: int
) -> Opened:
    header = HEADER.write(found.header)
    failure: SecurityFailure | None = None
    for key in keys:
        used = replace(known.keys, encryption=key)
        try:
            return unsecure(used, found.header.originator, found.secured, required=required, header=header)
        except SecurityFailure as error:
            failure = failure or error
            if not required & AUTHENTICATED:
                break  # nothing tells a right key from a wrong one
    assert failure is not None
    raise failure


def _keys_for(known: GeneralKeys, found: GeneralCiphering) -> tuple[KeyInfo, Iterator[bytes]]:
    """Return how the key came, and the keys that may be meant."""
    match found.key:
        case None | IdentifiedKey(key_id=0):
            return KeyInfo.IDENTIFIED, iter((known.keys.encryption,))
        case IdentifiedKey():
            raise SecurityFailure("ciphered with a broadcast key")
        case WrappedKey(wrapped=wrapped, kek_id=0) if known.master is not None:
            key = unwrap_key(known.master, wrapped)
            return KeyInfo.WRAPPED, iter((key,))
        case AgreedKey(scheme=scheme, data=data) if known.own.agreement is not None:
            if scheme == ONE_PASS:
                return KeyInfo.AGREED, _one_pass(known, known.own.agreement, found.header, data)
            if scheme == STATIC and known.peer.agreement is not None and not data:
                peer = known.peer.agreement.of(found.header.originator)
                return KeyInfo.AGREED_STATIC, agreed_keys(known.own.agreement, peer, found.header, nonce=True)
    raise SecurityFailure("ciphered with a key that is not known here: see master_key_ref, agreement_key_ref")


def _one_pass(known: GeneralKeys, own: PrivateKey, header: Header, data: bytes) -> Iterator[bytes]:
    """Derive from the sender's ephemeral key; only the signature tells whose it is, so it is checked first."""
    if known.peer.signing is None:
        raise SecurityFailure("an ephemeral key whose signature nobody here can check: see meter_signing_ref")
    size = 2 * known.curve.octets
    public, signature = data[:size], data[size:]
    curves.verify(known.peer.signing.of(header.originator), public, signature)
    return agreed_keys(own, curves.public_key(public, known.curve), header)


def agreed_keys(
    own: PrivateKey, peer: curves.PublicKey, header: Header, *, nonce: bool = False
) -> Iterator[bytes]:
    """Derive under the algorithm's name; then as the Green Book's eighth edition prints it, which some follow."""
    name = curves.curve_of(own).gcm
    for algorithm in (name, name[:3] + b"\x06" + name[4:]):
        yield _agreed(own, peer, algorithm, header, nonce=nonce)


def sign_general(known: GeneralKeys, header: Header, content: bytes) -> bytes:
    """Return general-signing of an APDU; MeterConfigError without a signing key."""
    if known.own.signing is None:
        raise MeterConfigError("signing needs our signing key (signing_key_ref)")
    signature = curves.sign(known.own.signing, signed_text(header, content))
    apdu = GeneralSigning(header=header, content=content, signature=signature)
    return bytes((GENERAL_SIGNING,)) + SIGNING.write(apdu)


def open_signed(known: GeneralKeys, apdu: bytes, *, originator: bytes, recipient: bytes) -> GeneralSigning:
    """Return what general-signing holds; SecurityFailure when its signature, sender or receiver is another."""
    cursor = Cursor(apdu)
    cursor.expect(GENERAL_SIGNING)
    found = cursor.field(SIGNING)
    cursor.finish("general-signing")
    _check_parties(found.header, originator, recipient)
    if known.peer.signing is None:
        raise SecurityFailure("signed, and the signer's certificate is not known: see meter_signing_ref")
    signer = known.peer.signing.of(originator)
    curves.verify(signer, signed_text(found.header, found.content), found.signature)
    return found


def signed_text(header: Header, content: bytes) -> bytes:
    """Return what is signed: each field up to the signature, with its length."""
    whole = SIGNING.write(GeneralSigning(header=header, content=content, signature=b""))
    return whole[:-1]


def _check_parties(header: Header, originator: bytes, recipient: bytes) -> None:
    if header.originator != originator:
        raise SecurityFailure(f"the sender is {header.originator.hex()}, {originator.hex()} is expected")
    if header.recipient != recipient:
        raise SecurityFailure(f"protected for {header.recipient.hex()}, not for {recipient.hex()}")
