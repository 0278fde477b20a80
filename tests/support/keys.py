"""The directory's key pair of the tests: the same in every process."""

from __future__ import annotations

from gateway.contract.signing import new_key_pair, verify_key_of

PRIVATE = bytes(range(32))
PUBLIC = verify_key_of(PRIVATE)
OTHER_PRIVATE, _ = new_key_pair()
"""Somebody else's."""
