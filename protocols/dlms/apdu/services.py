"""xDLMS service APDUs (Green Book 9.5): GET, SET, ACTION and errors, encoded and decoded as pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.dlms.apdu import lists as apdu_lists
from protocols.dlms.apdu.fields import (
    INVOKE,
    Selection,
    attribute_octets,
    data_or_error,
    read_attribute,
    read_data_or_error,
    read_selection,
    selection_octets,
)
from protocols.dlms.apdu.lists import ListApdu
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.data.types import Data
from protocols.reading import Obis


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
    | ListApdu
)

SERVICE_NOT_ALLOWED = 1
"""State error of an exception-response: the meter knows no association that allows the service."""
INVOCATION_COUNTER_ERROR = 6
DECIPHERING_ERROR = 5


def encode(apdu: Apdu) -> bytes:
    """Write an APDU."""
    match apdu:
        case GetRequest():
            head = b"\xc0\x01" + bytes((apdu.invoke,))
            return (
                head
                + attribute_octets(apdu.class_id, apdu.obis, apdu.attribute)
                + selection_octets(apdu.selection)
            )
        case GetNext():
            return b"\xc0\x02" + bytes((apdu.invoke,)) + apdu.block.to_bytes(4, "big")
        case GetResponse():
            return b"\xc4\x01" + bytes((apdu.invoke,)) + data_or_error(apdu.data, apdu.error)
        case GetBlock():
            head = b"\xc4\x02" + bytes((apdu.invoke, apdu.last)) + apdu.number.to_bytes(4, "big")
            if apdu.error is not None:
                return head + bytes((1, apdu.error))
            return head + b"\x00" + encode_length(len(apdu.raw)) + apdu.raw
        case SetRequest():
            head = (
                b"\xc1\x01"
                + bytes((apdu.invoke,))
                + attribute_octets(apdu.class_id, apdu.obis, apdu.attribute)
            )
            return head + b"\x00" + axdr.encode(apdu.value)
        case SetResponse():
            return b"\xc5\x01" + bytes((apdu.invoke, apdu.result))
        case ActionRequest():
            head = (
                b"\xc3\x01" + bytes((apdu.invoke,)) + attribute_octets(apdu.class_id, apdu.obis, apdu.method)
            )
            return head + (b"\x00" if apdu.parameter is None else b"\x01" + axdr.encode(apdu.parameter))
        case ActionResponse():
            head = b"\xc7\x01" + bytes((apdu.invoke, apdu.result))
            if apdu.data is None and apdu.error is None:
                return head + b"\x00"
            return head + b"\x01" + data_or_error(apdu.data, apdu.error)
        case ExceptionResponse():
            tail = b"" if apdu.counter is None else apdu.counter.to_bytes(4, "big")
            return bytes((0xD8, apdu.state, apdu.service)) + tail
        case ConfirmedServiceError():
            return bytes((0x0E, apdu.service, apdu.error, apdu.value))
    return apdu_lists.encode(apdu)


def decode(octets_: bytes) -> Apdu:
    """Read an APDU that fills `octets_`; MeterProtocolError with the offset otherwise."""
    cursor = Cursor(octets_)
    apdu = _read(cursor)
    cursor.finish(type(apdu).__name__)
    return apdu


def _read(cursor: Cursor) -> Apdu:
    tag = cursor.u8()
    if tag == 0xD8:
        state, service = cursor.u8(), cursor.u8()
        counter = cursor.unsigned(4) if service == INVOCATION_COUNTER_ERROR and cursor.left >= 4 else None
        return ExceptionResponse(state=state, service=service, counter=counter)
    if tag == 0x0E:
        return ConfirmedServiceError(service=cursor.u8(), error=cursor.u8(), value=cursor.u8())
    if tag not in _SERVICES:
        raise cursor.error(f"APDU tag {tag:#04x} is not known")
    kind, invoke = cursor.u8(), cursor.u8()
    if (read := _READERS.get((tag, kind))) is not None:
        return read(cursor, invoke)
    if (found := apdu_lists.read(tag, kind, invoke, cursor)) is not None:
        return found
    raise cursor.error(f"{_SERVICES[tag]} of kind {kind} is not known")


def _read_get_next(cursor: Cursor, invoke: int) -> GetNext:
    return GetNext(invoke=invoke, block=cursor.unsigned(4))


def _read_get_request(cursor: Cursor, invoke: int) -> GetRequest:
    class_id, obis, attribute = read_attribute(cursor)
    return GetRequest(
        invoke=invoke, class_id=class_id, obis=obis, attribute=attribute, selection=read_selection(cursor)
    )


def _read_set_request(cursor: Cursor, invoke: int) -> SetRequest:
    class_id, obis, attribute = read_attribute(cursor)
    if cursor.u8():
        raise cursor.error("selective access in a set-request is not supported")
    value = axdr.read(cursor)
    return SetRequest(invoke=invoke, class_id=class_id, obis=obis, attribute=attribute, value=value)


def _read_action_request(cursor: Cursor, invoke: int) -> ActionRequest:
    class_id, obis, method = read_attribute(cursor)
    parameter = axdr.read(cursor) if cursor.u8() else None
    return ActionRequest(invoke=invoke, class_id=class_id, obis=obis, method=method, parameter=parameter)


def _read_get_response(cursor: Cursor, invoke: int) -> GetResponse:
    data, error = read_data_or_error(cursor)
    return GetResponse(invoke=invoke, data=data, error=error)


def _read_get_block(cursor: Cursor, invoke: int) -> GetBlock:
    last, number = cursor.u8() != 0, cursor.unsigned(4)
    match cursor.u8():
        case 0:
            raw = cursor.take(cursor.length())
            return GetBlock(invoke=invoke, last=last, number=number, raw=raw)
        case 1:
            return GetBlock(invoke=invoke, last=last, number=number, error=cursor.u8())
    raise cursor.error("a block is raw data (0) or a result (1)")


def _read_set_response(cursor: Cursor, invoke: int) -> SetResponse:
    return SetResponse(invoke=invoke, result=cursor.u8())


def _read_action_response(cursor: Cursor, invoke: int) -> ActionResponse:
    result = cursor.u8()
    data, error = read_data_or_error(cursor) if cursor.u8() else (None, None)
    return ActionResponse(invoke=invoke, result=result, data=data, error=error)


_READERS: dict[tuple[int, int], Callable[[Cursor, int], Apdu]] = {
    (0xC0, 1): _read_get_request,
    (0xC0, 2): _read_get_next,
    (0xC1, 1): _read_set_request,
    (0xC3, 1): _read_action_request,
    (0xC4, 1): _read_get_response,
    (0xC4, 2): _read_get_block,
    (0xC5, 1): _read_set_response,
    (0xC7, 1): _read_action_response,
}
_SERVICES = {
    0xC0: "get-request",
    0xC1: "set-request",
    0xC3: "action-request",
    0xC4: "get-response",
    0xC5: "set-response",
    0xC7: "action-response",
}
