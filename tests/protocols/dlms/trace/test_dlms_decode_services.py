"""Decoding every service and error: lists, blocks both ways, general ciphering and blocks, HLS, links."""

from __future__ import annotations

import pytest

from protocols.dlms.apdu.lists import (
    ActionListRequest,
    ActionListResponse,
    BlockAck,
    Outcome,
    RequestBlock,
    SetListRequest,
    SetListResponse,
    Target,
)
from protocols.dlms.apdu.services import ActionRequest, Apdu, GetBlock, GetRequest, GetResponse, encode_apdu
from protocols.dlms.data import axdr
from protocols.dlms.data.types import array, double_long_unsigned, long_unsigned, octets
from protocols.dlms.framing.hdlc import FRMR, Address, Frame
from protocols.dlms.objects.image import ImageBlock, ImageTransfer, Initiation
from protocols.dlms.security.general import GeneralKeys, protect_general
from protocols.dlms.security.general_forms import Header
from protocols.dlms.security.suites import protect
from protocols.dlms.trace.frames import Trace, decode_trace
from protocols.reading import Obis
from protocols.session import Auth, KeyInfo
from tests.support.dlms.bench import HLS_KEY, KEYS, PASSWORD, POLICIES, SUITE_POLICIES, Joined, SmallMeter

hx = bytes.fromhex
CLOCK = Target(8, Obis(0, 0, 1, 0, 0), 2)
RELAY = Target(70, Obis(0, 0, 96, 3, 10), 1)


def text(trace: Trace) -> str:
    assert trace.problem is None, str(trace.problem)
    return "\n".join(trace.lines())


def decoded(*apdus: Apdu) -> str:
    return text(decode_trace(b"".join(encode_apdu(one) for one in apdus)))


def test_lists_of_set_and_action() -> None:
    said = decoded(
        SetListRequest(targets=(CLOCK, CLOCK), values=(octets(b"time"), long_unsigned(7))),
        SetListResponse(results=(0, 3)),
        ActionListRequest(targets=(RELAY, RELAY), parameters=(long_unsigned(1), long_unsigned(2))),
        ActionListResponse(outcomes=(Outcome(0, long_unsigned(5)), Outcome(250))),
    )
    for part in (
        "set-request",
        "4 (with list)",
        "class 8, 0-0:1.0.0*255, attribute 2",
        "values: 2",
        "5 (with list)",
        "3 (read-write denied)",
        "class 70, 0-0:96.3.10*255, method 1",
        "parameters: 2",
        "250 (other reason)",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("target", "parameter", "means"),
    [
        (
            Target(18, Obis(0, 0, 44, 0, 0), 1),
            ImageTransfer(Obis(0, 0, 44, 0, 0)).image_transfer_initiate.request(Initiation(b"SIM-9", 60_020)),
            "SIM-9",
        ),
        (
            Target(18, Obis(0, 0, 44, 0, 0), 2),
            ImageTransfer(Obis(0, 0, 44, 0, 0)).image_block_transfer.request(ImageBlock(7, bytes(200))),
            "block 7, 200 octets",
        ),
        (Target(9, Obis(0, 0, 10, 0, 1), 1), None, "means: 1"),
    ],
    ids=("initiate", "block", "script"),
)
def test_a_method_s_parameter_is_shown_as_its_class_has_it(
    target: Target, parameter: ActionRequest | None, means: str
) -> None:
    request = parameter or ActionRequest(target=target, parameter=long_unsigned(1))
    line = next(row for row in decoded(request).splitlines() if "means" in row)
    assert means in line


def test_a_parameter_of_another_shape_is_shown_beside_what_is_wrong_with_it() -> None:
    assert "malformed" in decoded(ActionRequest(target=Target(9, RELAY.obis, 1), parameter=octets(b"x")))
    assert "means" not in decoded(ActionRequest(target=RELAY, parameter=long_unsigned(0)))


@pytest.mark.parametrize("action", [False, True])
def test_requests_in_blocks_are_joined(action: bool) -> None:
    value = axdr.encode(array(*map(double_long_unsigned, range(20))))
    target = RELAY if action else CLOCK
    blocks = [value[n : n + 30] for n in range(0, len(value), 30)]
    parts: list[Apdu] = []
    for number, raw in enumerate(blocks, start=1):
        last = number == len(blocks)
        first = (target,) if number == 1 else ()
        parts.append(RequestBlock(action=action, last=last, number=number, raw=raw, targets=first))
        parts.append(BlockAck(action=action, number=number, results=(0,) if last and not action else ()))
    said = decoded(*parts)
    assert "value of all blocks: array of 20" in said
    assert "[19]: double-long-unsigned 19" in said


def test_a_list_in_blocks_and_an_answer_in_blocks() -> None:
    attributes = hx("01 0008 0000010000FF 02 00")
    values = hx("01 12 0007")
    said = text(decode_trace(hx("C105C1") + attributes + b"\x01\0\0\0\x01" + bytes((len(values),)) + values))
    assert "values of all blocks: 1" in said
    answer = hx("00 12 0007")
    said = text(decode_trace(hx("C702C1 01 00000001") + bytes((len(answer),)) + answer))
    assert "long-unsigned 7" in said
    results = hx("02 00 12 0007 01 04")
    said = text(
        decode_trace(
            hx("C003C102" + 2 * "0008 0000010000FF 02 00") + hx("C402C1 01 00000001 00 07") + results
        )
    )
    assert "4 (object undefined)" in said


def test_blocks_that_begin_at_nought_that_repeat_and_that_are_missing() -> None:
    value = axdr.encode(array(long_unsigned(1), long_unsigned(2)))

    def block(number: int, raw: bytes, *, last: bool = False) -> bytes:
        return encode_apdu(GetBlock(last=last, number=number, raw=raw))

    whole = [block(0, value[:3]), block(1, value[3:6]), block(1, value[3:6]), block(2, value[6:], last=True)]
    said = text(decode_trace(b"".join(whole)))
    assert "value of all blocks: array of 2" in said
    assert "sent again" in said
    said = text(decode_trace(block(7, value, last=True)))
    assert "block 6 is not in the trace: not joined" in said


def test_general_blocks_are_joined_and_read() -> None:
    whole = encode_apdu(GetResponse(data=array(*map(long_unsigned, range(9)))))
    first, second = whole[:11], whole[11:]
    trace = b"\xe0\x41\x00\x01\x00\x00" + bytes((len(first),)) + first
    trace += hx("E0 00 0001 0001 00")  # only an acknowledgement
    trace += b"\xe0\xc1\x00\x02\x00\x00" + bytes((len(second),)) + second
    said = text(decode_trace(trace))
    assert "0x41 (window 1, streaming)" in said
    assert "array of 9" in said


def test_general_and_dedicated_ciphering() -> None:
    plain = encode_apdu(GetRequest(target=Target(8, CLOCK.obis, 2)))
    body = protect(KEYS, b"CLIENT01", 7, plain)
    titled = b"\x08CLIENT01" + bytes((len(body),)) + body
    header = Header(transaction=b"", originator=b"CLIENT01", recipient=b"")
    known = GeneralKeys(keys=KEYS)
    identified = protect_general(known, KeyInfo.IDENTIFIED, header, 8, plain)
    for general in (b"\xdb" + titled, identified):
        said = text(decode_trace(general, keys=KEYS))
        assert "class 8, 0-0:1.0.0*255" in said
    assert "not deciphered: the dedicated key is not in the trace" in text(
        decode_trace(b"\xd0" + bytes((len(body),)) + body, keys=KEYS, titles=[b"CLIENT01"])
    )
    for dedicated in (b"\xdc" + titled, b"\xd0" + bytes((len(body),)) + body):
        found = decode_trace(dedicated, keys=KEYS, titles=[b"CLIENT01"], dedicated=KEYS.encryption)
        assert "class 8, 0-0:1.0.0*255" in text(found)


@pytest.mark.parametrize(
    ("octets_", "says"),
    [
        ("D80106 000006B3", "6 (invocation counter error)"),
        ("D80204", "2 (service unknown)"),
        ("0E010601", "1 (DLMS version too low)"),
        ("0E050501", "1 (scope of access violated)"),
        ("0EFF7733", "119 (unknown)"),
        ("6117A109060760857405080101A203020101A305A20302010200"[:-2], "2 (no common ACSE version) by the"),
        ("6117A109060760857405080101A203020102A305A103020101", "2 (rejected transiently)"),
        ("6203800101", "1 (urgent)"),
        ("6303800101", "1 (not finished)"),
        ("6215800100BE10040E01000000065F1F0400007E1F04B0", "max PDU: 1200"),
        ("C200 0001 0000600B00FF 02 12 0065", "class 1, 0-0:96.11.0*255"),
        ("C2010C07EA0B19FF081626FF014A00 0001 0000600B00FF 02 12 0065", "2026-11-25 08:22:38, deviation 330"),
        ("0F00000001 0C07EA0B19FF081626FF014A00 020109 0400000001", "2026-11-25 08:22:38, deviation 330"),
        ("0F00000001 00 020112 0001", "time: none"),
        ("D940000000 00 01 01 00080000010000FF02 01 00", "access: 1 (get)"),
        ("DA40000000 00 00 01 120007 01 01 00", "result: 0 (success)"),
    ],
)
def test_errors_and_notifications_by_name(octets_: str, says: str) -> None:
    assert says in text(decode_trace(hx(octets_)))


def test_frmr_and_ui_frames() -> None:
    said = text(
        decode_trace(
            Frame(
                destination=Address(16), source=Address(1), control=FRMR | 0x10, info=b"\x10\x20\x01"
            ).encode()
        )
    )
    assert "control field not known" in said
    assert "I 0 (awaits 0)" in said
    pushed = hx("E6E700 0F00000001 00 12 0001")
    said = text(
        decode_trace(Frame(destination=Address(16), source=Address(1), control=0x13, info=pushed).encode())
    )
    assert "UI" in said
    assert "data-notification" in said


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
def test_whole_conversations_are_read_and_secrets_stay_hidden(name: str, framing: str) -> None:
    policy, settings = POLICIES[name]
    joined = Joined(SmallMeter({48: policy}), settings, framing=framing)
    joined.associate()
    joined.get(7, "1-0:99.1.0*255")
    joined.get(8, "0-0:1.0.0*255")
    pairs = zip(joined.to_server, joined.to_client, strict=True)
    trace = b"".join(one for pair in pairs for one in pair)
    said = text(decode_trace(trace, keys=KEYS, secret=HLS_KEY))
    assert "2026-06-02 06:30:00 UTC" in said or "07 ea 06 02" in said
    assert PASSWORD.hex(" ") not in said
    assert repr(PASSWORD.decode()) not in said
    if settings.auth.value.startswith("hls"):
        assert said.count("HLS pass 3, answer to the meter's challenge: right") == 1
        assert said.count("HLS pass 4, answer to the client's: right") == 1
        wrong = text(decode_trace(trace, keys=KEYS, secret=b"another key 1234"))
        assert wrong.count("challenge: wrong") == (settings.auth.value != "hls-gmac")


@pytest.mark.parametrize("name", SUITE_POLICIES)
def test_conversations_under_suites_1_and_2_are_read(name: str) -> None:
    policy, settings = SUITE_POLICIES[name]
    joined = Joined(SmallMeter({48: policy}), settings)
    joined.associate()
    joined.get(7, "1-0:99.1.0*255")
    pairs = zip(joined.to_server, joined.to_client, strict=True)
    said = text(decode_trace(b"".join(one for pair in pairs for one in pair), keys=settings.keys))
    assert "2026-06-02 06:30:00 UTC" in said or "07 ea 06 02" in said
    if settings.auth is Auth.HLS_GMAC:
        assert said.count("the meter's challenge: right") == 1
        assert said.count("answer to the client's: right") == 1
    else:
        assert said.count("not checked: the prover's certificate is not given") == 2


def test_a_list_of_results_is_bounded() -> None:
    found = decode_trace(hx("C505C1 84FFFFFFFF 00"))
    assert found.problem is not None
    assert "4294967295 results announced" in found.problem.reason


def test_objects_are_named_as_the_blue_book_names_them() -> None:
    image = Target(18, Obis(0, 0, 44, 0, 0), 3)
    said = decoded(GetRequest(target=image), GetRequest(target=Target(8201, CLOCK.obis, 2)))
    assert "class 18, 0-0:44.0.0*255, attribute 3 (image transfer: image_transferred_blocks_status)" in said
    assert "class 8201, 0-0:1.0.0*255, attribute 2\n" in said
    assert "method 2 (image transfer: image_block_transfer)" in decoded(
        ActionListRequest(targets=(Target(18, image.obis, 2),), parameters=(long_unsigned(1),))
    )
