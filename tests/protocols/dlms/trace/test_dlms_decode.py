"""Reading a trace: the published vectors, Indian conversations, joined segments, and the first wrong byte."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu.services import GetBlock, encode_apdu
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.data.types import array, double_long_unsigned
from protocols.dlms.framing import wrapper
from protocols.dlms.framing.hdlc import Address, Frame
from protocols.dlms.security.suites import Keys
from protocols.dlms.trace.frames import Trace, decode_trace
from protocols.errors import MeterProtocolError
from tests.support.dlms.bench import KEYS
from tests.support.dlms.pushes import ALERT, ciphered, ui
from tests.support.steps import steps_of

hx = bytes.fromhex
TITLE = hx("4D4D4D0000BC614E")
IST_SNRM_UA = "7EA0070321930F017E 7EA01E210373C37A81801205018006018007040000000108040000000153 3B7E"
IST_GET = (
    "7EA0190321545FDEE6E600C001C1000100002B0103FF0200B0AA7E7EA01521037469CEE6E700C401C10006000006B3BDCB7E"
)
LLC_TWICE = (
    "7EA03A210330E3F7E6E700E6E7006129A109060760857405080101A203020100A305A103020100"
    "BE10040E0800065F1F040000001002300007F5F17E"
)
GENERAL_GLO = (
    "DB082F192291991641033B30000001E5025CE9D2271FD78BE8C204211A916A9D7F587E0A7A814CADEA89E9593F01F9"
    "2EA8C087B5BDFDEFEAB6BECF282DFE49C08F5BE6DC8400"
)


def text(trace: Trace) -> str:
    return "\n".join(trace.lines())


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("C0010000080000010000FF0200", "class 8, 0-0:1.0.0*255, attribute 2"),
        ("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0", "dedicated key: 16 octets"),
        ("0800065F1F0400007C1F04000007", "conformance: 007c1f"),
        ("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0", "max PDU: 1200"),
        (
            "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738"
            "BE10040E01000000065F1F0400007E1F04B0",
            "authentication value of the client: 8 octets, not shown",
        ),
        (
            "6036A1090607608574050801018A0207808B0760857405080205AC0A80084B35366956616759"
            "BE10040E01000000065F1F0400007E1F04B0",
            "mechanism: HLS-GMAC",
        ),
        (
            "6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F040000501F01F40007",
            "max PDU: 500",
        ),
        (
            "6142A109060760857405080101A203020100A305A10302010E88020780890760857405080205AA0A8008503677524A323146"
            "BE10040E0800065F1F040000501F01F40007",
            "diagnostic: 14 (authentication required)",
        ),
        (
            "611FA109060760857405080101A203020101A305A103020101BE0604040E010601",
            "result: 1 (rejected permanently)",
        ),
        ("6203800100", "RLRQ"),
        ("6303800100", "RLRE"),
        ("7EA00802232193BD647E", "16 → 1/17, SNRM"),
        ("7EA01F21022373E6C781801205019A06019A070400000001080400000001CCA27E", "max transmit: 154"),
        ("7EA0232100020023 73F6C581801405020080060200800704000000010804000000 01CE6A7E", "max receive: 128"),
        (
            "7EA02C02232110AF9FE6E600601DA109060760857405080101BE10040E01000000065F1F0400001E1DFFFFC5E47E",
            "max PDU: 65535",
        ),
        (
            "A02E0002002321107ECBE6E600601DA109060760857405080101BE10040E01000000065F1F040000301DFFFFD4C5",
            "AARQ",
        ),
        (IST_SNRM_UA, "window receive: 1"),
        (IST_GET, "double-long-unsigned 1715"),
        (LLC_TWICE, "max PDU: 560"),
        (
            "C001C100070100630100FF0201010204020412000809060000010000FF0F02120000"
            "090C07E10A010700000000FFC480090C07E10A010701000000FFC4800100",
            "1-0:99.1.0*255",
        ),
        ("C002C100000001", "block number: 1"),
        (
            "01040204090C07E30C1F0217000000FFC400110606000005ED0600000654"
            + "020400110606000005ED0600000654" * 3,
            "array of 4",
        ),
        ("020412000809060000010000FF0F02120000", "0-0:1.0.0*255"),
        ("0101020402020FFF162302020F00161E02020F00161F02020FFD1621", "integer -3"),
        ("C701C1000100 09 11 1000001AFDE8857B728A3499106AA665D1", "result: 0 (success)"),
        ("0001000100010046" + GENERAL_GLO, "general-glo-ciphering"),
        ("D80206000006B3", "expected counter: 1715"),
    ],
)
def test_published_vectors(octets: str, expected: str) -> None:
    found = decode_trace(hx(octets))
    assert found.problem is None, str(found.problem)
    assert expected in text(found)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B", "0-0:1.0.0*255"),
        ("C8122001234567411312FF935A47566827C467BC", "0-0:1.0.0*255"),
        ("C81E1001234567C0010000080000010000FF020006725D910F9221D263877516", "0-0:1.0.0*255"),
        (
            "21303001234567801302FF8A7874133D414CED25B42534D28DB0047720606B175BD52211BE6841DB204D39EE6FDB8E356855",
            "max PDU: 1200",
        ),
        ("281F3001234567891214A0845E475714383F65BC19745CA235906525E4F3E1C893", "max PDU: 1024"),
    ],
)
def test_ciphered_vectors(octets: str, expected: str) -> None:
    found = decode_trace(hx(octets), keys=KEYS, titles=[b"12345678", TITLE])
    assert found.problem is None, str(found.problem)
    assert expected in text(found)
    assert expected not in text(decode_trace(hx(octets)))


def test_general_glo_brings_its_own_title() -> None:
    key = b"MYDUMMYGLOBALKEY"
    found = decode_trace(hx(GENERAL_GLO), keys=Keys(encryption=key, authentication=key))
    assert found.problem is None
    assert "data-notification" in text(found)


def test_a_wrong_key_is_said_where_the_ciphered_text_begins() -> None:
    wrong = Keys(encryption=KEYS.authentication, authentication=KEYS.authentication)
    octets = hx("C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B")
    found = decode_trace(octets, keys=wrong, titles=[TITLE])
    assert found.problem is not None
    assert (found.problem.offset, "wrong tag" in found.problem.reason) == (2, True)


@pytest.mark.parametrize(
    ("octets", "offset", "reason"),
    [
        (IST_GET.replace("B0AA", "B0AB"), 24, "frame check sequence"),
        (IST_GET.replace("5FDE", "5FDF"), 6, "header check sequence"),
        ("C001C10008", 5, "6 octets wanted, 0 left"),
        ("C001C1", 3, "2 octets wanted"),
        ("C401C10002020600000001 FD", 11, "type 253"),
        ("6203800100FF", 5, "APDU tag 0xff"),
        ("0001001000010003C501C1", 11, "1 octets wanted"),
        ("000100100001000EC001C100080000010000FF020000", 21, "after the end of the APDU"),
    ],
)
def test_the_first_wrong_byte_is_named(octets: str, offset: int, reason: str) -> None:
    found = decode_trace(hx(octets))
    assert found.problem is not None
    assert (found.problem.offset, reason in found.problem.reason) == (offset, True), str(found.problem)


def test_segments_are_joined_and_keep_their_places() -> None:
    whole = b"\xe6\xe7\x00" + hx("C401C1000102") + hx("0600000001") + hx("FD")
    ends: dict[str, Any] = {"destination": Address(16), "source": Address(1)}
    first = Frame(**ends, control=0x30, info=whole[:10], segmented=True).encode()
    ready = Frame(destination=Address(1), source=Address(16), control=0x31).encode()
    second = Frame(**ends, control=0x32, info=whole[10:]).encode()
    found = decode_trace(first + ready + second)
    assert found.problem is not None
    # the wrong tag is the last octet before the second frame's check sequence and flag
    assert found.problem.offset == len(first + ready + second) - 4
    assert "I 0" in text(found)
    cut = decode_trace(first)
    assert cut.problem is not None
    assert "segmented" in cut.problem.reason


def test_blocks_are_joined() -> None:
    encoded = axdr.encode(array(*(double_long_unsigned(n) for n in range(20))))
    blocks = [
        GetBlock(last=False, number=1, raw=encoded[:33]),
        GetBlock(last=True, number=2, raw=encoded[33:]),
    ]
    octets = b"".join(wrapper.encode(1, 16, encode_apdu(block)) for block in blocks)
    found = decode_trace(octets)
    assert found.problem is None
    assert "array of 20" in text(found)
    assert "double-long-unsigned 19" in text(found)


@pytest.mark.parametrize(
    "octets",
    [
        hx("0101") * 200,
        hx("13020201FFFF00110101") * 20,  # compact-arrays of 65,536 elements each
        hx("60 82FFFF BE 82FFF0 04 82FFE0".replace(" ", "")) * 400,
    ],
)
def test_hostile_nesting_and_counts_end_soon(octets: bytes) -> None:
    assert decode_trace(octets).problem is not None


def test_a_trace_has_a_bound() -> None:
    with pytest.raises(MeterProtocolError, match="at once"):
        decode_trace(bytes(MAX_OCTETS + 1))


_SEEDS = [
    hx(IST_GET),
    hx(LLC_TWICE),
    hx(GENERAL_GLO),
    hx("C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B"),
]


@settings(max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda seed, at, put: seed[: at % len(seed)] + put + seed[at % len(seed) + 1 :],
            st.sampled_from(_SEEDS),
            st.integers(0, 200),
            st.binary(max_size=3),
        ),
    )
)
def test_nothing_in_a_trace_raises(octets: bytes) -> None:
    found = decode_trace(octets, keys=KEYS, titles=[TITLE])
    text(found)
    found.document()


# what stands behind


@pytest.mark.parametrize("framed", [ui, partial(wrapper.encode, 1, 64)], ids=["hdlc", "wrapper"])
def test_several_pushes_in_one_frame_are_all_shown_and_what_is_left_over(
    framed: Callable[[bytes], bytes],
) -> None:
    trace = decode_trace(framed(ALERT + ciphered(ALERT) + ALERT + b"\0\0"))
    assert trace.problem is None
    said = [line.split("  ", 1)[1].strip() for line in trace.lines()]
    names = [line for line in said if line in ("data-notification", "general-glo-ciphering")]
    assert names == ["data-notification", "general-glo-ciphering", "data-notification"]
    assert said[-1].startswith("left over")


@pytest.mark.parametrize(
    "broken", [ui(ALERT)[:-9], ui(ALERT)[:-3] + b"\0\0~", ui(b"\x0f\x00"), b"\x7e\xa0\x03"]
)
def test_a_frame_behind_a_broken_one_is_shown_and_the_broken_one_is_the_problem(broken: bytes) -> None:
    alone = decode_trace(broken).problem
    trace = decode_trace(broken + ui(ALERT) + broken + ui(ALERT))
    assert alone is not None
    assert trace.problem is not None
    assert trace.problem.offset <= len(broken) + len(ui(ALERT))
    assert sum("[3]: bit-string" in line for line in trace.lines()) == 2


@pytest.mark.parametrize("octets", [b"\x7e\xa0", b"\x7e\xa4", b"\x7e\xa0\x07", b"\x7e"])
def test_beginnings_of_frames_take_steps_by_their_number(octets: bytes) -> None:
    costs = [steps_of(partial(decode_trace, octets * times + hx(IST_SNRM_UA))) for times in (50, 100, 400)]
    assert max(costs[1] / costs[0], costs[2] / costs[0] / 4) <= 2.5
    assert costs[2] <= 40 * 400 * len(octets)
