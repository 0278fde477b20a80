"""From a message of the broker to something central can store, or a reason why not; sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.central.intake.arrivals import BATCH_TYPE, Arrival, TakenBatch, take_batch
from gateway.contract.envelope import parse, parse_status
from gateway.contract.messages import (
    Balance,
    CountersReserved,
    DirectoryRequest,
    ReadAgainTaken,
    Status,
    StatusChanges,
    StatusVersion1,
)
from gateway.contract.topics import TopicKind, TopicName, Topics
from gateway.errors import ContractError

Item = (
    TakenBatch
    | Status
    | StatusVersion1
    | StatusChanges
    | DirectoryRequest
    | Balance
    | ReadAgainTaken
    | CountersReserved
)

SUBSCRIBED: Final = (
    TopicKind.READINGS,
    TopicKind.EVENTS,
    TopicKind.GAPS,
    TopicKind.STATUS,
    TopicKind.STATUS_CHANGES,
    TopicKind.DIRECTORY_REQUEST,
    TopicKind.BALANCE,
    TopicKind.ORDER_RESULTS,
    TopicKind.COUNTERS,
)


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that cannot be taken: a stable `reason` code and the detail (path and what is wrong)."""

    reason: str
    detail: str


def take(topics: Topics, arrival: Arrival) -> Item | RefusedMessage:
    """Read one message; whatever the octets, the answer is an item or RefusedMessage, never an exception."""
    try:
        name = topics.parse(arrival.topic)
    except ContractError as error:
        return RefusedMessage("unknown_topic", str(error))
    try:
        item = _read(name, arrival)
    except ContractError as error:
        return RefusedMessage("malformed", str(error))
    stranger = _does_not_belong(name, item)
    return item if stranger is None else RefusedMessage("wrong_topic", stranger)


def _read(name: TopicName, arrival: Arrival) -> Item:
    payload = arrival.payload
    if name.kind in BATCH_TYPE:
        return take_batch(name, arrival)
    if name.kind is TopicKind.STATUS:
        return parse_status(payload).data
    if name.kind is TopicKind.STATUS_CHANGES:
        return parse(payload, StatusChanges).data
    if name.kind is TopicKind.DIRECTORY_REQUEST:
        return parse(payload, DirectoryRequest).data
    if name.kind is TopicKind.BALANCE:
        return parse(payload, Balance).data
    if name.kind is TopicKind.COUNTERS:
        return parse(payload, CountersReserved).data
    if name.kind is TopicKind.ORDER_RESULTS:
        return parse(payload, ReadAgainTaken).data
    raise ContractError(f"central does not read topics of {name.kind}")


def _does_not_belong(name: TopicName, item: Item) -> str | None:
    """Tell why a message does not belong on its topic: the broker's access rules hold per topic."""
    if isinstance(item, Balance):
        if item.account_id != name.account_id:
            return f"$.data.account_id: {item.account_id!r} on the topic of {name.account_id!r}"
        return None
    sender = item.received.gateway if isinstance(item, TakenBatch) else item.gateway
    if sender != name.gateway:
        return f"$.data.gateway: {sender!r} on the topic of {name.gateway!r}"
    if isinstance(item, TakenBatch) and name.profile is not None:
        for row in item.received.rows:
            if row.profile != name.profile:
                return f"$.data: entry {row.seq} of profile {row.profile!r} on {name.profile!r}"
    return None
