"""The messages between edge, central and billing (JSON Schema is generated from these models).

One module a subject; this face holds them all.
"""

from __future__ import annotations

from gateway.contract.messages.balance import Balance
from gateway.contract.messages.base import (
    CONTRACT_VERSION,
    MAX_SEQ,
    AccountNumberText,
    Decimals,
    Envelope,
    Identifier,
    Message,
    Seq,
    UtcTime,
    Version,
    rfc3339,
)
from gateway.contract.messages.carried import CarriedMark, CarriedOver, CountersReserved
from gateway.contract.messages.changes import (
    AllocationChanged,
    AttributedAccount,
    AttributionChanged,
    NamingChanged,
)
from gateway.contract.messages.directory import DirectoryPart, DirectoryRequest, PartAllocation
from gateway.contract.messages.history import HistoryAnswer, HistoryRequest, JournalStored
from gateway.contract.messages.journals import Ack, ReplayRequest
from gateway.contract.messages.keys import (
    KeysEscrowed,
    KeysGiven,
    KeysMissing,
    KeysProven,
    KeysReceipt,
    KeysRequest,
)
from gateway.contract.messages.read_again import ReadAgain, ReadAgainTaken
from gateway.contract.messages.readings import (
    Batch,
    Capture,
    CaptureClock,
    CaptureValue,
    Gap,
    MessageAttribution,
    MessageMeterTime,
)
from gateway.contract.messages.signed import Signed
from gateway.contract.messages.status import (
    MAX_CHANGES,
    MAX_STATUS,
    Alarm,
    ClockSource,
    ClockStatus,
    FormerJournal,
    LineStatus,
    MeterStatus,
    Status,
    StatusChanges,
    StatusRequest,
    StatusVersion1,
)
from gateway.contract.messages.systems import ChangeRefusal, ChangesAnswered, ChangesAsked
from gateway.contract.messages.time import TimeAnswer, TimeRequest, TimeVerdict

__all__ = [
    "CONTRACT_VERSION",
    "MAX_CHANGES",
    "MAX_SEQ",
    "MAX_STATUS",
    "AccountNumberText",
    "Ack",
    "Alarm",
    "AllocationChanged",
    "AttributedAccount",
    "AttributionChanged",
    "Balance",
    "Batch",
    "Capture",
    "CaptureClock",
    "CaptureValue",
    "CarriedMark",
    "CarriedOver",
    "ChangeRefusal",
    "ChangesAnswered",
    "ChangesAsked",
    "ClockSource",
    "ClockStatus",
    "CountersReserved",
    "Decimals",
    "DirectoryPart",
    "DirectoryRequest",
    "Envelope",
    "FormerJournal",
    "Gap",
    "HistoryAnswer",
    "HistoryRequest",
    "Identifier",
    "JournalStored",
    "KeysEscrowed",
    "KeysGiven",
    "KeysMissing",
    "KeysProven",
    "KeysReceipt",
    "KeysRequest",
    "LineStatus",
    "Message",
    "MessageAttribution",
    "MessageMeterTime",
    "MeterStatus",
    "NamingChanged",
    "PartAllocation",
    "ReadAgain",
    "ReadAgainTaken",
    "ReplayRequest",
    "Seq",
    "Signed",
    "Status",
    "StatusChanges",
    "StatusRequest",
    "StatusVersion1",
    "TimeAnswer",
    "TimeRequest",
    "TimeVerdict",
    "UtcTime",
    "Version",
    "rfc3339",
]
