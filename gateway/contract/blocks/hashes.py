"""By what a repeat of a capture is told from a revision: a hash of its values, and whether its time was settled."""

from __future__ import annotations

from hashlib import blake2b

from gateway.contract.blocks.canonical import KEY_OCTETS

_OCTETS = [bytes([octet]) for octet in range(256)]


def value_hash(values: bytes, *, provisional: bool) -> bytes:
    """Return what tells a repeat from a revision: the values, and in the last bit whether the time was settled.

    A time is provisional while the gateway does not know its own: the same row, read again by a gateway that
    does, is a revision. A time that was untrusted for the meter's sake is settled by nobody's reading again.
    """
    digest = blake2b(values, digest_size=KEY_OCTETS).digest()
    last = digest[-1]
    return digest if last & 1 != provisional else digest[:-1] + _OCTETS[last ^ 1]


def is_repeat(held: bytes, new: bytes) -> bool:
    """Say whether a capture brings nothing over the one that is held, by their hashes.

    What was settled is never made provisional again by the same values.
    """
    return held == new or (held[:-1] == new[:-1] and bool(held) and held[-1] == new[-1] | 1)


def has_other_values(held: bytes, new: bytes) -> bool:
    """Say whether a capture has other values than the one that is held, by their hashes.

    That is not known of one that is asked for once more whatever it holds (an empty hash), or is held by an older hash.
    """
    return len(held) == len(new) and held[:-1] != new[:-1]
