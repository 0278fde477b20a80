"""Association LN: class 15 (Blue Book 4.4.4), its identifiers, context and HLS methods."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.data.types import Data, Tag
from protocols.dlms.objects.codec import (
    BITS,
    INTEGER,
    LOGICAL_NAME,
    LONG_UNSIGNED,
    OCTETS,
    UNSIGNED,
    Codec,
    Shown,
    Where,
    listing,
    number,
    octet_string,
    optional,
    record,
)
from protocols.dlms.objects.interface import Attribute, CosemObject, Method
from protocols.dlms.objects.object_list import OBJECT_ENTRY, OBJECT_LIST
from protocols.errors import LocalError

MAX_SECRET_OCTETS = 64
MAX_ARCS = 16
_ARC_TAGS = (
    Tag.UNSIGNED,
    Tag.UNSIGNED,
    Tag.LONG_UNSIGNED,
    Tag.UNSIGNED,
    Tag.UNSIGNED,
    Tag.UNSIGNED,
    Tag.UNSIGNED,
)
_CONTEXTS = {
    1: "logical names",
    2: "short names",
    3: "logical names, ciphered",
    4: "short names, ciphered",
}
_MECHANISMS = {
    0: "none",
    1: "LLS",
    2: "HLS",
    3: "HLS MD5",
    4: "HLS SHA-1",
    5: "HLS GMAC",
    6: "HLS SHA-256",
    7: "HLS ECDSA",
}
_STATUSES = {0: "non-associated", 1: "association pending", 2: "associated"}


# ---- object identifiers: a structure of arcs, or the octets of their BER form


def _parse_identifier(data: Data, where: Where) -> tuple[int, ...]:
    match data:
        case (Tag.STRUCTURE, tuple()) if 0 < len(data.items) <= MAX_ARCS:
            arcs = tuple(item.integer for item in data.items)
            if all(arc is not None and arc >= 0 for arc in arcs):
                return tuple(arc for arc in arcs if arc is not None)
        case (Tag.OCTET_STRING, bytes() as octets) if 0 < len(octets) <= MAX_ARCS and octets[-1] < 0x80:
            return _arcs(octets)
    raise where.error("object identifier", data)


def _arcs(octets: bytes) -> tuple[int, ...]:
    numbers = []
    value = 0
    for octet in octets:
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            numbers.append(value)
            value = 0
    head = min(numbers[0] // 40, 2)
    return (head, numbers[0] - 40 * head, *numbers[1:])


def _build_identifier(arcs: tuple[int, ...]) -> Data:
    if len(arcs) != len(_ARC_TAGS):
        raise LocalError(f"a DLMS object identifier has {len(_ARC_TAGS)} arcs, not {len(arcs)}")
    items = (number(tag).build(arc) for tag, arc in zip(_ARC_TAGS, arcs, strict=True))
    return Data(Tag.STRUCTURE, tuple(items))


def _identifier(names: dict[int, str]) -> Codec[tuple[int, ...]]:
    def show(arcs: tuple[int, ...]) -> Shown:
        text = ".".join(map(str, arcs))
        return f"{text} ({names[arcs[-1]]})" if arcs[-1] in names else text

    return Codec(kind="object identifier", parse=_parse_identifier, build=_build_identifier, show=show)


@dataclass(frozen=True, slots=True)
class Partners:
    """Addresses of the two sides."""

    client_SAP: int
    server_SAP: int


@dataclass(frozen=True, slots=True)
class XdlmsContext:
    """What was negotiated; `conformance` is 24 bits, first bit first."""

    conformance: str
    max_receive_pdu_size: int
    max_send_pdu_size: int
    dlms_version_number: int
    quality_of_service: int
    cyphering_info: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """A user of an association."""

    user_id: int
    user_name: bytes


PARTNERS = record(Partners, client_SAP=INTEGER, server_SAP=LONG_UNSIGNED)
CONTEXT = record(
    XdlmsContext,
    conformance=BITS,
    max_receive_pdu_size=LONG_UNSIGNED,
    max_send_pdu_size=LONG_UNSIGNED,
    dlms_version_number=UNSIGNED,
    quality_of_service=INTEGER,
    cyphering_info=octet_string(secret=True),
)
USER = record(User, user_id=UNSIGNED, user_name=OCTETS)
SECRET = octet_string(0, MAX_SECRET_OCTETS, secret=True)


class AssociationLN(CosemObject):
    """Association LN (class 15): what this client may see and do, and how it proves who it is."""

    CLASS_ID = 15
    object_list = Attribute(OBJECT_LIST)
    associated_partners_id = Attribute(PARTNERS)
    application_context_name = Attribute(_identifier(_CONTEXTS))
    xDLMS_context_info = Attribute(CONTEXT)
    authentication_mechanism_name = Attribute(_identifier(_MECHANISMS))
    secret = Attribute(SECRET)
    association_status = Attribute(number(Tag.ENUM, _STATUSES))
    security_setup_reference = Attribute(optional(LOGICAL_NAME))
    user_list = Attribute(listing(USER))
    current_user = Attribute(USER)
    reply_to_HLS_authentication = Method(SECRET)
    change_HLS_secret = Method(SECRET)
    add_object = Method(OBJECT_ENTRY)
    remove_object = Method(OBJECT_ENTRY)
    add_user = Method(USER)
    remove_user = Method(USER)
