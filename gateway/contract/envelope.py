"""CloudEvents envelopes: made from messages, parsed from hostile input."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Generic, Literal, TypeVar, cast

from pydantic import ValidationError

from gateway.contract.messages import (
    Ack,
    AllocationChanged,
    AttributionChanged,
    Balance,
    Batch,
    CarriedOver,
    ChangesAnswered,
    ChangesAsked,
    CountersReserved,
    DirectoryRequest,
    HistoryAnswer,
    HistoryRequest,
    Identifier,
    KeysEscrowed,
    KeysGiven,
    KeysMissing,
    KeysProven,
    KeysReceipt,
    KeysRequest,
    Message,
    NamingChanged,
    ReadAgain,
    ReadAgainTaken,
    ReplayRequest,
    Signed,
    Status,
    StatusChanges,
    StatusRequest,
    StatusVersion1,
    TimeRequest,
    TimeVerdict,
    UtcTime,
    rfc3339,
)
from gateway.contract.messages.texts import envelope_head
from gateway.errors import ContractError

MAX_MESSAGE = 1 << 20
"""Largest message that is parsed, in octets; directory parts may be larger."""
MAX_DIRECTORY_MESSAGE = 1 << 25
"""Largest signed directory part, in octets."""
CONTENT_TYPE = "application/cloudevents+json"

_PREFIX = "meter-gateway"

READINGS_TYPE = f"{_PREFIX}.meterreadings.created.v1"
EVENTS_TYPE = f"{_PREFIX}.enddeviceevents.created.v1"
GAPS_TYPE = f"{_PREFIX}.gaps.changed.v1"
DIRECTORY_TYPE = f"{_PREFIX}.directory.part.v2"
ORDER_TYPE = f"{_PREFIX}.enddevicecontrols.created.v2"
TIME_TYPE = f"{_PREFIX}.time.told.v2"
BATCH_TYPES = frozenset({READINGS_TYPE, EVENTS_TYPE, GAPS_TYPE})

TYPE_OF: dict[type[Message], str] = {
    Status: f"{_PREFIX}.status.changed.v2",
    StatusChanges: f"{_PREFIX}.status.details.v2",
    StatusRequest: f"{_PREFIX}.status.request.v2",
    StatusVersion1: f"{_PREFIX}.status.changed.v1",
    Ack: f"{_PREFIX}.journal.acknowledged.v2",
    ReplayRequest: f"{_PREFIX}.journal.replay.v2",
    DirectoryRequest: f"{_PREFIX}.directory.request.v2",
    AttributionChanged: f"{_PREFIX}.masterdatalinkage.changed.v2",
    NamingChanged: f"{_PREFIX}.naming.changed.v2",
    AllocationChanged: f"{_PREFIX}.allocation.changed.v2",
    Balance: f"{_PREFIX}.balance.updated.v2",
    TimeRequest: f"{_PREFIX}.time.request.v2",
    CountersReserved: f"{_PREFIX}.counters.reserved.v2",
    CarriedOver: f"{_PREFIX}.gateway.carried.v2",
    ReadAgain: f"{_PREFIX}.readagain.ordered.v2",
    ReadAgainTaken: f"{_PREFIX}.readagain.taken.v2",
    TimeVerdict: f"{_PREFIX}.time.judged.v2",
    KeysEscrowed: f"{_PREFIX}.keys.escrowed.v2",
    KeysProven: f"{_PREFIX}.keys.proven.v2",
    KeysReceipt: f"{_PREFIX}.keys.receipt.v2",
    KeysRequest: f"{_PREFIX}.keys.request.v2",
    KeysGiven: f"{_PREFIX}.keys.given.v2",
    KeysMissing: f"{_PREFIX}.keys.missing.v2",
    HistoryRequest: f"{_PREFIX}.history.request.v2",
    HistoryAnswer: f"{_PREFIX}.history.answered.v2",
    ChangesAsked: f"{_PREFIX}.changes.asked.v2",
    ChangesAnswered: f"{_PREFIX}.changes.answered.v2",
}
"""CloudEvents `type` by message; batches and signed messages name theirs when they are made."""

SCHEMA_OF: dict[type[Message], str] = {
    Status: "status",
    StatusChanges: "status-changes",
    StatusRequest: "status-request",
    Ack: "ack",
    ReplayRequest: "replay-request",
    CountersReserved: "counters-reserved",
    CarriedOver: "carried-over",
    ReadAgain: "read-again",
    ReadAgainTaken: "read-again-taken",
    DirectoryRequest: "directory-request",
    Signed: "signed",
    AttributionChanged: "attribution-changed",
    NamingChanged: "naming-changed",
    AllocationChanged: "allocation-changed",
    Balance: "balance",
    TimeRequest: "time-request",
    TimeVerdict: "time-verdict",
    KeysEscrowed: "keys-escrowed",
    KeysProven: "keys-proven",
    KeysReceipt: "keys-receipt",
    KeysRequest: "keys-request",
    KeysGiven: "keys-given",
    KeysMissing: "keys-missing",
    HistoryRequest: "history-request",
    HistoryAnswer: "history-answer",
    ChangesAsked: "changes-asked",
    ChangesAnswered: "changes-answered",
}
"""File stem of each message's JSON Schema: `dataschema` is `v2/{stem}.json`."""

M = TypeVar("M", bound=Message)


class _Parsed(Message, Generic[M]):
    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    type: Identifier
    time: UtcTime
    data: M


@dataclass(frozen=True, slots=True)
class Parsed(Generic[M]):
    """An envelope's attributes and its message."""

    id: str
    source: str
    type: str
    time: datetime
    data: M


def of_version_1(name: str) -> str:
    """Return the `type` that version 1 of the contract gave to the messages of a type of version 2."""
    return f"{name.removesuffix('.v2')}.v1"


def wrap(
    message: Message,
    *,
    id: str,
    source: str,
    time: datetime,
    type: str | None = None,
) -> bytes:
    """Return the octets of one message in its envelope.

    `id` and `source` name the message among all (CloudEvents); `type` is needed for Batch and Signed only,
    the others have one of their own.

    >>> wrap(Ack(journal="j", seq=7), id="central/j/7", source="/central", time=now)  # doctest: +SKIP
    b'{"specversion":"1.0","id":"central/j/7", … ,"data":{"journal":"j","seq":7,"consumer":"central"}}'
    """
    name = type or TYPE_OF[message.__class__]
    schema = "v1/batch.json" if isinstance(message, Batch) else f"v2/{SCHEMA_OF[message.__class__]}.json"
    head = envelope_head(id, source, name, rfc3339(time), schema)
    # Absent is absent; only the batches of version 1 say `null`.
    data = message.model_dump_json(exclude_none=not isinstance(message, Batch))
    return head + data.encode() + b"}"


def parse(payload: bytes, data: type[M], *, limit: int = MAX_MESSAGE) -> Parsed[M]:
    """Read an envelope that should carry a `data` message, from whoever sent it.

    `limit` is the longest payload accepted, in octets. Raises ContractError, which names the JSON path and
    what is wrong there, for any octets whatever; nothing else.

    >>> parse(payload, Ack).data.seq  # doctest: +SKIP
    7
    """
    if len(payload) > limit:
        raise ContractError(f"$: {len(payload)} octets, more than the {limit} that are accepted")
    try:
        read = _parser(data).model_validate_json(payload)
    except ValidationError as error:
        raise ContractError(first_problem(error)) from error
    except (RecursionError, OverflowError) as error:
        raise ContractError(f"$: {error}") from error
    expected = TYPE_OF.get(data)
    if expected is not None and read.type not in (expected, of_version_1(expected)):
        raise ContractError(f"$.type: {read.type!r} where {expected!r} belongs")
    return Parsed(read.id, read.source, read.type, read.time, read.data)


def parse_data(payload: bytes, model: type[M], *, limit: int = MAX_MESSAGE) -> M:
    """Read a bare message (the payload of a signature); ContractError names the JSON path."""
    if len(payload) > limit:
        raise ContractError(f"$: {len(payload)} octets, more than the {limit} that are accepted")
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise ContractError(first_problem(error)) from error
    except (RecursionError, OverflowError) as error:
        raise ContractError(f"$: {error}") from error


def event_type(payload: bytes, *, limit: int = MAX_MESSAGE) -> str:
    """Read the `type` of an envelope on a topic that carries several (`attributions`)."""
    if len(payload) > limit:
        raise ContractError(f"$: {len(payload)} octets, more than the {limit} that are accepted")
    try:
        return _TypeOnly.model_validate_json(payload).type
    except ValidationError as error:
        raise ContractError(first_problem(error)) from error


def parse_change(
    payload: bytes,
) -> Parsed[AttributionChanged] | Parsed[NamingChanged] | Parsed[AllocationChanged]:
    """Read a message of the `attributions` topic."""
    kind = event_type(payload)
    if kind == TYPE_OF[NamingChanged]:
        return parse(payload, NamingChanged)
    if kind == TYPE_OF[AllocationChanged]:
        return parse(payload, AllocationChanged)
    return parse(payload, AttributionChanged)


def parse_status(payload: bytes) -> Parsed[Status] | Parsed[StatusVersion1]:
    """Read a message of the `status` topics of either version."""
    if event_type(payload) == TYPE_OF[StatusVersion1]:
        return parse(payload, StatusVersion1)
    return parse(payload, Status)


class _TypeOnly(Message):
    type: Identifier


@lru_cache(maxsize=64)
def _parser(data: type[M]) -> type[_Parsed[M]]:
    return cast("type[_Parsed[M]]", _Parsed.__class_getitem__(data))


def first_problem(error: ValidationError) -> str:
    """Return the JSON path of the first problem and what is wrong there."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path}: {first['msg']}{more}"
