"""What every consumer of the contract must do, in four lines, and a small state that does it.

1. Of those whose word counts, keep the highest (`epoch`, `value_rev`) per `capture_id`.
2. Its attribution is that of the highest (generation, version) of the directory known for its meter and time.
3. Its time is what the last verdict says.
4. Ask for a replay where `seq` has a hole.

Batches, changes, allocations and verdicts may come in any order and any number of times: the state ends the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gateway.contract.field import visited_gateway
from gateway.contract.messages import (
    AllocationChanged,
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
class _Word:
    """What one gateway said of a capture under one epoch: the revision, the stamp, the numbers it came under."""

    capture: Capture
    stamp: Capture | None = None
    came: set[tuple[str, int]] = field(default_factory=set)


@dataclass(slots=True)
class ConsumerState:
    """All that a consumer must remember; kept in dictionaries here, in tables by a real one.

    `captures` are those that count. What a gateway says whose word does not count is kept beside, since an
    allocation that is told later may make it count.

    `conflicts` are the numbers, by journal, of captures that contradict what is kept under the same revision: a
    person must look at them.
    """

    captures: dict[str, Capture] = field(default_factory=dict)
    gaps: dict[str, Gap] = field(default_factory=dict)
    journals: dict[str, SeqSet] = field(default_factory=dict)
    conflicts: dict[str, set[int]] = field(default_factory=dict)
    _words: dict[str, dict[tuple[str, int], _Word]] = field(default_factory=dict)
    _of_meter: dict[str, set[str]] = field(default_factory=dict)
    _allocated: dict[str, dict[int, AllocationChanged]] = field(default_factory=dict)
    _told: dict[str, set[Statement]] = field(default_factory=dict)
    _names: dict[tuple[str, str], NamingChanged] = field(default_factory=dict)
    _verdicts: VerdictBook = field(default_factory=VerdictBook)

    def apply(self, batch: Batch) -> None:
        """Take in a batch of readings, events or gaps."""
        gateway = visited_gateway(batch.gateway)
        for capture in batch.captures:
            self._take(capture, batch.journal, gateway)
        for gap in batch.gaps:
            old = self.gaps.get(gap.gap_id)
            if old is None or (gap.seq or 0) > (old.seq or 0):
                self.gaps[gap.gap_id] = gap
        seqs = self.journals.setdefault(batch.journal, SeqSet())
        for seq in [*(one.seq for one in batch.captures), *(one.seq for one in batch.gaps)]:
            if seq is not None:
                seqs.add(seq)

    def _take(self, capture: Capture, journal: str, gateway: str) -> None:
        words = self._words.setdefault(capture.capture_id, {})
        self._of_meter.setdefault(capture.meter, set()).add(capture.capture_id)
        word = words.setdefault((gateway, capture.epoch), _Word(capture))
        if capture.seq is not None:
            word.came.add((journal, capture.seq))
        if _revision(capture) == _revision(word.capture) and capture.values != word.capture.values:
            # Both cannot be right, and which came first says nothing: the one that was believed stays.
            self.conflicts.setdefault(journal, set()).add(capture.seq or 0)
            return
        if _value_rank(capture) > _value_rank(word.capture):
            word.capture = capture
        if capture.reason not in _DOUBTED and (
            word.stamp is None or _stamp_rank(capture) > _stamp_rank(word.stamp)
        ):
            word.stamp = capture
        self._choose(capture.capture_id)

    def _choose(self, capture_id: str) -> None:
        """Keep the highest revision among those whose word counts."""
        counting = [word.capture for word in self._counting(capture_id)]
        if counting:
            self.captures[capture_id] = max(counting, key=_value_rank)
        else:
            self.captures.pop(capture_id, None)

    def _counting(self, capture_id: str) -> list[_Word]:
        words = self._words.get(capture_id, {})
        return [word for (gateway, _), word in words.items() if self._counts(gateway, word.capture)]

    def _counts(self, gateway: str, capture: Capture) -> bool:
        """Say whether a gateway's word on a capture counts, as far as allocations of its meter were told."""
        told = self._allocated.get(capture.meter)
        if not told:
            return True
        own = {epoch: one for epoch, one in told.items() if one.gateway == gateway}
        if not own or (capture.epoch and capture.epoch not in own):
            return False
        until = own[max(own)].until
        return until is None or capture.at <= until

    def apply_change(self, change: AttributionChanged | NamingChanged | AllocationChanged) -> None:
        """Take in a change of attribution, naming or allocation."""
        if isinstance(change, AttributionChanged):
            self._told.setdefault(change.meter, set()).add(stated_by_change(change))
            return
        if isinstance(change, AllocationChanged):
            self._take_allocation(change)
            return
        key = (change.account_id, change.kind)
        known = self._names.get(key)
        if known is None or _name_rank(change) > _name_rank(known):
            self._names[key] = change

    def _take_allocation(self, change: AllocationChanged) -> None:
        told = self._allocated.setdefault(change.meter, {})
        known = told.get(change.epoch)
        if known is None or (known.until is None and change.until is not None):  # it ends once, and for good
            told[change.epoch] = change
        for capture_id in self._of_meter.get(change.meter, ()):
            self._choose(capture_id)

    def apply_verdict(self, verdict: TimeVerdict) -> None:
        """Take in central's judgement on times."""
        self._verdicts.add(verdict)

    def dated(self, capture_id: str) -> Capture:
        """Return a capture at the instant that the last verdict says; KeyError for an unknown capture.

        Its reason is `untrusted_time` as long as none says that the time may be believed.
        """
        capture = self.captures[capture_id]
        came = [number for word in self._counting(capture_id) for number in word.came]
        return settled(capture, self._verdicts.of(capture, came))

    def attribution(self, capture_id: str) -> Resolved:
        """Resolve a capture's accounts and their present names; KeyError for an unknown capture."""
        capture = self.dated(capture_id)
        if capture.reason in _DOUBTED:
            return Resolved((), capture.reason, capture.directory)
        # A stamp speaks of the time for which it was made; of another, or in doubt, what was told of the meter decides.
        stamps = [word.stamp for word in self._counting(capture_id) if word.stamp is not None]
        stamp = max(stamps, key=_stamp_rank, default=None)
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
