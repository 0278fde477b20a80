"""Entries that are not what was written, found before they are sent: kept aside, and gaps put in their place.

What they held is read again from the meter where it keeps it: the watermark goes back to it, and the list of
captures calls nothing of that time a repeat.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.contract.messages import Gap
from gateway.edge.journal.captures import CaptureList, Stream, insert
from gateway.edge.journal.entry import Entry, EntryKind, RefusedEntry
from gateway.edge.journal.letters import MAX_LETTER_OCTETS, LetterTable
from gateway.edge.journal.rows import Damaged, EntryRow
from mapping.instants import instant

DAMAGED = "damaged_entry"
"""Reason of the gap that stands in the place of a damaged entry."""
LETTERS_OF = "journal"
"""Whose dead letters damaged entries are."""
MAX_LETTERS = 1_000
UNKNOWN: Stream = ("unknown", "unknown")
AS_ONE = 10_000
"""Most gaps that are written for one damaged entry or hole: its numbers are as many as its captures."""


@dataclass(frozen=True, slots=True)
class _Lost:
    """Numbers first..last that hold nothing that could be delivered."""

    first: int
    last: int
    why: str
    row: EntryRow | None = None


class Mender:
    """Mends entries of one file, inside the caller's transaction; `last_seq` is the journal's last number."""

    def __init__(
        self,
        db: sqlite3.Connection,
        journal: str,
        *,
        captures: CaptureList,
        letters: LetterTable,
        last_seq: int,
    ) -> None:
        self._db = db
        self._journal = journal
        self._captures = captures
        self._letters = letters
        self._last_seq = last_seq
        # When damage was noticed is a matter of this machine, whatever time is simulated.
        self._now = datetime.now(UTC).replace(microsecond=0)

    def mend(self, rows: Sequence[EntryRow], entries: Sequence[Entry | Damaged], first: int) -> list[str]:
        """Put gaps in the place of what is damaged or missing among rows from `first` on.

        Return a text for each place, for whoever looks after the edge.
        """
        return [self._replace(lost) for lost in self._lost(rows, entries, first)]

    def _lost(self, rows: Sequence[EntryRow], entries: Sequence[Entry | Damaged], first: int) -> list[_Lost]:
        found: list[_Lost] = []
        due = first
        for row, entry in zip(rows, entries, strict=True):
            if row.seq > due:
                found.append(_Lost(due, row.seq - 1, "it is missing"))
            if isinstance(entry, Damaged):
                # Its own end may be damaged: it reaches to the next one.
                end = self._next(row.seq) - 1
                found.append(_Lost(row.seq, end, entry.why, row))
                due = end + 1
            else:
                due = entry.last + 1
        return found

    def _next(self, seq: int) -> int:
        found = self._db.execute("select min(seq) from entry where seq > ?", (seq,)).fetchone()[0]
        return int(found) if found is not None else max(seq, self._last_seq) + 1

    def _replace(self, lost: _Lost) -> str:
        row, now = lost.row, self._now
        stream, low, high = self._held(row)
        if row is not None:
            reason = f"damaged in the file: {lost.why}"
            letter = RefusedEntry(
                sink=LETTERS_OF, seq=lost.first, at=now, reason=reason, body=_octets(row.body)
            )
            self._letters.keep(letter, MAX_LETTERS, MAX_LETTER_OCTETS)
            self._db.execute("delete from entry where seq = ?", (row.seq,))
        at = int(now.timestamp())
        gaps = [
            EntryRow(
                seq, EntryKind.GAP.value, stream[1], at, self._gap(seq, stream, low, high, now), seq
            ).sealed()
            for seq in range(lost.first, min(lost.last, lost.first + AS_ONE - 1) + 1)
        ]
        insert(self._db, "entry", gaps)
        again = stream is not UNKNOWN and low is not None and high is not None
        if stream is not UNKNOWN and low is not None and high is not None:
            self._captures.doubt(stream, low, high)
        told = f"{lost.first}..{lost.last}" if lost.last > lost.first else str(lost.first)
        what = f"its span is read again from {stream[0]}" if again else "what it held is not known"
        return (
            f"entry {told} was damaged in the journal's file ({lost.why}): it is kept as a dead letter"
            f" (`outbox --dead`), and a gap is delivered in its place; {what}. Look after the disk"
        )

    def _held(self, row: EntryRow | None) -> tuple[Stream, datetime | None, datetime | None]:
        """Return whose captures of which times a damaged row held, as far as that can be believed."""
        if row is None or row.low is None or row.high is None:
            return UNKNOWN, None, None
        stream = next(
            (name for name, number in self._captures.streams.items() if number == row.stream), UNKNOWN
        )
        try:
            low, high = instant(row.low), instant(row.high)
        except (OverflowError, TypeError):
            return stream, None, None
        if stream[1] != row.profile or not low <= high <= self._now + timedelta(days=1):
            return UNKNOWN, None, None
        return stream, low, high

    def _gap(
        self, seq: int, stream: Stream, low: datetime | None, high: datetime | None, now: datetime
    ) -> bytes:
        gap = Gap(
            gap_id=f"damaged/{self._journal}/{seq}",
            meter=stream[0],
            profile=stream[1],
            after=(low or now) - timedelta(seconds=1),
            until=high or now,
            state="unfillable",
            reason=DAMAGED,
            noticed_at=now,
        )
        return gap.model_dump_json(exclude_defaults=True).encode()


def _octets(body: object) -> bytes:
    """Return what stands in the place of a body, whatever SQLite makes of it."""
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "replace")
