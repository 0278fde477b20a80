"""Interface classes of COSEM (Blue Book 4): names, typed attributes and methods, readable descriptions.

`Register(obis).value` makes requests and parses answers without I/O; `Register(obis, exchange)` also reads and
writes. `catalogue` names attributes and methods of every common class, `describe` turns a value into text.
"""

from protocols.dlms.objects.association import AssociationLN
from protocols.dlms.objects.catalogue import (
    InterfaceClass,
    Member,
    attribute_label,
    catalogue,
    class_ids,
    class_name,
    method_label,
)
from protocols.dlms.objects.clock import Clock, PresetTime
from protocols.dlms.objects.codec import Shown
from protocols.dlms.objects.control import (
    ControlState,
    DisconnectControl,
    EmergencyProfile,
    Limiter,
    LimiterActions,
    MonitoredValue,
    relay_state,
)
from protocols.dlms.objects.describe import TYPED, codec_of, describe, show_bits
from protocols.dlms.objects.image import ImageInfo, ImageStatus, ImageTransfer
from protocols.dlms.objects.interface import Access, AttributeRef, CosemObject, MethodRef
from protocols.dlms.objects.object_list import ObjectEntry, build_object_list, parse_object_list
from protocols.dlms.objects.profile import CaptureObject, ProfileGeneric, between, entries
from protocols.dlms.objects.registers import (
    DataObject,
    DemandRegister,
    ExtendedRegister,
    Register,
    ScalerUnit,
)
from protocols.dlms.objects.schedules import (
    ActivityCalendar,
    Day,
    DayAction,
    ExecutionTime,
    Script,
    ScriptAction,
    ScriptRef,
    ScriptTable,
    Season,
    SingleActionSchedule,
    SpecialDay,
    SpecialDaysTable,
    Week,
)
from protocols.dlms.objects.security_setup import (
    KeyKind,
    SecuritySetup,
    WrappedKey,
    build_key_transfer,
    parse_key_transfer,
)
from protocols.dlms.objects.setups import Destination, IecHdlcSetup, PushObject, PushSetup, Window

__all__ = [
    "TYPED",
    "Access",
    "ActivityCalendar",
    "AssociationLN",
    "AttributeRef",
    "CaptureObject",
    "Clock",
    "ControlState",
    "CosemObject",
    "DataObject",
    "Day",
    "DayAction",
    "DemandRegister",
    "Destination",
    "DisconnectControl",
    "EmergencyProfile",
    "ExecutionTime",
    "ExtendedRegister",
    "IecHdlcSetup",
    "ImageInfo",
    "ImageStatus",
    "ImageTransfer",
    "InterfaceClass",
    "KeyKind",
    "Limiter",
    "LimiterActions",
    "Member",
    "MethodRef",
    "MonitoredValue",
    "ObjectEntry",
    "PresetTime",
    "ProfileGeneric",
    "PushObject",
    "PushSetup",
    "Register",
    "ScalerUnit",
    "Script",
    "ScriptAction",
    "ScriptRef",
    "ScriptTable",
    "Season",
    "SecuritySetup",
    "Shown",
    "SingleActionSchedule",
    "SpecialDay",
    "SpecialDaysTable",
    "Week",
    "Window",
    "WrappedKey",
    "attribute_label",
    "between",
    "build_key_transfer",
    "build_object_list",
    "catalogue",
    "class_ids",
    "class_name",
    "codec_of",
    "describe",
    "entries",
    "method_label",
    "parse_key_transfer",
    "parse_object_list",
    "relay_state",
    "show_bits",
]
