"""What an attacker on the line tries: downgrades, reflections, counters of his own making, buffers without an end."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from protocols.dlms.apdu import acse, gbt
from protocols.dlms.apdu.acse import Aare, Aarq, InitiateRequest, Release
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import (
    ActionRequest,
    ExceptionResponse,
    GetRequest,
    decode_apdu,
    encode_apdu,
)
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.outcomes import Released, ValueRead
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.types import octets
from protocols.dlms.framing import hdlc, wrapper
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder, Parameters
from protocols.dlms.framing.hdlc_channel import MAX_QUEUED
from protocols.dlms.framing.link import ApduReceived
from protocols.dlms.framing.wrapper import WrapperApdu
from protocols.dlms.security import ciphering, hls, suites
from protocols.dlms.security.ciphered_forms import AUTHENTICATED, Form, is_ciphered
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import SendCounter, ServerConnection, ServerSettings
from protocols.dlms.server.links import HdlcBus, ServedMeter
from protocols.dlms.server.model import AssociationPolicy
from protocols.errors import LocalError, MeterProtocolError, ProtocolError, SecurityFailure
from protocols.session import Auth, Protection, ReleaseMode
from tests.support.dlms.bench import (
    AK,
    EK,
    HLS_KEY,
    KEYS,
    PASSWORD,
    POLICIES,
    TITLE,
    Joined,
    SmallMeter,
    o,
)

OWN_CHALLENGE = bytes(range(100, 116))
PLAIN_HLS2 = AssociationSettings(auth=Auth.HLS2, secret=HLS_KEY)


def joined_with(
    settings: AssociationSettings, *, random: Callable[[int], bytes] = lambda n: OWN_CHALLENGE[:n]
) -> Joined:
    policy = AssociationPolicy(
        auth=settings.auth,
        ciphered=settings.ciphered,
        protection=settings.protection,
        secret=settings.secret,
        encryption_key=EK,
        authentication_key=AK,
        may_write=True,
    )
    talk = Joined(SmallMeter({48: policy}), settings)
    talk.client._random = random
    return talk


def changed_aare(change: Callable[[Aare], Aare]) -> Callable[[bytes], bytes]:
    def tamper(answer: bytes) -> bytes:
        if answer[8:9] != b"\x61":
            return answer
        return wrapper.encode(1, 48, acse.encode_aare(change(acse.decode_aare(answer[8:]))))

    return tamper


# ---- proofs


@pytest.mark.parametrize("more", [bytes(range(16)), OWN_CHALLENGE, bytes(range(32))])
@pytest.mark.parametrize("before", [True, False])
def test_a_challenge_that_hides_ours_among_its_blocks_gets_no_answer(more: bytes, before: bool) -> None:
    """HLS 2 ciphers block by block: an answer to ours inside another challenge would be the meter's proof."""
    talk = joined_with(PLAIN_HLS2)
    hidden = OWN_CHALLENGE + more if before else more + OWN_CHALLENGE
    talk.tamper = changed_aare(lambda aare: replace(aare, challenge=hidden))
    with pytest.raises(SecurityFailure, match="our own challenge"):
        talk.associate()
    assert len(talk.to_server) == 1  # the AARQ; no answer that could be sent back


def test_a_challenge_that_padding_makes_ours_gets_no_answer() -> None:
    own = bytes(range(1, 14)) + bytes(3)
    talk = joined_with(PLAIN_HLS2, random=lambda n: own[:n])
    talk.tamper = changed_aare(lambda aare: replace(aare, challenge=own[:13]))
    with pytest.raises(SecurityFailure, match="our own challenge"):
        talk.associate()


@pytest.mark.parametrize("name", ["hls2", "gmac", "gmac-plain"])
def test_an_aare_without_a_challenge_does_not_skip_the_proof(name: str) -> None:
    talk = Joined(SmallMeter({48: POLICIES[name][0]}), POLICIES[name][1])
    skipping: dict[str, Any] = {"challenge": None, "mechanism": None, "diagnostic": acse.DIAGNOSTIC_NONE}
    talk.tamper = changed_aare(lambda aare: replace(aare, **skipping))
    with pytest.raises(SecurityFailure, match="no challenge"):
        talk.associate()


@pytest.mark.parametrize("mechanism", [0, 1, 2, 3])
def test_a_mechanism_swapped_in_the_aare_changes_nothing(mechanism: int) -> None:
    talk = Joined(SmallMeter({48: POLICIES["gmac"][0]}), POLICIES["gmac"][1])
    talk.tamper = changed_aare(lambda aare: replace(aare, mechanism=mechanism))
    talk.associate()
    proof = talk.to_server[-1][8:]
    plain = ciphering.unprotect_apdu(KEYS, POLICIES["gmac"][1].system_title, proof).plain
    request = decode_apdu(plain)
    assert isinstance(request, ActionRequest)
    assert request.parameter is not None
    assert len(request.parameter.octets or b"") == 17  # as HLS-GMAC answers, whatever the AARE says


@pytest.mark.parametrize("context", [acse.CONTEXT_PLAIN, acse.CONTEXT_CIPHERED])
def test_a_plain_initiate_in_the_aare_is_no_way_out_of_ciphering(context: int) -> None:
    talk = Joined(SmallMeter({48: POLICIES["gmac"][0]}), POLICIES["gmac"][1])
    plain = acse.encode_initiate_response(acse.InitiateResponse(conformance=0, max_pdu=100))
    talk.tamper = changed_aare(lambda aare: replace(aare, context=context, user_information=plain))
    with pytest.raises(SecurityFailure, match="not ciphered"):
        talk.associate()


@pytest.mark.parametrize("title", [b"", b"GEN", b"G" * 7, b"G" * 200])
@pytest.mark.parametrize("name", ["gmac", "gmac-plain"])
def test_a_meter_without_a_right_title_is_a_security_failure(name: str, title: bytes) -> None:
    talk = Joined(SmallMeter({48: POLICIES[name][0]}), POLICIES[name][1])
    talk.tamper = changed_aare(lambda aare: replace(aare, system_title=title))
    with pytest.raises(SecurityFailure, match="title"):
        talk.associate()


def test_octets_protected_in_name_only_are_refused() -> None:
    bare = bytes((0xC8, 9, 0x00)) + bytes(4) + b"\xc0\x01\xc1\x00"
    for required in (0, AUTHENTICATED):
        with pytest.raises(SecurityFailure):
            ciphering.unprotect_apdu(KEYS, TITLE, bare, required=required)


# ---- keys


@pytest.mark.parametrize("protection", list(Protection))
def test_a_dedicated_key_is_never_sent_in_clear(protection: Protection) -> None:
    settings = replace(POLICIES["gmac"][1], protection=protection, dedicated_key=True)
    key = bytes(range(200, 216))
    talk = joined_with(settings, random=lambda n: key if n == 16 else bytes(n))
    talk.client._random = iter_of(key, OWN_CHALLENGE)
    talk.associate()
    assert isinstance(talk.get(1, "0-0:96.1.0*255"), ValueRead)
    assert talk.to_server[-1][8] == 0xD0
    assert not any(key in sent for sent in talk.to_server)


def iter_of(*given: bytes) -> Callable[[int], bytes]:
    left = iter(given)
    return lambda n: next(left)[:n]


def test_nothing_that_holds_a_secret_shows_it() -> None:
    secret = b"SECRETSECRETSECR"
    initiate = acse.encode_initiate_request(InitiateRequest(dedicated_key=secret))
    aarq = acse.encode_aarq(Aarq(mechanism=1, secret=secret, user_information=initiate))
    ends: dict[str, Any] = {"destination": Address(16), "source": Address(1)}
    shown = repr(
        [
            AssociationSettings(auth=Auth.LLS, secret=secret),
            Keys(encryption=secret, authentication=secret),
            acse.decode_aarq(aarq),
            acse.decode_initiate_request(initiate),
            Release(user_information=initiate),
            WrapperApdu(source=1, destination=1, apdu=aarq),
            ApduReceived(aarq),
            Frame(**ends, control=0x10, info=aarq),
            gbt.GeneralBlock(number=1, acknowledged=0, data=aarq),
            ActionRequest(target=Target(64, o("0-0:43.0.0"), 2), parameter=octets(secret)),
            hls.Credentials(auth=Auth.HLS2, secret=secret),
            suites.Opened(plain=initiate, counter=1, control=0x30),
        ]
    )
    assert "SECRET" not in shown
    assert secret.hex() not in shown.lower()


@pytest.mark.parametrize("name", ["lls", "hls2", "gmac"])
def test_no_error_and_no_traceback_shows_a_secret(name: str) -> None:
    policy, settings = POLICIES[name]
    wrong = replace(policy, secret=b"0000000000000000", encryption_key=AK, authentication_key=EK)
    try:
        Joined(SmallMeter({48: wrong}), settings).associate()
    except ProtocolError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error)
    for secret in (PASSWORD, HLS_KEY, EK, AK):
        assert secret.hex() not in shown.lower()
        assert repr(secret)[2:-1] not in shown


# ---- our counters


def test_every_ciphered_apdu_takes_a_fresh_counter() -> None:
    """AARQ, proof, requests, their blocks, both ways of repeating, and the protected release."""
    settings = replace(POLICIES["gmac"][1], release=ReleaseMode.PROTECTED, dedicated_key=True)
    policy = POLICIES["gmac"][0]
    talk = Joined(SmallMeter({48: policy}), settings, limits=ServerSettings(max_pdu=200))
    talk.associate()
    for _ in range(2):
        talk.get(1, "0-0:96.1.0*255")
    talk.client.request(ActionRequest(target=Target(9, o("0-0:10.0.99"), 1), parameter=octets(bytes(500))))
    talk.run()
    talk.run(talk.client.release())
    used = [counter for sent in talk.to_server for counter in counters_in(sent[8:])]
    assert len(used) == len(set(used)) >= 7
    assert used == sorted(used)
    assert max(used) == talk.counter.last


def counters_in(sent: bytes) -> list[int]:
    if sent[0] == 0x60:
        sent = acse.decode_aarq(sent).user_information
    elif sent[0] == 0x62:
        sent = acse.decode_release(sent).user_information
    assert is_ciphered(sent)
    cursor = Cursor(sent)
    cursor.u8()
    body = cursor.take(cursor.length())
    return [int.from_bytes(body[1:5], "big")]


def test_a_served_meter_whose_counter_is_used_up_says_so_and_stays() -> None:
    policy, settings = POLICIES["lls-ciphered"]
    meter = SmallMeter({48: policy})
    talk = Joined(meter, settings)
    talk.associate()
    request = encode_apdu(GetRequest(target=Target(1, o("0-0:96.1.0"), 2)))
    server = ServerConnection(meter, 48, ServerSettings(), SendCounter(suites.MAX_COUNTER - 1))
    counter = iter(range(100, 200))
    title = settings.system_title
    initiate = ciphering.protect_apdu(
        KEYS, title, next(counter), acse.encode_initiate_request(InitiateRequest())
    )
    aarq = Aarq(
        context=acse.CONTEXT_CIPHERED,
        system_title=title,
        mechanism=1,
        secret=PASSWORD,
        user_information=initiate,
    )
    assert server.handle(acse.encode_aarq(aarq))[0][0] == 0x61
    (answer,) = server.handle(ciphering.protect_apdu(KEYS, title, next(counter), request))
    assert answer[0] == 0xD8


# ---- release (Green Book 9.4.2: a ciphered Initiate may be inside; it is checked when it is)


def released(talk: Joined, information: bytes) -> bytes:
    sent = acse.encode_release(Release(user_information=information))
    answer = talk.server.receive_data(wrapper.encode(48, 1, sent))
    assert isinstance(answer, bytes)
    return answer[8:]


@pytest.mark.parametrize("name", ["gmac", "none"])
def test_a_plain_release_is_answered_as_meters_do(name: str) -> None:
    talk = Joined(SmallMeter({48: POLICIES[name][0]}), POLICIES[name][1])
    talk.associate()
    assert acse.decode_release(released(talk, b"")).response
    assert decode_apdu(released_get(talk)) == ExceptionResponse(state=1, service=1)


def released_get(talk: Joined) -> bytes:
    request = GetRequest(target=Target(1, o("0-0:96.1.0"), 2))
    answer = talk.server.receive_data(wrapper.encode(48, 1, encode_apdu(request)))
    assert isinstance(answer, bytes)
    return answer[8:]


def test_a_protected_release_is_checked_and_answered_in_kind() -> None:
    policy, settings = POLICIES["gmac"]
    talk = Joined(SmallMeter({48: policy}), replace(settings, release=ReleaseMode.PROTECTED))
    talk.associate()
    assert talk.run(talk.client.release()) == [Released()]
    answer = acse.decode_release(talk.to_client[-1][8:])
    opened = ciphering.unprotect_apdu(KEYS, TITLE, answer.user_information)
    assert opened.plain[0] == 0x08


@pytest.mark.parametrize("what", ["key", "replayed", "cut"])
def test_a_protected_release_that_fails_its_check_releases_nothing(what: str) -> None:
    policy, settings = POLICIES["gmac"]
    talk = Joined(SmallMeter({48: policy}), settings)
    talk.associate()
    initiate = acse.encode_initiate_request(InitiateRequest())
    keys = Keys(encryption=AK, authentication=AK) if what == "key" else KEYS
    counter = 1 if what == "replayed" else 1000
    inside = ciphering.protect_apdu(keys, settings.system_title, counter, initiate)
    answer = released(talk, inside[:-3] if what == "cut" else inside)
    assert answer[0] == 0xD8
    assert isinstance(talk.get(1, "0-0:96.1.0*255"), ValueRead)  # the association stands


def test_a_release_response_that_fails_its_tag_is_named() -> None:
    policy, settings = POLICIES["gmac"]
    talk = Joined(SmallMeter({48: policy}), replace(settings, release=ReleaseMode.PROTECTED))
    talk.associate()
    talk.tamper = lambda answer: answer[:-1] + bytes((answer[-1] ^ 1,))
    with pytest.raises(SecurityFailure, match="tag"):
        talk.run(talk.client.release())


def test_a_release_request_does_not_answer_ours() -> None:
    talk = Joined(SmallMeter({48: POLICIES["none"][0]}), POLICIES["none"][1])
    talk.associate()
    talk.tamper = lambda _: wrapper.encode(1, 48, acse.encode_release(Release()))
    with pytest.raises(MeterProtocolError, match="release"):
        talk.run(talk.client.release())


# ---- replay and confusion


def test_an_answer_of_an_earlier_association_is_refused_where_both_sides_prove_themselves() -> None:
    policy, settings = POLICIES["gmac"]
    meter = SmallMeter({48: policy})
    first = Joined(meter, settings)
    first.associate()
    second = Joined(meter, settings, counter=first.counter)
    answers = iter(first.to_client)
    second.tamper = lambda _: next(answers)
    with pytest.raises(SecurityFailure):
        second.associate()


@pytest.mark.parametrize("form", [Form.DED, Form.GENERAL_DED])
def test_a_dedicated_answer_is_refused_where_no_dedicated_key_was_agreed(form: Form) -> None:
    talk = Joined(SmallMeter({48: POLICIES["gmac"][0]}), POLICIES["gmac"][1])
    talk.associate()
    inside = ciphering.protect_apdu(KEYS, TITLE, 5000, b"\xc4\x01\xc1\x00\x11\x05", form=Form.GLO)
    tag = b"\xd4" if form is Form.DED else b"\xdc\x08" + TITLE
    talk.tamper = lambda _: wrapper.encode(1, 48, tag + inside[1:])
    with pytest.raises(SecurityFailure, match="none was agreed"):
        talk.get(1, "0-0:96.1.0*255")


def test_general_ciphering_with_another_title_is_refused() -> None:
    talk = Joined(SmallMeter({48: POLICIES["gmac"][0]}), POLICIES["gmac"][1])
    talk.associate()
    other = ciphering.protect_apdu(
        KEYS, b"GEN\x00\x00\x00\x00\x08", 5000, b"\xc4\x01\xc1\x00\x11\x05", form=Form.GENERAL_GLO
    )
    talk.tamper = lambda _: wrapper.encode(1, 48, other)
    with pytest.raises(SecurityFailure, match="is expected"):
        talk.get(1, "0-0:96.1.0*255")


# ---- buffers


def test_requests_whose_answers_are_never_acknowledged_meet_a_bound() -> None:
    meter = SmallMeter({48: POLICIES["none"][0]})
    meter.attributes["0-0:96.13.0*255", 2] = octets(bytes(60_000))
    bus = HdlcBus({17: ServedMeter(model=meter)}, ServerSettings(max_pdu=0xFFFF))
    ends: dict[str, Any] = {"destination": Address(1, 17, 2), "source": Address(48, None, 1)}
    snrm = Frame(**ends, control=hdlc.SNRM | hdlc.POLL, info=Parameters(window_transmit=7).encode())
    bus.receive_data(snrm.encode())
    aarq = Aarq(user_information=acse.encode_initiate_request(InitiateRequest()))
    get = encode_apdu(GetRequest(target=Target(1, o("0-0:96.13.0"), 2)))
    sent = [acse.encode_aarq(aarq), *[get] * 12]
    kinds: list[int] = []
    for number, request in enumerate(sent):
        frame = Frame(**ends, control=number % 8 << 1 | hdlc.POLL, info=hdlc.LLC_REQUEST + request)
        answers = FrameDecoder().receive_data(bus.receive_data(frame.encode()))
        kinds += [one.kind for one in answers if isinstance(one, Frame)][-1:]
        waiting = [station.channel.waiting for station in bus._stations.values()]
        assert max(waiting, default=0) <= MAX_QUEUED + 0x10100
    assert hdlc.FRMR in kinds
    assert kinds[-1] == hdlc.DM  # the connection is over


@pytest.mark.parametrize("size", [16, 20])
def test_a_long_general_block_transfer_takes_time_by_its_length_only(size: int) -> None:
    transfer = gbt.BlockTransfer(size=size, window=63)
    count = 0xFFFF
    sent = transfer.send(bytes(size * count))
    taken = 0
    while taken < count:
        taken += len(sent)
        sent = transfer.take(gbt.GeneralBlock(number=1, acknowledged=taken, window=63)).send
    assert taken == count
    with pytest.raises(LocalError, match="more blocks than can be numbered"):
        gbt.BlockTransfer(size=size).send(bytes(size * (count + 1)))
