"""Association APDUs (Green Book 9.4, ISO 8650): AARQ, AARE, RLRQ, RLRE and the Initiate services in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protocols.dlms.apdu.ber import Association, Enumerated, ObjectName, Reason, Tagged, Title, one_octet
from protocols.dlms.apdu.conformance import BUILT, service_names
from protocols.dlms.apdu.diagnostics import PROVIDER_DIAGNOSTICS, USER_DIAGNOSTICS, association_diagnostic
from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.data.syntax import Field, OctetString, Optional, Record, T, UnsignedNumber, Unused
from protocols.errors import MeterProtocolError

CONTEXT_PLAIN = 1
CONTEXT_CIPHERED = 3
SHORT_NAMES = {CONTEXT_PLAIN: 2, CONTEXT_CIPHERED: 4}
"""The application context by short names, by that by logical names."""
VAA_LOGICAL_NAMES, VAA_SHORT_NAMES = 7, 0xFA00
"""Variable access names: of nothing with logical names, of the association with short ones."""
VERSION = 6

ACCEPTED = 0
REJECTED = 1
REJECTED_TRANSIENT = 2
DIAGNOSTIC_NONE = 0
DIAGNOSTIC_NO_REASON = 1
DIAGNOSTIC_CONTEXT = 2
DIAGNOSTIC_TITLE = 3
DIAGNOSTIC_MECHANISM_REQUIRED = 12
DIAGNOSTIC_FAILURE = 13
DIAGNOSTIC_AUTHENTICATION_REQUIRED = 14

CONTEXTS = {1: "LN", 2: "SN", 3: "LN ciphered", 4: "SN ciphered"}
MECHANISMS = {
    0: "none",
    1: "LLS",
    2: "HLS 2",
    3: "HLS MD5",
    4: "HLS SHA-1",
    5: "HLS-GMAC",
    6: "HLS SHA-256",
    7: "HLS ECDSA",
}
RESULTS = {0: "accepted", 1: "rejected permanently", 2: "rejected transiently"}


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
    """Association request. `secret` is the password or the client's challenge.

    `certificate` is the X.509 certificate of the client's signing key, where mechanism 7 is used.
    """

    context: int = CONTEXT_PLAIN
    system_title: bytes = b""
    mechanism: int | None = None
    secret: bytes | None = field(default=None, repr=False)
    certificate: bytes = field(default=b"", repr=False)
    user_information: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aare:
    """Association response; `source` 1 is the service user, 2 the provider, of `diagnostic`.

    `certificate` is the X.509 certificate of the meter's signing key, where mechanism 7 is used.
    """

    context: int = CONTEXT_PLAIN
    result: int = ACCEPTED
    source: int = 1
    diagnostic: int = DIAGNOSTIC_NONE
    system_title: bytes = b""
    mechanism: int | None = None
    challenge: bytes | None = None
    certificate: bytes = field(default=b"", repr=False)
    user_information: bytes = b""

    def reason(self) -> str:
        """The diagnostic in words; a transient refusal says so."""
        known = association_diagnostic(self.source, self.diagnostic)
        return f"{known} (for now)" if self.result == REJECTED_TRANSIENT else known


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """RLRQ (`response` False) or RLRE; `user_information` holds a ciphered Initiate where that is asked for."""

    response: bool = False
    reason: int = 0
    user_information: bytes = field(default=b"", repr=False)


# Initiate (A-XDR)


class ConformanceBlock(Field[int]):
    """The conformance block: 24 bits as a BER bit-string under its application tag."""

    name = "conformance"

    def read(self, cursor: Cursor) -> int:
        if cursor.take(2) != b"\x5f\x1f":
            raise cursor.error("the conformance block 5F 1F is missing")
        if cursor.unsigned(2) != 0x0400:
            raise cursor.error("a conformance block has 24 bits (04 00)")
        return cursor.unsigned(3)

    def write(self, value: int) -> bytes:
        return b"\x5f\x1f\x04\x00" + value.to_bytes(3, "big")

    def show(self, value: int) -> str:
        return f"{value:06x} ({', '.join(service_names(value)) or 'no service'})"


class Version(Field[None]):
    """The DLMS version, of which there is one."""

    name = "DLMS version"

    def read(self, cursor: Cursor) -> None:
        version = cursor.u8()
        cursor.note(version)
        if version != VERSION:
            cursor.refuse(f"DLMS version {version}; {VERSION} is expected")

    def write(self, value: None) -> bytes:  # noqa: ARG002 (there is one)
        return bytes((VERSION,))


DEDICATED_KEY = OctetString("dedicated key", hidden=True)
_QUALITY = Unused(Optional("quality of service present", UnsignedNumber("quality of service")))
_PROPOSAL = (("", Version()), ("conformance", ConformanceBlock()), ("max_pdu", UnsignedNumber("max PDU", 2)))
INITIATE_REQUEST = Record(
    InitiateRequest,
    ("dedicated_key", Optional("dedicated key present", DEDICATED_KEY)),
    ("", Unused(Optional("response allowed present", UnsignedNumber("response allowed")))),
    ("", _QUALITY),
    *_PROPOSAL,
)
INITIATE_RESPONSE = Record(
    InitiateResponse, ("", _QUALITY), *_PROPOSAL, ("vaa", UnsignedNumber("variable access name", 2))
)


class Diagnostic(Field[tuple[int, int]]):
    """Who refuses (1 the service user, 2 the provider), and why."""

    def read(self, cursor: Cursor) -> tuple[int, int]:
        source = cursor.u8() - 0xA0
        number = cursor.part(cursor.length())
        number.u8()  # 02, which some refusals write otherwise
        return source, one_octet(number.part(number.length()))

    def write(self, value: tuple[int, int]) -> bytes:
        source, code = value
        return bytes((0xA0 + source, 0x03, 0x02, 0x01, code))

    def show(self, value: tuple[int, int]) -> str:
        source, code = value
        names = {1: USER_DIAGNOSTICS, 2: PROVIDER_DIAGNOSTICS}.get(source, {})
        by = {1: "", 2: " by the provider"}.get(source, f" by source {source}")
        return f"{code} ({names.get(code, 'unknown')}){by}"


class Mechanism(Tagged[int | None]):
    """The mechanism's name, and before it (tag less one) the requirement of authentication that goes with it."""

    def __init__(self, tag: int, *, lenient: bool) -> None:
        super().__init__(tag, "mechanism", ObjectName("608574050802", MECHANISMS, lenient=lenient))
        self._requirement = bytes((tag - 1, 0x02, 0x07, 0x80))

    def write(self, value: int | None) -> bytes:
        return self._requirement + super().write(value)


class Certificate(Field[bytes]):
    """An X.509 certificate in the qualifier of one side (Green Book 9.4.2, mechanism 7); a trace shows its length.

    Some write an invocation number there, which says nothing here.
    """

    def read(self, cursor: Cursor) -> bytes:
        inside = Cursor(cursor.rest())
        try:
            inside.expect(0x04)
            return inside.take(inside.length())
        except MeterProtocolError:
            return b""

    def write(self, value: bytes) -> bytes:
        return b"\x04" + encode_length(len(value)) + value

    def show(self, value: bytes) -> str:
        return f"certificate of {len(value)} octets" if value else "no certificate"


class Information(Field[bytes]):
    """An Initiate, plain or ciphered, as an octet-string; a trace reads the APDU in it."""

    def read(self, cursor: Cursor) -> bytes:
        cursor.expect(0x04)
        return cursor.part(cursor.length()).inner_apdu()

    def write(self, value: bytes) -> bytes:
        return b"\x04" + encode_length(len(value)) + value


CONTEXT = Tagged(0xA1, "application context", ObjectName("608574050801", CONTEXTS, inner_tag=b"\x06"))
MECHANISM_CHOSEN, MECHANISM_ASKED = Mechanism(0x89, lenient=True), Mechanism(0x8B, lenient=False)
METER_TITLE = Tagged(0xA4, "system title of the meter", Title())
CLIENT_TITLE = Tagged(0xA6, "system title of the client", Title())
METER_CERTIFICATE = Tagged(0xA5, "qualifier of the meter", Certificate())
CLIENT_CERTIFICATE = Tagged(0xA7, "qualifier of the client", Certificate())
METER_CHALLENGE = Tagged(0xAA, "authentication value of the meter", Title(0x80))
CLIENT_SECRET = Tagged(0xAC, "authentication value of the client", Title(0x80))
USER_INFORMATION = Tagged(0xBE, "user information", Information())
AARQ = Association(
    Aarq,
    ("context", CONTEXT),
    ("system_title", CLIENT_TITLE),
    ("certificate", CLIENT_CERTIFICATE),
    ("mechanism", MECHANISM_ASKED),
    ("secret", CLIENT_SECRET),
    ("user_information", USER_INFORMATION),
    needs=("context",),
    always=("secret", "user_information"),
)
AARE = Association(
    Aare,
    ("context", CONTEXT),
    ("result", Tagged(0xA2, "result", Enumerated(RESULTS, nought="accepted"))),
    ("source diagnostic", Tagged(0xA3, "diagnostic", Diagnostic())),
    ("system_title", METER_TITLE),
    ("certificate", METER_CERTIFICATE),
    ("mechanism", MECHANISM_CHOSEN),
    ("challenge", METER_CHALLENGE),
    ("user_information", USER_INFORMATION),
    defaults={"diagnostic": DIAGNOSTIC_NO_REASON},
    needs=("result", "context"),
    always=("challenge",),
    refused=lambda values: values.get("result", ACCEPTED) != ACCEPTED,
)
RLRQ = Association(
    Release,
    ("reason", Tagged(0x80, "reason", Reason({0: "normal", 1: "urgent", 30: "user defined"}))),
    ("user_information", USER_INFORMATION),
    defaults={"response": False},
)
RLRE = Association(
    Release,
    ("reason", Tagged(0x80, "reason", Reason({0: "normal", 1: "not finished", 30: "user defined"}))),
    ("user_information", USER_INFORMATION),
    defaults={"response": True},
)
APDUS: dict[int, tuple[str, Field[Any]]] = {
    0x01: ("initiate-request", INITIATE_REQUEST),
    0x08: ("initiate-response", INITIATE_RESPONSE),
    0x60: ("AARQ", AARQ),
    0x61: ("AARE", AARE),
    0x62: ("RLRQ", RLRQ),
    0x63: ("RLRE", RLRE),
}
"""Name and field of each APDU by its tag."""


def encode_initiate_request(request: InitiateRequest) -> bytes:
    """Return the octets of xDLMS-Initiate.request."""
    return b"\x01" + INITIATE_REQUEST.write(request)


def decode_initiate_request(octets: bytes) -> InitiateRequest:
    """Return the xDLMS-Initiate.request that fills `octets`; MeterProtocolError otherwise."""
    return _decode(octets, 0x01, INITIATE_REQUEST)


def encode_initiate_response(response: InitiateResponse) -> bytes:
    """Return the octets of xDLMS-Initiate.response."""
    return b"\x08" + INITIATE_RESPONSE.write(response)


def decode_initiate_response(octets: bytes) -> InitiateResponse:
    """Return the xDLMS-Initiate.response that fills `octets`; MeterProtocolError otherwise."""
    return _decode(octets, 0x08, INITIATE_RESPONSE)


def encode_aarq(aarq: Aarq) -> bytes:
    """Return the octets of an AARQ."""
    return b"\x60" + AARQ.write(aarq)


def decode_aarq(octets: bytes) -> Aarq:
    """Return the AARQ that fills `octets`, its fields in any order; MeterProtocolError otherwise."""
    return _decode(octets, 0x60, AARQ)


def encode_aare(aare: Aare) -> bytes:
    """Return the octets of an AARE."""
    return b"\x61" + AARE.write(aare)


def decode_aare(octets: bytes) -> Aare:
    """Return the AARE that fills `octets`, its fields in any order; MeterProtocolError otherwise.

    A refusal may have malformed fields: they are passed over.
    """
    return _decode(octets, 0x61, AARE)


def encode_release(release: Release) -> bytes:
    """Return the octets of RLRQ or RLRE."""
    return b"\x63" + RLRE.write(release) if release.response else b"\x62" + RLRQ.write(release)


def decode_release(octets: bytes) -> Release:
    """Return the RLRQ or RLRE that fills `octets`; a missing reason is 0. MeterProtocolError otherwise."""
    return _decode(octets, 0x63, RLRE) if octets[:1] == b"\x63" else _decode(octets, 0x62, RLRQ)


def _decode(octets: bytes, tag: int, field: Field[T]) -> T:
    cursor = Cursor(octets)
    if (found := cursor.u8()) != tag:
        raise cursor.error(f"APDU tag {found:#04x}; {tag:#04x} is expected")
    apdu = cursor.field(field)
    cursor.finish(f"the {APDUS[tag][0]}")
    return apdu
