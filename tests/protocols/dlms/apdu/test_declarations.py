"""One declaration for each APDU: what is written is read again, and its tree has no fault and names each field."""

from __future__ import annotations

from typing import get_args

import pytest

from protocols.dlms.apdu import acse, gbt, notification
from protocols.dlms.apdu.access import Access, AccessKind, AccessRequest, AccessResponse
from protocols.dlms.apdu.acse import Aare, Aarq, InitiateRequest, InitiateResponse, Release
from protocols.dlms.apdu.gbt import GeneralBlock
from protocols.dlms.apdu.lists import (
    ActionBlock,
    ActionListRequest,
    ActionListResponse,
    ActionNext,
    BlockAck,
    GetListRequest,
    GetListResponse,
    Outcome,
    RequestBlock,
    SetListRequest,
    SetListResponse,
    Target,
)
from protocols.dlms.apdu.notification import DataNotification, EventNotification
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.apdu.services import (
    ActionRequest,
    ActionResponse,
    Apdu,
    ConfirmedServiceError,
    ExceptionResponse,
    GetBlock,
    GetNext,
    GetRequest,
    GetResponse,
    SetRequest,
    SetResponse,
    decode_apdu,
    encode_apdu,
)
from protocols.dlms.apdu.short_names import NextBlock, ReadBlock, ReadRequest, ReadResponse, Variable
from protocols.dlms.data.types import Data, Tag, long_unsigned, structure
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import LocalError
from protocols.reading import Obis

CLOCK = Obis(0, 0, 1, 0, 0)
TIME = Target(8, CLOCK, 2)
SEVEN = long_unsigned(7)
SAMPLES: list[Apdu] = [
    GetRequest(target=TIME),
    GetRequest(target=Target(7, CLOCK, 2, RangeSelection(CLOCK, 2, bytes(12), bytes(12)))),
    GetRequest(target=Target(7, CLOCK, 2, EntrySelection(1, 4))),
    GetNext(block=3),
    GetResponse(data=SEVEN),
    GetResponse(error=4),
    GetBlock(last=False, number=1, raw=b"\x12\x00\x07"),
    GetBlock(last=True, number=1, error=16),
    SetRequest(target=TIME, value=SEVEN),
    SetResponse(result=0),
    ActionRequest(target=TIME, parameter=SEVEN),
    ActionRequest(target=TIME),
    ActionResponse(result=0),
    ActionResponse(result=0, data=SEVEN),
    ActionResponse(result=0, error=4),
    ExceptionResponse(state=1, service=2),
    ExceptionResponse(state=2, service=6, counter=9),
    ConfirmedServiceError(service=1, error=6, value=1),
    GetListRequest(targets=(TIME, TIME)),
    GetListResponse(outcomes=(Outcome(0, SEVEN), Outcome(4))),
    SetListRequest(targets=(TIME,), values=(SEVEN,)),
    SetListResponse(results=(0, 3)),
    ActionListRequest(targets=(TIME,), parameters=(SEVEN,)),
    ActionListResponse(outcomes=(Outcome(0, SEVEN), Outcome(3))),
    ActionBlock(last=False, number=1, raw=b"\x12"),
    ActionNext(block=1),
    *(
        RequestBlock(action=action, listed=listed, last=False, number=1, raw=b"\x12", targets=targets)
        for action in (False, True)
        for listed, targets in ((False, (TIME,)), (True, (TIME, TIME)), (False, ()))
    ),
    BlockAck(action=False, number=1),
    BlockAck(action=True, number=1),
    BlockAck(action=False, number=1, results=(0,)),
    BlockAck(action=False, number=1, results=(0, 4), listed=True),
    AccessRequest(accesses=(Access(AccessKind.GET, TIME), Access(AccessKind.SET, TIME, SEVEN))),
    AccessRequest(
        accesses=(Access(AccessKind.GET, Target(7, TIME.obis, 2, EntrySelection(1, 2))),), date_time=bytes(12)
    ),
    AccessResponse(
        kinds=(AccessKind.GET, AccessKind.ACTION),
        outcomes=(Outcome(0, SEVEN), Outcome(3)),
        repeated=((AccessKind.GET, TIME), (AccessKind.ACTION, TIME)),
    ),
    ReadRequest((Variable(8), Variable(8, EntrySelection(1, 2)), NextBlock(1))),
    ReadResponse((Outcome(0, SEVEN), Outcome(3), ReadBlock(last=True, number=1, raw=b"\x12"))),
]


def test_every_apdu_is_sampled() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(Apdu))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: type(s).__name__)
def test_what_is_written_is_read_and_shown(sample: Apdu) -> None:
    octets = encode_apdu(sample)
    assert decode_apdu(octets) == sample
    found = decode_trace(octets)
    assert found.problem is None
    (tree,) = found.parts
    offsets = [int(line[1:5], 16) for line in tree.lines()]
    assert offsets == sorted(offsets)
    assert len(offsets) > 2


@pytest.mark.parametrize(
    "sample",
    [one for one in SAMPLES if not isinstance(one, ExceptionResponse)],  # which may leave its counter out
    ids=lambda s: type(s).__name__,
)
def test_a_tree_cut_anywhere_shows_what_came_before(sample: Apdu) -> None:
    octets = encode_apdu(sample)
    whole = "\n".join(decode_trace(octets).lines())
    for end in range(1, len(octets)):
        found = decode_trace(octets[:end])
        assert found.problem is not None
        for line in found.lines()[:-1]:
            assert line.split(": ")[0] in whole


def test_apdus_of_associations_blocks_and_pushes_are_read_as_they_are_written() -> None:
    initiate = acse.encode_initiate_request(InitiateRequest(dedicated_key=bytes(16)))
    assert acse.decode_initiate_request(initiate) == InitiateRequest(dedicated_key=bytes(16))
    answer = InitiateResponse(conformance=0x1E1D, max_pdu=500)
    assert acse.decode_initiate_response(acse.encode_initiate_response(answer)) == answer
    aarq = Aarq(system_title=b"CLIENT01", mechanism=5, secret=bytes(16), user_information=initiate)
    assert acse.decode_aarq(acse.encode_aarq(aarq)) == aarq
    aare = Aare(diagnostic=14, system_title=b"GEN\0\0\0\0\1", mechanism=5, challenge=bytes(16))
    assert acse.decode_aare(acse.encode_aare(aare)) == aare
    for release in (Release(), Release(response=True, reason=1, user_information=initiate)):
        assert acse.decode_release(acse.encode_release(release)) == release
    block = GeneralBlock(number=2, acknowledged=1, window=3, last=True, streaming=True, data=b"x")
    assert gbt.decode(gbt.encode(block)) == block
    for push in (
        DataNotification(body=SEVEN),
        EventNotification(class_id=1, obis=CLOCK, attribute=2, value=SEVEN),
    ):
        assert notification.decode(notification.encode(push)) == push


def test_a_push_whose_event_word_has_its_length_in_the_short_form_is_shown_as_it_is_read() -> None:
    body = structure(SEVEN, Data(Tag.BIT_STRING, "1" + "0" * 127))
    right = notification.encode(DataNotification(body=body))
    short = right.replace(b"\x04\x81\x80", b"\x04\x80")
    assert notification.decode(short) == DataNotification(body=body)
    found = decode_trace(short)
    assert found.problem is None
    assert "bit-string '1000" in "\n".join(found.lines())


@pytest.mark.parametrize(
    "wrong",
    [
        GetNext(block=1 << 32),
        SetResponse(result=256),
        GetRequest(target=Target(1 << 16, CLOCK, 2)),
        GetResponse(),
    ],
)
def test_a_field_that_does_not_fit_is_our_own_mistake(wrong: Apdu) -> None:
    with pytest.raises(LocalError):
        encode_apdu(wrong)
