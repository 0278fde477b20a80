"""What the fuzzer feeds of Modbus: the hunts of all framings, answers, models' registers, traffic as a tree, a meter.

Invariant of the hunts: an answer that is believed stands in the stream as a whole frame of that unit, function and
length with a right check; whatever comes else, they wait, or refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from gateway.cli.tools.modbus_traffic import modbus_conversations, modbus_of_hex
from gateway.cli.tools.recording import pieces_of
from protocols.capture.recorded import RecordedOctets
from protocols.errors import MeterProtocolError
from protocols.meters.overheard import Overheard
from protocols.modbus.decoding.codec import decode, decode_instant, encode
from protocols.modbus.format.encoding import TIMES
from protocols.modbus.format.library import load_model, model_names, parse_model
from protocols.modbus.format.model import MeterModel
from protocols.modbus.framing.frames import Frames, TcpFrames, TcpManners, frames_for
from protocols.modbus.framing.hunt import MAX_FRAME, MAX_PASSED, frame_at
from protocols.modbus.framing.requests import Answer, Request, read_answer
from protocols.modbus.framing.write_requests import is_write
from protocols.modbus.image import RegisterImage
from protocols.modbus.trace import Framing, ModbusReader, framing_of
from protocols.modbus.tryout import try_model
from protocols.reading import Missing, Number, Text, Value
from protocols.simulator.modbus.frames import NotModbus, take_mbap, take_rtu
from protocols.simulator.modbus.meter import ModbusMeter
from tests.support.fakes import HandClock
from tests.support.modbus.raw_meters import ascii_frame, rtu_frame, tcp_frame
from tests.support.modbus.simulated import NOON, StillMeter
from tests.support.pcap_writer import CLIENT, METER, pcap, pcapng, tcp, udp

Target_ = Callable[[bytes], object]
UNIT = 5
ZONE = ZoneInfo("Asia/Kolkata")
REQUESTS: tuple[Request, ...] = (
    Request(unit=UNIT, function=4, address=0x46, count=2, transaction=7),
    Request(unit=UNIT, function=3, address=0, count=125, transaction=7),
    Request(unit=UNIT, function=3, address=9, count=1, transaction=7),
    Request(unit=UNIT, function=1, address=3, count=9, transaction=7),
    Request(unit=UNIT, function=2, address=3, count=1, transaction=7),
    Request(unit=UNIT, function=5, address=16, values=(1,), transaction=7),
    Request(unit=UNIT, function=6, address=70, values=(0x5AA5,), transaction=7),
    Request(unit=UNIT, function=16, address=82, values=(0, 5000), transaction=7),
    Request(unit=UNIT, function=17, transaction=7),
    Request(unit=UNIT, function=20, address=1, count=4, file=4, transaction=7),
    Request(unit=UNIT, function=43, address=2, category=4, transaction=7),
)
PDUS: tuple[bytes, ...] = (
    b"\x04\x04\x42\x47\xe6\x66",
    b"\x03\xfa" + bytes(range(250)),
    b"\x03\x02\x00\x07",
    b"\x01\x02\x55\x01",
    b"\x02\x01\x01",
    b"\x05\x00\x10\xff\x00",
    b"\x06\x00\x46\x5a\xa5",
    b"\x10\x00\x52\x00\x02",
    b"\x11\x05\x01\xffAB1",
    b"\x14\x0a\x09\x06" + bytes(8),
    b"\x2b\x0e\x04\x83\x00\x00\x01\x02\x03V12",
    b"\x84\x02",
    b"\x83\x06",
    b"\x04\x00\x46\x00\x02",
)
FRAMERS: dict[str, Callable[[int, bytes], bytes]] = {
    "rtu": rtu_frame,
    "ascii": ascii_frame,
    "tcp": lambda unit, pdu: tcp_frame(7, unit, pdu),
}


def _pieces(cut: int, octets: bytes) -> Iterator[bytes]:
    """Cut a stream: whole, octet by octet, or into pieces of a size."""
    size = (len(octets) or 1) if cut == 0 else cut % 17 + 1
    return (octets[a:b] for a, b in pairwise([*range(0, len(octets), size), len(octets)]))


def _hunted(framing: str, frames: Frames, *, datagrams: bool = False) -> Target_:
    def hunt(data: bytes) -> None:
        if len(data) < 3:
            return
        request = REQUESTS[data[0] % len(REQUESTS)] if data[0] < 0xF0 else None
        hunt = frames.hunt(request, takes_refusals=bool(data[2] & 1), echoes=bool(data[2] & 2))
        stream, answer = data[3:], None
        try:
            for piece in [stream] if datagrams else _pieces(data[1], stream):
                answer = hunt.feed(piece)
                if answer is not None:
                    break
            answer = answer or hunt.silence()
            hunt.end()
        finally:
            assert len(hunt.passed.frames) <= MAX_PASSED
            assert len(hunt.rest()) <= len(stream)
        if answer is not None:
            assert request is not None
            _stands(framing, request, answer, stream)

    return hunt


def _stands(framing: str, request: Request, answer: Answer, stream: bytes) -> None:
    """Refuse an answer whose whole right frame is not in the stream."""
    pdu = None
    if answer.exception is not None:
        pdu = bytes((request.function | 0x80, answer.exception))
    elif request.function in (3, 4):
        pdu = bytes((request.function, 2 * request.count)) + _octets(answer)
    elif request.writes:
        pdu = request.pdu()[:5]
    if pdu is None:
        return
    if framing == "ascii":
        stream = bytes(octet & 0x7F for octet in stream).upper()
    assert FRAMERS[framing](request.unit, pdu) in stream, "an answer that did not come"


def _octets(answer: Answer) -> bytes:
    return b"".join(word.to_bytes(2, "big") for word in answer.words)


def _answer(data: bytes) -> None:
    if len(data) < 2:
        return
    request = REQUESTS[data[0] % len(REQUESTS)]
    wanted = request.answer_octets(data[1:])
    if wanted == len(data) - 1:
        read_answer(request, data[1:])


@lru_cache(maxsize=1)
def _models() -> tuple[MeterModel, ...]:
    return tuple(load_model(name) for name in model_names())


def _codec(data: bytes) -> None:
    """Any words of any register of any shipped model come to an exact value, which the register holds again."""
    if len(data) < 3:
        return
    model = _models()[data[0] % len(_models())]
    register = model.registers[data[1] % len(model.registers)]
    octets = data[2:].ljust(2 * register.span.size, b"\0")
    words = [int.from_bytes(octets[2 * n : 2 * n + 2], "big") for n in range(register.span.size)]
    value: Value = decode(model, register, words, ZONE)
    if register.type in TIMES:
        decode_instant(model, register, words, ZONE)
    if isinstance(value, Missing):
        assert value.reason
    elif isinstance(value, Number | Text) and not (register.multiply_by or register.divide_by):
        again = decode(model, register, encode(model, register, value, ZONE), ZONE)
        assert again == value or register.four_quadrant or register.type == "f32", (value, again)


def _model_file(data: bytes) -> None:
    parse_model(data.decode("utf-8", errors="replace"), where="mine.toml")


def _image(data: bytes) -> None:
    image = RegisterImage.parse(data.decode("utf-8", errors="replace"), where="mine.txt")
    tried = try_model(load_model("sdm120"), image, at=NOON, zone=ZONE)
    with suppress(StopIteration):  # no line, no clock: it never waits
        tried.send(None)


def _recorded(data: bytes) -> list[RecordedOctets]:
    """A conversation of two directions in pieces."""
    step = data[0] % 23 + 1 if data else 1
    return [
        RecordedOctets(
            conversation=n % 2, sent=bool(n & 2), octets=data[at : at + step], offset=at, missing=n % 11 == 7
        )
        for n, at in enumerate(range(1, len(data), step))
    ]


def _trace(data: bytes) -> None:
    framing_of(data)
    modbus_of_hex(data, _described)
    modbus_conversations(_recorded(data), _described)
    for framing in Framing:
        reader = ModbusReader(framing, _described, budget=50)
        for piece in _recorded(data):
            reader.take(piece)
        reader.finish()
        assert reader.explained <= reader.total


def _described(function: int, address: int, words: object) -> list[tuple[int, str, str]]:
    del function, words
    return [(address % 3, "a value", "1 V")]


def _recording(data: bytes) -> None:
    pieces = pieces_of(data)
    if pieces is not None:
        modbus_conversations(pieces, _described)


def _overheard(data: bytes) -> None:
    heard = Overheard(describe=_described)
    for n, piece in enumerate(_pieces(data[0] if data else 0, data[1:])):
        heard.feed(piece, float(n))
    heard.silence(1e9)


def _frame_at(data: bytes) -> None:
    for at in range(min(len(data), 4)):
        frame, size = frame_at(data, at)
        assert (frame is None) == (size <= 0)
        assert size <= MAX_FRAME
    is_write(data)


def _simulated(data: bytes) -> None:
    """A simulated meter is asked anything, and what it takes is within its model."""
    meter = ModbusMeter(StillMeter("EAS", "10000001"), "sdm320y-sim", UNIT, HandClock(NOON))
    buffer = bytearray(data)
    for asked in take_rtu(buffer):
        meter.steps(asked, 0.0)
    try:
        for asked in take_mbap(bytearray(data)):
            meter.steps(asked, 0.0)
    except NotModbus:
        raise MeterProtocolError("not Modbus") from None
    if data:
        answer = meter.answer(data)
        assert 2 <= len(answer) <= 253


OWN_NUMBERS = TcpFrames(TcpManners(answer_unit=0, own_transactions=True))
MODBUS: dict[str, Target_] = {
    "modbus-rtu": _hunted("rtu", frames_for("rtu")),
    "modbus-ascii": _hunted("ascii", frames_for("ascii")),
    "modbus-tcp": _hunted("tcp", frames_for("tcp")),
    "modbus-udp": _hunted("tcp", frames_for("tcp"), datagrams=True),
    "modbus-answer": _answer,
    "modbus-codec": _codec,
    "modbus-model": _model_file,
    "modbus-image": _image,
    "modbus-trace": _trace,
    "modbus-recording": _recording,
    "modbus-overheard": _overheard,
    "modbus-frame": _frame_at,
    "modbus-meter": _simulated,
}


def _streams(framing: str) -> Iterator[bytes]:
    framer = FRAMERS[framing]
    for number, request in enumerate(REQUESTS):
        encoded = frames_for(framing).encode(request)
        right = framer(UNIT, PDUS[number])
        for cut in (0, 1, 6):
            for before in (b"", b"\0\xff", encoded, framer(9, PDUS[0])):
                yield bytes((number, cut, 1)) + before + right
    yield bytes((0xF0, 3, 1)) + b"".join(framer(UNIT, pdu) for pdu in PDUS)


def _captures() -> Iterator[bytes]:
    asked = [frames_for("tcp").encode(request) for request in REQUESTS[:3]]
    told = [tcp_frame(7, UNIT, pdu) for pdu in PDUS[:3]]
    streams, datagrams, sequence = [], [], [1000, 5000]
    for question, answer in zip(asked, told, strict=True):
        streams += [tcp(CLIENT, METER, sequence[0], question), tcp(METER, CLIENT, sequence[1], answer)]
        datagrams += [udp(CLIENT, METER, question), udp(METER, CLIENT, answer)]
        sequence = [sequence[0] + len(question), sequence[1] + len(answer)]
    for packets in (streams, datagrams):
        yield pcap(packets)
        yield pcapng(packets)
    lines = [
        f"2026-11-25T08:00:00Z {'>' if n % 2 == 0 else '<'} {octets.hex()}"
        for n, octets in enumerate(octets for pair in zip(asked, told, strict=True) for octets in pair)
    ]
    yield ("# meter-gateway trace 1\n" + "\n".join(lines) + "\n").encode()


@lru_cache(maxsize=1)
def seeds_of_modbus() -> dict[str, tuple[bytes, ...]]:
    """Give the seeds of each target of Modbus."""
    rtu = b"".join(rtu_frame(UNIT, pdu) for pdu in PDUS)
    whole = tuple(framer(UNIT, pdu) for framer in FRAMERS.values() for pdu in PDUS)
    asked = tuple(frames_for(name).encode(request) for name in FRAMERS for request in REQUESTS)
    registers = tuple(
        bytes((m, r)) + bytes.fromhex(words)
        for m, model in enumerate(_models())
        for r in range(len(model.registers))
        for words in (
            "4366666600000000",
            "0000000000000001",
            "ffffffffffffffff",
            "7fc00000",
            "2611231200000000",
        )
    )
    model = (
        'name = "mine"\ntitle = "Mine"\nmanufacturer = "MIN"\nsource = "x"\n[[registers]]\n'
        'quantity = "0-0:96.1.0*255"\nprofiles = ["nameplate"]\nfunction = 3\naddress = 0\ntype = "u32"\n'
        'as_text = true\n[[registers]]\nquantity = "1-0:1.8.0"\nprofiles = ["instantaneous"]\nfunction = 3\n'
        'address = 4\ntype = "u32"\nscaler = -2\nunit = "kWh"\ndigits = 8\n[[probe]]\nquantity = "1-0:1.8.0"\n'
        'low = 1\nhigh = 2\n[writes.unlock]\nfunction = 6\naddress = 1\ntype = "u16"\nvalue = 7\n'
    )
    return {
        "modbus-rtu": tuple(_streams("rtu")),
        "modbus-ascii": tuple(_streams("ascii")),
        "modbus-tcp": tuple(_streams("tcp")),
        "modbus-udp": tuple(_streams("tcp")),
        "modbus-answer": tuple(bytes((n,)) + pdu for n, pdu in enumerate(PDUS[: len(REQUESTS)])),
        "modbus-codec": registers,
        "modbus-model": (
            model.encode(),
            b'extends = "sdm120"\nname = "mine"\ntitle = "Mine"\nremove = ["1-0:2.8.0"]\n',
        ),
        "modbus-image": (
            b"4 0: 4366 6666\n4 0x48: 449A 5000\n3 0xFC00: 0098 9681\n",
            b"20/4 0: 1 2 3 4\n43 0: 0041\n",
        ),
        "modbus-trace": (*whole, *asked, b"\x05" + rtu),
        "modbus-recording": tuple(_captures()),
        "modbus-overheard": (b"\0" + rtu, *(b"\3" + one for one in whole)),
        "modbus-frame": (*whole, *asked),
        "modbus-meter": (*asked, *(one.pdu() for one in REQUESTS)),
    }
