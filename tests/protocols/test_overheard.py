"""What others say on a bus: Modbus and HDLC told apart, who asks whom, noise counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import Address, Frame
from protocols.meters.overheard import Overheard, Said, Way
from tests.support.modbus.raw_responder import rtu
from tests.support.steps import steps_of

ASKED = rtu(5, 4, 0, 10, 0, 2)
ANSWERED = rtu(5, 4, 4, 0x43, 0x66, 0x33, 0x34)
REFUSED = rtu(5, 0x84, 2)
SNRM = Frame(destination=Address(1, 17), source=Address(16), control=hdlc.SNRM | hdlc.POLL).encode()
UA = Frame(
    destination=Address(16), source=Address(1, 17), control=hdlc.UA | hdlc.POLL, info=b"\x81\x80"
).encode()


def heard(*pieces: bytes) -> tuple[Overheard, list[Said]]:
    ear = Overheard()
    said = [one for number, piece in enumerate(pieces) for one in ear.feed(piece, float(number))]
    return ear, said + ear.silence(float(len(pieces)))


def ways(said: list[Said]) -> list[tuple[str, Way]]:
    return [(one.station, one.way) for one in said]


def test_modbus_and_hdlc_on_one_bus() -> None:
    ear, said = heard(ASKED, ANSWERED, SNRM, UA, rtu(6, 4, 0, 0, 0, 2))
    assert ways(said) == [
        ("unit 5", Way.ASKED),
        ("unit 5", Way.ANSWERED),
        ("HDLC 1/17", Way.ASKED),
        ("HDLC 1/17", Way.ANSWERED),
        ("unit 6", Way.ASKED),
    ]
    assert said[0].text == "function 4, 2 from 10 (0x000a)"
    assert said[1].text == "2 registers: 4366 3334"
    assert said[2].text == "SNRM, client 16"
    assert ear.noise == 0
    assert (ear.talks["unit 5"].fastest, ear.talks["unit 5"].unanswered) == (1.0, 0)


def test_frames_that_share_a_flag_come_glued_or_in_pieces() -> None:
    glued = SNRM[:-1] + UA
    for cut in range(1, len(glued)):
        ear, said = heard(glued[:cut], glued[cut:])
        assert ways(said) == [("HDLC 1/17", Way.ASKED), ("HDLC 1/17", Way.ANSWERED)], cut
        assert ear.noise == 0


def test_questions_without_an_answer_are_counted() -> None:
    ear, _ = heard(ASKED, ASKED, ASKED, REFUSED)
    talk = ear.talks["unit 5"]
    assert (talk.asked, talk.answered, talk.refused, talk.unanswered) == (3, 0, 1, 2)


def test_a_model_names_what_is_read() -> None:
    ear = Overheard(describe=lambda function, first, words: [(0, f"{function}/{first}", f"{words[0]:x} V")])
    said = ear.feed(ASKED + ANSWERED, 0.0)
    assert said[1].text == "4/10 4366 V"


def test_noise_is_said_and_what_follows_is_heard() -> None:
    ear, said = heard(b"\x00\xff\x81" + ASKED)
    assert [one.way for one in said] == [Way.NOISE, Way.ASKED]
    assert ear.noise == 3


@given(
    st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([ASKED, ANSWERED, SNRM, UA])), max_size=12),
    st.booleans(),
)
def test_any_octets_end_with_an_empty_buffer(pieces: list[bytes], glued: bool) -> None:
    ear, _ = heard(*([b"".join(pieces)] if glued else pieces))
    assert ear.noise <= sum(map(len, pieces))
    assert ear.feed(ASKED, 99.0)[0].station == "unit 5"


def test_what_is_no_frame_is_looked_at_once_however_it_comes() -> None:
    """Octet by octet, as a slow line gives it; all of this noise is the beginning of long answers that do not come."""
    noise = b"\x05\x04\xfa" * 240
    ear = Overheard()
    steps = steps_of(lambda: [ear.feed(noise[at : at + 1], float(at)) for at in range(len(noise))])
    assert steps < 1_000 * len(noise)
