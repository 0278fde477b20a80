"""Key pairs of the tests: the directory's, the same in every process, and those that keys of meters are sealed to."""

from __future__ import annotations

from gateway.contract.signing import new_key_pair, verify_key_of

PRIVATE = bytes(range(32))
PUBLIC = verify_key_of(PRIVATE)
OTHER_PRIVATE, _ = new_key_pair()
"""Somebody else's."""
