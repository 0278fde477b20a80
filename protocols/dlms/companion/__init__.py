"""Companion specifications as data: IS 15959, and a generic one driven by the meter's own object list."""

from protocols.dlms.companion.loader import DEFAULT, companion, companion_file, event_name
from protocols.dlms.companion.model import (
    AssociationInfo,
    Category,
    ClockRules,
    ColumnInfo,
    Companion,
    ControlObject,
    EventCode,
    EventLog,
    PrepaymentItem,
    ProfileInfo,
    StatusWord,
)
from protocols.dlms.companion.push_grammar import PushForm, PushGrammar, PushSetupInfo
from protocols.dlms.companion.sources import (
    BufferSource,
    LogsSource,
    ObjectRead,
    ObjectsSource,
    Source,
    in_order,
)

__all__ = [
    "DEFAULT",
    "AssociationInfo",
    "BufferSource",
    "Category",
    "ClockRules",
    "ColumnInfo",
    "Companion",
    "ControlObject",
    "EventCode",
    "EventLog",
    "LogsSource",
    "ObjectRead",
    "ObjectsSource",
    "PrepaymentItem",
    "ProfileInfo",
    "PushForm",
    "PushGrammar",
    "PushSetupInfo",
    "Source",
    "StatusWord",
    "companion",
    "companion_file",
    "event_name",
    "in_order",
]
