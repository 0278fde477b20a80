"""IS 15959 as data: associations, profiles, prepayment objects, event codes."""

from protocols.dlms.companion.loader import (
    AssociationInfo,
    Column,
    Companion,
    EventCode,
    EventLog,
    PrepaymentItem,
    ProfileInfo,
    companion,
    event_name,
)

__all__ = [
    "AssociationInfo",
    "Column",
    "Companion",
    "EventCode",
    "EventLog",
    "PrepaymentItem",
    "ProfileInfo",
    "companion",
    "event_name",
]
