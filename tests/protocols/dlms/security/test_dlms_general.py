"""General-ciphering and general-signing: a published APDU; nothing in one can be changed, replayed or misread."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import GetRequest
from protocols.dlms.core.outcomes import ValueRead
from protocols.dlms.data.types import octets
from protocols.dlms.framing import wrapper
from protocols.dlms.security import curves, general
from protocols.dlms.security.curves import OwnKeys, PeerKey, PeerKeys
from protocols.dlms.security.general import GeneralKeys
from protocols.dlms.security.general_forms import Header, IdentifiedKey
from protocols.dlms.security.suites import Keys
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import MeterConfigError, MeterError, SecurityFailure
from protocols.session import Auth, KeyInfo
from tests.support.dlms.bench import (
    AGREERS,
    GENERAL_POLICIES,
    SIGNERS,
    TITLE,
    Joined,
    SmallMeter,
    o,
    of_suite,
    suite_keys,
)

CLIENT = b"MGW\x00\x00\x00\x00\x01"
PUBLISHED = bytes.fromhex(
    "DD080102030405060708084D4D4D0000BC614E084D4D4D00000000010000010201018180"
    "C323C2BD45711DE4688637D919F92E9DB8FB2DFC213A88D21C9DC8DCBA917D8170511DE1BADB360D50058F794B0960AE"
    "11FA28D392CFF907A62D13E3357B1DC0B51BE089D0B682863B2217201E73A1A9031968A9B4121DCBC3281A69739AF874"
    "29F5B3AC5471E7B6A04A2C0F2F8A25FD772A317DF97FC5463FEAC248EB8AB8BE81EB3100000000F435069679270C5BF4"
    "425EE5777402A6C8D51C620EED52DBB188378B836E2857D5C053E6DDF27FA87409AEF502CD9618AE47017C010224FD10"
    "9CC0BEB21E742D44AB40CD11908743EC90EC8C40E221D517F72228E1A26E827F43DC18ED27B5F458D66508B05A2A4CC6"
    "FED178C881AFC3BC67064689BE8BB41C80ABB3C114A31F4CB03B8B64C7E0B4CE77B2399C93347858888F92239713B38D"
    "F01C4858245827A92EF334172EA636B31CBBDF2A96AD5D035F66AA38F1A2D97D4BBA99622E6B5F18789CECB2DFB3937D"
    "9F3E17F8B472098E6563238F37528374809836002AEA6E7012D2ADFAA7"
)
"""The Green Book's ACCESS request, its key agreed by the one-pass scheme, under suite 1."""
TAG = 12


def _book() -> GeneralKeys:
    signer = curves.public_key(
        bytes.fromhex(
            "BAAFFDE06A8CB1C9DAE8D94023C601DBBB249254BA22EDD827E820BCA2BCC643"
            "62FBB83D86A82B87BB8B7161D2AAB5521911A946B97A284A90F7785CD9047D25"
        ),
        curves.P256,
    )
    own = bytes.fromhex("AAD3FD0732E991CF52A74C66C1F2827DDC53522A2E0A169D7C4FFCC0FB5D6A4D")
    return GeneralKeys(
        keys=suite_keys(1),
        own=OwnKeys(agreement=curves.private_key(own, "meter")),
        peer=PeerKeys(signing=PeerKey(signer)),
    )


def test_the_published_apdu_is_deciphered() -> None:
    """Its tag does not follow from the authentication key that the book names, so the text alone is compared."""
    opened = general.open_general(
        _book(),
        PUBLISHED[:-TAG].replace(bytes.fromhex("81EB31"), bytes.fromhex("81DF21")),
        originator=bytes.fromhex("4D4D4D0000BC614E"),
        recipient=bytes.fromhex("4D4D4D0000000001"),
        required=0x20,
    )
    assert opened.kind is KeyInfo.AGREED
    assert opened.plain.hex().startswith("d94000000000040100010000600100ff020100080000010000ff02")


def test_the_trace_shows_how_the_key_came() -> None:
    said = "\n".join(decode_trace(PUBLISHED).lines())
    assert "key: 2 (agreed)" in said
    assert "not deciphered: its key is wrapped or agreed" in said


def test_the_ephemeral_key_of_the_published_apdu_is_its_signers() -> None:
    other = replace(_book(), peer=PeerKeys(signing=PeerKey(SIGNERS[1, "meter"].public_key())))
    for known, words in ((other, "a signature is wrong"), (replace(_book(), peer=PeerKeys()), "nobody here")):
        with pytest.raises(SecurityFailure, match=words):
            general.open_general(
                known,
                PUBLISHED,
                originator=bytes.fromhex("4D4D4D0000BC614E"),
                recipient=bytes.fromhex("4D4D4D0000000001"),
                required=0x30,
            )


def _side(suite: int, own: str, peer: str) -> GeneralKeys:
    return GeneralKeys(
        keys=suite_keys(suite),
        master=suite_keys(suite).encryption,
        own=OwnKeys(signing=SIGNERS[suite, own], agreement=AGREERS[suite, own]),
        peer=PeerKeys(
            signing=PeerKey(SIGNERS[suite, peer].public_key()),
            agreement=PeerKey(AGREERS[suite, peer].public_key()),
        ),
    )


@pytest.mark.parametrize("suite", [1, 2])
@pytest.mark.parametrize("kind", list(KeyInfo))
@settings(max_examples=20)
@given(data=st.data(), plain=st.binary(min_size=1, max_size=60), transaction=st.binary(max_size=20))
def test_what_one_protects_the_other_opens_and_a_changed_bit_is_noticed(
    suite: int, kind: KeyInfo, data: st.DataObject, plain: bytes, transaction: bytes
) -> None:
    header = Header(transaction=transaction, originator=CLIENT, recipient=TITLE)
    apdu = general.protect_general(_side(suite, "client", "meter"), kind, header, 9, plain)
    meter = _side(suite, "meter", "client")
    opened = general.open_general(meter, apdu, originator=CLIENT, recipient=TITLE, required=0x30)
    assert (opened.plain, opened.kind, opened.header) == (plain, kind, header)
    assert opened.counter == (9 if kind is KeyInfo.IDENTIFIED else 0)
    at = data.draw(st.integers(8, 8 * len(apdu) - 1))
    changed = (int.from_bytes(apdu, "big") ^ 1 << 8 * len(apdu) - 1 - at).to_bytes(len(apdu), "big")
    try:
        opened = general.open_general(meter, changed, originator=CLIENT, recipient=TITLE, required=0x30)
    except MeterError:
        return
    assert (
        opened.plain == plain
    )  # what says how the key came may be written in several ways, and is not the text


@pytest.mark.parametrize("suite", [1, 2])
def test_a_signed_apdu_is_bound_to_both_parties_and_its_transaction(suite: int) -> None:
    header = Header(transaction=b"12345678", originator=CLIENT, recipient=TITLE)
    client, meter = _side(suite, "client", "meter"), _side(suite, "meter", "client")
    apdu = general.sign_general(client, header, b"\xc0text")
    assert general.open_signed(meter, apdu, originator=CLIENT, recipient=TITLE).content == b"\xc0text"
    for changed in (
        apdu.replace(b"12345678", b"12345679"),
        apdu.replace(b"text", b"next"),
        apdu[:-1] + b"\0",
    ):
        with pytest.raises(SecurityFailure):
            general.open_signed(meter, changed, originator=CLIENT, recipient=TITLE)
    with pytest.raises(SecurityFailure, match="protected for"):
        general.open_signed(meter, apdu, originator=CLIENT, recipient=CLIENT)
    with pytest.raises(SecurityFailure, match="the sender is"):
        general.open_signed(meter, apdu, originator=TITLE, recipient=TITLE)
    with pytest.raises(SecurityFailure, match="meter_signing_ref"):
        general.open_signed(replace(meter, peer=PeerKeys()), apdu, originator=CLIENT, recipient=TITLE)


def test_a_broadcast_key_is_named() -> None:
    header = Header(transaction=b"1", originator=CLIENT, recipient=TITLE)
    client = _side(1, "client", "meter")
    apdu = general.protect_general(client, KeyInfo.IDENTIFIED, header, 1, b"\xc0")
    with pytest.raises(SecurityFailure, match="broadcast"):
        general.open_general(
            client,
            apdu.replace(bytes((1, 0, IdentifiedKey().key_id)), b"\x01\x00\x01", 1),
            originator=CLIENT,
            recipient=TITLE,
            required=0x30,
        )


@pytest.mark.parametrize("name", GENERAL_POLICIES)
def test_an_answer_of_before_is_not_taken_again(name: str) -> None:
    """Keys of one APDU have no counter that could rise: the transaction tells."""
    policy, wanted = GENERAL_POLICIES[name]
    joined = Joined(SmallMeter({48: policy}), wanted)
    joined.associate()
    assert joined.get(1, "0-0:96.1.0*255") == ValueRead.of(octets(b"00000007"))
    old = joined.to_client[-1]
    joined.tamper = lambda _: old
    with pytest.raises(SecurityFailure, match=r"was asked: a replay|does not rise"):
        joined.get(1, "0-0:96.1.0*255")


@pytest.mark.parametrize("name", GENERAL_POLICIES)
def test_a_request_of_before_is_refused_by_the_served_meter(name: str) -> None:
    policy, wanted = GENERAL_POLICIES[name]
    joined = Joined(SmallMeter({48: policy}), wanted)
    joined.associate()
    joined.get(1, "0-0:96.1.0*255")
    answer = joined.server.receive_data(joined.to_server[-1])
    assert wrapper.WrapperDecoder().receive_data(answer)[0].apdu[0] == 0xD8


def test_a_meter_that_leaves_the_signature_out_is_refused() -> None:
    policy, wanted = of_suite(1, Auth.HLS_GMAC, key_info=KeyInfo.IDENTIFIED)
    joined = Joined(SmallMeter({48: policy}), replace(wanted, signed=True))
    joined.associate()
    joined.client._association._cipher._settings = replace(wanted, signed=False)
    joined.client.request(GetRequest(target=Target(1, o("0-0:96.1.0"), 2)))
    request = joined.client.data_to_send()
    joined.client._association._cipher._settings = replace(wanted, signed=True)
    answer = joined.server.receive_data(request)
    with pytest.raises(SecurityFailure, match="without a signature"):
        joined.client.receive_data(answer)


@pytest.mark.parametrize(
    ("kind", "signed", "words"),
    [
        (KeyInfo.WRAPPED, False, "master_key_ref"),
        (KeyInfo.AGREED, False, "agreement_key_ref"),
        (KeyInfo.AGREED_STATIC, False, "meter_agreement_ref"),
        (None, True, "signing_key_ref"),
    ],
)
def test_what_is_missing_is_named(kind: KeyInfo | None, signed: bool, words: str) -> None:
    known = GeneralKeys(keys=suite_keys(1))
    with pytest.raises(MeterConfigError, match=words):
        known.check(kind, signed=signed)
    with pytest.raises(MeterConfigError, match="suite 0"):
        _ = GeneralKeys(keys=Keys(encryption=bytes(16), authentication=bytes(16))).curve
