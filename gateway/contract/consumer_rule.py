"""What every consumer of the contract must do, in four lines, and a small state that does it.

1. Keep the highest (`epoch`, `value_rev`) per `capture_id`.
2. Its attribution is that of the highest (generation, version) of the directory known for its meter and time.
3. Its time is what the last verdict says.
4. Ask for a replay where `seq` has a hole.

Batches, changes and verdicts may come in any order and any number of times: the state ends the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gateway.contract.messages import (
    AttributionChanged,
    Batch,
    Capture,
    Gap,
    MessageAttribution,
    NamingChanged,
    TimeVerdict,
)
from gateway.contract.messages.generation import DirectoryVersion
from gateway.contract.verdicts import VerdictBook, settled
from gateway.contract.whose import Statement, holders_at, stated_by_change, stated_by_stamp
from gateway.seqset import SeqSet

_DOUBTED = frozenset({"untrusted_time", "identity_mismatch"})
"""Reasons that no directory can lift: a stamp that gives one says nothing about accounts."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """To whom a capture belongs as far as is known now; `directory` is the newest state that had a say."""

    accounts: tuple[MessageAttribution, ...]
    reason: str | None
    directory: DirectoryVersion


@dataclass(slots=True)
class ConsumerState:
    """All that a consumer must remember; kept in dictionaries here, in tables by a real one.

    `conflicts` are the numbers, by journal, of captures that contradict what is kept under the same revision: a
    person must look at them.
    """

    captures: dict[str, Capture] = field(default_factory=dict)
    gaps: dict[str, Gap] = field(default_factory=dict)
    journals: dict[str, SeqSet] = field(default_factory=dict)
    conflicts: dict[str, set[int]] = field(default_factory=dict)
    _stamped: dict[str, Capture] = field(default_factory=dict)
    _told: dict[str, set[Statement]] = field(default_factory=dict)
    _names: dict[tuple[str, str], NamingChanged] = field(default_factory=dict)
    _came: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    _verdicts: VerdictBook = field(default_factory=VerdictBook)

    def apply(self, batch: Batch) -> None:
        """Take in a batch of readings, events or gaps."""
        for capture in batch.captures:
            if capture.seq is not None:
                self._came.setdefault(capture.capture_id, set()).add((batch.journal, capture.seq))
            self._take(capture, batch.journal)
        for gap in batch.gaps:
            old = self.gaps.get(gap.gap_id)
            if old is None or (gap.seq or 0) > (old.seq or 0):
                self.gaps[gap.gap_id] = gap
        seqs = self.journals.setdefault(batch.journal, SeqSet())
        for seq in [*(one.seq for one in batch.captures), *(one.seq for one in batch.gaps)]:
            if seq is not None:
                seqs.add(seq)

    def _take(self, capture: Capture, journal: str) -> None:
        known = self.captures.get(capture.capture_id)
        if known is not None and _revision(capture) == _revision(known) and capture.values != known.values:
            # Both cannot be right, and which came first says nothing: the one that was believed stays.
            self.conflicts.setdefault(journal, set()).add(capture.seq or 0)
            return
        if known is None or _value_rank(capture) > _value_rank(known):
            self.captures[capture.capture_id] = capture
        stamp = self._stamped.get(capture.capture_id)
        if capture.reason not in _DOUBTED and (stamp is None or _stamp_rank(capture) > _stamp_rank(stamp)):
            self._stamped[capture.capture_id] = capture

    def apply_change(self, change: AttributionChanged | NamingChanged) -> None:
        """Take in a change of attribution or naming."""
        if isinstance(change, AttributionChanged):
            self._told.setdefault(change.meter, set()).add(stated_by_change(change))
            return
        key = (change.account_id, change.kind)
        known = self._names.get(key)
        if known is None or _name_rank(change) > _name_rank(known):
            self._names[key] = change

    def apply_verdict(self, verdict: TimeVerdict) -> None:
        """Take in central's judgement on times."""
        self._verdicts.add(verdict)

    def dated(self, capture_id: str) -> Capture:
        """Return a capture at the instant that the last verdict says; KeyError for an unknown capture.

        Its reason is `untrusted_time` as long as none says that the time may be believed.
        """
        capture = self.captures[capture_id]
        return settled(capture, self._verdicts.of(capture, self._came.get(capture_id, ())))

    def attribution(self, capture_id: str) -> Resolved:
        """Resolve a capture's accounts and their present names; KeyError for an unknown capture."""
        capture = self.dated(capture_id)
        if capture.reason in _DOUBTED:
            return Resolved((), capture.reason, capture.directory)
        # A stamp speaks of the time for which it was made; of another, or in doubt, what was told of the meter decides.
        stamp = self._stamped.get(capture_id)
        own = [] if stamp is None else stated_by_stamp(stamp)
        statements = [*own, *self._told.get(capture.meter, ())]
        held = holders_at(capture.start, capture.at, statements)
        accounts = tuple(self._named(one, since) for one, since in held.accounts)
        unnamed = any(one.account_number is None for one in accounts)
        return Resolved(
            accounts, "no_account" if unnamed else held.reason, held.directory or capture.directory
        )

    def _named(self, account: MessageAttribution, known: DirectoryVersion) -> MessageAttribution:
        """Return an account under its present numbers; `known` is the state that gave the ones it has."""
        renamed = {}
        for kind, name in (("legacy", "legacy_number"), ("account_number", "account_number")):
            change = self._names.get((account.account_id, kind))
            if change is not None and change.directory > known:
                renamed[name] = change.new
        return account.model_copy(update=renamed) if renamed else account


def _revision(capture: Capture) -> tuple[int, int]:
    return capture.epoch, capture.value_rev


def _value_rank(capture: Capture) -> tuple[tuple[int, int], datetime, str]:
    """Order deliveries of one capture; of repeats it does not matter which is kept, but it must be the same one."""
    return _revision(capture), capture.received_at, capture.model_dump_json(exclude={"seq"})


def _stamp_rank(capture: Capture) -> tuple[DirectoryVersion, tuple[tuple[int, int], datetime, str]]:
    return capture.directory, _value_rank(capture)


def _name_rank(change: NamingChanged) -> tuple[DirectoryVersion, str]:
    return change.directory, change.model_dump_json()
