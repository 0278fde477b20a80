"""What central publishes of the directory: each edge's signed part, and changes as messages; sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import zip_longest

from gateway.central.directory.parts import in_chunks
from gateway.central.ledger.records import Allocation
from gateway.contract.envelope import DIRECTORY_TYPE, of_version_1, wrap
from gateway.contract.messages import (
    AllocationChanged,
    AttributedAccount,
    AttributionChanged,
    DirectoryPart,
    NamingChanged,
    Signed,
)
from gateway.contract.messages.generation import NO_GENERATION, DirectoryVersion, Generation
from gateway.contract.signing import DIRECTORY_TYP, sign
from mapping import instants
from mapping.directory import AttributionSpan, Holder, NamingChange, NumberKind, Unattributed
from mapping.snapshot import DirectorySnapshot

SOURCE = "/central"


def part_messages(part: DirectoryPart, *, key: bytes, at: datetime) -> list[bytes]:
    """Write an edge's part as signed chunks in their envelopes. `key` as `signing.sign` takes it."""
    return [
        _signed(chunk, f"{part.number}/{chunk.chunk}", DIRECTORY_TYPE, key, at) for chunk in in_chunks(part)
    ]


def part_message_of_version_1(part: DirectoryPart, *, key: bytes, at: datetime) -> bytes:
    """Write a snapshot as an edge of version 1 takes it: whole, in one message."""
    return _signed(part, str(part.version), of_version_1(DIRECTORY_TYPE), key, at)


def _signed(part: DirectoryPart, name: str, kind: str, key: bytes, at: datetime) -> bytes:
    jws = sign(part.model_dump_json(exclude_none=True).encode(), key=key, typ=DIRECTORY_TYP)
    return wrap(Signed(jws=jws), id=f"directory/{part.gateway}/{name}", source=SOURCE, time=at, type=kind)


def attribution_message(
    span: AttributionSpan, snapshot: DirectorySnapshot, generation: Generation
) -> AttributionChanged:
    """Write a span of changed attribution with the names that its accounts have in that version."""
    old, _ = _holder(span.old, snapshot, span.version - 1)
    new, reason = _holder(span.new, snapshot, span.version)
    return AttributionChanged(
        meter=span.meter,
        since=span.start,
        until=span.end,
        old=old,
        new=new,
        reason=reason,
        directory=DirectoryVersion(generation, span.version),
    )


def _holder(
    who: Holder | Unattributed, snapshot: DirectorySnapshot, version: int
) -> tuple[tuple[AttributedAccount, ...], Unattributed | None]:
    """Return the account with its names in a version, or why there is none."""
    if not isinstance(who, Holder):
        return (), who
    account = AttributedAccount(
        account_id=who.account_id,
        account_number=snapshot.name(who.account_id, NumberKind.ACCOUNT, version),
        legacy_number=snapshot.name(who.account_id, NumberKind.LEGACY, version),
        usage_point=who.usage_point,
    )
    return (account,), None


def allocation_identity(one: Allocation) -> str:
    """Return the id of the message that tells an allocation as it is now."""
    ended = "open" if one.until is None else instants.micros(one.until)
    return f"allocation/{one.meter}/{one.epoch}/{ended}"


def allocation_message(one: Allocation, at: datetime) -> bytes:
    """Write an allocation as it is now in its envelope."""
    message = AllocationChanged(
        meter=one.meter, epoch=one.epoch, gateway=one.gateway, since=one.since, until=one.until
    )
    return wrap(message, id=allocation_identity(one), source=SOURCE, time=at)


def naming_message(change: NamingChange, generation: Generation) -> NamingChanged:
    """Write a change of an account's number."""
    return NamingChanged(
        account_id=change.account_id,
        kind="legacy" if change.kind is NumberKind.LEGACY else "account_number",
        old=change.old,
        new=change.new,
        directory=DirectoryVersion(generation, change.version),
    )


def change_messages(
    spans: Iterable[AttributionSpan],
    names: Iterable[NamingChange],
    snapshot: DirectorySnapshot,
    at: datetime,
    *,
    generation: Generation = NO_GENERATION,
) -> list[bytes]:
    """Write the changes of one version in their envelopes; the same version gives the same ids."""
    messages = []
    for span in spans:
        message = attribution_message(span, snapshot, generation)
        identity = f"attribution/{message.directory}/{span.meter}/{instants.micros(span.start)}"
        messages.append(wrap(message, id=identity, source=SOURCE, time=at))
    for change in names:
        named = naming_message(change, generation)
        identity = f"naming/{named.directory}/{change.account_id}/{change.kind.value}"
        messages.append(wrap(named, id=identity, source=SOURCE, time=at))
    return messages


def standing_messages(
    meter: str, snapshot: DirectorySnapshot, at: datetime, *, generation: Generation = NO_GENERATION
) -> list[bytes]:
    """Write whose a meter is over all time, whatever was told before: of this state nothing is left out.

    A consumer that holds other statements, of a life that was set back or of none, is right after it.
    """
    return [payload for _, payload in standing_told(meter, snapshot, at, generation=generation)]


def standing_told(
    meter: str, snapshot: DirectorySnapshot, at: datetime, *, generation: Generation
) -> list[tuple[str, bytes]]:
    """Write the same, each message with its id."""
    stands = [(None, Unattributed.NO_ACCOUNT), *snapshot.standing(meter)]
    messages = []
    for (since, who), following in zip_longest(stands, stands[1:]):
        new, reason = _holder(who, snapshot, snapshot.version)
        message = AttributionChanged(
            meter=meter,
            since=since,
            until=None if following is None else following[0],
            new=new,
            reason=reason,
            directory=DirectoryVersion(generation, snapshot.version),
        )
        begin = "ever" if since is None else instants.micros(since)
        identity = f"standing/{message.directory}/{meter}/{begin}"
        messages.append((identity, wrap(message, id=identity, source=SOURCE, time=at)))
    return messages
