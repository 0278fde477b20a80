"""Attributes as readable text or structures of it: what `explore` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from protocols.dlms.data.types import Data, Tag
from protocols.dlms.objects.association import AssociationLN
from protocols.dlms.objects.catalogue import catalogue, class_name
from protocols.dlms.objects.clock import Clock
from protocols.dlms.objects.codec import ANY, LOGICAL_NAME, Codec, Shown, Where, shape, show_data
from protocols.dlms.objects.control import DisconnectControl, Limiter
from protocols.dlms.objects.image import ImageTransfer
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method
from protocols.dlms.objects.profile import ProfileGeneric
from protocols.dlms.objects.registers import DataObject, DemandRegister, ExtendedRegister, Register
from protocols.dlms.objects.schedules import (
    ActivityCalendar,
    ScriptTable,
    SingleActionSchedule,
    SpecialDaysTable,
)
from protocols.dlms.objects.security_setup import SecuritySetup
from protocols.dlms.objects.setups import IecHdlcSetup, PushSetup
from protocols.errors import MeterProtocolError

T = TypeVar("T")

TYPED: Mapping[int, type[CosemObject]] = {
    cls.CLASS_ID: cls
    for cls in (
        DataObject,
        Register,
        ExtendedRegister,
        DemandRegister,
        ProfileGeneric,
        Clock,
        ScriptTable,
        SpecialDaysTable,
        AssociationLN,
        ImageTransfer,
        ActivityCalendar,
        SingleActionSchedule,
        IecHdlcSetup,
        PushSetup,
        SecuritySetup,
        DisconnectControl,
        Limiter,
    )
}
"""The interface classes whose attributes are typed, by class id."""


def codec_of(class_id: int, version: int, attribute: int) -> Codec[object] | None:
    """Return the codec of an attribute; None when only its name, or nothing, is known."""
    cls = TYPED.get(class_id)
    declared = vars(cls).values() if cls else ()
    found = (d for d in declared if isinstance(d, Attribute) and d.member.number == attribute)
    return next((declaration.codec(version) for declaration in found), None)


def describe(
    class_id: int,
    version: int,
    attribute: int,
    data: Data,
    *,
    bit_names: Mapping[int, str] | None = None,
) -> Shown:
    """Return a decoded attribute as text, a number, or lists and dicts of them (ready for JSON); never raises.

    A value whose shape is not what the class says is shown as it came, beside what is wrong with it.
    `bit_names` names the bits of a bit-string, counted from the first (the ESW of a companion); those that are
    set are listed. Secrets are never shown.
    """
    if data.tag is Tag.BIT_STRING and bit_names is not None:
        return show_bits(str(data.value), bit_names)
    if attribute == 1:
        return _shown(LOGICAL_NAME, data, Where("logical_name"))
    if _secret(class_id, attribute):
        return "not shown"
    codec = codec_of(class_id, version, attribute)
    if codec is None or data.tag is Tag.NULL:
        return show_data(data)
    known = catalogue(class_id, version)
    name = f"{known.name} #{attribute} {known.attribute_name(attribute)}" if known else ""
    return _shown(codec, data, Where(name))


def describe_parameter(class_id: int, method: int, data: Data) -> Shown:
    """Return a method's parameter as its class has it, as `describe` does; None where it needs none or has no type."""
    cls = TYPED.get(class_id)
    declared = (d for d in (vars(cls).values() if cls else ()) if isinstance(d, Method))
    found = next((one for one in declared if one.member.number == method), None)
    if cls is None or found is None or found.codec in (NOTHING, ANY):
        return None
    return _shown(found.codec, data, Where(f"{class_name(class_id)} method {method} {found.member.name}"))


def show_bits(bits: str, names: Mapping[int, str]) -> Shown:
    """Return the bits that are set as `N name`."""
    return [f"{n} {names.get(n, '')}".rstrip() for n, bit in enumerate(bits) if bit == "1"]


def _shown(codec: Codec[T], data: Data, where: Where) -> Shown:
    try:
        return codec.show(codec.parse(data, where))
    except MeterProtocolError as error:
        return {"malformed": str(error), "value": shape(data) if codec.secret else show_data(data)}


def _secret(class_id: int, attribute: int) -> bool:
    known = catalogue(class_id)
    return known is not None and any(m.secret and m.number == attribute for m in known.attributes)
