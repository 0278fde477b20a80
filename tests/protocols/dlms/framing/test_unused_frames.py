"""Every frame that is not used is counted by its cause: links, wrapper sockets, associations, pushes."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import gbt
from protocols.dlms.apdu.gbt import BlockTransfer, GeneralBlock
from protocols.dlms.framing import hdlc, wrapper
from protocols.dlms.framing.hdlc import Address, Frame
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.framing.link import ApduReceived, LinkOpened
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.dlms.push.framing import PushStream
from protocols.errors import MeterProtocolError
from protocols.unused import Unused, UnusedCounter, UnusedFrames, unused_frames
from tests.support.dlms.pushes import apdus_of
from tests.support.dlms.trap_site import energies, site

CLIENT, METER = Address(16, None, 1), Address(1, 17, 2)
KAIFA = bytes.fromhex("7EA027010201105A87E6E7000F40000000090C07E60102070E2512FF80000002010600001015F5FF7E")
"""A push in an I frame, as Kaifa's meters send it (UtilitechAS/amsreader-firmware#180)."""


def frame(
    control: int, info: bytes = b"", *, source: Address = METER, destination: Address = CLIENT
) -> bytes:
    return Frame(destination=destination, source=source, control=control, info=info).encode()


def connected() -> HdlcClientLink:
    link = HdlcClientLink(client=16, server=1, physical=17)
    link.open()
    assert link.receive_data(frame(hdlc.UA | hdlc.POLL)) == [LinkOpened()]
    link.send(b"\xc0")
    link.data_to_send()
    assert not +link.unused
    return link


def damaged(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes((octets[at] ^ 0x10,)) + octets[at + 1 :]


ANSWER = hdlc.LLC_RESPONSE + b"\xc4"
CAUSES = {
    "another meter's": (frame(0x30, ANSWER, source=Address(1, 18, 2)), Unused.WRONG_ADDRESS),
    "for another client": (frame(0x30, ANSWER, destination=Address(48, None, 1)), Unused.WRONG_ADDRESS),
    "a bad FCS": (damaged(frame(0x20, ANSWER), 14), Unused.BAD_CHECK),
    "a bad HCS": (damaged(frame(0x20, ANSWER), 6), Unused.BAD_CHECK),
    "no frame": (b"\x7e\x00\x7e", Unused.NOT_A_FRAME),
    "a second UA": (frame(hdlc.UA | hdlc.POLL), Unused.UNEXPECTED_CONTROL),
    "an I frame of the past": (frame(0x3E, ANSWER), Unused.OUT_OF_SEQUENCE),
    "an empty UI frame": (frame(hdlc.UI), Unused.EMPTY),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_link_counts_what_it_passes_over(name: str) -> None:
    octets, cause = CAUSES[name]
    link = connected()
    assert link.receive_data(octets) == []
    assert +link.unused == {cause: 1}
    assert link.receive_data(frame(0x30, ANSWER)) == [ApduReceived(b"\xc4")]
    assert +link.unused == {cause: 1}


def test_a_wrapper_counts_what_is_for_nobody() -> None:
    link = WrapperClientLink(client=48, server=1)
    assert link.receive_data(wrapper.encode(1, 16, b"\xc4\x01")) == []
    assert link.receive_data(wrapper.encode(1, 48, b"\xc4\x01")) == [ApduReceived(b"\xc4\x01")]
    assert +link.unused == {Unused.WRONG_PORT: 1}


def test_a_push_in_an_i_frame_is_one_and_another_i_frame_is_not_dropped_in_silence() -> None:
    unused = UnusedCounter()
    stream = PushStream(unused=unused)
    assert [apdu[:1] for apdu in apdus_of(KAIFA, stream)] == [b"\x0f"]
    assert apdus_of(frame(0x10, hdlc.LLC_RESPONSE + ANSWER), stream) == []
    assert +unused == {Unused.OUT_OF_SEQUENCE: 1}


@given(st.lists(st.sampled_from(["push", "empty", "i", "rr", "snrm"]), max_size=20))
def test_each_frame_of_a_push_connection_is_a_push_or_counted(kinds: list[str]) -> None:
    made = {
        "push": frame(hdlc.UI, hdlc.LLC_RESPONSE + b"\x0f\x00"),
        "empty": frame(hdlc.UI, hdlc.LLC_RESPONSE),
        "i": frame(0x10, hdlc.LLC_RESPONSE + b"\xc4"),
        "rr": frame(hdlc.RR | hdlc.POLL),
        "snrm": frame(hdlc.SNRM | hdlc.POLL),
    }
    unused = UnusedCounter()
    apdus = apdus_of(b"".join(made[kind] for kind in kinds), PushStream(unused=unused))
    assert len(apdus) == kinds.count("push")
    assert len(apdus) + unused.total() == len(kinds)


@given(st.integers(1, 63), st.booleans())
def test_repeated_blocks_count_against_their_bound(window: int, streaming: bool) -> None:
    transfer = BlockTransfer(size=100, window=window)
    first = GeneralBlock(number=1, acknowledged=0, last=False, streaming=streaming, data=b"x")
    transfer.take(first)
    taken = gbt.MAX_ROUNDS * (window if streaming else 1)
    for _ in range(taken):
        transfer.take(first)
    with pytest.raises(MeterProtocolError, match="nothing new"):
        transfer.take(first)
    assert transfer.repeated == taken + 1


async def test_a_line_counts_what_its_meters_sent_in_vain() -> None:
    async with site("frame-doubled", "hdlc") as meter, meter.open() as session:
        assert energies(await meter.blocks(session)) == meter.true_blocks()
        counted = unused_frames(meter.line)
        assert counted.out_of_sequence + counted.unexpected_control == 1
        assert "I frame" in str(counted)


def test_each_cause_is_a_counter_with_a_meaning() -> None:
    assert {f.name for f in fields(UnusedFrames)} == {cause.value for cause in Unused}
    assert all(cause.meaning for cause in Unused)
    assert str(UnusedFrames()) == ""
