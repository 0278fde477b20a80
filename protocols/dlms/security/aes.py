"""AES as DLMS uses it: with a tag (GCM), without one (counter mode), and for HLS 2 (ECB).

The one module that imports `cryptography`; its callers import it where something is ciphered, since reading what
is plain needs none of it.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FULL_TAG_OCTETS = 16
"""What GCM gives; suite 0 sends the first twelve."""


def seal(key: bytes, nonce: bytes, plain: bytes, associated: bytes, tag_octets: int) -> bytes:
    """Return `plain` ciphered, with a tag of `tag_octets` behind it that covers `associated` too."""
    return AESGCM(key).encrypt(nonce, plain, associated)[: len(plain) + tag_octets]


def unseal(key: bytes, nonce: bytes, text: bytes, associated: bytes, tag: bytes) -> bytes | None:
    """Return the plain text of `text`; None when the tag, whatever its length, is not that of both."""
    cipher = Cipher(algorithms.AES(key), modes.GCM(nonce, tag, len(tag))).decryptor()
    cipher.authenticate_additional_data(associated)
    try:
        return cipher.update(text) + cipher.finalize()
    except InvalidTag:
        return None


def counter_mode(key: bytes, nonce: bytes, text: bytes) -> bytes:
    """Cipher or decipher without a tag: GCM is then counter mode from block 2."""
    return Cipher(algorithms.AES(key), modes.CTR(nonce + b"\0\0\0\2")).encryptor().update(text)


def code_book(key: bytes, blocks: bytes) -> bytes:
    """Cipher whole blocks one by one (ECB): for one random challenge, never for data."""
    # The Indian companion prescribes it for HLS 2.
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)  # noqa: S305
