"""Services on several attributes at once, and SET and ACTION in blocks (Green Book 9.5): codecs in pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict, TypeVar

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
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.data.types import Data
from protocols.errors import MeterProtocolError
from protocols.reading import Obis

_One = TypeVar("_One")


@dataclass(frozen=True, slots=True)
class Target:
    """One attribute of one object, with a selection where a GET asks for rows; or one method.

    `index` 2 is the value of most classes.
    """

    class_id: int
    obis: Obis
    index: int = 2
    selection: Selection | None = None

    def __str__(self) -> str:
        return f"{self.obis}#{self.index}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one target of a list gave: `result` 0 and perhaps a value, or why not."""

    result: int
    data: Data | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetListRequest:
    """GET of several attributes."""

    targets: tuple[Target, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class GetListResponse:
    """The values in the order asked for."""

    outcomes: tuple[Outcome, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class SetListRequest:
    """SET of several attributes; as many values as targets."""

    targets: tuple[Target, ...]
    values: tuple[Data, ...] = field(repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class SetListResponse:
    """One data-access-result for each target; 0 is success."""

    results: tuple[int, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionListRequest:
    """ACTION on several methods; null-data where a method takes nothing."""

    targets: tuple[Target, ...]
    parameters: tuple[Data, ...] = field(repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionListResponse:
    """One outcome for each method."""

    outcomes: tuple[Outcome, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBlock:
    """A block of the value of a SET, or of the parameter of an ACTION.

    The first one names its target (`listed` False) or its targets (`listed` True), the others none.
    """

    action: bool
    last: bool
    number: int
    raw: bytes = field(repr=False)
    targets: tuple[Target, ...] = ()
    listed: bool = False
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAck:
    """The far side has block `number` of a request; results come with the last block of a SET."""

    action: bool
    number: int
    results: tuple[int, ...] = ()
    listed: bool = False
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionBlock:
    """One block of an encoded answer to an ACTION."""

    last: bool
    number: int
    raw: bytes = field(repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionNext:
    """Ask for the block after `block` of the answer to an ACTION."""

    block: int
    invoke: int = INVOKE


ListApdu = (
    GetListRequest
    | GetListResponse
    | SetListRequest
    | SetListResponse
    | ActionListRequest
    | ActionListResponse
    | RequestBlock
    | BlockAck
    | ActionBlock
    | ActionNext
)


def encode(apdu: ListApdu) -> bytes:
    """Write one of these APDUs."""
    match apdu:
        case GetListRequest():
            return _head(0xC0, 3, apdu.invoke) + _targets(apdu.targets, with_selection=True)
        case GetListResponse():
            return _head(0xC4, 3, apdu.invoke) + encode_outcomes(apdu.outcomes)
        case SetListRequest():
            targets = _targets(apdu.targets, with_selection=True)
            return _head(0xC1, 4, apdu.invoke) + targets + _values(apdu.values)
        case SetListResponse():
            return _head(0xC5, 5, apdu.invoke) + encode_length(len(apdu.results)) + bytes(apdu.results)
        case ActionListRequest():
            targets = _targets(apdu.targets, with_selection=False)
            return _head(0xC3, 3, apdu.invoke) + targets + _values(apdu.parameters)
        case ActionListResponse():
            outcomes = b"".join(map(_action_outcome, apdu.outcomes))
            return _head(0xC7, 3, apdu.invoke) + encode_length(len(apdu.outcomes)) + outcomes
        case RequestBlock():
            return _request_block(apdu)
        case BlockAck():
            return _block_ack(apdu)
        case ActionBlock():
            return _head(0xC7, 2, apdu.invoke) + _block_octets(apdu.last, apdu.number, apdu.raw)
        case ActionNext():
            return _head(0xC3, 2, apdu.invoke) + apdu.block.to_bytes(4, "big")


def encode_outcomes(outcomes: tuple[Outcome, ...]) -> bytes:
    """Write a list of Get-Data-Result, which is also what the blocks of a long get-response hold."""
    return encode_length(len(outcomes)) + b"".join(
        data_or_error(one.data, one.result or None) for one in outcomes
    )


def decode_outcomes(octets: bytes) -> tuple[Outcome, ...]:
    """Read a list of Get-Data-Result that fills `octets`; MeterProtocolError otherwise."""
    cursor = Cursor(octets)
    outcomes = _sequence(cursor, _read_outcome)
    cursor.finish("the list of results")
    return outcomes


def read(tag: int, kind: int, invoke: int, cursor: Cursor) -> ListApdu | None:
    """Read what follows tag, kind and invoke id; None when the kind is not one of these."""
    match tag, kind:
        case 0xC0, 3:
            return GetListRequest(invoke=invoke, targets=_sequence(cursor, _read_selected))
        case 0xC4, 3:
            return GetListResponse(invoke=invoke, outcomes=_sequence(cursor, _read_outcome))
        case 0xC1, 4:
            targets = _sequence(cursor, _read_selected)
            return SetListRequest(invoke=invoke, targets=targets, values=_as_many(cursor, targets))
        case 0xC5, 5:
            return SetListResponse(invoke=invoke, results=_sequence(cursor, Cursor.u8))
        case 0xC3, 3:
            targets = _sequence(cursor, _read_target)
            return ActionListRequest(invoke=invoke, targets=targets, parameters=_as_many(cursor, targets))
        case 0xC7, 3:
            return ActionListResponse(invoke=invoke, outcomes=_sequence(cursor, _read_action_outcome))
        case (0xC1, 2) | (0xC3, 4):
            target = _read_selected(cursor) if tag == 0xC1 else _read_target(cursor)
            return _read_block(cursor, tag, invoke, (target,))
        case 0xC1, 5:
            return _read_block(cursor, tag, invoke, _sequence(cursor, _read_selected), listed=True)
        case 0xC3, 5:
            return _read_block(cursor, tag, invoke, _sequence(cursor, _read_target), listed=True)
        case (0xC1, 3) | (0xC3, 6):
            return _read_block(cursor, tag, invoke, ())
        case 0xC3, 2:
            return ActionNext(invoke=invoke, block=cursor.unsigned(4))
        case 0xC7, 2:
            return ActionBlock(invoke=invoke, **_read_block_octets(cursor))
        case (0xC5, 2) | (0xC7, 4):
            return BlockAck(action=tag == 0xC7, invoke=invoke, number=cursor.unsigned(4))
        case 0xC5, 3:
            return BlockAck(action=False, invoke=invoke, results=(cursor.u8(),), number=cursor.unsigned(4))
        case 0xC5, 4:
            results = _sequence(cursor, Cursor.u8)
            return BlockAck(
                action=False, invoke=invoke, results=results, listed=True, number=cursor.unsigned(4)
            )
    return None


def _head(tag: int, kind: int, invoke: int) -> bytes:
    return bytes((tag, kind, invoke))


def _targets(targets: tuple[Target, ...], *, with_selection: bool) -> bytes:
    out = encode_length(len(targets))
    for one in targets:
        out += attribute_octets(one.class_id, one.obis, one.index)
        out += selection_octets(one.selection) if with_selection else b""
    return out


def _values(values: tuple[Data, ...]) -> bytes:
    return encode_length(len(values)) + b"".join(map(axdr.encode, values))


def _action_outcome(one: Outcome) -> bytes:
    head = bytes((one.result,))
    return head + (b"\x00" if one.data is None else b"\x01" + data_or_error(one.data, None))


def encode_action_outcomes(outcomes: tuple[Outcome, ...], *, listed: bool) -> bytes:
    """Write what the blocks of a long action-response hold: what one method returned, or a list of outcomes.

    What one method returned stands alone, as a value does in the blocks of a long get-response: its result
    is success, or the answer would not be long.
    """
    if not listed:
        (one,) = outcomes
        return b"" if one.data is None else axdr.encode(one.data)
    return encode_length(len(outcomes)) + b"".join(map(_action_outcome, outcomes))


def decode_action_outcomes(octets: bytes, *, listed: bool) -> tuple[Outcome, ...]:
    """Read it; MeterProtocolError unless it fills `octets`.

    The standard leaves open how much goes into the blocks for one method, so beside the data alone two more
    forms are read: the data with its choice before it, and the whole outcome. Both begin with a zero, which
    long data never does.
    """
    cursor = Cursor(octets)
    if listed:
        outcomes = _sequence(cursor, _read_action_outcome)
        cursor.finish("the answer of a method")
        return outcomes
    if octets[:1] != b"\0":
        return (Outcome(0, axdr.decode(octets)),)
    try:
        outcome = _read_action_outcome(cursor)
        cursor.finish("the answer of a method")
    except MeterProtocolError:
        cursor = Cursor(octets)
        outcome = _read_outcome(cursor)
        cursor.finish("the answer of a method")
    return (outcome,)


def encode_values(values: tuple[Data, ...]) -> bytes:
    """Write what the blocks of a request on a list hold."""
    return _values(values)


def decode_values(octets: bytes) -> tuple[Data, ...]:
    """Read it; MeterProtocolError unless it fills `octets`."""
    cursor = Cursor(octets)
    values = _sequence(cursor, axdr.read)
    cursor.finish("the values of a list")
    return values


def _block_octets(last: bool, number: int, raw: bytes) -> bytes:
    return bytes((last,)) + number.to_bytes(4, "big") + encode_length(len(raw)) + raw


def _request_block(block: RequestBlock) -> bytes:
    tag = 0xC3 if block.action else 0xC1
    body = _block_octets(block.last, block.number, block.raw)
    if not block.targets:
        return _head(tag, 6 if block.action else 3, block.invoke) + body
    targets = _targets(block.targets, with_selection=not block.action)
    if block.listed:
        return _head(tag, 5, block.invoke) + targets + body
    return _head(tag, 4 if block.action else 2, block.invoke) + targets[1:] + body


def _block_ack(ack: BlockAck) -> bytes:
    number = ack.number.to_bytes(4, "big")
    if ack.action:
        return _head(0xC7, 4, ack.invoke) + number
    if not ack.results:
        return _head(0xC5, 2, ack.invoke) + number
    if ack.listed:
        return _head(0xC5, 4, ack.invoke) + encode_length(len(ack.results)) + bytes(ack.results) + number
    return _head(0xC5, 3, ack.invoke) + bytes(ack.results) + number


def _sequence(cursor: Cursor, read_one: Callable[[Cursor], _One]) -> tuple[_One, ...]:
    count = cursor.length()
    if count > cursor.left:  # every element takes at least one octet
        raise cursor.error(f"{count} elements announced, {cursor.left} octets left")
    return tuple(read_one(cursor) for _ in range(count))


def _as_many(cursor: Cursor, targets: tuple[Target, ...]) -> tuple[Data, ...]:
    values = _sequence(cursor, axdr.read)
    if len(values) != len(targets):
        raise cursor.error(f"{len(values)} values for {len(targets)} targets")
    return values


def _read_target(cursor: Cursor) -> Target:
    return Target(*read_attribute(cursor))


def _read_selected(cursor: Cursor) -> Target:
    return Target(*read_attribute(cursor), read_selection(cursor))


def _read_outcome(cursor: Cursor) -> Outcome:
    data, error = read_data_or_error(cursor)
    if error == 0:
        raise cursor.error("success without a value")
    return Outcome(error or 0, data)


def _read_action_outcome(cursor: Cursor) -> Outcome:
    result = cursor.u8()
    data, error = read_data_or_error(cursor) if cursor.u8() else (None, None)
    return Outcome(result or error or 0, data)


class _BlockFields(TypedDict):
    last: bool
    number: int
    raw: bytes


def _read_block_octets(cursor: Cursor) -> _BlockFields:
    last, number = cursor.u8() != 0, cursor.unsigned(4)
    return {"last": last, "number": number, "raw": cursor.take(cursor.length())}


def _read_block(
    cursor: Cursor, tag: int, invoke: int, targets: tuple[Target, ...], *, listed: bool = False
) -> RequestBlock:
    return RequestBlock(
        action=tag == 0xC3, invoke=invoke, targets=targets, listed=listed, **_read_block_octets(cursor)
    )
