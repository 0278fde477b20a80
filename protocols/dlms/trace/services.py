"""GET, SET and ACTION in a trace, of one attribute, of lists and in blocks, and notifications (Green Book 9.5)."""

from __future__ import annotations

from collections.abc import Callable

from protocols.dlms.data import cosem_time
from protocols.dlms.data.axdr import MAX_ELEMENTS
from protocols.dlms.data.types import Tag
from protocols.dlms.trace import names
from protocols.dlms.trace.names import ACCESS
from protocols.dlms.trace.state import Known
from protocols.dlms.trace.tree import Node, TraceCursor
from protocols.reading import Obis

_KINDS = {
    0xC0: {1: "normal", 2: "next", 3: "with list"},
    0xC1: {
        1: "normal",
        2: "first block",
        3: "block",
        4: "with list",
        5: "with list, first block",
    },
    0xC3: {
        1: "normal",
        2: "next block",
        3: "with list",
        4: "first block",
        5: "with list, first block",
        6: "block",
    },
    0xC4: {1: "normal", 2: "block", 3: "with list"},
    0xC5: {1: "normal", 2: "block", 3: "last block", 4: "last block, with list", 5: "with list"},
    0xC7: {1: "normal", 2: "block", 3: "with list", 4: "next block"},
}
_HLS = (15, 1)


def service(cursor: TraceCursor, known: Known, tag: int) -> None:
    """Read what follows the tag of a request or response."""
    kinds = _KINDS[tag]
    kind = cursor.number("kind", 1, kinds)
    if kind not in kinds:
        raise cursor.error(f"{names.APDUS[tag]} of kind {kind} is not known")
    with cursor.group("invoke id") as node:
        invoke = cursor.u8()
        node.value = f"{invoke & 0x0F}{', confirmed' * bool(invoke & 0x40)}{', high' * bool(invoke & 0x80)}"
    {
        0xC0: _get_request,
        0xC1: _set_request,
        0xC3: _action_request,
        0xC4: _get_response,
        0xC5: _set_response,
        0xC7: _action_response,
    }[tag](cursor, known, kind)


def notification(cursor: TraceCursor, tag: int) -> None:
    """Read a data-notification or an event-notification."""
    if tag == 0x0F:
        cursor.number("long invoke id", 4)
        _time(cursor)
        cursor.value()
        return
    if cursor.number("time present"):
        _time(cursor)
    _attribute(cursor, "attribute")
    cursor.value()


def _time(cursor: TraceCursor) -> None:
    with cursor.group("time") as node:
        octets = cursor.take(cursor.length())
        node.value = octets.hex(" ") or "none"
        if len(octets) == cosem_time.OCTETS:
            stamp = cosem_time.decode(octets)
            node.value += f" ({stamp.wall}, deviation {stamp.deviation})"


# requests


def _get_request(cursor: TraceCursor, known: Known, kind: int) -> None:
    if kind == 2:
        cursor.number("block number", 4)
        return
    known.get_list = kind == 3
    if kind == 3:
        _each(cursor, "attributes", lambda: _selected(cursor))
    else:
        _selected(cursor)


def _set_request(cursor: TraceCursor, known: Known, kind: int) -> None:
    match kind:
        case 1:
            _selected(cursor)
            cursor.value()
        case 2:
            _selected(cursor)
            _block(cursor, known, "set", _whole_value)
        case 3:
            _block(cursor, known, "set", _whole_value)
        case 4:
            _each(cursor, "attributes", lambda: _selected(cursor))
            _each(cursor, "values", cursor.value)
        case _:
            _each(cursor, "attributes", lambda: _selected(cursor))
            _block(cursor, known, "set", _whole_list)


def _action_request(cursor: TraceCursor, known: Known, kind: int) -> None:
    known.proving = False
    match kind:
        case 1:
            which = _attribute(cursor, "method")
            known.proving = which == _HLS
            if cursor.number("parameter present"):
                _parameter(cursor, known)
        case 2:
            cursor.number("block number", 4)
        case 3:
            _each(cursor, "methods", lambda: _attribute(cursor, "method"))
            _each(cursor, "parameters", cursor.value)
        case 4:
            _attribute(cursor, "method")
            _block(cursor, known, "action", _whole_value)
        case 5:
            _each(cursor, "methods", lambda: _attribute(cursor, "method"))
            _block(cursor, known, "action", _whole_list)
        case _:
            _block(cursor, known, "action", _whole_value)


def _parameter(cursor: TraceCursor, known: Known) -> None:
    start = cursor.offset
    place = cursor.place(start)
    cursor.value("parameter")
    if known.proving:
        _proof(cursor, known, start, place, by_client=True)


def _proof(cursor: TraceCursor, known: Known, start: int, place: int, *, by_client: bool) -> None:
    """Say how an answer to an HLS challenge checks."""
    encoded = cursor.octets_before(cursor.offset - start)
    if encoded[:1] != bytes((Tag.OCTET_STRING,)) or len(encoded) < 2 or encoded[1] >= 0x80:
        return
    step = (
        "HLS pass 3, answer to the meter's challenge" if by_client else "HLS pass 4, answer to the client's"
    )
    found = known.proof(encoded[2:], by_client=by_client)
    cursor.node.children.append(Node(place, step, found, cursor.space))


# responses


def _get_response(cursor: TraceCursor, known: Known, kind: int) -> None:
    match kind:
        case 1:
            _value_or_result(cursor)
        case 3:
            _each(cursor, "results", lambda: _value_or_result(cursor))
        case _:
            last = cursor.number("last block")
            number = cursor.number("block number", 4)
            if cursor.number("choice", 1, {0: "raw data", 1: "result"}):
                cursor.number("result", 1, ACCESS)
                return
            whole = _whole_results if known.get_list else _whole_value
            _raw(cursor, known, "get", whole, number=number, last=bool(last))


def _set_response(cursor: TraceCursor, _known: Known, kind: int) -> None:
    match kind:
        case 1:
            cursor.number("result", 1, ACCESS)
        case 2:
            cursor.number("block number", 4)
        case 3:
            cursor.number("result", 1, ACCESS)
            cursor.number("block number", 4)
        case _:
            _each(cursor, "results", lambda: cursor.number("result", 1, ACCESS))
            if kind == 4:
                cursor.number("block number", 4)


def _action_response(cursor: TraceCursor, known: Known, kind: int) -> None:
    match kind:
        case 1:
            _action_result(cursor, known)
        case 2:
            _block(cursor, known, "action answer", _whole_answer)
        case 3:
            known.proving = False
            _each(cursor, "results", lambda: _action_result(cursor, known))
        case _:
            cursor.number("block number", 4)


def _action_result(cursor: TraceCursor, known: Known) -> None:
    cursor.number("result", 1, ACCESS)
    if not cursor.number("answer present"):
        return
    proving, known.proving = known.proving, False
    start = cursor.offset + 1
    place = cursor.place(start)
    _value_or_result(cursor)
    if proving:
        _proof(cursor, known, start, place, by_client=False)


# parts


def _each(cursor: TraceCursor, name: str, read: Callable[[], object]) -> None:
    with cursor.group(name) as node:
        count = cursor.length()
        if count > cursor.left:
            raise cursor.error(f"{count} {name} announced, {cursor.left} octets left")
        if count > MAX_ELEMENTS:
            raise cursor.error(f"{count} {name}; {MAX_ELEMENTS} are read")
        node.value = str(count)
        for _ in range(count):
            read()


def _selected(cursor: TraceCursor) -> None:
    _attribute(cursor, "attribute")
    if cursor.number("selective access"):
        cursor.number("selector", 1, {1: "range", 2: "entries"})
        cursor.value("selection")


def _attribute(cursor: TraceCursor, what: str) -> tuple[int, int]:
    with cursor.group(what) as node:
        class_id, obis = cursor.unsigned(2), Obis.from_bytes(cursor.take(6))
        index = int.from_bytes(cursor.take(1), "big", signed=True)
        node.value = f"class {class_id}, {obis}, {what} {index}"
    return class_id, index


def _value_or_result(cursor: TraceCursor) -> None:
    match cursor.number("choice", 1, {0: "data", 1: "result"}):
        case 0:
            cursor.value()
        case 1:
            cursor.number("result", 1, ACCESS)
        case _:
            raise cursor.error("a response is data (0) or a result (1)")


def _block(cursor: TraceCursor, known: Known, what: str, whole: Callable[[TraceCursor], None]) -> None:
    last = cursor.number("last block")
    number = cursor.number("block number", 4)
    _raw(cursor, known, what, whole, number=number, last=bool(last))


def _raw(
    cursor: TraceCursor,
    known: Known,
    what: str,
    whole: Callable[[TraceCursor], None],
    *,
    number: int,
    last: bool,
) -> None:
    length = cursor.length()
    start = cursor.offset
    raw = cursor.octets("raw data", length)
    if known.block(what, cursor, raw, start, number) and last:
        whole(known.whole(what, cursor))


def _whole_value(joined: TraceCursor) -> None:
    joined.value("value of all blocks")
    joined.finish("the value")


def _whole_results(joined: TraceCursor) -> None:
    _each(joined, "results of all blocks", lambda: _value_or_result(joined))
    joined.finish("the results")


def _whole_list(joined: TraceCursor) -> None:
    _each(joined, "values of all blocks", joined.value)
    joined.finish("the values")


def _whole_answer(joined: TraceCursor) -> None:
    """Read what a method returned: Get-Data-Result, or the value alone as some meters send it."""
    if joined.left > 1 and joined.octet_at(0) == 0:
        _value_or_result(joined)
    else:
        joined.value("value of all blocks")
    joined.finish("the answer")
