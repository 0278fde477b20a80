"""Suites 1 and 2: published vectors of signatures, key agreement and key derivation, and what must be refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.security import curves, hls
from protocols.dlms.security.curves import CURVES, P256, P384
from protocols.dlms.security.hls import Credentials, Party
from protocols.dlms.security.key_wrap import unwrap_key, wrap_key
from protocols.dlms.security.suites import Keys, protect, unprotect
from protocols.errors import MeterConfigError, SecurityFailure
from protocols.session import Auth
from tests.support.dlms.bench import SIGNERS, suite_keys

# Green Book, annex C and the examples of general-ciphering; P-384 from the Suite B implementer's guide to FIPS 186-3
CLIENT, METER = bytes.fromhex("4D4D4D0000BC614E"), bytes.fromhex("4D4D4D0000000001")
SIGNER = bytes.fromhex(
    "BAAFFDE06A8CB1C9DAE8D94023C601DBBB249254BA22EDD827E820BCA2BCC643"
    "62FBB83D86A82B87BB8B7161D2AAB5521911A946B97A284A90F7785CD9047D25"
)
SIGNED = bytes.fromhex(
    "002914D60E10AB705F62ED6CC349D7CB99B9AB3F3978E59278C7AF595B3AF98794"
    "1372DAB6D5AF1FA867E134167E6F23DE664A6693E05F43414611058D1B48F894"
)
SIGNATURE = bytes.fromhex(
    "06F0607702AA0E2435A183E2F6B1ECD19629712E389A213610C03F77B2590860"
    "EA840AF5C3FA1F2BCDF055D4744E9A01CE9A0E55026BCAA4EEBEB764CED64BB3"
)
SIGNER_384 = bytes.fromhex(
    "1fbac8eebd0cbf35640b39efe0808dd774debff20a2a329e91713baf7d7f3c3e81546d883730bee7e48678f857b02ca0"
    "eb213103bd68ce343365a8a4c3d4555fa385f5330203bdd76ffad1f3affb95751c132007e1b240353cb0a4cf1693bdf9"
)
SIGNATURE_384 = bytes.fromhex(
    "a0c27ec893092dea1e1bd2ccfed3cf945c8134ed0c9f81311a0f4a05942db8dbed8dd59f267471d5462aa14fe72de856"
    "20ab3f45b74f10b6e11f96a2c8eb694d206b9dda86d3c7e331c26b22c987b7537726577667adadf168ebbe803794a402"
)
TEXT_384 = b"This is only a test message. It is 48 bytes long"
EPHEMERAL = bytes.fromhex(
    "C323C2BD45711DE4688637D919F92E9DB8FB2DFC213A88D21C9DC8DCBA917D81"
    "70511DE1BADB360D50058F794B0960AE11FA28D392CFF907A62D13E3357B1DC0"
)
METER_STATIC = bytes.fromhex("AAD3FD0732E991CF52A74C66C1F2827DDC53522A2E0A169D7C4FFCC0FB5D6A4D")
CLIENT_STATIC = bytes.fromhex("A51C16FF5C498FCC89323D4A9267CD71BF81FD6F6A891CD240DA7F3D6F283E65")
METER_EPHEMERAL = bytes.fromhex(
    "6439724714B47CD9CB988897D8424AB946DCD083D37A954637616011B9C23787"
    "73295F0F850D8DAFD1BBE9FE666E53E4F097CD10B38B69622152724A90987444"
)
OLD_NAME = bytes.fromhex("60857406080300")
"""AES-GCM-128 as the eighth edition prints it, with 06 for DLMS UA."""


@pytest.mark.parametrize(
    ("suite", "signer", "text", "signature"),
    [(P256, SIGNER, SIGNED, SIGNATURE), (P384, SIGNER_384, TEXT_384, SIGNATURE_384)],
)
def test_published_signatures_are_verified(
    suite: curves.CurveOfSuite, signer: bytes, text: bytes, signature: bytes
) -> None:
    key = curves.public_key(signer, suite)
    curves.verify(key, text, signature)
    for wrong in (signature[:-2] + b"\0" + signature[-1:], bytes(len(signature)), signature[:-1]):
        with pytest.raises(SecurityFailure):
            curves.verify(key, text, wrong)
    with pytest.raises(SecurityFailure, match="a signature is wrong"):
        curves.verify(key, text + b"\0", signature)


@pytest.mark.parametrize(
    ("own", "peer", "originator", "recipient", "key"),
    [
        (METER_STATIC, EPHEMERAL, CLIENT, METER, "8CD08FF02EAC71712DE8449DC8331833"),
        (CLIENT_STATIC, METER_EPHEMERAL, METER, CLIENT, "E357F06755CBF5C2C31457FE3CD1D5B8"),
    ],
)
def test_published_keys_are_agreed(
    own: bytes, peer: bytes, originator: bytes, recipient: bytes, key: str
) -> None:
    agreed = curves.agree(
        curves.private_key(own, "own"),
        curves.public_key(peer, P256),
        algorithm=OLD_NAME,
        originator=originator,
        recipient=recipient,
    )
    assert agreed == bytes.fromhex(key)


def test_a_key_that_is_no_point_is_refused() -> None:
    for octets in (bytes(64), EPHEMERAL[:-1] + b"\0", EPHEMERAL[:-1]):
        with pytest.raises(SecurityFailure):
            curves.public_key(octets, P256)
    with pytest.raises(SecurityFailure, match="two curves"):
        curves.agree(
            SIGNERS[1, "meter"],
            SIGNERS[2, "client"].public_key(),
            algorithm=b"",
            originator=CLIENT,
            recipient=METER,
        )


@pytest.mark.parametrize("suite", CURVES)
@settings(max_examples=25)
@given(text=st.binary(max_size=80), other=st.binary(max_size=80))
def test_what_one_signs_another_verifies_and_nothing_else(suite: int, text: bytes, other: bytes) -> None:
    key = SIGNERS[suite, "meter"]
    signature = curves.sign(key, text)
    assert len(signature) == 2 * CURVES[suite].octets
    curves.verify(key.public_key(), text, signature)
    if other != text:
        with pytest.raises(SecurityFailure):
            curves.verify(key.public_key(), other, signature)


@pytest.mark.parametrize("suite", CURVES)
def test_a_proof_of_mechanism_7_is_bound_to_both_sides_and_both_challenges(suite: int) -> None:
    client = Party(title=CLIENT, challenge=bytes(range(32)))
    meter = Party(title=METER, challenge=bytes(range(32, 64)))
    own, peer = SIGNERS[suite, "client"], SIGNERS[suite, "meter"]
    proving = Credentials(auth=Auth.HLS_ECDSA, own=own)
    checking = Credentials(auth=Auth.HLS_ECDSA, own=peer, peer=own.public_key())
    answer = hls.prove(proving, prover=client, verifier=meter)
    assert hls.check(checking, answer, prover=client, verifier=meter) == 0
    others = (
        (client, Party(title=METER, challenge=bytes(32))),
        (Party(title=METER, challenge=client.challenge), meter),
        (Party(title=CLIENT, challenge=bytes(32)), meter),
        (meter, client),
    )
    for prover, verifier in others:
        with pytest.raises(SecurityFailure):
            hls.check(checking, answer, prover=prover, verifier=verifier)
    with pytest.raises(MeterConfigError, match="signing_key_ref"):
        hls.prove(Credentials(auth=Auth.HLS_ECDSA), prover=client, verifier=meter)
    with pytest.raises(MeterConfigError, match="meter_signing_ref"):
        hls.check(proving, answer, prover=client, verifier=meter)


@pytest.mark.parametrize("suite", [0, 1, 2])
@pytest.mark.parametrize("control", [0x10, 0x20, 0x30])
def test_a_suite_is_in_the_control_and_in_the_tag(suite: int, control: int) -> None:
    keys = suite_keys(suite)
    body = protect(keys, CLIENT, 5, b"\xc0text", control=control)
    assert body[0] == control | suite
    assert unprotect(keys, CLIENT, body, required=control).plain == b"\xc0text"
    other = suite_keys((suite + 1) % 3)
    with pytest.raises(SecurityFailure, match=f"suite {suite} where {other.suite} is set"):
        unprotect(other, CLIENT, body, required=control)


def test_suite_2_is_aes_256() -> None:
    """The same text by `cryptography` alone, with keys of 32 octets."""
    keys = suite_keys(2)
    body = protect(keys, CLIENT, 7, b"\xc0text")
    sealed = Cipher(algorithms.AES(keys.encryption), modes.GCM(CLIENT + bytes((0, 0, 0, 7)), body[-12:], 12))
    opener = sealed.decryptor()
    opener.authenticate_additional_data(b"\x32" + keys.authentication)
    assert opener.update(body[5:-12]) + opener.finalize() == b"\xc0text"


@pytest.mark.parametrize("suite", [0, 1, 2])
def test_keys_are_as_long_as_the_suite_has_them(suite: int) -> None:
    wrong = bytes(16 if suite == 2 else 32)
    with pytest.raises(MeterConfigError, match=f"suite {suite} needs"):
        Keys(encryption=wrong, authentication=wrong, suite=suite)


def test_keys_of_suite_2_are_wrapped() -> None:
    """RFC 3394 4.6: 256 bits of key data with a 256-bit key."""
    master, key = (
        bytes(range(32)),
        bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"),
    )
    wrapped = "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
    assert wrap_key(master, key) == bytes.fromhex(wrapped)
    assert unwrap_key(master, bytes.fromhex(wrapped)) == key
    with pytest.raises(MeterConfigError, match="32 are needed"):
        wrap_key(master, key[:16])


@pytest.mark.parametrize(
    "octets", [b"", b"-----BEGIN PRIVATE KEY-----\nx", bytes(32), b"\xff" * 32, b"\x30\x01\x00"]
)
def test_what_is_no_private_key_is_refused_without_showing_it(octets: bytes) -> None:
    with pytest.raises(MeterConfigError, match="signing is no private key") as caught:
        curves.private_key(octets, "signing")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
