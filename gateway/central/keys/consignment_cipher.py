"""How consignment files come enciphered: CMS (RFC 5652), `openssl enc`, and keys wrapped one by one (RFC 3394)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, keywrap, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs7

from gateway.errors import UsageError

SALTED = b"Salted__"
DEFAULT_ROUNDS = 10_000
"""PBKDF2 rounds of `openssl enc -pbkdf2` without `-iter`."""
MAX_ROUNDS = 10_000_000
_SALT, _KEY, _BLOCK = 8, 32, 16


def is_cms(content: bytes) -> bool:
    """Say whether a file is CMS: DER, or PEM of it."""
    return (
        content[:1] == b"\x30" or b"-----BEGIN PKCS7" in content[:200] or b"-----BEGIN CMS" in content[:200]
    )


def open_cms(content: bytes, *, certificate: bytes, private_key: bytes, passphrase: bytes | None) -> bytes:
    """Return what a CMS EnvelopedData (RSA recipient, AES-CBC) holds; UsageError when it does not open."""
    try:
        key = load_pem_private_key(private_key, passphrase)
        shown = x509.load_pem_x509_certificate(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError("certificate or private key is no PEM that can be read") from None
    if not isinstance(key, RSAPrivateKey):
        raise UsageError("a CMS file is opened with an RSA key")
    content = content.replace(b"-----BEGIN CMS", b"-----BEGIN PKCS7").replace(
        b"-----END CMS", b"-----END PKCS7"
    )
    pem = content[:1] != b"\x30"
    try:
        opened = pkcs7.pkcs7_decrypt_pem if pem else pkcs7.pkcs7_decrypt_der
        return opened(content, shown, key, [])
    except (ValueError, UnsupportedAlgorithm, TypeError):
        raise UsageError(
            "the CMS file does not open: it is for another certificate, or not of RSA with AES-CBC"
            " (`openssl cms -encrypt -aes256`)"
        ) from None


def open_salted(content: bytes, *, passphrase: bytes, rounds: int = DEFAULT_ROUNDS) -> bytes:
    """Return what `openssl enc -aes-256-cbc -pbkdf2` enciphered; UsageError when it does not open.

    It has no tag: whoever could alter the file could alter keys. Prefer CMS, signed by its sender.
    """
    if not 1 <= rounds <= MAX_ROUNDS:
        raise UsageError(f"{rounds} rounds: 1 to {MAX_ROUNDS}")
    salt, text = content[len(SALTED) : len(SALTED) + _SALT], content[len(SALTED) + _SALT :]
    if content[: len(SALTED)] != SALTED or not text or len(text) % _BLOCK:
        raise UsageError("the file is not what `openssl enc` writes")
    derived = PBKDF2HMAC(hashes.SHA256(), _KEY + _BLOCK, salt, rounds).derive(passphrase)
    cipher = Cipher(algorithms.AES(derived[:_KEY]), modes.CBC(derived[_KEY:])).decryptor()
    unpadder = padding.PKCS7(algorithms.AES.block_size).unpadder()
    try:
        return unpadder.update(cipher.update(text) + cipher.finalize()) + unpadder.finalize()
    except ValueError:
        raise UsageError(
            "the file does not open with this passphrase (or with another number of rounds)"
        ) from None


def unwrapper(transport_key: bytes) -> Callable[[bytes], bytes]:
    """Return what opens keys that are wrapped under a transport key; UsageError for one of a wrong length."""
    if len(transport_key) not in (16, 24, 32):
        raise UsageError(f"a transport key has 16, 24 or 32 octets, not {len(transport_key)}")

    def unwrap(wrapped: bytes) -> bytes:
        try:
            return keywrap.aes_key_unwrap(transport_key, wrapped)
        except (keywrap.InvalidUnwrap, ValueError):
            raise ValueError("does not open under the transport key") from None

    return unwrap
