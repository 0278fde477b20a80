"""What is sealed opens for its recipients alone, whole and in its place; whatever else comes is a ContractError."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.key_text import given_keys, key_text
from gateway.contract.sealing import (
    MAX_RECIPIENTS,
    digest,
    key_name,
    new_sealing_pair,
    open_sealed,
    public_of,
    public_text,
    recipients,
    seal,
)
from gateway.errors import ConfigError, ContractError

ESCROW, ESCROW_PUBLIC = new_sealing_pair()
STORE, STORE_PUBLIC = new_sealing_pair()
OTHER, OTHER_PUBLIC = new_sealing_pair()
SEALED = seal(b"the keys", to=[ESCROW_PUBLIC, STORE_PUBLIC], context="keys/GEN:1/a")


@given(st.binary(max_size=500), st.text(max_size=50))
def test_each_recipient_opens_what_was_sealed(plain: bytes, context: str) -> None:
    sealed = seal(plain, to=[ESCROW_PUBLIC, public_text(STORE_PUBLIC).encode()], context=context)
    for private in (ESCROW, STORE):
        assert open_sealed(sealed, private=private, context=context) == plain
    assert recipients(sealed) == {key_name(ESCROW_PUBLIC), key_name(STORE_PUBLIC)}
    with pytest.raises(ContractError, match="sealed to"):
        open_sealed(sealed, private=OTHER, context=context)


def test_it_is_never_sealed_the_same_way_twice() -> None:
    assert digest(SEALED) != digest(
        seal(b"the keys", to=[ESCROW_PUBLIC, STORE_PUBLIC], context="keys/GEN:1/a")
    )


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_an_altered_octet_opens_for_nobody(place: int, flip: int) -> None:
    altered = SEALED[:place] + bytes((SEALED[place] ^ flip,)) + SEALED[place + 1 :]
    with pytest.raises(ContractError):
        open_sealed(altered, private=ESCROW, context="keys/GEN:1/a")


def test_a_text_of_one_meter_passes_for_no_other() -> None:
    with pytest.raises(ContractError, match="altered, or belongs to another"):
        open_sealed(SEALED, private=ESCROW, context="keys/GEN:2/a")


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: SEALED[:5] + rest)))
def test_no_octets_raise_anything_but_contract_errors(octets: bytes) -> None:
    for read in (key_text, lambda o: open_sealed(o, private=ESCROW, context="")):
        with pytest.raises(ContractError):
            read(octets)
    with suppress(ContractError):  # `{}` gives no keys, and is a document
        given_keys(octets)


def test_a_private_key_under_a_passphrase() -> None:
    private, public = new_sealing_pair(b"words")
    assert public_of(private, b"words") == public
    for wrong in (None, b"other"):
        with pytest.raises(ConfigError, match="passphrase"):
            public_of(private, wrong)


def test_what_is_no_key_is_said() -> None:
    for wrong in (b"", b"x" * 31, ESCROW, b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----"):
        with pytest.raises(ConfigError):
            seal(b"", to=[wrong], context="")
    for many in ([], [ESCROW_PUBLIC] * (MAX_RECIPIENTS + 1)):
        with pytest.raises(ConfigError, match="1 to"):
            seal(b"", to=many, context="")
    with pytest.raises(ContractError):
        open_sealed(seal(b"", to=[b"\0" * 31 + b"\1"], context=""), private=ESCROW, context="")


def test_no_key_shows_in_a_mistake() -> None:
    hidden = "00112233445566778899aabbccddeeff"
    for octets in (
        f'{{"meter":"GEN:1","key_id":"x","keys":[{{"slot":"48/wrong","state":"new","octets":"{hidden}"}}]}}',
        f'{{"held":{{"GEN:1":[{{"slot":"48/secret","state":"old","octets":"{hidden}zz"}}]}}}}',
    ):
        for read in (key_text, given_keys):
            with suppress(ContractError):
                read(octets.encode())
                continue
            with pytest.raises(ContractError) as caught:
                read(octets.encode())
            assert hidden not in repr(caught.value)
