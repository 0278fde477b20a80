"""xDLMS services (Green Book 9.5): GET, SET, ACTION and errors, each declared once in the table `SERVICES`.

To add an APDU: a frozen class, and its variant in the table. `encode_apdu`, `decode_apdu` and the tree that
the command `decode` shows follow from that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protocols.dlms.apdu import access, short_names
from protocols.dlms.apdu.access import AccessRequest, AccessResponse
from protocols.dlms.apdu.diagnostics import (
    CONFIRMED_ERRORS,
    CONFIRMED_SERVICES,
    INVOCATION_COUNTER_ERROR,
    SERVICE_ERRORS,
    STATE_ERRORS,
)
from protocols.dlms.apdu.fields import (
    ANSWER,
    DATA_OR_RESULT,
    INVOKE,
    INVOKE_ID,
    OPTIONAL_PARAMETER,
    RESULT,
    VALUE,
    OrResult,
)
from protocols.dlms.apdu.lists import (
    ACTION_OUTCOMES,
    METHOD_TARGET,
    OUTCOMES,
    SELECTED,
    UNSELECTED,
    VALUES,
    ActionBlock,
    ActionListRequest,
    ActionListResponse,
    ActionNext,
    BlockAck,
    GetListRequest,
    GetListResponse,
    RequestBlock,
    SetListRequest,
    SetListResponse,
    Target,
    as_many_values,
)
from protocols.dlms.apdu.short_names import ReadRequest, ReadResponse
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import Field, Flag, OctetString, Record, Sequence, Single, UnsignedNumber
from protocols.dlms.data.types import Data
from protocols.errors import LocalError, MeterProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRequest:
    """GET of one attribute, possibly a selection of a profile's rows."""

    target: Target
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class GetNext:
    """Ask for the block after `block`."""

    block: int
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class GetResponse:
    """The value, or `error` (data-access-result)."""

    data: Data | None = None
    error: int | None = None
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBlock:
    """One block of an encoded value, or `error`."""

    last: bool
    number: int
    raw: bytes = b""
    error: int | None = None
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRequest:
    """SET of one attribute."""

    target: Target
    value: Data = field(repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResponse:
    """Result of a SET: 0 is success."""

    result: int
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """ACTION: run one method."""

    target: Target
    parameter: Data | None = field(default=None, repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResponse:
    """Result of an ACTION (0 is success), with what the method returned or why that is missing."""

    result: int
    data: Data | None = None
    error: int | None = None
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionResponse:
    """The far side does not serve the request; `counter` comes with an invocation counter error."""

    state: int
    service: int
    counter: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedServiceError:
    """An error of service (1 initiate, 5 read, 6 write): error type and value."""

    service: int
    error: int
    value: int


Apdu = (
    GetRequest
    | GetNext
    | GetResponse
    | GetBlock
    | SetRequest
    | SetResponse
    | ActionRequest
    | ActionResponse
    | ExceptionResponse
    | ConfirmedServiceError
    | GetListRequest
    | GetListResponse
    | SetListRequest
    | SetListResponse
    | ActionListRequest
    | ActionListResponse
    | RequestBlock
    | BlockAck
    | ActionBlock
    | ActionNext
    | ReadRequest
    | ReadResponse
    | AccessRequest
    | AccessResponse
)


class Service(Field[Apdu]):
    """A service by the tag of its APDU: kind, invoke id, and what each kind holds.

    The kinds are in the order in which they are tried when an APDU is written, narrower ones first.
    """

    def __init__(self, tag: int, name: str, *kinds: tuple[int, str, Record[Any]]) -> None:
        self.tag = tag
        self.label = name
        self.kinds = {number: record for number, _, record in kinds}
        self._kind = UnsignedNumber("kind", 1, {number: text for number, text, _ in kinds})

    def read(self, cursor: Cursor) -> Apdu:
        kind = cursor.field(self._kind)
        if (record := self.kinds.get(kind)) is None:
            raise cursor.error(f"{self.label} of kind {kind} is not known")
        apdu: Apdu = record.read(cursor)
        return apdu


def _kind(
    number: int, name: str, makes: Callable[..., Any], *parts: tuple[str, Field[Any]], **options: Any
) -> tuple[int, str, Record[Any]]:
    return number, name, Record(makes, ("invoke", INVOKE_ID), *parts, **options)


_NUMBER = UnsignedNumber("block number", 4)
_LAST, _RAW = Flag("last block"), OctetString("raw data")
_RAW_OR_RESULT = OrResult("a block", "raw data", _RAW, absent=b"")
_BLOCK = (("last", _LAST), ("number", _NUMBER), ("raw", _RAW))
_ATTRIBUTES, _METHODS = Sequence("attributes", SELECTED), Sequence("methods", METHOD_TARGET)
_PARAMETERS, _RESULTS = Sequence("parameters", VALUE), Sequence("results", RESULT)
_SET, _SET_LIST = {"action": False, "listed": False}, {"action": False, "listed": True}
_ACTION, _ACTION_LIST = {"action": True, "listed": False}, {"action": True, "listed": True}


class MethodResult(Field[tuple[int, Data | None, int | None]]):
    """The result of a method, what it returned, or why that is missing.

    Behind a refusal some meters write octets that are no answer: they are left over, and the refusal counts.
    """

    def read(self, cursor: Cursor) -> tuple[int, Data | None, int | None]:
        result = cursor.field(RESULT)
        if result:
            try:
                Cursor(cursor.data[cursor.offset :]).field(ANSWER)
            except MeterProtocolError:
                return result, None, None
        data, error = cursor.field(ANSWER)
        return result, data, error

    def write(self, value: tuple[int, Data | None, int | None]) -> bytes:
        result, data, error = value
        return RESULT.write(result) + ANSWER.write((data, error))


SERVICES = (
    Service(
        0xC0,
        "get-request",
        _kind(1, "normal", GetRequest, ("target", SELECTED)),
        _kind(2, "next", GetNext, ("block", _NUMBER)),
        _kind(3, "with list", GetListRequest, ("targets", _ATTRIBUTES)),
    ),
    Service(
        0xC1,
        "set-request",
        _kind(1, "normal", SetRequest, ("target", UNSELECTED), ("value", VALUE)),
        _kind(3, "block", RequestBlock, *_BLOCK, fixed={"action": False, "targets": ()}),
        _kind(2, "first block", RequestBlock, ("targets", Single(SELECTED)), *_BLOCK, fixed=_SET),
        _kind(
            4,
            "with list",
            SetListRequest,
            ("targets", _ATTRIBUTES),
            ("values", VALUES),
            complaint=as_many_values,
        ),
        _kind(5, "with list, first block", RequestBlock, ("targets", _ATTRIBUTES), *_BLOCK, fixed=_SET_LIST),
    ),
    Service(
        0xC3,
        "action-request",
        _kind(1, "normal", ActionRequest, ("target", METHOD_TARGET), ("parameter", OPTIONAL_PARAMETER)),
        _kind(2, "next block", ActionNext, ("block", _NUMBER)),
        _kind(
            3,
            "with list",
            ActionListRequest,
            ("targets", _METHODS),
            ("parameters", _PARAMETERS),
            complaint=as_many_values,
        ),
        _kind(6, "block", RequestBlock, *_BLOCK, fixed={"action": True, "targets": ()}),
        _kind(4, "first block", RequestBlock, ("targets", Single(METHOD_TARGET)), *_BLOCK, fixed=_ACTION),
        _kind(5, "with list, first block", RequestBlock, ("targets", _METHODS), *_BLOCK, fixed=_ACTION_LIST),
    ),
    Service(
        0xC4,
        "get-response",
        _kind(1, "normal", GetResponse, ("data error", DATA_OR_RESULT)),
        _kind(2, "block", GetBlock, ("last", _LAST), ("number", _NUMBER), ("raw error", _RAW_OR_RESULT)),
        _kind(3, "with list", GetListResponse, ("outcomes", OUTCOMES)),
    ),
    Service(
        0xC5,
        "set-response",
        _kind(1, "normal", SetResponse, ("result", RESULT)),
        _kind(2, "block", BlockAck, ("number", _NUMBER), fixed={"action": False, "results": ()}),
        _kind(3, "last block", BlockAck, ("results", Single(RESULT)), ("number", _NUMBER), fixed=_SET),
        _kind(
            4, "last block, with list", BlockAck, ("results", _RESULTS), ("number", _NUMBER), fixed=_SET_LIST
        ),
        _kind(5, "with list", SetListResponse, ("results", _RESULTS)),
    ),
    Service(
        0xC7,
        "action-response",
        _kind(1, "normal", ActionResponse, ("result data error", MethodResult())),
        _kind(2, "block", ActionBlock, *_BLOCK),
        _kind(3, "with list", ActionListResponse, ("outcomes", ACTION_OUTCOMES)),
        _kind(4, "next block", BlockAck, ("number", _NUMBER), fixed={"action": True}),
    ),
)


class ServiceError(Field[tuple[int, int | None]]):
    """The service error of an exception-response, and the counter expected where that was wrong."""

    _error = UnsignedNumber("service error", 1, SERVICE_ERRORS)
    _counter = UnsignedNumber("expected counter", 4)

    def read(self, cursor: Cursor) -> tuple[int, int | None]:
        error = cursor.field(self._error)
        has_counter = error == INVOCATION_COUNTER_ERROR and cursor.left >= 4  # some meters leave it out
        return error, cursor.field(self._counter) if has_counter else None

    def write(self, value: tuple[int, int | None]) -> bytes:
        error, counter = value
        return self._error.write(error) + (b"" if counter is None else self._counter.write(counter))


class ErrorOfKind(Field[tuple[int, int]]):
    """Kind and value of a confirmed-service-error: each kind has its own names of values."""

    _kinds = {kind: name for kind, (name, _) in CONFIRMED_ERRORS.items()}
    _kind = UnsignedNumber("error", 1, dict.fromkeys(range(256), "unknown") | _kinds)
    _values = {
        kind: UnsignedNumber("value", 1, dict(enumerate(values)))
        for kind, (_, values) in CONFIRMED_ERRORS.items()
    }
    _any_value = UnsignedNumber("value")

    def read(self, cursor: Cursor) -> tuple[int, int]:
        kind = cursor.field(self._kind)
        return kind, cursor.field(self._values.get(kind, self._any_value))

    def write(self, value: tuple[int, int]) -> bytes:
        return b"".join(map(self._any_value.write, value))


EXCEPTION_RESPONSE = Record(
    ExceptionResponse,
    ("state", UnsignedNumber("state error", 1, STATE_ERRORS)),
    ("service counter", ServiceError()),
)
CONFIRMED_SERVICE_ERROR = Record(
    ConfirmedServiceError,
    ("service", UnsignedNumber("service", 1, CONFIRMED_SERVICES)),
    ("error value", ErrorOfKind()),
)
RESPONSES = frozenset((0x0E, 0xC4, 0xC5, 0xC7, 0xD8))
"""Tags of answers: octets left over behind one do not hide it."""
APDUS: dict[int, tuple[str, Field[Any]]] = {
    0x0E: ("confirmed-service-error", CONFIRMED_SERVICE_ERROR),
    0xD8: ("exception-response", EXCEPTION_RESPONSE),
    **{service.tag: (service.label, service) for service in SERVICES},
    **short_names.APDUS,
    **access.APDUS,
}
"""Name and field of each APDU by its tag."""

_WRITERS: dict[Callable[..., Any], list[tuple[bytes, Record[Any]]]] = {}
for _tag, (_, _record) in APDUS.items():
    if isinstance(_record, Record):
        _WRITERS[_record.makes] = [(bytes((_tag,)), _record)]
for _service in SERVICES:
    for _number, _record in _service.kinds.items():
        _WRITERS.setdefault(_record.makes, []).append((bytes((_service.tag, _number)), _record))


def encode_apdu(apdu: Apdu) -> bytes:
    """Return the octets of an APDU, plain: ciphering and framing come around it.

    Raises LocalError for a field that does not fit its octets, such as a block number of five.

    Example: `encode_apdu(GetRequest(target=Target(8, Obis(0, 0, 1, 0, 0), 2)))` asks for the clock's time.
    """
    for head, record in _WRITERS[type(apdu)]:
        if record.fits(apdu):
            return head + record.write(apdu)
    raise LocalError(f"{apdu} has no form on the wire")


def decode_apdu(octets: bytes) -> Apdu:
    """Return the APDU that fills `octets`: a service, exception-response or confirmed-service-error.

    Raises MeterProtocolError, which names the offset, for another tag or kind, for octets that end early or
    late, and for what is well formed and not supported (a selective access other than by range or entry).

    Example: `decode_apdu(bytes.fromhex("C401C100120007"))` is a GetResponse whose data is long-unsigned 7.
    """
    cursor = Cursor(octets)
    tag = cursor.u8()
    if tag not in APDUS:
        raise cursor.error(f"APDU tag {tag:#04x} is not known")
    name, field = APDUS[tag]
    apdu: Apdu = cursor.field(field)
    cursor.finish(f"the {name}")
    return apdu
