"""Finding the right frame in what comes on a line, until the deadline: whatever stands before it is passed over.

Pure: octets in, an answer out. What is passed over is kept by kind for whoever counts and names it (`Passed`).
On RTU a frame has no mark at its beginning, so each octet may begin one: a frame is right when unit, function, length
and check sum are, and nothing before it can still become a frame around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pymodbus.framer import FramerAscii, FramerRTU

from protocols.errors import LocalError
from protocols.modbus.framing.requests import (
    DEVICE_IDENTIFICATION,
    FILE_RECORD,
    MAX_PDU,
    READING,
    REPORT_SERVER_ID,
    Answer,
    Request,
    identification_octets,
    read_answer,
)

MAX_FRAME = 260
"""Octets of the longest frame (Modbus/TCP: 7 of header, 253 of PDU)."""
MBAP = 7
"""Octets of the header of Modbus TCP: transaction, protocol 0, length, unit."""
MAX_UNIT = 247
MAX_PASSED = 64
"""Frames passed over that are kept for one request; later ones are counted with the garbage."""
MAX_LEAD = 16
MAX_ASCII = 2 * MAX_PDU + 8


@dataclass(frozen=True, slots=True)
class Frame:
    """A sound frame: `request` where it has the shape of a master's request; `transaction` on TCP."""

    unit: int
    pdu: bytes
    request: bool = False
    transaction: int | None = None


@dataclass(slots=True)
class Passed:
    """What came and was not the answer: sound frames, octets of no frame, answers with a wrong check sum."""

    frames: list[Frame] = field(default_factory=list)
    garbage: int = 0
    bad_checks: int = 0
    octets: int = 0
    """All that came, the answer included."""
    lead: bytes = b""
    """The first of the octets of no frame."""
    contested: bool = False
    """Another master asked the same unit for an answer that looks the same: whose it is cannot be told."""

    def waste(self, octets: bytes | bytearray) -> None:
        """Count octets of no frame."""
        self.garbage += len(octets)
        self.lead += octets[: MAX_LEAD - len(self.lead)]

    def note(self, frame: Frame, request: Request | None) -> None:
        """Keep a frame; beyond MAX_PASSED it counts as garbage."""
        if len(self.frames) < MAX_PASSED:
            self.frames.append(frame)
        else:
            self.garbage += len(frame.pdu)
        if request is None or (frame.unit, frame.pdu[0]) != (request.unit, request.function):
            return
        if frame.pdu != request.pdu() and (asked := as_request(frame)) is not None:
            self.contested = self.contested or asked.data_octets == request.data_octets


def as_request(frame: Frame) -> Request | None:
    """Return what a frame of a master's shape asks for, where it reads; None for everything else."""
    if not frame.request or frame.pdu[0] not in READING or len(frame.pdu) != 5:
        return None
    address, count = int.from_bytes(frame.pdu[1:3], "big"), int.from_bytes(frame.pdu[3:5], "big")
    try:
        return Request(unit=frame.unit, function=frame.pdu[0], address=address, count=count)
    except LocalError:
        return None


class Hunt(Protocol):
    """The search for the answer to one request, or without a request for frames of anybody."""

    passed: Passed

    def feed(self, octets: bytes) -> Answer | None:
        """Take octets; return the answer once it is whole and nothing before it may be one.

        MeterProtocolError where the stream is out of step (TCP) or the answer cannot be decoded.
        """

    def silence(self) -> Answer | None:
        """Return an answer that was held back for a frame before it which did not become whole."""

    def end(self) -> None:
        """Decide what is left: nothing more comes."""

    @property
    def begun(self) -> bool:
        """Say whether the last octets may be the beginning of the answer."""

    def rest(self) -> bytes:
        """Return what came behind the answer."""


class BufferedHunt:
    """What the hunts share: what came and is not decided yet, and that without more octets nothing is."""

    def __init__(self, request: Request | None, *, takes_refusals: bool) -> None:
        self.passed = Passed()
        self._request = request
        self._takes_refusals = takes_refusals
        self._buffer = bytearray()

    def silence(self) -> Answer | None:
        return None

    def end(self) -> None:
        self.passed.waste(self.rest())

    def rest(self) -> bytes:
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


class _BusHunt(BufferedHunt):
    """On a bus the request itself may come back; `sent` are its octets, and one copy is due where the line `echoes`."""

    def __init__(
        self,
        request: Request | None,
        sent: bytes = b"",
        *,
        takes_refusals: bool = True,
        echoes: bool = False,
    ) -> None:
        super().__init__(request, takes_refusals=takes_refusals)
        self._sent = sent
        self._echo_due = echoes


class RtuHunt(_BusHunt):
    """Address, PDU, CRC; no sequence number.

    `takes_refusals` is False while a refusal of an earlier request to the same function may still come: refusals
    have no length to tell them apart. `sent` are the octets of the request; where the line `echoes`, one copy of them
    is passed over that for functions 5 and 6 would look like the answer. Once another master has asked the same unit
    for an answer of the same look, no answer is believed any more.
    """

    def __init__(
        self,
        request: Request | None,
        sent: bytes = b"",
        *,
        takes_refusals: bool = True,
        echoes: bool = False,
    ) -> None:
        super().__init__(request, sent, takes_refusals=takes_refusals, echoes=echoes)
        self._open_own = False
        self._undecided_until = 0
        """Octets that the buffer must have before the first thing in it that may be an answer can be told."""
        self._spoiled = -1

    def feed(self, octets: bytes) -> Answer | None:
        self._buffer += octets
        self.passed.octets += len(octets)
        if len(self._buffer) < self._undecided_until:  # on a slow line an answer comes octet by octet
            return None
        return self._look(silent=False)

    def silence(self) -> Answer | None:
        return self._look(silent=True)

    def end(self) -> None:
        self._look(silent=True, final=True)

    @property
    def begun(self) -> bool:
        return self._open_own

    def _look(self, *, silent: bool, final: bool = False) -> Answer | None:
        buffer, at, opened = self._buffer, 0, False
        self._open_own = False
        begins = 0  # what lies before it is decided
        until = 0
        while at < len(buffer):
            own, size = self._own(at)
            if own is True:
                if opened and not silent:
                    break
                self.passed.waste(buffer[begins:at])
                return self._take(at, size)
            self._open_own = self._open_own or own is None
            echo = self._echo_at(at)
            frame, foreign = (None, 0) if own is None and not echo else frame_at(buffer, at)
            if frame is not None and not opened:
                self.passed.note(frame, self._request)
                self.passed.waste(buffer[begins:at])
                at += foreign
                begins = at
                continue
            if own is None and not opened:
                until = at - begins + size
            opened = not final and (opened or own is None or foreign < 0)
            at += 1
            if not opened:
                self.passed.waste(buffer[begins:at])
                begins = at
        del buffer[:begins]
        self._spoiled -= begins
        self._undecided_until = until
        return None

    def _own(self, at: int) -> tuple[bool | None, int]:
        """Say whether the answer stands here: True, or None while it cannot be told; and the octets that it takes."""
        request, buffer = self._request, self._buffer
        if request is None or buffer[at] != request.unit or self.passed.contested:
            return False, 0
        if len(buffer) - at < len(self._sent) and self._sent.startswith(buffer[at:]):
            return None, 0  # perhaps an echo in pieces: no part of it is an answer
        head = bytes(buffer[at + 1 : at + 1 + MAX_PDU])
        octets = request.answer_octets(head)
        if octets is None:
            return None, 0
        if octets < 0 or (octets == 2 and not self._takes_refusals):
            return False, 0
        size = octets + 3
        if len(buffer) < at + size:
            return None, size
        if not checks(buffer[at : at + size]):
            if at > self._spoiled and not self._echo_at(at):
                self._spoiled = at
                self.passed.bad_checks += 1
            return False, 0
        if self._echo_due and self._echo_at(at):
            self._echo_due = False
            return False, 0
        return True, size

    def _echo_at(self, at: int) -> bool:
        return bool(self._sent) and self._buffer.startswith(self._sent, at)

    def _take(self, at: int, size: int) -> Answer:
        assert self._request is not None
        pdu = bytes(self._buffer[at + 1 : at + size - 2])
        del self._buffer[: at + size]
        self._open_own = False
        return read_answer(self._request, pdu)


def frame_at(octets: bytes | bytearray, at: int) -> tuple[Frame | None, int]:
    """Return the sound RTU frame of anybody that begins here with its octets; (None, -1) while one may yet."""
    unit = octets[at]
    if unit > MAX_UNIT:
        return None, 0
    head = octets[at + 1 : at + 1 + MAX_PDU]
    if not head:
        return None, -1
    opened = False
    for size, request in _sizes(bytes(head)):
        if size is None or len(octets) - at < size + 3:
            opened = True
        elif size > 0 and checks(octets[at : at + size + 3]):
            pdu = bytes(octets[at + 1 : at + 1 + size])
            return Frame(unit, pdu, request), size + 3
    return None, -1 if opened else 0


def mbap_at(octets: bytes | bytearray, at: int) -> tuple[Frame | None, int]:
    """Return the TCP frame of anybody that begins here, as `frame_at` does: (None, -1) while one may yet, else 0."""
    head = octets[at : at + MBAP]
    if len(head) < MBAP - 1:
        return None, -1
    length = int.from_bytes(head[4:6], "big")
    if head[2:4] != b"\0\0" or not 2 <= length <= MAX_FRAME - MBAP + 1:
        return None, 0
    size = MBAP - 1 + length
    if len(octets) - at < size:
        return None, -1
    pdu = bytes(octets[at + MBAP : at + size])
    return Frame(head[6], pdu, transaction=int.from_bytes(head[:2], "big")), size


def ascii_line(line: bytes | bytearray) -> tuple[Frame | None, bool]:
    """Return what a line of Modbus ASCII says, from its colon to CR LF, and whether its LRC is right."""
    text = bytes(line[1:-2])
    try:
        body = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return None, False
    if len(body) < 3 or not text.isalnum():  # `fromhex` passes over white space
        return None, False
    return Frame(body[0], body[1:-1]), bool(FramerAscii.check_LRC(body[:-1], body[-1]))


def _sizes(head: bytes) -> list[tuple[int | None, bool]]:
    """Return the octets that a PDU of this beginning may have, and whether it is then a request."""
    function = head[0]
    if function & 0x80:
        return [(2, False)] if function & 0x7F in _KNOWN else []
    if function not in _KNOWN:
        return []
    second = head[1] if len(head) > 1 else None
    match function:
        case 1 | 2 | 3 | 4:
            fits = second is None or (0 < second <= 250 and (function < 3 or second % 2 == 0))
            answer: list[tuple[int | None, bool]] = [(None if second is None else 2 + second, False)]
            return [(5, True), *(answer if fits else [])]
        case 5 | 6:
            return [(5, False)]
        case 15 | 16:
            return [(5, False), (6 + head[5] if len(head) > 5 else None, True)]
        case 17:
            return [(1, True), (None if second is None else 2 + second, False)]
        case 20:
            size = None if second is None else 2 + second
            return [(size, second is not None and second % 7 == 0)]
    return [(4, True), (identification_octets(head), False)]


_KNOWN = frozenset((1, 2, 3, 4, 5, 6, 15, 16, REPORT_SERVER_ID, FILE_RECORD, DEVICE_IDENTIFICATION))


def checks(frame: bytes | bytearray) -> bool:
    """Say whether the CRC at the end of an RTU frame is right."""
    return FramerRTU.check_CRC(bytes(frame[:-2]), int.from_bytes(frame[-2:], "big"))


class AsciiHunt(_BusHunt):
    """Colon, hex digits, LRC, CR LF: each colon begins a frame anew."""

    def feed(self, octets: bytes) -> Answer | None:
        self.passed.octets += len(octets)
        # Parity that the port does not strip (7E1 read as 8N1) is the top bit; the alphabet has seven.
        self._buffer += bytes(octet & 0x7F for octet in octets)
        while (end := self._buffer.find(b"\r\n")) >= 0:
            line = bytes(self._buffer[: end + 2])
            del self._buffer[: end + 2]
            start = line.rfind(b":")
            self.passed.waste(line[:start] if start >= 0 else line)
            if start >= 0 and (answer := self._line(line[start:])) is not None:
                return answer
        start = self._buffer.rfind(b":")
        useless = len(self._buffer) if start < 0 or len(self._buffer) - start > MAX_ASCII else start
        if self._buffer.endswith(b"\r") and useless == len(self._buffer):
            useless -= 1
        self.passed.waste(self._buffer[:useless])
        del self._buffer[:useless]
        return None

    @property
    def begun(self) -> bool:
        return self._buffer.startswith(b":")

    def _line(self, line: bytes) -> Answer | None:
        frame, sound = ascii_line(line)
        if frame is None:
            self.passed.waste(line)
            return None
        unit, pdu, request = frame.unit, frame.pdu, self._request
        wanted = -1 if request is None or unit != request.unit else request.answer_octets(pdu)
        right = wanted == len(pdu) and (wanted != 2 or self._takes_refusals)
        if not sound:
            if right:
                self.passed.bad_checks += 1
            else:
                self.passed.waste(line)
            return None
        if line == self._sent and self._echo_due:
            self._echo_due = right = False
        if right and request is not None and not self.passed.contested:
            return read_answer(request, pdu)
        shapes = dict(_sizes(pdu))
        self.passed.note(Frame(unit, pdu, shapes.get(len(pdu), False)), request)
        return None
