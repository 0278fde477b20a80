"""The framings of Modbus: how a request goes out, and the hunt for its answer; framing is pymodbus's."""

from __future__ import annotations

from dataclasses import dataclass

from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from protocols.errors import MeterConfigError, MeterProtocolError
from protocols.modbus.framing.hunt import AsciiHunt, BufferedHunt, Frame, Hunt, RtuHunt, mbap_at
from protocols.modbus.framing.requests import Answer, Request, read_answer

FRAMINGS = ("tcp", "rtu", "ascii")
GATEWAY_UNITS = (0, 255)
"""Units that a gateway may put in the place of the one that was asked."""

_DECODER = DecodePDU(is_server=False)


class RtuFrames:
    """Address, PDU, CRC. No sequence number: only unit, function and length tell whose answer it is."""

    name = "rtu"
    sequenced = False
    answer_unit = None

    def __init__(self) -> None:
        self._framer = FramerRTU(_DECODER)

    def encode(self, request: Request) -> bytes:
        """Return the octets of a request."""
        return self._framer.encode(request.pdu(), request.unit, 0)

    def hunt(self, request: Request | None, *, takes_refusals: bool = True, echoes: bool = False) -> Hunt:
        """Return the search for its answer (see `RtuHunt`)."""
        sent = b"" if request is None else self.encode(request)
        return RtuHunt(request, sent, takes_refusals=takes_refusals, echoes=echoes)


class AsciiFrames:
    """The characters of Modbus ASCII; as on RTU, no sequence number."""

    name = "ascii"
    sequenced = False
    answer_unit = None

    def __init__(self) -> None:
        self._framer = FramerAscii(_DECODER)

    def encode(self, request: Request) -> bytes:
        """Return the octets of a request."""
        return self._framer.encode(request.pdu(), request.unit, 0)

    def hunt(self, request: Request | None, *, takes_refusals: bool = True, echoes: bool = False) -> Hunt:
        """Return the search for its answer (see `AsciiHunt`)."""
        sent = b"" if request is None else self.encode(request)
        return AsciiHunt(request, sent, takes_refusals=takes_refusals, echoes=echoes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpManners:
    """What a gateway does to the header of its answers.

    `answer_unit` is the unit that it writes there whatever unit was asked, None where it is that unit.
    `own_transactions` lets it number its answers as it likes: then only unit, function and length tell whose an
    answer is, as on RTU.
    """

    answer_unit: int | None = None
    own_transactions: bool = False


class TcpFrames:
    """MBAP header (transaction, protocol 0, length, unit) and PDU; late answers are known by transaction."""

    name = "tcp"

    def __init__(self, manners: TcpManners | None = None) -> None:
        self._framer = FramerSocket(_DECODER)
        self._manners = manners or TcpManners()

    @property
    def sequenced(self) -> bool:
        """Say whether the transaction tells whose an answer is."""
        return not self._manners.own_transactions

    @property
    def answer_unit(self) -> int | None:
        """The unit that all answers bear, None where each bears its own."""
        return self._manners.answer_unit

    def encode(self, request: Request) -> bytes:
        """Return the octets of a request."""
        return self._framer.encode(request.pdu(), request.unit, request.transaction)

    def hunt(self, request: Request | None, *, takes_refusals: bool = True, echoes: bool = False) -> Hunt:
        """Return the search for its answer; a TCP connection gives no echo."""
        del echoes
        return TcpHunt(request, self._manners, takes_refusals=takes_refusals)


Frames = RtuFrames | AsciiFrames | TcpFrames


def frames_for(framing: str, manners: TcpManners | None = None) -> Frames:
    """Return the framing of that name; MeterConfigError names those that exist."""
    if framing == "tcp":
        return TcpFrames(manners)
    if framing == "rtu":
        return RtuFrames()
    if framing == "ascii":
        return AsciiFrames()
    raise MeterConfigError(f"there is no Modbus framing {framing!r}; known: {', '.join(FRAMINGS)}")


class TcpHunt(BufferedHunt):
    """Frames of a stream in step, or of datagrams; those of other transactions are passed over."""

    def __init__(self, request: Request | None, manners: TcpManners, *, takes_refusals: bool = True) -> None:
        super().__init__(request, takes_refusals=takes_refusals)
        self._manners = manners

    def feed(self, octets: bytes) -> Answer | None:
        self.passed.octets += len(octets)
        self._buffer += octets
        while (frame := self._next()) is not None:
            if (answer := self._answer(frame)) is not None:
                return answer
            self.passed.note(frame, self._request)
        return None

    @property
    def begun(self) -> bool:
        return bool(self._buffer)

    def _next(self) -> Frame | None:
        """Take a whole frame from the buffer; MeterProtocolError when there is no header where one must be."""
        frame, size = mbap_at(self._buffer, 0)
        if size == 0 or (frame is not None and len(frame.pdu) < 2):  # no answer is so short
            head = self._buffer
            protocol, length = int.from_bytes(head[2:4], "big"), int.from_bytes(head[4:6], "big")
            raise MeterProtocolError(f"not a Modbus header: protocol {protocol}, length {length}")
        if frame is not None:
            del self._buffer[:size]
        return frame

    def _answer(self, frame: Frame) -> Answer | None:
        request, manners = self._request, self._manners
        if request is None:
            return None
        wanted_unit = request.unit if manners.answer_unit is None else manners.answer_unit
        octets = request.answer_octets(frame.pdu)
        if manners.own_transactions:
            right = frame.unit == wanted_unit and octets == len(frame.pdu)
            return (
                read_answer(request, frame.pdu) if right and (octets != 2 or self._takes_refusals) else None
            )
        if frame.transaction != request.transaction:
            return None
        if frame.unit != wanted_unit:
            hint = f": where this gateway always does, set answer_unit = {frame.unit}"
            raise MeterProtocolError(
                f"unit {frame.unit} answers instead of unit {request.unit}"
                f"{hint if frame.unit in GATEWAY_UNITS else ''}"
            )
        if frame.pdu[0] & 0x7F != request.function:
            raise MeterProtocolError(
                f"the answer is to function {frame.pdu[0] & 0x7F}, not {request.function}"
            )
        if octets != len(frame.pdu):
            wanted = request.data_octets
            instead = "" if wanted is None else f", not {wanted}"
            raise MeterProtocolError(f"the answer has {len(frame.pdu) - 2} octets of data{instead}")
        return read_answer(request, frame.pdu)
