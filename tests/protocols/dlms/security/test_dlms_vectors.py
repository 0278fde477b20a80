"""Published octets, byte for byte: ciphering, association, services, HDLC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import RangeSelection
from protocols.dlms.apdu.services import (
    ActionResponse,
    Apdu,
    ConfirmedServiceError,
    ExceptionResponse,
    GetBlock,
    GetNext,
    GetRequest,
    GetResponse,
    SetResponse,
    decode_apdu,
    encode_apdu,
)
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.types import array, capture_object, double_long_unsigned
from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import Address, BadFrame, Frame, FrameDecoder, Parameters
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.framing.link import ApduReceived, LinkOpened
from protocols.dlms.profile.decoder import buffer_of
from protocols.dlms.profile.layouts import CLOCK, Layout, parse_columns, parse_scales
from protocols.dlms.security import ciphering, hls, suites
from protocols.dlms.security.suites import Keys
from protocols.errors import SecurityFailure
from protocols.reading import Number, Obis, ProfileName
from protocols.session import Auth
from tests.support.dlms.bench import KEYS

hx = bytes.fromhex
TITLE = hx("4D4D4D0000BC614E")
CLOCK_GET = hx("C0010000080000010000FF0200")
COUNTER = 0x01234567


def test_ciphered_get_request() -> None:
    expected = hx("C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B")
    assert ciphering.protect_apdu(KEYS, TITLE, COUNTER, CLOCK_GET) == expected
    opened = ciphering.unprotect_apdu(KEYS, TITLE, expected)
    assert (opened.plain, opened.counter) == (CLOCK_GET, COUNTER)


def test_encryption_only_and_authentication_only() -> None:
    encrypted = hx("2001234567411312FF935A47566827C467BC")
    assert suites.protect(KEYS, TITLE, COUNTER, CLOCK_GET, control=0x20) == encrypted
    assert suites.unprotect(KEYS, TITLE, encrypted, required=0x20).plain == CLOCK_GET
    signed = suites.protect(KEYS, TITLE, COUNTER, CLOCK_GET, control=0x10)
    assert signed == hx("1001234567") + CLOCK_GET + hx("06725D910F9221D263877516")
    assert suites.unprotect(KEYS, TITLE, signed, required=0x10).plain == CLOCK_GET
    for weaker in (encrypted, signed):
        with pytest.raises(SecurityFailure, match="0x30 was agreed"):
            suites.unprotect(KEYS, TITLE, weaker)


def test_ciphered_initiate() -> None:
    request = hx(
        "21303001234567801302FF8A7874133D414CED25B42534D28DB0047720606B175BD52211BE6841DB204D39EE6FDB8E356855"
    )
    plain = hx("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0")
    assert ciphering.unprotect_apdu(KEYS, TITLE, request).plain == plain
    assert ciphering.protect_apdu(KEYS, TITLE, COUNTER, plain) == request
    decoded = acse.decode_initiate_request(plain)
    assert decoded.dedicated_key == hx("00112233445566778899AABBCCDDEEFF")
    assert acse.encode_initiate_request(decoded) == plain
    response = hx("281F3001234567891214A0845E475714383F65BC19745CA235906525E4F3E1C893")
    opened = ciphering.unprotect_apdu(KEYS, TITLE, response).plain
    assert opened == hx("0800065F1F0400007C1F04000007")
    granted = acse.decode_initiate_response(opened)
    assert (granted.conformance, granted.max_pdu) == (0x007C1F, 0x0400)
    assert acse.encode_initiate_response(granted) == opened


def test_hls_gmac_passes_three_and_four() -> None:
    client = hx("4D4D4D0000000001")
    third = hx("10000000011A52FE7DD3E72748973C1E28")
    challenge = hx("503677524A323146")
    gmac = hls.Credentials(auth=Auth.HLS_GMAC, keys=KEYS)
    ours = hls.Party(title=client, challenge=hx("4B35366956616759"))
    theirs = hls.Party(title=TITLE, challenge=challenge)
    assert hls.prove(gmac, prover=ours, verifier=theirs, counter=1) == third
    assert hls.check(gmac, third, prover=ours, verifier=theirs) == 1
    fourth = hls.prove(gmac, prover=theirs, verifier=ours, counter=COUNTER)
    assert fourth == hx("1001234567FE1466AFB3DBCD4F9389E2B7")
    other = hls.Party(title=TITLE, challenge=challenge[::-1])
    with pytest.raises(SecurityFailure):
        hls.check(gmac, third, prover=ours, verifier=other)


def test_general_glo() -> None:
    key = b"MYDUMMYGLOBALKEY"
    keys = Keys(encryption=key, authentication=key)
    octets = hx(
        "DB082F192291991641033B30000001E5025CE9D2271FD78BE8C204211A916A9D7F587E0A7A814CADEA89E9593F01F9"
        "2EA8C087B5BDFDEFEAB6BECF282DFE49C08F5BE6DC8400"
    )
    plain = hx("0F000001DB000922125A8591360000000049000000110000000A5A8513D014800000000D0000000A0100")
    assert ciphering.unprotect_apdu(keys, b"", octets).plain == plain


@pytest.mark.parametrize(
    "octets",
    [
        "601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0",
        "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738BE10040E"
        "01000000065F1F0400007E1F04B0",
        "6036A1090607608574050801018A0207808B0760857405080205AC0A80084B35366956616759BE10040E"
        "01000000065F1F0400007E1F04B0",
    ],
)
def test_aarq(octets: str) -> None:
    assert acse.encode_aarq(acse.decode_aarq(hx(octets))) == hx(octets)


@pytest.mark.parametrize(
    ("octets", "result", "diagnostic"),
    [
        ("6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F040000501F01F40007", 0, 0),
        (
            "6142A109060760857405080101A203020100A305A10302010E88020780890760857405080205AA0A8008503677524A"
            "323146BE10040E0800065F1F040000501F01F40007",
            0,
            14,
        ),
        ("611FA109060760857405080101A203020101A305A103020101BE0604040E010601", 1, 1),
    ],
)
def test_aare(octets: str, result: int, diagnostic: int) -> None:
    aare = acse.decode_aare(hx(octets))
    assert (aare.result, aare.diagnostic) == (result, diagnostic)
    assert acse.encode_aare(aare) == hx(octets)


def test_aare_fields_may_come_in_any_order() -> None:
    swapped = hx(
        "6142A109060760857405080101A203020100AA0A8008503677524A323146A305A10302010E"
        "88020780890760857405080205BE10040E0800065F1F040000501F01F40007"
    )
    aare = acse.decode_aare(swapped)
    assert (aare.challenge, aare.mechanism) == (hx("503677524A323146"), 5)


def test_release() -> None:
    assert acse.encode_release(acse.Release()) == hx("6203800100")
    assert acse.encode_release(acse.Release(response=True)) == hx("6303800100")
    assert acse.decode_release(hx("6303800100")).response


SERVICES: dict[str, Apdu] = {
    "C001C1000100002B0103FF0200": GetRequest(target=Target(1, Obis(0, 0, 43, 1, 3), 2)),
    "C401C10006000006B3": GetResponse(data=double_long_unsigned(0x6B3)),
    "C002C100000001": GetNext(block=1),
    "C402C1000000000100020A0B": GetBlock(last=False, number=1, raw=b"\x0a\x0b"),
    "C401C10104": GetResponse(error=4),
    "C501C100": SetResponse(result=0),
    "C701C10000": ActionResponse(result=0),
    "D80101": ExceptionResponse(state=1, service=1),
    "D8010600000007": ExceptionResponse(state=1, service=6, counter=7),
    "0E060006": ConfirmedServiceError(service=6, error=0, value=6),
}


@pytest.mark.parametrize("octets", SERVICES)
def test_services(octets: str) -> None:
    assert decode_apdu(hx(octets)) == SERVICES[octets]
    assert encode_apdu(SERVICES[octets]) == hx(octets)


def test_pass_four_reply() -> None:
    reply = decode_apdu(hx("C701C100010009111000001AFDE8857B728A3499106AA665D1"))
    assert isinstance(reply, ActionResponse)
    assert reply.data is not None
    assert reply.data.octets == hx("1000001AFDE8857B728A3499106AA665D1")


def test_get_by_range() -> None:
    octets = hx(
        "C001C100070100630100FF0201010204020412000809060000010000FF0F02120000"
        "090C07E10A010700000000FFC480090C07E10A010701000000FFC4800100"
    )
    request = decode_apdu(octets)
    assert isinstance(request, GetRequest)
    assert request.target.selection == RangeSelection(
        CLOCK, 2, hx("07E10A010700000000FFC480"), hx("07E10A010701000000FFC480")
    )
    assert encode_apdu(request) == octets


def test_null_compressed_buffer() -> None:
    octets = hx("01040204090C07E30C1F0217000000FFC400110606000005ED0600000654") + 3 * hx(
        "020400110606000005ED0600000654"
    )
    captured = ((8, CLOCK), (1, Obis(0, 0, 96, 10, 2)), (1, Obis(1, 0, 1, 8, 0)), (1, Obis(1, 0, 2, 8, 0)))
    columns = parse_columns(array(*(capture_object(c, name) for c, name in captured)))
    layout = Layout(profile=ProfileName.BLOCK_LOAD, obis=Obis(1, 0, 99, 1, 0), columns=columns, period=3600)
    decoded = buffer_of(layout, axdr.decode(octets), zone=cosem_time.INDIA).sets(
        received_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    hours = [(s.at - decoded.sets[0].at).total_seconds() / 3600 for s in decoded.sets]
    assert hours == [0, 1, 2, 3]
    assert decoded.sets[3].value("1-0:2.8.0*255") == Number(0x654)


def test_capture_object_and_block_scalers() -> None:
    assert axdr.encode(capture_object(8, CLOCK)) == hx("020412000809060000010000FF0F02120000")
    names = ("1.0.12.27.0.255", "1.0.1.29.0.255", "1.0.9.29.0.255", "1.0.11.27.0.255")
    columns = parse_columns(array(*(capture_object(3, Obis.parse(n), 3) for n in names)))
    row = axdr.decode(hx("0101020402020FFF162302020F00161E02020F00161F02020FFD1621"))
    scales = parse_scales(columns, row)
    assert [scales[Obis.parse(n), 2] for n in names] == [(-1, "V"), (0, "Wh"), (0, "VAh"), (-3, "A")]


@pytest.mark.parametrize(
    ("octets", "at", "trusted"),
    [
        ("07EA0601FF0E0F00FF014AFF", datetime(2026, 6, 1, 8, 45, tzinfo=UTC), True),
        ("07EA0601FF0E0F00FFFEB600", datetime(2026, 6, 1, 8, 45, tzinfo=UTC), True),
        ("07EA0601FF0E0F00FF800000", datetime(2026, 6, 1, 8, 45, tzinfo=UTC), True),
        ("07EA0601FF0E0F00FF014A01", datetime(2026, 6, 1, 8, 45, tzinfo=UTC), False),
        ("07EA0601FF0E0F00FFFF8800", datetime(2026, 6, 1, 12, 15, tzinfo=UTC), False),
        ("FFFF0601FF0E0F00FF014AFF", None, False),
        ("07EA0001FF0E0F00FF014AFF", None, False),
        ("07EA06FEFF0E0F00FF014AFF", None, False),
    ],
)
def test_date_times(octets: str, at: datetime | None, trusted: bool) -> None:
    stamp = cosem_time.decode(hx(octets))
    assert (stamp.at, stamp.trusted) == (at, trusted)


FRAMES = [
    "7EA00802232193BD647E",
    "7EA01F21022373E6C781801205019A06019A070400000001080400000001CCA27E",
    "7EA023210002002373F6C58180140502008006020080070400000001080400000001CE6A7E",
    "7EA02C02232110AF9FE6E600601DA109060760857405080101BE10040E01000000065F1F0400001E1DFFFFC5E47E",
    "7EA02E0002002321107ECBE6E600601DA109060760857405080101BE10040E01000000065F1F040000301DFFFFD4C57E",
    "7EA0070321930F017E",
    "7EA01E210373C37A8180120501800601800704000000010804000000 01533B7E",
    "7EA0190321545FDEE6E600C001C1000100002B0103FF0200B0AA7E",
    "7EA01521037469CEE6E700C401C10006000006B3BDCB7E",
    "7EA03A210330E3F7E6E700E6E7006129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F0400"
    "00001002300007F5F17E",
]


@pytest.mark.parametrize("octets", FRAMES)
def test_hdlc_frames(octets: str) -> None:
    found = FrameDecoder().receive_data(hx(octets))
    assert len(found) == 1
    assert isinstance(found[0], Frame)
    assert found[0].encode() == hx(octets)


@pytest.mark.parametrize("octets", FRAMES)
def test_hdlc_frames_octet_by_octet_and_with_a_tail(octets: str) -> None:
    frame = hx(octets)
    expected = FrameDecoder().receive_data(frame)
    decoder = FrameDecoder()
    assert [f for octet in frame for f in decoder.receive_data(bytes((octet,)))] == expected
    decoder = FrameDecoder()
    assert decoder.receive_data(frame + frame[:-1]) == expected
    assert decoder.receive_data(frame[-1:]) == expected
    assert decoder.noise == 0


def test_a_server_address_of_four_octets_is_answered_alike() -> None:
    (ua,) = FrameDecoder().receive_data(hx(FRAMES[2]))
    assert isinstance(ua, Frame)
    assert (ua.source, ua.destination) == (Address(1, 17, 4), Address(16, None, 1))
    link = HdlcClientLink(client=16, server=1, physical=17, address_octets=4)
    link.open()
    assert link.data_to_send()[3:8] == hx("0002002321")
    assert link.receive_data(hx(FRAMES[2])) == [LinkOpened()]


def test_hdlc_addresses() -> None:
    assert Address.decode(hx("C9")) == Address(100, None, 1)
    assert Address.decode(hx("0223")) == Address(1, 17, 2)
    assert Address.decode(hx("02220003")) == Address(145, 1, 4)
    assert Address(145, 1).encode() == hx("02220003")
    assert Address(1, 17).encode() == hx("0223")


def test_ua_parameters() -> None:
    limits = Parameters.decode(hx("81801405020080060200800704000000010804000000 01"))
    assert limits == Parameters(transmit=128, receive=128)
    assert Parameters.decode(b"") == Parameters()


def test_an_indian_conversation() -> None:
    """The trace of a real meter: connect, AARE with the LLC header twice, one GET."""
    link = HdlcClientLink(client=16, server=1)
    link.open()
    assert link.data_to_send() == hx("7EA0070321930F017E")
    assert link.receive_data(hx(FRAMES[6])) == [LinkOpened()]
    link.send(hx("601DA109060760857405080101BE10040E01000000065F1F0400001E1DFFFF"))
    link.data_to_send()
    (event,) = link.receive_data(hx(FRAMES[9]))
    assert isinstance(event, ApduReceived)
    aare = acse.decode_aare(event.apdu)
    assert acse.decode_initiate_response(aare.user_information).max_pdu == 0x0230
    assert acse.decode_initiate_response(aare.user_information).conformance == 0x000010


def test_a_bad_checksum_is_reported_at_once_and_the_next_frame_is_read() -> None:
    good = hx(FRAMES[8])
    for at in range(1, len(good) - 1):
        bad = good[:at] + bytes((good[at] ^ 0x04,)) + good[at + 1 :]
        decoder = FrameDecoder()
        found = decoder.receive_data(bad + good)
        assert isinstance(found[-1], Frame), at
        assert any(isinstance(f, BadFrame) for f in found[:-1]), at
        assert decoder.bad_frames


def test_crc() -> None:
    assert hdlc.crc(b"123456789") == (0x906E).to_bytes(2, "little")
