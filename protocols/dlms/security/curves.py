"""Elliptic curves of suites 1 and 2 (Green Book 9.2.3.4): signatures, key agreement, and keys derived from it; pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from protocols.dlms.security.ciphered_forms import KEY_OCTETS, LONG_KEY_OCTETS
from protocols.errors import MeterConfigError, SecurityFailure

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class CurveOfSuite:
    """The curve of a suite: `octets` of one coordinate, its hash, and the octets of the AES keys agreed on it."""

    curve: ec.EllipticCurve
    octets: int
    digest: hashes.SHA256 | hashes.SHA384
    key_octets: int
    gcm: bytes
    wrap: bytes


_NAME = bytes.fromhex("608574050803")
P256 = CurveOfSuite(ec.SECP256R1(), 32, hashes.SHA256(), KEY_OCTETS, _NAME + b"\x00", _NAME + b"\x02")
P384 = CurveOfSuite(ec.SECP384R1(), 48, hashes.SHA384(), LONG_KEY_OCTETS, _NAME + b"\x01", _NAME + b"\x03")
CURVES = {1: P256, 2: P384}
"""The curve of each suite that has one. `gcm` and `wrap` are the AlgorithmIDs of what a derived key is for."""
_BY_NAME = {suite.curve.name: suite for suite in CURVES.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKeys:
    """Our private keys, and the certificate of the signing key as the far side is shown it (DER, may be empty)."""

    signing: PrivateKey | None = field(default=None, repr=False)
    agreement: PrivateKey | None = field(default=None, repr=False)
    certificate: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class PeerKey:
    """A public key of the far side, and the system title that its certificate names (empty: a bare key)."""

    key: PublicKey = field(repr=False)
    title: bytes = b""

    def of(self, title: bytes) -> PublicKey:
        """Return the key for the party of this title; SecurityFailure where its certificate is another's."""
        if self.title and title and self.title != title:
            raise SecurityFailure(f"the certificate is that of {self.title.hex()}, not of {title.hex()}")
        return self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerKeys:
    """The far side's public keys, as far as they are known."""

    signing: PeerKey | None = None
    agreement: PeerKey | None = None


NO_KEYS, NO_PEER = OwnKeys(), PeerKeys()


def curve_of(key: PrivateKey | PublicKey) -> CurveOfSuite:
    """Return the curve of a key; MeterConfigError when it is neither P-256 nor P-384."""
    known = _BY_NAME.get(key.curve.name)
    if known is None:
        raise MeterConfigError(f"a key on {key.curve.name}; P-256 (suite 1) and P-384 (suite 2) are known")
    return known


def check_suite(key: PrivateKey | PublicKey, suite: int, what: str) -> None:
    """Raise MeterConfigError for a key that is not on the curve of a suite."""
    wanted = CURVES.get(suite)
    if wanted is None:
        raise MeterConfigError(f"{what}: suite {suite} has no such key; see suite")
    if curve_of(key) is not wanted:
        raise MeterConfigError(f"{what} is on {key.curve.name}; suite {suite} needs {wanted.curve.name}")


def private_key(octets: bytes, what: str) -> PrivateKey:
    """Return a private key from PEM, DER (PKCS 8 or SEC 1), or the bare number of 32 or 48 octets.

    Raises MeterConfigError, which names `what` and never shows what it holds.
    """
    for suite in CURVES.values():
        if len(octets) == suite.octets:
            return _derived(octets, suite, what)
    load = serialization.load_pem_private_key if _is_pem(octets) else serialization.load_der_private_key
    try:
        key = load(octets, password=None)
    except (ValueError, TypeError):  # a key that asks for a password is a TypeError; no cause: it may quote
        raise MeterConfigError(f"{what} is no private key: PEM, DER, or 32 or 48 octets") from None
    if not isinstance(key, PrivateKey):
        raise MeterConfigError(f"{what} is no key of an elliptic curve")
    curve_of(key)
    return key


def _derived(octets: bytes, suite: CurveOfSuite, what: str) -> PrivateKey:
    try:
        return ec.derive_private_key(int.from_bytes(octets, "big"), suite.curve)
    except ValueError:
        raise MeterConfigError(f"{what} is no private key of {suite.curve.name}") from None


def new_key(suite: int) -> PrivateKey:
    """Return a new private key on the curve of a suite."""
    return ec.generate_private_key(CURVES[suite].curve)


def public_octets(key: PublicKey) -> bytes:
    """Return both coordinates, as they travel: 64 or 96 octets."""
    form = serialization.PublicFormat.UncompressedPoint
    return key.public_bytes(serialization.Encoding.X962, form)[1:]


def public_key(octets: bytes, suite: CurveOfSuite) -> PublicKey:
    """Return the key of two coordinates; SecurityFailure where they are no point of the curve."""
    if len(octets) != 2 * suite.octets:
        raise SecurityFailure(f"a public key of {len(octets)} octets; {2 * suite.octets} are expected")
    try:
        return PublicKey.from_encoded_point(suite.curve, b"\x04" + octets)
    except ValueError as error:
        raise SecurityFailure("a public key that is no point of its curve") from error


def sign(key: PrivateKey, text: bytes) -> bytes:
    """Return the signature R‖S of fixed length (Green Book 9.2.3.4.5), not the DER of certificates."""
    suite = curve_of(key)
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(suite.digest)))
    return r.to_bytes(suite.octets, "big") + s.to_bytes(suite.octets, "big")


def verify(key: PublicKey, text: bytes, signature: bytes) -> None:
    """Check a signature R‖S; SecurityFailure when it is not that of the key."""
    suite = curve_of(key)
    if len(signature) != 2 * suite.octets:
        raise SecurityFailure(f"a signature of {len(signature)} octets; {2 * suite.octets} are expected")
    r, s = (int.from_bytes(signature[i : i + suite.octets], "big") for i in (0, suite.octets))
    try:
        key.verify(encode_dss_signature(r, s), text, ec.ECDSA(suite.digest))
    except InvalidSignature as error:
        raise SecurityFailure(
            "a signature is wrong: another key signed, or somebody changed the text"
        ) from error


def agree(
    own: PrivateKey, peer: PublicKey, *, algorithm: bytes, originator: bytes, recipient: bytes
) -> bytes:
    """Return the AES key of both (ECC CDH, NIST concatenation KDF, Green Book 9.2.3.4.6.5).

    `algorithm` says what the key is for; `originator` is party U's title, with its nonce where there is one,
    `recipient` party V's. SecurityFailure for keys on two curves.
    """
    suite = curve_of(own)
    if curve_of(peer) is not suite:
        raise SecurityFailure("a key agreement between two curves")
    secret = own.exchange(ec.ECDH(), peer)
    return ConcatKDFHash(suite.digest, suite.key_octets, algorithm + originator + recipient).derive(secret)


def _is_pem(octets: bytes) -> bool:
    return octets.lstrip().startswith(b"-----BEGIN")
