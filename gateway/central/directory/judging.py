"""Says for the ledger why captures stand under no account, by one version of the directory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from gateway.central.ledger.unattributed import MIXED, Asked, Mixed
from mapping.differences import touched
from mapping.directory import AttributionSpan, NamingChange
from mapping.snapshot import DirectorySnapshot

MANY: Final = 2_000
"""Meters and accounts of which something changed, from which on all are looked at."""


class DirectoryJudge:
    """Answers from one snapshot (`gateway.central.ledger.unattributed.Judge`)."""

    def __init__(self, snapshot: DirectorySnapshot) -> None:
        self._snapshot = snapshot

    @property
    def version(self) -> int:
        """The version of the directory that it judges by."""
        return self._snapshot.version

    def expect(self, meters: Iterable[str]) -> None:
        """Let what is known of these meters be fetched together."""
        self._snapshot.expect(meters)

    def each(self, captures: Sequence[Asked]) -> list[str | None]:
        """Return the reason of each capture, None where it stands under an account."""
        return [self._reason(meter, start, at) for meter, start, at in captures]

    def all_within(self, meter: str, start: datetime, last: datetime) -> str | Mixed | None:
        """Return the one reason of all captures that begin at `start` or later and end by `last`, or MIXED."""
        held = [one for one in self._snapshot.timeline(meter) if one.start <= last and start <= one.end]
        if len(held) == 1 and held[0].start < start and last < held[0].end:
            return self._reason(meter, None, last)
        if held or any(start <= one.start <= last for one in self._snapshot.standing(meter)):
            return MIXED
        return self._reason(meter, None, last)

    def concerned(self, since: int) -> Sequence[str] | None:
        """Return the meters of which anything changed after a version, in a name too; None where they are many."""
        if since == 0:
            return None
        meters, accounts = touched(self._snapshot, since, self._snapshot.version)
        if len(meters) + len(accounts) > MANY:
            return None
        found = {meter for account in accounts for meter, _ in self._snapshot.meters_of_account(account)}
        return sorted(found.union(meters))

    def _reason(self, meter: str, start: datetime | None, at: datetime) -> str | None:
        reason = self._snapshot.attributions(meter, start, at).reason
        return None if reason is None else reason.value


def to_judge_again(
    snapshot: DirectorySnapshot, spans: Iterable[AttributionSpan], names: Iterable[NamingChange]
) -> list[tuple[str, datetime | None, datetime | None]]:
    """Return the meters and times of which captures may stand elsewhere after these changes."""
    again: list[tuple[str, datetime | None, datetime | None]] = [(s.meter, s.start, s.end) for s in spans]
    for change in names:
        # A number that is learned needs no mark: what lacked it is on the list already. One that was taken away puts
        # readings back on the list that had left it.
        if change.new is None:
            held = snapshot.meters_of_account(change.account_id)
            again += [(meter, segment.start, segment.end) for meter, segment in held]
    return again
