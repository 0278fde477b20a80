"""What central publishes of the directory: each edge's signed part, and changes as messages; sans-IO."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from gateway.contract.envelope import DIRECTORY_TYPE, wrap
from gateway.contract.messages import (
    AttributedAccount,
    AttributionChanged,
    DirectoryPart,
    NamingChanged,
    Signed,
)
from gateway.contract.signing import DIRECTORY_TYP, sign
from mapping import instants, snapshot_json
from mapping.directory import AttributionSpan, NamingChange, NumberKind
from mapping.snapshot import DirectorySnapshot

SOURCE = "/central"


def part_digest(part: DirectorySnapshot) -> str:
    """Tell whether two parts hold the same rows; change sets of other meters do not count."""
    rows = snapshot_json.dump((), *part.relations())
    return hashlib.blake2b(rows.encode(), digest_size=16).hexdigest()


def part_message(gateway: str, part: DirectorySnapshot, *, key: bytes, at: datetime) -> bytes:
    """Write an edge's part as a signed snapshot in its envelope. `key` as `signing.sign` takes it."""
    message = DirectoryPart(
        gateway=gateway, version=part.version, kind="snapshot", rows=part.to_json(), issued_at=at
    )
    signed = Signed(jws=sign(message.model_dump_json().encode(), key=key, typ=DIRECTORY_TYP))
    identity = f"directory/{gateway}/{part.version}"
    return wrap(signed, id=identity, source=SOURCE, time=at, type=DIRECTORY_TYPE)


def attribution_message(span: AttributionSpan, snapshot: DirectorySnapshot) -> AttributionChanged:
    """Write a span of changed attribution with the names that its accounts have in that version."""
    return AttributionChanged(
        meter=span.meter,
        since=span.start,
        until=span.end,
        old=tuple(_accounts(span, span.old, snapshot, span.version - 1)),
        new=tuple(_accounts(span, span.new, snapshot, span.version)),
        directory_version=span.version,
    )


def _accounts(
    span: AttributionSpan, ids: Iterable[str], snapshot: DirectorySnapshot, version: int
) -> Iterable[AttributedAccount]:
    held = {
        segment.account_id: segment.usage_point
        for segment in snapshot.timeline(span.meter, version)
        if segment.start <= span.start < segment.end
    }
    for account_id in ids:
        yield AttributedAccount(
            account_id=account_id,
            account_number=snapshot.name(account_id, NumberKind.ACCOUNT, version),
            legacy_number=snapshot.name(account_id, NumberKind.LEGACY, version),
            usage_point=held[account_id],
        )


def naming_message(change: NamingChange) -> NamingChanged:
    """Write a change of an account's number."""
    return NamingChanged(
        account_id=change.account_id,
        kind="legacy" if change.kind is NumberKind.LEGACY else "account_number",
        old=change.old,
        new=change.new,
        directory_version=change.version,
    )


def change_messages(
    spans: Iterable[AttributionSpan], names: Iterable[NamingChange], snapshot: DirectorySnapshot, at: datetime
) -> list[bytes]:
    """Write the changes of one version in their envelopes; the same version gives the same ids."""
    messages = []
    for span in spans:
        since = instants.micros(span.start)
        identity = f"attribution/{span.version}/{span.meter}/{since}"
        message = attribution_message(span, snapshot)
        messages.append(wrap(message, id=identity, source=SOURCE, time=at))
    for change in names:
        identity = f"naming/{change.version}/{change.account_id}/{change.kind.value}"
        messages.append(wrap(naming_message(change), id=identity, source=SOURCE, time=at))
    return messages
