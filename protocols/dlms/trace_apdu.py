"""APDUs of a trace as trees: associations, services, ciphered APDUs opened with the keys given."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms import security
from protocols.dlms.apdu import INVOCATION_COUNTER_ERROR
from protocols.dlms.ciphering import GENERAL_GLO, PLAIN_TAGS
from protocols.dlms.diagnostics import ACCESS_RESULTS, USER_DIAGNOSTICS
from protocols.dlms.security import Keys
from protocols.dlms.trace_tree import TraceCursor, WrongByte
from protocols.errors import MeterError
from protocols.reading import Obis

MAX_APDU_DEPTH = 8
"""APDUs in APDUs; a ciphered initiate in a general-glo association would be four."""
_REQUESTS = (0x21, 0xC8, 0xC9, 0xCB)
_RESULTS = {0: "success"} | ACCESS_RESULTS
_NAMES = {
    0x01: "initiate-request",
    0x08: "initiate-response",
    0x0E: "confirmed-service-error",
    0x0F: "data-notification",
    0x60: "AARQ",
    0x61: "AARE",
    0x62: "RLRQ",
    0x63: "RLRE",
    0xC0: "get-request",
    0xC1: "set-request",
    0xC2: "event-notification-request",
    0xC3: "action-request",
    0xC4: "get-response",
    0xC5: "set-response",
    0xC7: "action-response",
    0xD8: "exception-response",
    0xDB: "general-glo-ciphering",
    0xE0: "general-block-transfer",
}
_FIELDS = {
    0x80: "acse requirements or reason",
    0x88: "acse requirements",
    0x89: "mechanism",
    0x8A: "acse requirements",
    0x8B: "mechanism",
    0xA1: "application context",
    0xA2: "result",
    0xA3: "diagnostic",
    0xA4: "system title of the meter",
    0xA6: "system title of the client",
    0xAA: "authentication value of the meter",
    0xAC: "authentication value of the client",
    0xBE: "user information",
}
_MECHANISMS = {0: "none", 1: "LLS", 2: "HLS 2", 3: "HLS MD5", 4: "HLS SHA-1", 5: "HLS-GMAC", 6: "HLS SHA-256"}
_CONTEXTS = {1: "LN", 2: "SN", 3: "LN ciphered", 4: "SN ciphered"}


@dataclass(slots=True)
class Known:
    """What is known while a trace is read: keys, system titles given and seen, blocks not yet joined."""

    keys: Keys | None = None
    titles: tuple[bytes, ...] = ()
    client: bytes = b""
    meter: bytes = b""
    depth: int = 0
    blocks: bytearray = field(default_factory=bytearray)
    places: list[int] = field(default_factory=list)

    def candidates(self, tag: int) -> list[bytes]:
        """Give the system titles that may have ciphered an APDU with this tag, likeliest first."""
        seen = (self.client, self.meter) if tag in _REQUESTS else (self.meter, self.client)
        return list(dict.fromkeys(t for t in (seen[0], *self.titles, seen[1]) if t))


def apdu_name(tag: int) -> str | None:
    """Name an APDU by its tag; None for what is no APDU."""
    if tag in PLAIN_TAGS:
        return f"glo-{_NAMES[PLAIN_TAGS[tag]]}"
    return _NAMES.get(tag)


def read_apdu(cursor: TraceCursor, known: Known) -> None:
    """Read one APDU into the tree; WrongByte at the first octet that cannot be."""
    start = cursor.offset
    with cursor.group("APDU") as node:
        tag = cursor.u8()
        name = apdu_name(tag)
        if name is None:
            raise WrongByte(cursor.place(start), f"APDU tag {tag:#04x} is not known", cursor.space)
        node.name = name
        if known.depth >= MAX_APDU_DEPTH:
            raise cursor.error(f"APDUs nested deeper than {MAX_APDU_DEPTH}")
        known.depth += 1
        if tag in PLAIN_TAGS or tag == GENERAL_GLO:
            _ciphered(cursor, known, tag)
        else:
            _plain(cursor, known, tag)
        known.depth -= 1


def _plain(cursor: TraceCursor, known: Known, tag: int) -> None:
    match tag:
        case 0x60 | 0x61 | 0x62 | 0x63:
            _association(cursor.part(cursor.length()), known)
        case 0x01:
            _initiate_request(cursor)
        case 0x08:
            if cursor.number("quality of service present"):
                cursor.number("quality of service")
            _proposal(cursor)
            cursor.number("variable access name", 2)
        case 0xC0 | 0xC1 | 0xC3:
            _request(cursor, tag)
        case 0xC4:
            _get_response(cursor, known)
        case 0xC5:
            _kind(cursor, "set-response")
            cursor.number("result", 1, _RESULTS)
        case 0xC7:
            _kind(cursor, "action-response")
            cursor.number("result", 1, _RESULTS)
            if cursor.number("answer present"):
                _value_or_result(cursor)
        case _:
            _others(cursor, tag)


def _others(cursor: TraceCursor, tag: int) -> None:
    match tag:
        case 0x0E:
            for name in ("service", "error", "value"):
                cursor.number(name)
        case 0x0F:
            cursor.number("long invoke id", 4)
            cursor.octets("time", cursor.length())
            cursor.value()
        case 0xC2:
            if cursor.number("time present"):
                cursor.octets("time", cursor.length())
            _attribute(cursor, "attribute")
            cursor.value()
        case 0xD8:
            cursor.number("state error")
            if cursor.number("service error") == INVOCATION_COUNTER_ERROR and cursor.left >= 4:
                cursor.number("expected counter", 4)
        case 0xE0:
            cursor.number("control")
            cursor.number("block number", 2)
            cursor.number("block number acknowledged", 2)
            cursor.octets("block", cursor.length())


def _association(body: TraceCursor, known: Known) -> None:
    mechanism = 0
    while body.left:
        with body.group("field") as node:
            tag = body.u8()
            node.name = _FIELDS.get(tag, f"field {tag:#04x}")
            content = body.part(body.length())
            match tag:
                case 0x89 | 0x8B:
                    mechanism = content.octet_at(content.left - 1) if content.left else 0
                    node.value = _MECHANISMS.get(mechanism, str(mechanism))
                case 0xBE:
                    content.expect(0x04)
                    inner = content.part(content.length())
                    read_apdu(inner, known)
                    inner.finish("the user information")
                case 0xA1 | 0xA2 | 0xA3 | 0xA4 | 0xA6 | 0xAA | 0xAC:
                    content.u8()
                    value = content.take(content.length())
                    hidden = tag == 0xAC and mechanism == 1
                    node.value = f"{len(value)} octets, not shown" if hidden else _field(tag, value)
                    if tag in (0xA4, 0xA6):
                        known.meter, known.client = (
                            (value, known.client) if tag == 0xA4 else (known.meter, value)
                        )
                case _:
                    node.value = content.rest().hex(" ")


def _field(tag: int, value: bytes) -> str:
    code = value[-1] if value else 0
    match tag:
        case 0xA1:
            return _CONTEXTS.get(code, str(code))
        case 0xA2:
            return "accepted" if code == 0 else f"rejected ({code})"
        case 0xA3:
            return f"{code} ({USER_DIAGNOSTICS[code]})" if code in USER_DIAGNOSTICS else str(code)
    return value.hex(" ")


def _initiate_request(cursor: TraceCursor) -> None:
    if cursor.number("dedicated key present"):
        cursor.octets("dedicated key", cursor.length(), hidden=True)
    for name in ("response allowed", "quality of service"):
        if cursor.number(f"{name} present"):
            cursor.number(name)
    _proposal(cursor)


def _proposal(cursor: TraceCursor) -> None:
    cursor.number("DLMS version")
    with cursor.group("conformance") as node:
        if cursor.take(2) != b"\x5f\x1f":
            raise cursor.error("the conformance block 5F 1F is missing")
        if cursor.unsigned(2) != 0x0400:
            raise cursor.error("a conformance block has 24 bits (04 00)")
        node.value = cursor.take(3).hex()
    cursor.number("max PDU", 2)


def _kind(cursor: TraceCursor, what: str, allowed: tuple[int, ...] = (1,)) -> int:
    kind = cursor.number("kind")
    if kind not in allowed:
        raise cursor.error(f"{what} of kind {kind} is not supported")
    cursor.number("invoke id")
    return kind


def _request(cursor: TraceCursor, tag: int) -> None:
    kind = _kind(cursor, _NAMES[tag], (1, 2, 3) if tag == 0xC0 else (1,))
    if kind == 2:
        cursor.number("block number", 4)
        return
    for _ in range(cursor.number("count") if kind == 3 else 1):
        _attribute(cursor, "method" if tag == 0xC3 else "attribute")
        if tag == 0xC3:
            if cursor.number("parameter present"):
                cursor.value("parameter")
        elif cursor.number("selective access"):
            cursor.number("selector", 1, {1: "range", 2: "entries"})
            cursor.value("selection")
    if tag == 0xC1:
        cursor.value()


def _attribute(cursor: TraceCursor, what: str) -> None:
    with cursor.group(what) as node:
        class_id, obis = cursor.unsigned(2), Obis.from_bytes(cursor.take(6))
        index = int.from_bytes(cursor.take(1), "big", signed=True)
        node.value = f"class {class_id}, {obis}, {what} {index}"


def _get_response(cursor: TraceCursor, known: Known) -> None:
    match _kind(cursor, "get-response", (1, 2, 3)):
        case 1:
            _value_or_result(cursor)
        case 3:
            for _ in range(cursor.number("count")):
                _value_or_result(cursor)
        case _:
            _block(cursor, known)


def _block(cursor: TraceCursor, known: Known) -> None:
    last = cursor.number("last block")
    if cursor.number("block number", 4) <= 1:
        known.blocks.clear()
        known.places.clear()
    if cursor.number("choice", 1, {0: "raw data", 1: "result"}):
        cursor.number("result", 1, _RESULTS)
        return
    length = cursor.length()
    start = cursor.offset
    known.blocks += cursor.octets("raw data", length)
    known.places += [] if cursor.space else cursor.places[start : start + length]
    if last:
        data, places = bytes(known.blocks), list(known.places)
        known.blocks.clear()
        known.places.clear()
        whole = len(places) == len(data)  # not so when blocks came ciphered: they have no place in the trace
        joined = TraceCursor(
            data, places if whole else range(len(data)), cursor.node, "" if whole else "joined", cursor.budget
        )
        joined.value("value of all blocks")
        joined.finish("the value")


def _value_or_result(cursor: TraceCursor) -> None:
    match cursor.number("choice", 1, {0: "data", 1: "result"}):
        case 0:
            cursor.value()
        case 1:
            cursor.number("result", 1, _RESULTS)
        case _:
            raise cursor.error("a response is data (0) or a result (1)")


def _ciphered(cursor: TraceCursor, known: Known, tag: int) -> None:
    titles = known.candidates(tag)
    if tag == GENERAL_GLO:
        title = cursor.octets("system title", cursor.length())
        titles = [title] if title else titles
    body = cursor.part(cursor.length())
    start = body.place(0)
    control = body.number("security control", 1, {0x10: "authenticated", 0x20: "encrypted", 0x30: "both"})
    body.number("invocation counter", 4)
    text = body.octets("text and tag", body.left)
    if known.keys is None:
        return
    if not titles:
        body.node.value = "not deciphered: no system title is known"
        return
    whole = bytes((control,)) + cursor.octets_before(len(text) + 4)
    plain = _opened(known.keys, titles, whole, PLAIN_TAGS.get(tag))
    if plain is None:
        raise WrongByte(start, "not deciphered: wrong tag (keys, system title or damage)", cursor.space)
    inner = TraceCursor(plain, range(len(plain)), cursor.node, "deciphered", cursor.budget)
    if tag != GENERAL_GLO and inner.left and inner.octet_at(0) != PLAIN_TAGS[tag]:
        raise WrongByte(0, f"deciphers to tag {inner.octet_at(0):#04x} (wrong key?)", "deciphered")
    read_apdu(inner, known)
    inner.finish("the deciphered APDU")


def _opened(keys: Keys, titles: list[bytes], body: bytes, inner_tag: int | None) -> bytes | None:
    """Open with the first title that fits; without a tag to check, that is the one that gives `inner_tag`."""
    found = None
    for title in titles:
        try:
            plain = security.unprotect(keys, title, body, required=0).plain
        except MeterError:
            continue
        if inner_tag is None or plain[:1] == bytes((inner_tag,)):
            return plain
        found = plain if found is None else found
    return found
