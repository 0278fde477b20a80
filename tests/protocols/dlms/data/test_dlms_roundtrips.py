"""Association APDUs, Initiates and error APDUs survive the round trip; cut short or with a tail they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.services import ConfirmedServiceError, ExceptionResponse, decode_apdu, encode_apdu
from protocols.errors import MeterProtocolError

OCTET = st.integers(0, 255)
TITLES = st.just(b"") | st.binary(min_size=8, max_size=8)
INFORMATION = st.binary(min_size=1, max_size=300)
CONFORMANCE = st.integers(0, 0xFFFFFF)
PDU = st.integers(0, 0xFFFF)

AARQS = st.builds(
    acse.Aarq,
    context=st.sampled_from([acse.CONTEXT_PLAIN, acse.CONTEXT_CIPHERED]),
    system_title=TITLES,
    mechanism=st.none() | st.integers(0, 6),
    secret=st.none() | st.binary(max_size=64),
    user_information=INFORMATION,
)
AARES = st.builds(
    acse.Aare,
    context=st.sampled_from([acse.CONTEXT_PLAIN, acse.CONTEXT_CIPHERED]),
    result=st.just(acse.ACCEPTED),
    source=st.sampled_from([1, 2]),
    diagnostic=st.integers(0, 14),
    system_title=TITLES,
    mechanism=st.none() | st.integers(0, 6),
    challenge=st.none() | st.binary(min_size=8, max_size=64),
    user_information=INFORMATION,
)
RELEASES = st.builds(
    acse.Release, response=st.booleans(), reason=OCTET, user_information=st.binary(max_size=100)
)
REQUESTS = st.builds(
    acse.InitiateRequest,
    conformance=CONFORMANCE,
    max_pdu=PDU,
    dedicated_key=st.none() | st.binary(min_size=16, max_size=16),
)
RESPONSES = st.builds(acse.InitiateResponse, conformance=CONFORMANCE, max_pdu=PDU, vaa=st.integers(0, 0xFFFF))
EXCEPTIONS = st.builds(ExceptionResponse, state=OCTET, service=OCTET.filter(lambda n: n != 6)) | st.builds(
    ExceptionResponse, state=OCTET, service=st.just(6), counter=st.integers(0, 0xFFFFFFFF)
)
ERRORS = st.builds(ConfirmedServiceError, service=OCTET, error=OCTET, value=OCTET)

Codec = tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any]]
CODECS: dict[str, Codec] = {
    "AARQ": (AARQS, acse.encode_aarq, acse.decode_aarq),
    "AARE": (AARES, acse.encode_aare, acse.decode_aare),
    "release": (RELEASES, acse.encode_release, acse.decode_release),
    "initiate-request": (REQUESTS, acse.encode_initiate_request, acse.decode_initiate_request),
    "initiate-response": (RESPONSES, acse.encode_initiate_response, acse.decode_initiate_response),
    "exception-response": (EXCEPTIONS, encode_apdu, decode_apdu),
    "confirmed-service-error": (ERRORS, encode_apdu, decode_apdu),
}


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=80)
@given(data=st.data())
def test_what_is_written_is_read_and_nothing_else(name: str, data: st.DataObject) -> None:
    strategy, encode, decode = CODECS[name]
    message = data.draw(strategy)
    octets = encode(message)
    assert decode(octets) == message
    assert encode(decode(octets)) == octets
    with pytest.raises(MeterProtocolError):
        decode(octets + b"\0")
    # the counter of an exception-response may be missing, as some meters leave it out
    shortest = (
        len(octets) - 4 if isinstance(message, ExceptionResponse) and message.counter is not None else -1
    )
    for end in range(len(octets)):
        if end != shortest:
            with pytest.raises(MeterProtocolError):
                decode(octets[:end])
