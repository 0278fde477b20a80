"""Traces of lines: their form, what is written and what is hidden, and sessions played back from them."""

from __future__ import annotations

import contextlib
import re
import secrets
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.meters import LineSection
from gateway.roles.lines import make_line
from gateway.roles.trace_log import TraceFile, new_trace
from protocols.capture.trace_file import HEAD, Piece, is_trace, piece_line, read_trace, remark_line
from protocols.dlms.apdu import gbt
from protocols.dlms.apdu.acse import Aarq, InitiateRequest, encode_aarq, encode_initiate_request
from protocols.dlms.apdu.gbt import GeneralBlock
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, SetRequest, encode_apdu
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.data import types
from protocols.dlms.framing.hdlc import LLC_REQUEST, LLC_RESPONSE, Address, Frame, FrameDecoder
from protocols.dlms.framing.wrapper import WrapperDecoder, encode
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.model import AssociationPolicy
from protocols.dlms.server.ports import serve_hdlc_tcp, serve_wrapper
from protocols.dlms.session import DlmsSession, open_dlms
from protocols.dlms.trace.frames import decode_trace
from protocols.dlms.trace.mask import ConversationMask, PasswordMask
from protocols.errors import LineUnavailable, MeterProtocolError
from protocols.reading import Obis
from protocols.session import Auth, DlmsSettings, MeterSpec, SessionContext
from tests.support.dlms.bench import AK, EK, HLS_KEY, KEYS, PASSWORD, POLICIES, Joined, SmallMeter
from tests.support.fakes import Counters, HandClock, NoCounters, Secrets
from tests.support.paths import ROOT
from tests.support.replay import ReplayLine

pytestmark = pytest.mark.virtual_time

RELAY = Obis(0, 0, 96, 3, 10)
TRACES = ROOT / "tests" / "protocols" / "dlms" / "traces"
AT = datetime(2026, 11, 25, 8, 0, 0, 123456, tzinfo=UTC)
SECRET = b"WRONGISH" * 4


class OnePassword:
    def secret(self, ref: str) -> bytes:
        return PASSWORD


def aarq(secret: bytes = SECRET, mechanism: int = 1) -> bytes:
    return encode_aarq(
        Aarq(mechanism=mechanism, secret=secret, user_information=encode_initiate_request(InitiateRequest()))
    )


# form


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=40))))
def test_what_is_written_is_read_again(pieces: list[tuple[bool, bytes]]) -> None:
    lines = [HEAD, remark_line(AT, "line\nbus-1")]
    lines += [piece_line(AT, sent=sent, octets=octets) for sent, octets in pieces]
    found = list(read_trace("\n".join(lines)))
    assert [(p.sent, p.octets, p.at, p.line) for p in found] == [
        (sent, octets, AT, number) for number, (sent, octets) in enumerate(pieces, start=3)
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# meter-gateway trace 2\n", "only `# meter-gateway trace 1`"),
        (f"{HEAD}\n2026-11-25T08:00:00Z ? 00", "line 2"),
        (f"{HEAD}\n\n2026-11-25T08:00:00Z > 0", "line 3"),
        (f"{HEAD}\nyesterday > 00", "`yesterday` is no time"),
    ],
)
def test_the_first_line_that_is_wrong(text: str, says: str) -> None:
    with pytest.raises(MeterProtocolError, match=says.replace("?", r"\?")):
        list(read_trace(text))


def test_traces_are_told_by_their_first_line() -> None:
    assert is_trace(HEAD)
    assert is_trace("> 7EA0\n")
    assert list(read_trace("> 7E A0\n")) == [Piece(sent=True, octets=b"\x7e\xa0", line=1)]
    assert not is_trace("7EA0070321930F017E")


# files


def test_a_trace_is_private_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    path.write_text("old", encoding="ascii")
    path.chmod(0o644)
    new_trace(path)
    for name in ("one", "two"):
        sink = TraceFile(path, now=lambda: AT)
        sink.remark(name)
        sink.close()
        sink.remark("closed")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text(encoding="ascii").splitlines() == [
        HEAD,
        *(remark_line(AT, n) for n in ("one", "two")),
    ]


def test_a_trace_ends_at_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.roles.trace_log.MAX_OCTETS", 1 << 20)
    with contextlib.closing(TraceFile(tmp_path / "t.trace")) as sink:
        for _ in range(40):
            sink.octets(sent=True, octets=bytes(20_000))
    text = (tmp_path / "t.trace").read_text(encoding="ascii")
    assert len(text) < (1 << 20) + 200
    assert text.splitlines()[-1].endswith("# the trace ends here: 1 MiB are reached")
    assert text.count("the trace ends here") == 1


async def test_a_session_and_a_failure_are_traced(tmp_path: Path) -> None:
    policy, _ = POLICIES["lls"]
    server = await serve_wrapper(SmallMeter({32: policy}))
    port = server.sockets[0].getsockname()[1]
    path = tmp_path / "t.trace"
    section = LineSection(name="one", kind="tcp", host="127.0.0.1", port=port, trace=path)
    spec = MeterSpec(meter=None, dlms=DlmsSettings(client=32, auth=Auth.LLS, password_ref="p"))
    line = make_line(section)
    async with open_dlms(
        line, spec, SessionContext(secrets=OnePassword(), counters=NoCounters(), clock=HandClock(AT))
    ) as session:
        await session.clock()
    server.close()
    await line.close()
    await line.close()
    text = path.read_text(encoding="ascii")
    assert PASSWORD.hex().upper() not in text
    pieces = list(read_trace(text))
    assert [p.sent for p in pieces[:2]] == [True, False]
    assert decode_trace(pieces[0].octets).problem is None
    gone = make_line(section.model_copy(update={"port": 1}))
    with pytest.raises(LineUnavailable):
        async with gone.exclusive():
            pass
    await gone.close()
    assert "Connect call failed" in path.read_text(encoding="ascii").splitlines()[-1]


# passwords


def frames(apdu: bytes, size: int, *, first: int = 0) -> list[bytes]:
    parts = [apdu[n : n + size] for n in range(0, len(apdu), size)]
    return [
        Frame(
            destination=Address(1, 17),
            source=Address(16),
            control=(first + n & 7) << 1 | 0x10,
            info=part,
            segmented=n < len(parts) - 1,
        ).encode()
        for n, part in enumerate(parts)
    ]


def test_a_password_in_the_wrapper_is_hidden() -> None:
    for secret in (SECRET, b"1", bytes(200)):
        sent = encode(32, 1, aarq(secret))
        hidden = PasswordMask()(sent)
        assert hidden == encode(32, 1, aarq(b"*" * len(secret)))


@given(st.integers(1, 120), st.integers(0, 7))
def test_a_password_over_any_segments_is_hidden_and_frames_stay_right(size: int, first: int) -> None:
    mask = PasswordMask()
    sent = frames(b"\xe6\xe6\x00" + aarq(), size, first=first)
    hidden = [mask(frame) for frame in sent for _ in range(2)][::2]  # each is sent twice
    decoder = FrameDecoder()
    infos = [f.info for frame in hidden for f in decoder.receive_data(frame) if isinstance(f, Frame)]
    assert b"".join(infos) == b"\xe6\xe6\x00" + aarq(b"*" * len(SECRET))
    assert decoder.bad_frames == 0


@pytest.mark.parametrize("size", [8, 21, 128])
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("elsewhere", [Obis(0, 0, 40, 0, 3), Obis(1, 0, 40, 0, 3)])
def test_a_new_password_a_new_hls_secret_and_an_answer_elsewhere_are_hidden(
    elsewhere: Obis, framing: str, size: int
) -> None:
    sent: list[SetRequest | ActionRequest] = [
        SetRequest(target=Target(15, elsewhere, 7), value=types.octets(SECRET)),
        ActionRequest(target=Target(15, elsewhere, 2), parameter=types.octets(SECRET)),
        ActionRequest(target=Target(15, elsewhere, 1), parameter=types.octets(SECRET)),
    ]
    for request in sent:
        mask, apdu = PasswordMask(), encode_apdu(request)
        pieces = [encode(16, 1, apdu)] if framing == "wrapper" else frames(apdu, size)
        shown = b"".join(map(mask, pieces))
        assert len(shown) == len(b"".join(pieces))
        assert shown.count(b"*") >= len(SECRET)
        assert SECRET[:4] not in shown
    other = encode(
        16, 1, encode_apdu(SetRequest(target=Target(15, elsewhere, 4), value=types.octets(SECRET)))
    )
    assert PasswordMask()(other) == other


def in_blocks(apdu: bytes, size: int) -> list[bytes]:
    parts = [apdu[n : n + size] for n in range(0, len(apdu), size)]
    return [
        gbt.encode(GeneralBlock(number=n, acknowledged=0, last=n == len(parts), data=part))
        for n, part in enumerate(parts, 1)
    ]


@pytest.mark.parametrize("size", [1, 5, 13, 40])
@pytest.mark.parametrize("info", [0, 8, 9, 30])
@pytest.mark.parametrize("twice", [False, True])
def test_a_secret_in_blocks_is_hidden_in_each_of_them_and_so_is_what_answers_it(
    size: int, info: int, twice: bool
) -> None:
    """Pass 3 and pass 4 of HLS in general block transfer, in the wrapper (0) or in HDLC segments of any size."""
    mask, link = ConversationMask(), [0, 0]

    def framed(apdu: bytes, *, sent: bool) -> list[bytes]:
        if not info:
            return [encode(48, 1, apdu)]
        pieces = frames((LLC_REQUEST if sent else LLC_RESPONSE) + apdu, info, first=link[sent])
        link[sent] += len(pieces)
        return pieces

    def asks(apdu: bytes) -> bytes:
        return b"".join(map(mask.sent, framed(apdu, sent=True)))

    def answers(apdu: bytes) -> bytes:
        return mask.received(b"".join(framed(apdu, sent=False))) + mask.rest()

    def carried(octets: bytes) -> bytes:
        """What blocks carry, each of which came as often as it was sent."""
        if info:
            infos = [f.info for f in FrameDecoder().receive_data(octets) if isinstance(f, Frame)]
            apdus = [part for part in re.split(rb"\xe6[\xe6\xe7]\x00(?=\xe0)", b"".join(infos)) if part]
        else:
            apdus = [frame.apdu for frame in WrapperDecoder().receive_data(octets)]
        blocks = [gbt.decode(apdu) for apdu in apdus]
        assert all(blocks.count(block) == 1 + twice for block in blocks)
        return b"".join({block.number: block.data for block in blocks}.values())

    elsewhere = Target(15, Obis(0, 0, 40, 0, 0), 1)
    question = encode_apdu(ActionRequest(target=elsewhere, parameter=types.octets(SECRET)))
    answer = bytes.fromhex("c701c1000100") + b"\x09\x20" + SECRET
    asks(aarq(mechanism=2))
    asked = answered = b""
    for block in in_blocks(question, size):
        for _ in range(1 + twice):
            asked += asks(block)
            answers(gbt.encode(GeneralBlock(number=1, acknowledged=1)))
    for number, block in enumerate(in_blocks(answer, size), 1):
        for _ in range(1 + twice):
            answered += answers(block)
        asks(gbt.encode(GeneralBlock(number=number, acknowledged=number, last=True)))
    stars = b"*" * len(SECRET)
    assert carried(asked) == question.replace(SECRET, stars)
    assert carried(answered) == answer.replace(SECRET, stars)
    # What answers another question afterwards is not hidden.
    asks(bytes.fromhex("c001c1000100002a0000ff0200"))
    assert SECRET[:3] in answers(answer)


def test_challenges_and_everything_else_stay() -> None:
    mask = PasswordMask()
    for octets in (encode(48, 1, aarq(mechanism=5)), b"\x7e", b"", b"\x7e\xa0", bytes(300)):
        assert mask(octets) == octets


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("auth", [Auth.HLS2, Auth.HLS_MD5, Auth.HLS_SHA1, Auth.HLS_SHA256, Auth.HLS_GMAC])
async def test_challenges_and_answers_of_text_secrets_are_hidden_and_frames_stay_right(
    tmp_path: Path, auth: Auth, framing: str
) -> None:
    """Of all four octet-strings of HLS none stands in the trace, so that nobody can try passwords against it."""
    policy = AssociationPolicy(auth=auth, secret=HLS_KEY, encryption_key=EK, authentication_key=AK)
    if framing == "wrapper":
        server = await serve_wrapper(SmallMeter({48: policy}))
        how: dict[str, object] = {}
    else:
        server = await serve_hdlc_tcp({17: SmallMeter({48: policy})})
        how = {"framing": "hdlc", "physical": 17}
    texts, counters = [], Counters()
    for plain in (True, False):
        path = tmp_path / f"{plain}.trace"
        port = server.sockets[0].getsockname()[1]
        line = make_line(
            LineSection(name="one", kind="tcp", host="127.0.0.1", port=port, trace=path, trace_plain=plain)
        )
        settings = DlmsSettings(
            client=48,
            auth=auth,
            password_ref=None if auth is Auth.HLS_GMAC else "hls",
            encryption_key_ref="ek",
            authentication_key_ref="ak",
            counter_object="",
            **how,  # type: ignore[arg-type]
        )
        secrets = Secrets({"hls": HLS_KEY, "ek": EK, "ak": AK})
        context = SessionContext(secrets=secrets, counters=counters, clock=HandClock(AT))
        async with open_dlms(line, MeterSpec(meter=None, dlms=settings), context) as session:
            await session.clock()
        await line.close()
        texts.append(path.read_text(encoding="ascii"))
    server.close()
    shown, hidden = (list(read_trace(text)) for text in texts)
    stars = b"*" * 16
    masked = sum(piece.octets.count(stars) for piece in hidden)
    assert masked == {Auth.HLS_GMAC: 0, Auth.HLS_SHA256: 6}.get(auth, 4)  # SHA-256 has 32 octets
    assert sum(piece.octets.count(stars) for piece in shown) == 0
    for sent in (True, False):  # the same octets in number
        both = [sum(len(p.octets) for p in pieces if p.sent is sent) for pieces in (shown, hidden)]
        assert both[0] == both[1]
    for pieces in (shown, hidden):
        for sent in (True, False):
            decoder = FrameDecoder()
            decoder.receive_data(b"".join(p.octets for p in pieces if p.sent is sent))
            assert decoder.bad_frames == 0 or framing == "wrapper"
    whole = decode_trace(b"".join(p.octets for p in hidden))
    assert whole.problem is None
    said = "\n".join(whole.lines())
    assert ("masked in the trace" in said) == (auth is not Auth.HLS_GMAC)
    assert "2a 2a 2a" not in said


@pytest.mark.parametrize("auth", [Auth.HLS2, Auth.HLS_MD5, Auth.HLS_SHA1])
@pytest.mark.parametrize("ciphered", [False, True])
@pytest.mark.parametrize("info", [0, 24, 40, 64])
@given(piece=st.integers(1, 200), blocks=st.booleans())
@settings(max_examples=8)
def test_no_challenge_is_shown_however_it_comes(
    auth: Auth, ciphered: bool, info: int, piece: int, blocks: bool
) -> None:
    """In the wrapper (0) or in segments, AARQ and AARE too, and with what is received cut anywhere."""
    drawn: list[bytes] = []

    def draw(count: int) -> bytes:
        drawn.append(secrets.token_bytes(count))
        return drawn[-1]

    keys = {"encryption_key": KEYS.encryption, "authentication_key": KEYS.authentication} if ciphered else {}
    policy = AssociationPolicy(auth=auth, ciphered=ciphered, secret=HLS_KEY, **keys)  # type: ignore[arg-type]
    ours = AssociationSettings(auth=auth, ciphered=ciphered, secret=HLS_KEY, keys=KEYS if ciphered else None)
    limits = ServerSettings(max_pdu=560, prefer_gbt=blocks, max_info=info or 128)
    talk = Joined(
        SmallMeter({48: policy}),
        ours,
        framing="hdlc" if info else "wrapper",
        limits=limits,
        random_octets=draw,
    )
    talk.associate()
    talk.get(1, "0-0:96.1.0*255")
    mask, shown = ConversationMask(), bytearray()
    for sent, came in zip_longest(talk.to_server, talk.to_client, fillvalue=b""):
        shown += mask.sent(sent)
        for at in range(0, len(came), piece):
            shown += mask.received(came[at : at + piece])
    shown += mask.rest()
    raw = b"".join((*talk.to_server, *talk.to_client))
    assert len(shown) == len(raw)
    challenges = [one for one in drawn if len(one) >= 8]
    assert len(challenges) >= 2
    for challenge in challenges:
        halves = (challenge[:5], challenge[-5:])
        assert not any(half in shown for half in halves)


def test_a_challenge_before_the_mechanism_s_name_is_hidden_too() -> None:
    mask = ConversationMask()
    mask.sent(encode(48, 1, aarq(mechanism=2)))
    challenge = bytes(range(0x30, 0x40))
    fields = (
        bytes.fromhex("a109060760857405080103"),
        b"\xaa\x12\x80\x10" + challenge,
        bytes.fromhex("a203020100"),
        bytes.fromhex("890760857405080202"),
    )
    answer = encode(1, 48, b"\x61" + bytes((len(b"".join(fields)),)) + b"".join(fields))
    assert challenge[:4] not in mask.received(answer) + mask.rest()


@given(st.binary(max_size=300), st.lists(st.integers(1, 300), max_size=6))
def test_what_is_held_back_comes_in_the_end(octets: bytes, cuts: list[int]) -> None:
    mask = ConversationMask()
    mask.sent(encode(48, 1, aarq(mechanism=2)))
    came, at = b"", 0
    for cut in cuts:
        came += mask.received(octets[at : at + cut])
        at += cut
    came += mask.received(octets[at:]) + mask.rest()
    assert len(came) == len(octets)


@pytest.mark.parametrize("length", range(8))
def test_frames_that_count_too_few_octets_come_to_an_end(length: int) -> None:
    """A meter could stop the whole gateway with one, where a trace was written."""
    octets = bytes((0x7E, 0xA0, length)) + bytes(20)
    assert len(PasswordMask()(octets)) == len(octets)
    mask = ConversationMask()
    mask.sent(encode(48, 1, aarq(mechanism=2)))
    assert len(mask.received(octets) + mask.rest()) == len(octets)


@given(st.binary(max_size=300))
def test_a_mask_takes_any_octets(octets: bytes) -> None:
    assert len(PasswordMask()(octets)) == len(octets)


# played back


@pytest.mark.parametrize(
    ("name", "physical"), [("clock-wrapper-lls", None), ("relay-hdlc-lls", 17)], ids=["wrapper", "hdlc"]
)
async def test_a_recorded_session_is_played_back(name: str, physical: int | None) -> None:
    class Recorded:
        def secret(self, ref: str) -> bytes:
            return b"ABCD0001"

    line = ReplayLine(TRACES / f"{name}.trace")
    settings = DlmsSettings(
        client=32,
        auth=Auth.LLS,
        password_ref="p",
        physical=physical,
        framing="hdlc" if physical else "wrapper",
    )
    spec = MeterSpec(meter=None, dlms=settings)
    async with open_dlms(
        line, spec, SessionContext(secrets=Recorded(), counters=NoCounters(), clock=HandClock(AT))
    ) as session:
        assert isinstance(session, DlmsSession)
        if physical is None:
            assert (await session.clock()).deviation == 330
        else:
            assert (await session.exchange.get(Target(70, RELAY))).value is True
            assert (await session.exchange.get(Target(70, RELAY, 3))).integer == 1
            assert (await session.exchange.get(Target(70, RELAY, 4))).integer == 4
    assert line.finished
