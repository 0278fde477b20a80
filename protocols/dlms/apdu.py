"""xDLMS service APDUs (Green Book 9.5): GET, SET, ACTION and errors, encoded and decoded as pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms import axdr
from protocols.dlms.axdr import Cursor, encode_length
from protocols.dlms.model import EntrySelection, RangeSelection
from protocols.dlms.types import Data, Tag, array, capture_object, double_long_unsigned, long_unsigned, octets
from protocols.dlms.types import structure as struct_of
from protocols.errors import LocalError, MeterProtocolError
from protocols.reading import Obis

INVOKE = 0xC1
"""Invoke id 1, confirmed, high priority: one request at a time is outstanding."""

Selection = RangeSelection | EntrySelection

ACCESS_RESULTS = {
    1: "hardware fault",
    2: "temporary failure",
    3: "read-write denied",
    4: "object undefined",
    9: "object class inconsistent",
    11: "object unavailable",
    12: "type unmatched",
    13: "scope of access violated",
    14: "data block unavailable",
    15: "long get aborted",
    16: "no long get in progress",
    17: "long set aborted",
    18: "no long set in progress",
    19: "data block number invalid",
    250: "other reason",
}
"""Names of data-access-result; action-result uses the same numbers for the common cases."""


def result_name(code: int) -> str:
    """Name a data-access-result."""
    return ACCESS_RESULTS.get(code, f"result {code}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRequest:
    """GET of one attribute, possibly a selection of a profile's rows."""

    class_id: int
    obis: Obis
    attribute: int
    selection: Selection | None = None
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

    class_id: int
    obis: Obis
    attribute: int
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

    class_id: int
    obis: Obis
    method: int
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
)

INVOCATION_COUNTER_ERROR = 6
DECIPHERING_ERROR = 5


def encode(apdu: Apdu) -> bytes:
    """Write an APDU."""
    match apdu:
        case GetRequest():
            head = b"\xc0\x01" + bytes((apdu.invoke,))
            return head + _attribute(apdu.class_id, apdu.obis, apdu.attribute) + _selection(apdu.selection)
        case GetNext():
            return b"\xc0\x02" + bytes((apdu.invoke,)) + apdu.block.to_bytes(4, "big")
        case GetResponse():
            return b"\xc4\x01" + bytes((apdu.invoke,)) + _data_or_error(apdu.data, apdu.error)
        case GetBlock():
            head = b"\xc4\x02" + bytes((apdu.invoke, apdu.last)) + apdu.number.to_bytes(4, "big")
            if apdu.error is not None:
                return head + bytes((1, apdu.error))
            return head + b"\x00" + encode_length(len(apdu.raw)) + apdu.raw
        case SetRequest():
            head = b"\xc1\x01" + bytes((apdu.invoke,)) + _attribute(apdu.class_id, apdu.obis, apdu.attribute)
            return head + b"\x00" + axdr.encode(apdu.value)
        case SetResponse():
            return b"\xc5\x01" + bytes((apdu.invoke, apdu.result))
        case ActionRequest():
            head = b"\xc3\x01" + bytes((apdu.invoke,)) + _attribute(apdu.class_id, apdu.obis, apdu.method)
            return head + (b"\x00" if apdu.parameter is None else b"\x01" + axdr.encode(apdu.parameter))
        case ActionResponse():
            head = b"\xc7\x01" + bytes((apdu.invoke, apdu.result))
            if apdu.data is None and apdu.error is None:
                return head + b"\x00"
            return head + b"\x01" + _data_or_error(apdu.data, apdu.error)
        case ExceptionResponse():
            tail = b"" if apdu.counter is None else apdu.counter.to_bytes(4, "big")
            return bytes((0xD8, apdu.state, apdu.service)) + tail
        case ConfirmedServiceError():
            return bytes((0x0E, apdu.service, apdu.error, apdu.value))


def decode(octets_: bytes) -> Apdu:
    """Read an APDU that fills `octets_`; MeterProtocolError with the offset otherwise."""
    cursor = Cursor(octets_)
    apdu = _read(cursor)
    cursor.finish(type(apdu).__name__)
    return apdu


def _read(cursor: Cursor) -> Apdu:
    tag = cursor.u8()
    match tag:
        case 0xC0:
            return _read_get_request(cursor)
        case 0xC1:
            return _read_set_request(cursor)
        case 0xC3:
            return _read_action_request(cursor)
        case 0xC4:
            return _read_get_response(cursor)
        case 0xC5:
            _normal(cursor, "set-response")
            return SetResponse(invoke=cursor.u8(), result=cursor.u8())
        case 0xC7:
            return _read_action_response(cursor)
        case 0xD8:
            state, service = cursor.u8(), cursor.u8()
            counter = cursor.unsigned(4) if service == INVOCATION_COUNTER_ERROR and cursor.left >= 4 else None
            return ExceptionResponse(state=state, service=service, counter=counter)
        case 0x0E:
            return ConfirmedServiceError(service=cursor.u8(), error=cursor.u8(), value=cursor.u8())
    raise cursor.error(f"APDU tag {tag:#04x} is not known")


def _normal(cursor: Cursor, what: str) -> None:
    if (kind := cursor.u8()) != 1:
        raise cursor.error(f"{what} of kind {kind} is not supported")


def _read_get_request(cursor: Cursor) -> GetRequest | GetNext:
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == 2:
        return GetNext(invoke=invoke, block=cursor.unsigned(4))
    if kind != 1:
        raise cursor.error(f"get-request of kind {kind} is not supported")
    class_id, obis, attribute = _read_attribute(cursor)
    return GetRequest(
        invoke=invoke, class_id=class_id, obis=obis, attribute=attribute, selection=_read_selection(cursor)
    )


def _read_set_request(cursor: Cursor) -> SetRequest:
    _normal(cursor, "set-request")
    invoke = cursor.u8()
    class_id, obis, attribute = _read_attribute(cursor)
    if cursor.u8():
        raise cursor.error("selective access in a set-request is not supported")
    return SetRequest(
        invoke=invoke, class_id=class_id, obis=obis, attribute=attribute, value=axdr.read(cursor)
    )


def _read_action_request(cursor: Cursor) -> ActionRequest:
    _normal(cursor, "action-request")
    invoke = cursor.u8()
    class_id, obis, method = _read_attribute(cursor)
    parameter = axdr.read(cursor) if cursor.u8() else None
    return ActionRequest(invoke=invoke, class_id=class_id, obis=obis, method=method, parameter=parameter)


def _read_get_response(cursor: Cursor) -> GetResponse | GetBlock:
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == 1:
        data, error = _read_data_or_error(cursor)
        return GetResponse(invoke=invoke, data=data, error=error)
    if kind != 2:
        raise cursor.error(f"get-response of kind {kind} is not supported")
    last, number = cursor.u8() != 0, cursor.unsigned(4)
    match cursor.u8():
        case 0:
            raw = cursor.take(cursor.length())
            return GetBlock(invoke=invoke, last=last, number=number, raw=raw)
        case 1:
            return GetBlock(invoke=invoke, last=last, number=number, error=cursor.u8())
    raise cursor.error("a block is raw data (0) or a result (1)")


def _read_action_response(cursor: Cursor) -> ActionResponse:
    _normal(cursor, "action-response")
    invoke, result = cursor.u8(), cursor.u8()
    data, error = _read_data_or_error(cursor) if cursor.u8() else (None, None)
    return ActionResponse(invoke=invoke, result=result, data=data, error=error)


def _data_or_error(data: Data | None, error: int | None) -> bytes:
    if error is not None:
        return bytes((1, error))
    if data is None:
        raise LocalError("a response carries a value or an error")
    return b"\x00" + axdr.encode(data)


def _read_data_or_error(cursor: Cursor) -> tuple[Data | None, int | None]:
    match cursor.u8():
        case 0:
            return axdr.read(cursor), None
        case 1:
            return None, cursor.u8()
    raise cursor.error("a response is data (0) or a result (1)")


def _attribute(class_id: int, obis: Obis, attribute: int) -> bytes:
    return class_id.to_bytes(2, "big") + obis.to_bytes() + attribute.to_bytes(1, "big", signed=True)


def _read_attribute(cursor: Cursor) -> tuple[int, Obis, int]:
    class_id = cursor.unsigned(2)
    obis = Obis.from_bytes(cursor.take(6))
    return class_id, obis, int.from_bytes(cursor.take(1), "big", signed=True)


def _selection(selection: Selection | None) -> bytes:
    match selection:
        case None:
            return b"\x00"
        case RangeSelection():  # Blue Book 4.3.6, selector 1; all columns
            column = capture_object(_clock_class(selection.obis), selection.obis, selection.attribute)
            parameter = struct_of(column, octets(selection.since), octets(selection.until), array())
            return b"\x01\x01" + axdr.encode(parameter)
        case EntrySelection():  # selector 2; columns 1 to 0 (the last)
            entries = (double_long_unsigned(selection.first), double_long_unsigned(selection.last))
            return b"\x01\x02" + axdr.encode(struct_of(*entries, long_unsigned(1), long_unsigned(0)))


def _clock_class(obis: Obis) -> int:
    return 8 if (obis.c, obis.d) == (1, 0) else 3


def _read_selection(cursor: Cursor) -> Selection | None:
    if not cursor.u8():
        return None
    selector = cursor.u8()
    parameter = axdr.read(cursor)
    selection = {1: _range_of, 2: _entries_of}.get(selector, lambda _: None)(parameter)
    if selection is None:
        raise MeterProtocolError(f"selective access {selector} is malformed or not supported")
    return selection


def _range_of(parameter: Data) -> Selection | None:
    match parameter.items:
        case (
            Data(Tag.STRUCTURE, (_, Data(_, bytes() as name), Data(_, int() as attribute), _)),
            low,
            high,
            _,
        ):
            if len(name) == 6 and isinstance(low.value, bytes) and isinstance(high.value, bytes):
                return RangeSelection(Obis.from_bytes(name), attribute, low.value, high.value)
    return None


def _entries_of(parameter: Data) -> Selection | None:
    match parameter.items:
        case (Data(_, int() as first), Data(_, int() as last), _, _):
            return EntrySelection(first, last)
    return None
