"""A served meter answers GET of several attributes: at once, in blocks, and each refusal by itself."""

from __future__ import annotations

import pytest

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.lists import GetListRequest, GetListResponse, Outcome, Target, decode_outcomes
from protocols.dlms.apdu.services import Apdu, GetBlock, GetNext, GetResponse, decode_apdu, encode_apdu
from protocols.dlms.data.types import octets
from protocols.dlms.server.connection import SendCounter, ServerConnection, ServerSettings
from tests.support.dlms.bench import LONG_TEXT, SmallMeter, o

SERIAL = Target(1, o("0-0:96.1.0"), 2)
UNKNOWN = Target(1, o("0-0:9.9.9"), 2)
LONG = Target(1, o("0-0:96.13.0"), 2)


@pytest.fixture
def server() -> ServerConnection:
    meter = SmallMeter()
    meter.attributes["0-0:96.13.0*255", 2] = LONG_TEXT
    connection = ServerConnection(meter, 16, ServerSettings(), SendCounter())
    initiate = acse.encode_initiate_request(acse.InitiateRequest())
    (aare,) = connection.handle(acse.encode_aarq(acse.Aarq(user_information=initiate)))
    assert acse.decode_aare(aare).result == acse.ACCEPTED
    return connection


def ask(server: ServerConnection, request: GetListRequest | GetNext) -> Apdu:
    (answer,) = server.handle(encode_apdu(request))
    return decode_apdu(answer)


def test_each_target_has_its_own_outcome(server: ServerConnection) -> None:
    answer = ask(server, GetListRequest(targets=(SERIAL, UNKNOWN)))
    assert answer == GetListResponse(outcomes=(Outcome(0, octets(b"00000007")), Outcome(4)))


def test_a_long_answer_comes_in_blocks(server: ServerConnection) -> None:
    answer = ask(server, GetListRequest(targets=(LONG, SERIAL)))
    raw = b""
    while isinstance(answer, GetBlock) and not answer.last:
        raw += answer.raw
        answer = ask(server, GetNext(block=answer.number))
    assert isinstance(answer, GetBlock)
    outcomes = decode_outcomes(raw + answer.raw)
    assert outcomes == (Outcome(0, LONG_TEXT), Outcome(0, octets(b"00000007")))


def test_a_short_request_makes_no_answer_without_a_bound(server: ServerConnection) -> None:
    assert ask(server, GetListRequest(targets=(LONG,) * 300)) == GetResponse(error=250)
