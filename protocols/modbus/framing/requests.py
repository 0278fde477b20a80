"""What may be asked of a meter and what its answers hold; PDU coding is pymodbus's, strictness is ours.

Functions: 1 and 2 (bits), 3 and 4 (registers), 5, 6, 15 and 16 (writing), 17 (report server id), 20 (file record),
43/14 (device identification), as the Modbus Application Protocol V1.1b3, section 6, has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType

from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.file_message import FileRecord, ReadFileRecordRequest, ReadFileRecordResponse
from pymodbus.pdu.mei_message import ReadDeviceInformationRequest, ReadDeviceInformationResponse
from pymodbus.pdu.other_message import ReportDeviceIdRequest
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from protocols.errors import LocalError, MeterProtocolError

MAX_COUNT = 125
"""Registers of one reading."""
MAX_BITS = 2000
MAX_WRITTEN, MAX_BITS_WRITTEN = 123, 1968
MAX_RECORD = 122
"""Registers of one file record that fit an answer."""
MAX_PDU = 253
"""Octets of the longest PDU."""

REPORT_SERVER_ID, FILE_RECORD, DEVICE_IDENTIFICATION = 17, 20, 43
READING = (1, 2, 3, 4)
WRITING = (5, 6, 15, 16)
_MEI = 14

_transactions = count(1)
_DECODER = DecodePDU(is_server=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; `transaction` never repeats within 65,535 requests of this process.

    `address` is the first register or bit, the record's number in a file (20), or the first object (43/14: 0 is
    the maker's name); `count` the registers, bits or registers of the record; `values` the words that are written
    (5 and 15: 0 or 1); `file` the file's number; `category` the read device id code (1 basic, 2 regular, 3 extended,
    4 one object). LocalError when no meter could understand it.
    """

    unit: int
    function: int
    address: int = 0
    count: int = 0
    values: tuple[int, ...] = ()
    file: int = 0
    category: int = 1
    transaction: int = field(default_factory=lambda: next(_transactions) % 0xFFFF + 1, compare=False)

    def __post_init__(self) -> None:
        most = _MOST.get(self.function)
        fits = most is not None and 0 <= self.unit <= 255
        if fits and most:
            asked = len(self.values) if self.function in WRITING else self.count
            fits = 1 <= asked <= most and 0 <= self.address <= 0x10000 - asked
        fits = fits and all(0 <= value <= 0xFFFF for value in self.values)
        if self.function in (5, 15):
            fits = fits and all(value in (0, 1) for value in self.values)
        if self.function == FILE_RECORD:
            fits = fits and 1 <= self.file <= 0xFFFF
        if not fits:
            raise LocalError(f"not a Modbus request: {self}")

    @property
    def writes(self) -> bool:
        """Say whether it changes something in the meter: it is never sent twice."""
        return self.function in WRITING

    def pdu(self) -> bytes:
        """Return function and data as octets."""
        message = _BUILD[self.function](self)
        return bytes((self.function,)) + message.encode()

    def answer_octets(self, head: bytes) -> int | None:
        """Return how many octets an answer's PDU has that begins like this; None while it cannot be told.

        -1 where it cannot be an answer to this request. An exception has 2.
        """
        if not head:
            return None
        if head[0] == self.function | 0x80:
            return 2
        if head[0] != self.function:
            return -1
        if self.function in WRITING:
            own = self.pdu()[:5]
            return 5 if own.startswith(head[:5]) else -1
        if self.function == DEVICE_IDENTIFICATION:
            return identification_octets(head)
        if len(head) < 2:
            return None
        size = self.data_octets
        return -1 if head[1] == 0 or size not in (None, head[1]) else 2 + head[1]

    @property
    def data_octets(self) -> int | None:
        """The byte count that its answer must have; None where the meter chooses it or there is none."""
        if self.function in (3, 4):
            return 2 * self.count
        if self.function in (1, 2):
            return -(-self.count // 8)
        return 2 + 2 * self.count if self.function == FILE_RECORD else None

    def __str__(self) -> str:
        match self.function:
            case 1 | 2:
                return f"unit {self.unit}, function {self.function}, {self.count} bits from {self.address}"
            case 3 | 4:
                return (
                    f"unit {self.unit}, function {self.function}, {self.count} registers from {self.address}"
                )
            case 5 | 6 | 15 | 16:
                return f"unit {self.unit}, function {self.function}, writing {self.address}"
            case 20:
                return f"unit {self.unit}, function 20, record {self.address} of file {self.file}"
        return f"unit {self.unit}, function {self.function}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, by function.

    `words` are registers (3, 4, 20), bits as 0 and 1 (1, 2) or what was written (5, 6, 15, 16); `octets` the data as it
    came (17, 20); `objects` those of device identification, `more` the object to go on with, None at the end.
    `exception` is the code of a refusal, which holds nothing else.
    """

    words: tuple[int, ...] = ()
    octets: bytes = b""
    objects: Mapping[int, bytes] = field(default_factory=lambda: MappingProxyType({}))
    more: int | None = None
    exception: int | None = None


def answer_pdu(request: Request, answer: Answer) -> bytes | None:
    """Return the PDU of an answer with registers (3, 4); None for others."""
    if request.function not in (3, 4) or answer.exception is not None:
        return None
    data = b"".join(word.to_bytes(2, "big") for word in answer.words)
    return bytes((request.function, len(data))) + data


def read_answer(request: Request, pdu: bytes) -> Answer:
    """Return what an answer's PDU says; MeterProtocolError when it does not fit the request."""
    if pdu[0] & 0x80:
        exception = _DECODER.decode(pdu)
        if not isinstance(exception, ExceptionResponse):
            raise MeterProtocolError("the refusal cannot be decoded")
        return Answer(exception=exception.exception_code)
    if request.writes:
        return Answer(words=request.values)
    if request.function == REPORT_SERVER_ID:
        return Answer(octets=pdu[2:])
    message = _DECODER.decode(pdu)
    if message is None:
        raise MeterProtocolError("the answer cannot be decoded")
    if request.function in (1, 2):
        return Answer(words=tuple(int(bit) for bit in message.bits[: request.count]))
    if isinstance(message, ReadFileRecordResponse):
        octets = b"".join(bytes(record.record_data) for record in message.records)
        if len(octets) != 2 * request.count:
            raise MeterProtocolError(f"the record has {len(octets)} octets, not {2 * request.count}")
        words = tuple(int.from_bytes(octets[i : i + 2], "big") for i in range(0, len(octets), 2))
        return Answer(words=words, octets=octets)
    if isinstance(message, ReadDeviceInformationResponse):
        return Answer(objects=_objects(pdu), more=pdu[5] if pdu[4] else None)
    if len(message.registers) != request.count:
        raise MeterProtocolError(f"the answer has {len(message.registers)} registers, not {request.count}")
    return Answer(words=tuple(message.registers))


def identification_octets(head: bytes) -> int | None:
    """Return the octets of a device identification's PDU (43/14), None while it cannot be told, -1 if it is none."""
    if len(head) > 1 and head[1] != _MEI:
        return -1
    if len(head) < 7:
        return None
    end = 7
    for _ in range(head[6]):
        if len(head) < end + 2:
            return None
        end += 2 + head[end + 1]
        if end > MAX_PDU:
            return -1
    return end


def _objects(pdu: bytes) -> Mapping[int, bytes]:
    found, at = {}, 7
    for _ in range(pdu[6]):
        number, size = pdu[at], pdu[at + 1]
        found[number] = pdu[at + 2 : at + 2 + size]
        at += 2 + size
    return MappingProxyType(found)


def _record(request: Request) -> ModbusPDU:
    record = FileRecord(
        file_number=request.file, record_number=request.address, record_length=2 * request.count
    )
    return ReadFileRecordRequest([record])


_MOST = {
    1: MAX_BITS,
    2: MAX_BITS,
    3: MAX_COUNT,
    4: MAX_COUNT,
    5: 1,
    6: 1,
    15: MAX_BITS_WRITTEN,
    16: MAX_WRITTEN,
    REPORT_SERVER_ID: 0,
    FILE_RECORD: MAX_RECORD,
    DEVICE_IDENTIFICATION: 0,
}
"""The most that one request may ask for or write; 0 where it says no number."""

_BUILD: Mapping[int, Callable[[Request], ModbusPDU]] = {
    1: lambda r: ReadCoilsRequest(address=r.address, count=r.count),
    2: lambda r: ReadDiscreteInputsRequest(address=r.address, count=r.count),
    3: lambda r: ReadHoldingRegistersRequest(address=r.address, count=r.count),
    4: lambda r: ReadInputRegistersRequest(address=r.address, count=r.count),
    5: lambda r: WriteSingleCoilRequest(address=r.address, bits=[bool(r.values[0])]),
    6: lambda r: WriteSingleRegisterRequest(address=r.address, registers=list(r.values)),
    15: lambda r: WriteMultipleCoilsRequest(address=r.address, bits=[bool(v) for v in r.values]),
    16: lambda r: WriteMultipleRegistersRequest(address=r.address, registers=list(r.values)),
    REPORT_SERVER_ID: lambda _: ReportDeviceIdRequest(),
    FILE_RECORD: _record,
    DEVICE_IDENTIFICATION: lambda r: ReadDeviceInformationRequest(r.category, r.address),
}
