"""How a meter is reached and where it pushes to: IEC HDLC setup and push setup (23, 40)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from protocols.dlms.data.cosem_dates import CosemDateTime
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.objects.codec import (
    ANY,
    DATE_TIME,
    DOUBLE_LONG_UNSIGNED,
    INTEGER,
    LONG_UNSIGNED,
    OCTETS,
    UNSIGNED,
    Codec,
    Shown,
    Where,
    listing,
    number,
    record,
    show_octets,
)
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method
from protocols.dlms.objects.profile import CAPTURE_OBJECT, CaptureObject

_SPEEDS = {
    n: f"{baud} baud"
    for n, baud in enumerate((300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200))
}
_TRANSPORTS = {
    0: "TCP",
    1: "UDP",
    2: "FTP",
    3: "SMTP",
    4: "SMS",
    5: "HDLC",
    6: "M-Bus",
    7: "ZigBee",
}
_MESSAGES = {0: "A-XDR", 1: "XML"}
_OPERATIONS = {
    0: "unconfirmed, retried when the transport fails",
    1: "unconfirmed, retried when the transport does not confirm",
    2: "confirmed, retried when the confirmation is missing",
}
OBJECT_PARTS = 4
MAX_OBJECT_PARTS = 6
"""Parts of a push object: version 3 adds restriction and columns."""


class IecHdlcSetup(CosemObject):
    """IEC HDLC setup (class 23): inter-octet time in milliseconds, inactivity in seconds."""

    CLASS_ID = 23
    comm_speed = Attribute(number(Tag.ENUM, _SPEEDS))
    window_size_transmit = Attribute(UNSIGNED)
    window_size_receive = Attribute(UNSIGNED)
    max_info_field_length_transmit = Attribute(LONG_UNSIGNED)
    max_info_field_length_receive = Attribute(LONG_UNSIGNED)
    inter_octet_time_out = Attribute(LONG_UNSIGNED)
    inactivity_time_out = Attribute(LONG_UNSIGNED)
    device_address = Attribute(LONG_UNSIGNED)


@dataclass(frozen=True, slots=True)
class PushObject:
    """One thing that is pushed; `more` keeps what later versions add (restriction, columns)."""

    object: CaptureObject
    more: tuple[Data, ...] = ()


def _parse_object(data: Data, where: Where) -> PushObject:
    count = len(data.items)
    if data.tag is not Tag.STRUCTURE or not OBJECT_PARTS <= count <= MAX_OBJECT_PARTS:
        raise where.error(f"structure of {OBJECT_PARTS}..{MAX_OBJECT_PARTS}", data)
    head = Data(Tag.STRUCTURE, data.items[:OBJECT_PARTS])
    return PushObject(CAPTURE_OBJECT.parse(head, where), data.items[OBJECT_PARTS:])


def _build_object(value: PushObject) -> Data:
    return Data(Tag.STRUCTURE, (*CAPTURE_OBJECT.build(value.object).items, *value.more))


PUSH_OBJECT: Codec[PushObject] = Codec(
    kind="push_object",
    parse=_parse_object,
    build=_build_object,
    show=lambda value: str(value.object),
)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to push: transport (0 TCP, 1 UDP, ...), address as text or octets, message type (0 A-XDR)."""

    transport_service: int
    destination: bytes
    message: int


@dataclass(frozen=True, slots=True)
class Window:
    """A span in which pushing is allowed; wildcards repeat it."""

    start_time: CosemDateTime
    end_time: CosemDateTime


@dataclass(frozen=True, slots=True)
class RepetitionDelay:
    """Version 2: the n-th delay is min * (exponent / 100)^n seconds, at most max."""

    repetition_delay_min: int
    repetition_delay_exponent: int
    repetition_delay_max: int


@dataclass(frozen=True, slots=True)
class Confirmation:
    """From when on, and every how many seconds, confirmation is asked for."""

    confirmation_start_date: CosemDateTime
    confirmation_interval: int


def _show_destination(value: Destination) -> Shown:
    transport = _TRANSPORTS.get(value.transport_service, f"transport {value.transport_service}")
    message = _MESSAGES.get(value.message, f"message type {value.message}")
    return f"{transport} {show_octets(value.destination)} ({message})"


DESTINATION = replace(
    record(
        Destination,
        transport_service=number(Tag.ENUM, _TRANSPORTS),
        destination=OCTETS,
        message=number(Tag.ENUM, _MESSAGES),
    ),
    show=_show_destination,
)
WINDOWS = listing(
    replace(
        record(Window, start_time=DATE_TIME, end_time=DATE_TIME),
        show=lambda v: f"{v.start_time} to {v.end_time}",
    )
)
REPETITION_DELAY = record(
    RepetitionDelay,
    repetition_delay_min=LONG_UNSIGNED,
    repetition_delay_exponent=LONG_UNSIGNED,
    repetition_delay_max=LONG_UNSIGNED,
)
CONFIRMATION = record(
    Confirmation,
    confirmation_start_date=DATE_TIME,
    confirmation_interval=DOUBLE_LONG_UNSIGNED,
)


def _either(plain: Codec[int], whole: Codec[RepetitionDelay]) -> Codec[int | RepetitionDelay]:
    """Return the codec of both forms of repetition_delay: meters of version 2 may still send the plain one."""

    def parse(data: Data, where: Where) -> int | RepetitionDelay:
        return (whole if data.tag is Tag.STRUCTURE else plain).parse(data, where)

    def pick(value: int | RepetitionDelay) -> Codec[Any]:
        return whole if isinstance(value, RepetitionDelay) else plain

    return Codec(
        kind="long-unsigned or structure",
        parse=parse,
        build=lambda value: pick(value).build(value),
        show=lambda value: pick(value).show(value),
    )


class PushSetup(CosemObject):
    """Push setup (class 40): what is pushed, where to, when; delays in seconds. `push` does it now."""

    CLASS_ID = 40
    push_object_list = Attribute(listing(PUSH_OBJECT))
    send_destination_and_method = Attribute(DESTINATION)
    communication_window = Attribute(WINDOWS)
    randomisation_start_interval = Attribute(LONG_UNSIGNED)
    number_of_retries = Attribute(UNSIGNED)
    repetition_delay = Attribute(_either(LONG_UNSIGNED, REPETITION_DELAY))
    port_reference = Attribute(OCTETS)
    push_client_SAP = Attribute(INTEGER)
    push_protection_parameters = Attribute(ANY)
    push_operation_method = Attribute(number(Tag.ENUM, _OPERATIONS))
    confirmation_parameters = Attribute(CONFIRMATION)
    last_confirmation_date_time = Attribute(DATE_TIME)
    push = Method(NOTHING)
    reset = Method(NOTHING)
