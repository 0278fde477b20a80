"""APDUs of a trace as trees: associations, errors, ciphered APDUs opened with the keys given, general blocks."""

from __future__ import annotations

from protocols.dlms.apdu.diagnostics import (
    CONFIRMED_ERRORS,
    PROVIDER_DIAGNOSTICS,
    SERVICE_ERRORS,
    STATE_ERRORS,
    USER_DIAGNOSTICS,
)
from protocols.dlms.apdu.services import INVOCATION_COUNTER_ERROR
from protocols.dlms.security import suites as security
from protocols.dlms.security.ciphering import DED_TAGS, GENERAL_DED, GENERAL_GLO, PLAIN_TAGS
from protocols.dlms.security.suites import KEY_OCTETS, Keys
from protocols.dlms.trace import names
from protocols.dlms.trace.services import notification, service
from protocols.dlms.trace.state import Known
from protocols.dlms.trace.tree import TraceCursor, WrongByte
from protocols.errors import MeterError

MAX_APDU_DEPTH = 8
"""APDUs in APDUs; a ciphered initiate in a general-glo association in general blocks would be five."""
_LLS = 1
_DED = frozenset(DED_TAGS.values())
_GENERAL = 0xDD


def apdu_name(tag: int) -> str | None:
    """Name an APDU by its tag; None for what is no APDU."""
    if tag in PLAIN_TAGS:
        return f"{'ded' if tag in _DED else 'glo'}-{names.APDUS[PLAIN_TAGS[tag]]}"
    return names.APDUS.get(tag)


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
        try:
            _read(cursor, known, tag)
        finally:
            known.depth -= 1


def _read(cursor: TraceCursor, known: Known, tag: int) -> None:
    match tag:
        case 0x60 | 0x61 | 0x62 | 0x63:
            _association(cursor.part(cursor.length()), known, tag)
        case 0x01:
            _initiate_request(cursor, known)
        case 0x08:
            if cursor.number("quality of service present"):
                cursor.number("quality of service")
            _proposal(cursor)
            cursor.number("variable access name", 2)
        case 0x0E:
            _confirmed_error(cursor)
        case 0xD8:
            cursor.number("state error", 1, STATE_ERRORS)
            error = cursor.number("service error", 1, SERVICE_ERRORS)
            if error == INVOCATION_COUNTER_ERROR and cursor.left >= 4:
                cursor.number("expected counter", 4)
        case 0x0F | 0xC2:
            notification(cursor, tag)
        case 0xE0:
            _general_block(cursor, known)
        case 0xDD:
            _general_ciphering(cursor, known)
        case 0xD9 | 0xDA | 0xDF:
            cursor.octets("body, not taken apart", cursor.left)
        case _ if tag in PLAIN_TAGS or tag in (GENERAL_GLO, GENERAL_DED):
            _ciphered(cursor, known, tag)
        case _:
            service(cursor, known, tag)


# associations


def _association(body: TraceCursor, known: Known, apdu: int) -> None:
    if apdu == 0x60:
        known.mechanism, known.client_challenge, known.meter_challenge = 0, b"", b""
        known.dedicated = b""
    while body.left:
        with body.group("field") as node:
            tag = body.u8()
            node.name = names.FIELDS.get(tag, f"field {tag:#04x}")
            content = body.part(body.length())
            match tag:
                case 0x89 | 0x8B:
                    known.mechanism = content.octet_at(content.left - 1) if content.left else 0
                    node.value = names.MECHANISMS.get(known.mechanism, str(known.mechanism))
                case 0xBE:
                    _information(content, known)
                case 0x80 if apdu in (0x62, 0x63):
                    node.name = "reason"
                    code = content.u8()
                    reasons = names.RELEASE_REQUESTS if apdu == 0x62 else names.RELEASE_ANSWERS
                    node.value = f"{code} ({reasons.get(code, 'unknown')})"
                case 0xA3:
                    node.value = _diagnostic(content)
                case 0xA1 | 0xA2 | 0xA4 | 0xA6 | 0xAA | 0xAC:
                    content.u8()
                    value = content.take(content.length())
                    node.value = _field(tag, value, known)
                case _:
                    node.value = content.rest().hex(" ")


def _information(content: TraceCursor, known: Known) -> None:
    content.expect(0x04)
    inner = content.part(content.length())
    if not inner.left:
        return
    read_apdu(inner, known)
    inner.finish("the user information")


def _diagnostic(content: TraceCursor) -> str:
    source = content.u8()
    if source not in (0xA1, 0xA2):
        raise content.error(f"{source:#04x} is no source of a diagnostic (A1 user, A2 provider)")
    number = content.part(content.length())
    number.expect(0x02)
    code = int.from_bytes(number.take(number.length()), "big")
    known = USER_DIAGNOSTICS if source == 0xA1 else PROVIDER_DIAGNOSTICS
    by = "" if source == 0xA1 else " by the provider"
    return f"{code} ({known.get(code, 'unknown')}){by}"


def _field(tag: int, value: bytes, known: Known) -> str:
    code = value[-1] if value else 0
    match tag:
        case 0xA1:
            return names.CONTEXTS.get(code, str(code))
        case 0xA2:
            return f"{code} ({names.RESULTS.get(code, 'unknown')})" if code else "accepted"
        case 0xA4:
            known.meter = value
        case 0xA6:
            known.client = value
        case 0xAA:
            known.meter_challenge = value
            return f"{value.hex(' ')} (HLS pass 2: the meter's challenge)"
        case 0xAC if known.mechanism == _LLS:
            return f"{len(value)} octets, not shown"
        case 0xAC if known.mechanism:
            known.client_challenge = value
            return f"{value.hex(' ')} (HLS pass 1: the client's challenge)"
        case 0xAC:
            return f"{len(value)} octets, not shown"
    return f"{value.hex(' ')}{_letters(value)}"


def _letters(title: bytes) -> str:
    head = title[:3]
    return f" ({head.decode('ascii')})" if head.isalpha() and head.isascii() else ""


def _initiate_request(cursor: TraceCursor, known: Known) -> None:
    if cursor.number("dedicated key present"):
        key = cursor.octets("dedicated key", cursor.length(), hidden=True)
        known.dedicated = key if len(key) == KEY_OCTETS else b""
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
        bits = cursor.unsigned(3)
        node.value = f"{bits:06x} ({names.conformance(bits)})"
    cursor.number("max PDU", 2)


def _confirmed_error(cursor: TraceCursor) -> None:
    cursor.number("service", 1, names.CONFIRMED_SERVICES)
    with cursor.group("error") as node:
        code = cursor.u8()
        kind, values = CONFIRMED_ERRORS.get(code, ("unknown", ()))
        node.value = f"{code} ({kind})"
    cursor.number("value", 1, dict(enumerate(values)))


# ciphering


def _ciphered(cursor: TraceCursor, known: Known, tag: int) -> None:
    general = tag in (GENERAL_GLO, GENERAL_DED)
    titles = known.candidates(tag)
    if general:
        title = cursor.octets("system title", cursor.length())
        titles = [title] if title else titles
    body = cursor.part(cursor.length())
    inner = PLAIN_TAGS.get(tag)
    dedicated = tag in _DED or tag == GENERAL_DED
    _open(body, cursor, known, titles, inner=inner, dedicated=dedicated)


def _open(
    body: TraceCursor,
    cursor: TraceCursor,
    known: Known,
    titles: list[bytes],
    *,
    inner: int | None,
    dedicated: bool,
) -> None:
    start = body.place(0)
    named = {0x10: "authenticated", 0x20: "encrypted", 0x30: "both", 0: "none"}
    control = body.number("security control", 1, {c | s: n for c, n in named.items() for s in range(3)})
    body.number("invocation counter", 4)
    text = body.octets("text and tag", body.left)
    keys = known.key_for(dedicated=dedicated)
    if keys is None:
        if known.keys is not None:
            body.node.value = "not deciphered: the dedicated key is not in the trace"
        return
    if not titles:
        body.node.value = "not deciphered: no system title is known"
        return
    whole = bytes((control,)) + cursor.octets_before(len(text) + 4)
    plain = _opened(keys, titles, whole, inner)
    if plain is None:
        raise WrongByte(start, "not deciphered: wrong tag (keys, system title or damage)", cursor.space)
    opened = TraceCursor(plain, range(len(plain)), cursor.node, "deciphered", cursor.budget)
    if inner is not None and opened.left and opened.octet_at(0) != inner:
        raise WrongByte(0, f"deciphers to tag {opened.octet_at(0):#04x} (wrong key?)", "deciphered")
    read_apdu(opened, known)
    opened.finish("the deciphered APDU")


def _opened(keys: Keys, titles: list[bytes], body: bytes, inner_tag: int | None) -> bytes | None:
    """Open with the first title that fits; without a tag to check, that is the one that gives `inner_tag`."""
    found = None
    for title in titles:
        try:
            plain = security.unprotect(keys, title, body, required=0).plain
        except (MeterError, ValueError):  # a nonce of an impossible length
            continue
        if inner_tag is None or plain[:1] == bytes((inner_tag,)):
            return plain
        found = plain if found is None else found
    return found


def _general_ciphering(cursor: TraceCursor, known: Known) -> None:
    cursor.octets("transaction id", cursor.length())
    title = cursor.octets("system title of the sender", cursor.length())
    cursor.octets("system title of the receiver", cursor.length())
    cursor.octets("time", cursor.length())
    cursor.octets("other information", cursor.length())
    wrapped = False
    if cursor.number("key information present"):
        match cursor.number("key", 1, {0: "identified", 1: "wrapped", 2: "agreed"}):
            case 0:
                cursor.number("key id", 1, {0: "global unicast", 1: "global broadcast"})
            case 1:
                wrapped = True
                cursor.number("key-encrypting key", 1, {0: "master key"})
                cursor.octets("wrapped key", cursor.length())
            case 2:
                wrapped = True
                cursor.octets("key parameters", cursor.length())
                cursor.octets("key data", cursor.length())
            case _:
                raise cursor.error("key information is identified (0), wrapped (1) or agreed (2)")
    body = cursor.part(cursor.length())
    if wrapped:
        body.octets("security header, text and tag", body.left)
        return
    titles = [title] if title else known.candidates(_GENERAL)
    _open(body, cursor, known, titles, inner=None, dedicated=False)


def _general_block(cursor: TraceCursor, known: Known) -> None:
    with cursor.group("control") as node:
        control = cursor.u8()
        last, streaming = bool(control & 0x80), bool(control & 0x40)
        node.value = f"{control:#04x} (window {control & 0x3F}{', streaming' * streaming}{', last' * last})"
    number = cursor.number("block number", 2)
    cursor.number("block number acknowledged", 2)
    length = cursor.length()
    start = cursor.offset
    raw = cursor.octets("block", length)
    if not raw and not last:
        return  # an acknowledgement only
    if known.block("general", cursor, raw, start, number) and last:
        whole = known.whole("general", cursor)
        if whole.left:
            read_apdu(whole, known)
            whole.finish("the APDU of all blocks")
