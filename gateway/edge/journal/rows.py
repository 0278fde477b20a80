"""How an entry stands in the file: its row, the checksum over all of it, and what older rows become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from gateway.contract.blocks import Keyed, from_version_1
from gateway.edge.journal.entry import Entry, EntryKind
from gateway.errors import ContractError

COLUMNS = "seq, kind, profile, at, body, last, stream, low, high, layout, holders, checksum"
_KINDS = frozenset(EntryKind)


class EntryRow(NamedTuple):
    """One row of the table `entry`.

    `at` is when it was journaled (seconds since 1970); `stream` and `low`..`high` (microseconds) say whose
    captures of which times a block holds. Rows of version 1 of the contract end with `body`: one capture.
    """

    seq: int
    kind: str
    profile: str
    at: int
    body: bytes
    last: int | None = None
    stream: int | None = None
    low: int | None = None
    high: int | None = None
    layout: str | None = None
    holders: str | None = None
    checksum: bytes | None = None

    def end(self) -> int:
        """Return the last number, of a row of any version; the first where a damaged one says what cannot be."""
        return self.last if isinstance(self.last, int) and self.last > self.seq else self.seq

    def sealed(self) -> EntryRow:
        """Return the row with its checksum."""
        return sealed(self[:11])

    def is_sealed(self) -> bool:
        """Say whether the checksum is there and fits."""
        try:
            return self.checksum is not None and self.checksum == _sum(self[:11])
        except (TypeError, ValueError):
            return False


def sealed(members: tuple[Any, ...]) -> EntryRow:
    """Return a row of all its members but the checksum, with that."""
    # Past the constructor, which takes longer than the checksum.
    return tuple.__new__(EntryRow, (*members, _sum(members)))


def _sum(members: tuple[Any, ...]) -> bytes:
    beside = "|".join(map(str, members[:4] + members[5:]))
    return blake2b(beside.encode() + members[4], digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that is not what was written, and how that shows."""

    row: EntryRow
    why: str


def entry_of(row: EntryRow, template: Callable[[str], Keyed | None]) -> Entry | Damaged:
    """Return a row's entry; `template` gives layouts and holders by their key."""
    if row.checksum is None:
        return _of_version_1(row)
    if not row.is_sealed():
        return Damaged(row, "its checksum does not fit")
    layout = None if row.layout is None else template(row.layout)
    holders = None if row.holders is None else template(row.holders)
    if (row.layout is not None and layout is None) or (row.holders is not None and holders is None):
        return Damaged(row, "its layout or its holders are damaged")
    return Entry(row.seq, row.end(), EntryKind(row.kind), row.profile, row.body, layout, holders)


def _of_version_1(row: EntryRow) -> Entry | Damaged:
    """Read a row that carries no checksum: its capture becomes a block of the contract's version 2."""
    if row.last is not None or row.kind not in _KINDS:
        return Damaged(row, "its checksum is missing")
    if row.kind == EntryKind.GAP:
        return Entry(row.seq, row.seq, EntryKind.GAP, row.profile, row.body)
    try:
        block = from_version_1(row.body)
    except ContractError as error:
        return Damaged(row, f"it is no capture of version 1 ({error})")
    template = block.template
    return Entry(
        row.seq,
        row.seq,
        EntryKind(row.kind),
        row.profile,
        block.body(),
        template.layout.keyed,
        template.holders,
    )
