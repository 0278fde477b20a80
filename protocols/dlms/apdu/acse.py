"""Association APDUs (Green Book 9.4, ISO 8650): AARQ, AARE, RLRQ, RLRE and the Initiate services in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.apdu.conformance import BUILT
from protocols.dlms.apdu.diagnostics import association_diagnostic
from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.errors import MeterProtocolError

CONTEXT_PLAIN = 1
CONTEXT_CIPHERED = 3
VERSION = 6

ACCEPTED = 0
REJECTED = 1
REJECTED_TRANSIENT = 2
DIAGNOSTIC_NONE = 0
DIAGNOSTIC_CONTEXT = 2
DIAGNOSTIC_TITLE = 3
DIAGNOSTIC_MECHANISM_REQUIRED = 12
DIAGNOSTIC_FAILURE = 13
DIAGNOSTIC_AUTHENTICATION_REQUIRED = 14

_CONTEXT = bytes.fromhex("60857405080100")[:-1]
_MECHANISM = bytes.fromhex("60857405080200")[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiateRequest:
    """What the client proposes; `conformance` has 24 bits, first service in the highest."""

    conformance: int = BUILT
    max_pdu: int = 0xFFFF
    dedicated_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiateResponse:
    """What the server grants; `max_pdu` is the most that it receives."""

    conformance: int
    max_pdu: int
    vaa: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Aarq:
    """Association request. `secret` is the password or the client's challenge."""

    context: int = CONTEXT_PLAIN
    system_title: bytes = b""
    mechanism: int | None = None
    secret: bytes | None = field(default=None, repr=False)
    user_information: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aare:
    """Association response; `source` 1 is the service user, 2 the provider, of `diagnostic`."""

    context: int = CONTEXT_PLAIN
    result: int = ACCEPTED
    source: int = 1
    diagnostic: int = DIAGNOSTIC_NONE
    system_title: bytes = b""
    mechanism: int | None = None
    challenge: bytes | None = None
    user_information: bytes = b""

    def reason(self) -> str:
        """Name the diagnostic; a transient refusal says so."""
        known = association_diagnostic(self.source, self.diagnostic)
        return f"{known} (for now)" if self.result == REJECTED_TRANSIENT else known


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """RLRQ (`response` False) or RLRE; `user_information` holds a ciphered Initiate where that is asked for."""

    response: bool = False
    reason: int = 0
    user_information: bytes = field(default=b"", repr=False)


def encode_initiate_request(request: InitiateRequest) -> bytes:
    """Write xDLMS-Initiate.request."""
    key = request.dedicated_key
    dedicated = b"\x00" if key is None else b"\x01" + encode_length(len(key)) + key
    return b"\x01" + dedicated + b"\x00\x00" + _proposal(request.conformance, request.max_pdu)


def decode_initiate_request(octets: bytes) -> InitiateRequest:
    """Read xDLMS-Initiate.request; MeterProtocolError otherwise."""
    cursor = Cursor(octets)
    if cursor.u8() != 0x01:
        raise cursor.error("not an initiate request")
    key = cursor.take(cursor.length()) if cursor.u8() else None
    if cursor.u8():  # response-allowed is present
        cursor.u8()
    if cursor.u8():  # quality of service is present
        cursor.u8()
    conformance, max_pdu = _read_proposal(cursor)
    cursor.finish("the initiate request")
    return InitiateRequest(conformance=conformance, max_pdu=max_pdu, dedicated_key=key)


def encode_initiate_response(response: InitiateResponse) -> bytes:
    """Write xDLMS-Initiate.response."""
    return b"\x08\x00" + _proposal(response.conformance, response.max_pdu) + response.vaa.to_bytes(2, "big")


def decode_initiate_response(octets: bytes) -> InitiateResponse:
    """Read xDLMS-Initiate.response; MeterProtocolError otherwise."""
    cursor = Cursor(octets)
    if cursor.u8() != 0x08:
        raise cursor.error("not an initiate response")
    if cursor.u8():
        cursor.u8()
    conformance, max_pdu = _read_proposal(cursor)
    vaa = cursor.unsigned(2)
    cursor.finish("the initiate response")
    return InitiateResponse(conformance=conformance, max_pdu=max_pdu, vaa=vaa)


def _proposal(conformance: int, max_pdu: int) -> bytes:
    return (
        bytes((VERSION,)) + b"\x5f\x1f\x04\x00" + conformance.to_bytes(3, "big") + max_pdu.to_bytes(2, "big")
    )


def _read_proposal(cursor: Cursor) -> tuple[int, int]:
    if (version := cursor.u8()) != VERSION:
        raise cursor.error(f"DLMS version {version}; {VERSION} is expected")
    if cursor.take(2) != b"\x5f\x1f":
        raise cursor.error("the conformance block is missing")
    if cursor.u8() != 4 or cursor.u8():
        raise cursor.error("a conformance block has 24 bits")
    return cursor.unsigned(3), cursor.unsigned(2)


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + encode_length(len(content)) + content


def encode_aarq(aarq: Aarq) -> bytes:
    """Write an AARQ."""
    body = _field(0xA1, _field(0x06, _CONTEXT + bytes((aarq.context,))))
    if aarq.system_title:
        body += _field(0xA6, _field(0x04, aarq.system_title))
    if aarq.mechanism is not None:
        body += b"\x8a\x02\x07\x80" + _field(0x8B, _MECHANISM + bytes((aarq.mechanism,)))
    if aarq.secret is not None:
        body += _field(0xAC, _field(0x80, aarq.secret))
    return _field(0x60, body + _field(0xBE, _field(0x04, aarq.user_information)))


def decode_aarq(octets: bytes) -> Aarq:
    """Read an AARQ, its fields in any order; MeterProtocolError otherwise."""
    fields = _fields(octets, 0x60)
    secret = fields.get(0xAC)
    return Aarq(
        context=_name_id(_inner(fields, 0xA1, 0x06), _CONTEXT),
        system_title=_inner(fields, 0xA6, 0x04),
        mechanism=_name_id(fields[0x8B], _MECHANISM) if 0x8B in fields else None,
        secret=None if secret is None else _inner(fields, 0xAC, 0x80),
        user_information=_inner(fields, 0xBE, 0x04),
    )


def encode_aare(aare: Aare) -> bytes:
    """Write an AARE."""
    body = _field(0xA1, _field(0x06, _CONTEXT + bytes((aare.context,))))
    body += _field(0xA2, bytes((0x02, 0x01, aare.result)))
    body += _field(0xA3, _field(0xA0 + aare.source, bytes((0x02, 0x01, aare.diagnostic))))
    if aare.system_title:
        body += _field(0xA4, _field(0x04, aare.system_title))
    if aare.mechanism is not None:
        body += b"\x88\x02\x07\x80" + _field(0x89, _MECHANISM + bytes((aare.mechanism,)))
    if aare.challenge is not None:
        body += _field(0xAA, _field(0x80, aare.challenge))
    if aare.user_information:
        body += _field(0xBE, _field(0x04, aare.user_information))
    return _field(0x61, body)


def decode_aare(octets: bytes) -> Aare:
    """Read an AARE, its fields in any order; MeterProtocolError otherwise.

    A refusal is read leniently: meters leave its user information out or malformed.
    """
    fields = _fields(octets, 0x61)
    result = _number(_inner(fields, 0xA2, 0x02), "result")
    diagnostic = Cursor(fields.get(0xA3, b"\xa1\x03\x02\x01\x01"))
    source = diagnostic.u8() - 0xA0
    number = Cursor(diagnostic.take(diagnostic.length()))
    number.take(1)
    code = _number(number.take(number.length()), "diagnostic")
    if result != ACCEPTED:
        return Aare(result=result, source=source, diagnostic=code, user_information=fields.get(0xBE, b"")[2:])
    return Aare(
        context=_name_id(_inner(fields, 0xA1, 0x06), _CONTEXT),
        result=result,
        source=source,
        diagnostic=code,
        system_title=_inner(fields, 0xA4, 0x04),
        mechanism=fields[0x89][-1] if fields.get(0x89) else None,
        challenge=_inner(fields, 0xAA, 0x80) if 0xAA in fields else None,
        user_information=_inner(fields, 0xBE, 0x04),
    )


def encode_release(release: Release) -> bytes:
    """Write RLRQ or RLRE."""
    body = bytes((0x80, 0x01, release.reason))
    if release.user_information:
        body += _field(0xBE, _field(0x04, release.user_information))
    return _field(0x63 if release.response else 0x62, body)


def decode_release(octets: bytes) -> Release:
    """Read RLRQ or RLRE; a missing reason is 0."""
    tag = octets[0] if octets else 0
    if tag not in (0x62, 0x63):
        raise MeterProtocolError(f"APDU tag {tag:#04x} is not a release")
    fields = _fields(octets, tag)
    reason = _number(fields.get(0x80, b"\x00"), "reason")
    return Release(response=tag == 0x63, reason=reason, user_information=_inner(fields, 0xBE, 0x04))


def _fields(octets: bytes, tag: int) -> dict[int, bytes]:
    cursor = Cursor(octets)
    if (found := cursor.u8()) != tag:
        raise cursor.error(f"APDU tag {found:#04x}; {tag:#04x} is expected")
    body = Cursor(cursor.take(cursor.length()))
    cursor.finish("the association APDU")
    fields: dict[int, bytes] = {}
    while body.left:
        name = body.u8()
        fields[name] = body.take(body.length())
    return fields


def _inner(fields: dict[int, bytes], name: int, tag: int) -> bytes:
    if name not in fields:
        return b""
    cursor = Cursor(fields[name])
    if (found := cursor.u8()) != tag:
        raise cursor.error(f"field {name:#04x} holds {found:#04x}; {tag:#04x} is expected")
    content = cursor.take(cursor.length())
    cursor.finish(f"field {name:#04x}")
    return content


def _name_id(octets: bytes, arc: bytes) -> int:
    # one Indian meter writes 85 for the country arc differently: only the last octet tells names apart
    if len(octets) != len(arc) + 1:
        raise MeterProtocolError(f"object name {octets.hex()} is not one of DLMS")
    return octets[-1]


def _number(octets: bytes, what: str) -> int:
    if len(octets) != 1:
        raise MeterProtocolError(f"{what} has {len(octets)} octets, 1 is expected")
    return octets[0]
