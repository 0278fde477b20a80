"""AES key wrap: the vector of RFC 3394 4.1, round trips, and wrapped keys that were changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.security.key_wrap import unwrap_key, wrap_key
from protocols.errors import MeterConfigError, SecurityFailure

MASTER = bytes(range(16))
KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
WRAPPED = bytes.fromhex("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5")
KEYS = st.binary(min_size=16, max_size=16)


def test_the_vector_of_the_rfc() -> None:
    assert wrap_key(MASTER, KEY) == WRAPPED
    assert unwrap_key(MASTER, WRAPPED) == KEY


@settings(max_examples=50)
@given(KEYS, KEYS, st.integers(0, 191))
def test_a_key_comes_back_and_a_changed_one_does_not(master: bytes, key: bytes, bit: int) -> None:
    wrapped = wrap_key(master, key)
    assert unwrap_key(master, wrapped) == key
    changed = (int.from_bytes(wrapped, "big") ^ 1 << bit).to_bytes(24, "big")
    with pytest.raises(SecurityFailure, match="does not open"):
        unwrap_key(master, changed)


@pytest.mark.parametrize("length", [0, 16, 23, 25, 1000])
def test_a_wrapped_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(SecurityFailure, match="24 octets"):
        unwrap_key(MASTER, bytes(length))


def test_keys_of_another_length_are_our_error() -> None:
    with pytest.raises(MeterConfigError, match="master"):
        wrap_key(MASTER[:-1], KEY)
    with pytest.raises(MeterConfigError, match="new"):
        wrap_key(MASTER, KEY + KEY)
