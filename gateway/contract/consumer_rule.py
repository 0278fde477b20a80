"""What every consumer of the contract must do, in three lines, and a small state that does it.

1. Keep the highest `value_rev` per `capture_id`.
2. Its attribution is that of the highest directory version known for its meter and time.
3. Ask for a replay where `seq` has a hole.

Batches and changes may come in any order and any number of times: the state ends the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.contract.messages import (
    AttributedAccount,
    AttributionChanged,
    Batch,
    Capture,
    Gap,
    MessageAttribution,
    NamingChanged,
)
from gateway.seqset import SeqSet

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Resolved:
    """To whom a capture belongs as far as is known now."""

    accounts: tuple[MessageAttribution, ...]
    reason: str | None
    directory_version: int


@dataclass(slots=True)
class ConsumerState:
    """All that a consumer must remember; kept in dictionaries here, in tables by a real one."""

    captures: dict[str, Capture] = field(default_factory=dict)
    gaps: dict[str, Gap] = field(default_factory=dict)
    journals: dict[str, SeqSet] = field(default_factory=dict)
    _stamped: dict[str, Capture] = field(default_factory=dict)
    _changes: dict[str, dict[str, AttributionChanged]] = field(default_factory=dict)
    _names: dict[tuple[str, str], NamingChanged] = field(default_factory=dict)

    def apply(self, batch: Batch) -> None:
        """Take in a batch of readings, events or gaps."""
        for capture in batch.captures:
            known = self.captures.get(capture.capture_id)
            if known is None or _value_rank(capture) > _value_rank(known):
                self.captures[capture.capture_id] = capture
            known = self._stamped.get(capture.capture_id)
            if known is None or _stamp_rank(capture) > _stamp_rank(known):
                self._stamped[capture.capture_id] = capture
        for gap in batch.gaps:
            old = self.gaps.get(gap.gap_id)
            if old is None or (gap.seq or 0) > (old.seq or 0):
                self.gaps[gap.gap_id] = gap
        seqs = self.journals.setdefault(batch.journal, SeqSet())
        for seq in [*(one.seq for one in batch.captures), *(one.seq for one in batch.gaps)]:
            if seq is not None:
                seqs.add(seq)

    def apply_change(self, change: AttributionChanged | NamingChanged) -> None:
        """Take in a change of attribution or naming."""
        if isinstance(change, AttributionChanged):
            self._changes.setdefault(change.meter, {})[change.model_dump_json()] = change
            return
        key = (change.account_id, change.kind)
        known = self._names.get(key)
        if known is None or _name_rank(change) > _name_rank(known):
            self._names[key] = change

    def attribution(self, capture_id: str) -> Resolved:
        """Resolve a capture's accounts and their present names; KeyError for an unknown capture."""
        capture = self._stamped[capture_id]
        changes = sorted(
            (c for c in self._changes.get(capture.meter, {}).values() if _applies(c, capture)),
            key=lambda c: (c.directory_version, c.model_dump_json()),
        )
        accounts = _resolve(capture, changes)
        version = max((c.directory_version for c in changes), default=capture.directory_version)
        reason = capture.reason if not changes else None if accounts else "no_account"
        return Resolved(tuple(self._named(a) for a in accounts), reason, version)

    def _named(self, account: MessageAttribution) -> MessageAttribution:
        renamed = {}
        for kind, name in (("legacy", "legacy_number"), ("account_number", "account_number")):
            change = self._names.get((account.account_id, kind))
            if change is not None:
                renamed[name] = change.new
        return account.model_copy(update=renamed) if renamed else account


def _value_rank(capture: Capture) -> tuple[int, datetime, str]:
    return capture.value_rev, capture.received_at, capture.model_dump_json(exclude={"seq"})


def _stamp_rank(capture: Capture) -> tuple[int, int, datetime, str]:
    return capture.directory_version, *_value_rank(capture)


def _name_rank(change: NamingChanged) -> tuple[int, str]:
    return change.directory_version, change.model_dump_json()


def _applies(change: AttributionChanged, capture: Capture) -> bool:
    """Say whether a change is newer than the capture's stamp and touches its time.

    A capture whose time or identity is in doubt stays unattributed: a change cannot heal that.
    """
    if change.directory_version <= capture.directory_version:
        return False
    if capture.reason in {"untrusted_time", "identity_mismatch"}:
        return False
    start = capture.start or capture.at
    inside_end = change.until is None or start <= change.until
    return inside_end and change.since <= capture.at and _covers_any(change, capture)


def _covers_any(change: AttributionChanged, capture: Capture) -> bool:
    """Say whether the span holds any of the capture.

    An interval that only touches the span's edge is not in it; a snapshot on the edge is (boundary).
    """
    if capture.start is None:
        return True
    return change.since < capture.at and (change.until is None or capture.start < change.until)


def _resolve(capture: Capture, changes: list[AttributionChanged]) -> tuple[MessageAttribution, ...]:
    if not changes:
        return capture.attributions
    if capture.start is None:
        return _resolve_instant(capture, changes)
    return _resolve_interval(capture, capture.start, changes)


def _resolve_instant(capture: Capture, changes: list[AttributionChanged]) -> tuple[MessageAttribution, ...]:
    """A snapshot at an instant closes what was before it and opens what comes after it."""
    before = [a for a in capture.attributions if a.role in {"normal", "final"}]
    after = [a for a in capture.attributions if a.role in {"normal", "opening"}]
    at = capture.at
    for change in changes:
        if change.since < at and (change.until is None or at <= change.until):
            before = [_as(a, "normal") for a in change.new]
        if change.since <= at and (change.until is None or at < change.until):
            after = [_as(a, "normal") for a in change.new]
    if {a.account_id for a in before} == {a.account_id for a in after}:
        return tuple(_as(a, "normal") for a in after)
    return (*(_as(a, "final") for a in before), *(_as(a, "opening") for a in after))


def _resolve_interval(
    capture: Capture, start: datetime, changes: list[AttributionChanged]
) -> tuple[MessageAttribution, ...]:
    """An interval belongs to an account that holds all of it, else to all who hold a piece, as partial.

    The pieces that no change covers keep the capture's own accounts.
    """
    cuts = {start, capture.at}
    for change in changes:
        cuts |= {t for t in (change.since, change.until) if t is not None and start < t < capture.at}
    edges = sorted(cuts)
    pieces = [_holders(capture, changes, begin) for begin in edges[:-1]]
    if all({a.account_id for a in piece} == {a.account_id for a in pieces[0]} for piece in pieces):
        own_partial = any(a.role == "partial" for a in pieces[0])
        return tuple(a if own_partial else _as(a, "normal") for a in pieces[0])
    every = {a.account_id: a for piece in pieces for a in piece}
    return tuple(_as(a, "partial") for a in every.values())


def _holders(
    capture: Capture, changes: list[AttributionChanged], begin: datetime
) -> list[MessageAttribution]:
    for change in reversed(changes):
        if change.since <= begin and (change.until is None or begin + _INSTANT <= change.until):
            return [_as(a, "normal") for a in change.new]
    return list(capture.attributions)


def _as(account: AttributedAccount | MessageAttribution, role: str) -> MessageAttribution:
    fields = account.model_dump(exclude={"role"})
    return MessageAttribution.model_validate({**fields, "role": role})
