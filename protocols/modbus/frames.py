"""Modbus requests and answers as octets, strictly checked; framing and PDU coding are pymodbus's."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from protocols.errors import LocalError, MeterProtocolError

MAX_COUNT = 125
MAX_FRAME = 260
"""Octets of the longest frame (Modbus/TCP: 7 of header, 253 of PDU)."""

_REQUESTS = {3: ReadHoldingRegistersRequest, 4: ReadInputRegistersRequest}
_DECODER = DecodePDU(is_server=False)
_transactions = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One reading of registers; `transaction` never repeats within 65,535 requests of this process."""

    unit: int
    function: int
    address: int
    count: int
    transaction: int = field(default_factory=lambda: next(_transactions) % 0xFFFF + 1)

    def __post_init__(self) -> None:
        fits = 1 <= self.count <= MAX_COUNT and 0 <= self.address <= 0x10000 - self.count
        if self.function not in _REQUESTS or not fits or not 0 <= self.unit <= 255:
            raise LocalError(f"not a register request: {self}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the words, or an exception code; `used` octets of the buffer belong to it."""

    used: int
    words: list[int] | None
    exception: int | None = None


class RtuFrames:
    """Address, PDU, CRC. No sequence number: only unit, function and length tell whose answer it is."""

    name = "rtu"
    sequenced = False

    def __init__(self) -> None:
        self._framer = FramerRTU(_DECODER)

    def encode(self, request: Request) -> bytes:
        """Return the octets of a request."""
        return _encode(self._framer, request)

    def decode(self, buffer: bytes, request: Request) -> Answer | None:
        """Return the answer, or None while octets are wanting; MeterProtocolError when it is none.

        An adapter that hears itself returns the request first: an Answer without words, to be dropped.
        """
        echo = self.encode(request)
        if buffer.startswith(echo):
            return Answer(len(echo), None)
        if echo.startswith(buffer):
            return None
        if len(buffer) >= 2:
            _check_unit(request, buffer[0])
            _check_function(request, buffer[1])
        if len(buffer) < 5:
            return None
        size = 5 if buffer[1] & 0x80 else 5 + buffer[2]
        if not buffer[1] & 0x80 and buffer[2] != 2 * request.count:
            raise MeterProtocolError(f"the answer has {buffer[2]} octets of data, not {2 * request.count}")
        if len(buffer) < size:
            return None
        pdu = _decode(self._framer, buffer[:size], request)
        if pdu is None:
            raise MeterProtocolError("the check sum of the answer is wrong")
        return _answer(pdu, request, size)


class TcpFrames:
    """MBAP header (transaction, protocol 0, length, unit) and PDU; late answers are known by transaction."""

    name = "tcp"
    sequenced = True

    def __init__(self) -> None:
        self._framer = FramerSocket(_DECODER)

    def encode(self, request: Request) -> bytes:
        """Return the octets of a request."""
        return _encode(self._framer, request)

    def decode(self, buffer: bytes, request: Request) -> Answer | None:
        """Return the answer, or None while octets are wanting; MeterProtocolError when it is none.

        A whole frame of another transaction is an Answer without words and exception: drop it, go on.
        """
        if len(buffer) < 8:
            return None
        protocol, length = int.from_bytes(buffer[2:4], "big"), int.from_bytes(buffer[4:6], "big")
        if protocol or not 3 <= length <= MAX_FRAME - 6:
            raise MeterProtocolError(f"not a Modbus header: protocol {protocol}, length {length}")
        size = 6 + length
        if len(buffer) < size:
            return None
        frame = buffer[:size]
        if int.from_bytes(frame[:2], "big") != request.transaction:
            return Answer(size, None)
        _check_unit(request, frame[6])
        _check_function(request, frame[7])
        if not frame[7] & 0x80 and (length, frame[8]) != (3 + 2 * request.count, 2 * request.count):
            raise MeterProtocolError(f"the answer has {length - 3} octets of data, not {2 * request.count}")
        pdu = _decode(self._framer, frame, request)
        if pdu is None:
            raise MeterProtocolError("the answer cannot be decoded")
        return _answer(pdu, request, size)


Frames = RtuFrames | TcpFrames


def _encode(framer: FramerBase, request: Request) -> bytes:
    pdu = _REQUESTS[request.function](
        dev_id=request.unit,
        transaction_id=request.transaction,
        address=request.address,
        count=request.count,
    )
    return framer.buildFrame(pdu)


def _decode(framer: FramerBase, frame: bytes, request: Request) -> ModbusPDU | None:
    try:
        return framer.handleFrame(frame, request.unit, 0)[1]
    except (ModbusException, ValueError, IndexError) as error:
        raise MeterProtocolError(f"the answer cannot be decoded: {error}") from error


def _answer(pdu: ModbusPDU, request: Request, used: int) -> Answer:
    if isinstance(pdu, ExceptionResponse):
        return Answer(used, None, pdu.exception_code)
    words = list(pdu.registers)
    if len(words) != request.count:
        raise MeterProtocolError(f"the answer has {len(words)} registers, not {request.count}")
    return Answer(used, words)


def _check_unit(request: Request, unit: int) -> None:
    if unit != request.unit:
        raise MeterProtocolError(f"unit {unit} answers instead of unit {request.unit}")


def _check_function(request: Request, function: int) -> None:
    if function & 0x7F != request.function:
        raise MeterProtocolError(f"the answer is to function {function & 0x7F}, not {request.function}")
