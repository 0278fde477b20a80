"""An edge's part as rows and allocations; as a snapshot or a change; in chunks that any broker takes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Final

from gateway.contract.messages import DirectoryPart, PartAllocation
from gateway.contract.messages.generation import NO_GENERATION, Generation
from mapping import snapshot_changes
from mapping.snapshot import DirectorySnapshot

MAX_ROWS: Final = 140_000
"""Octets of one chunk's rows as JSON: signed and in its envelope it stays below 256 KiB."""
MAX_LISTED: Final = 200
"""Allocations, or released meters, of one chunk: 60 KiB at most with the longest names."""


@dataclass(frozen=True, slots=True)
class EdgePart:
    """What one edge should know: the rows of its meters, and their allocations by meter.

    `marked`: the last change set changed no row of these meters, and is named there without who made it.
    """

    rows: str
    allocations: Mapping[str, PartAllocation]
    version: int
    generation: Generation = NO_GENERATION
    marked: bool = False

    @classmethod
    def cut(
        cls, snapshot: DirectorySnapshot, allocations: Mapping[str, PartAllocation], generation: Generation
    ) -> EdgePart:
        """Cut the part of these meters out of the directory, in the generation that it stands in."""
        return cls.of(snapshot.part(set(allocations)), allocations, generation)

    @classmethod
    def of(
        cls, part: DirectorySnapshot, allocations: Mapping[str, PartAllocation], generation: Generation
    ) -> EdgePart:
        """Write down a part that was cut."""
        marked = bool(part.changes) and not part.changes[-1].by
        return cls(part.to_json(), allocations, part.version, generation, marked)


def snapshot_of(part: EdgePart, gateway: str, number: int, at: datetime) -> DirectoryPart:
    """Return a part as a whole."""
    return DirectoryPart(
        gateway=gateway,
        generation=part.generation,
        version=part.version,
        number=number,
        kind="snapshot",
        rows=part.rows,
        allocations=tuple(part.allocations.values()),
        issued_at=at,
    )


def change_of(
    old: EdgePart, new: EdgePart, gateway: str, previous: int, number: int, at: datetime
) -> DirectoryPart:
    """Return what leads from the part numbered `previous` to a new one."""
    given = (one for meter, one in new.allocations.items() if old.allocations.get(meter) != one)
    return DirectoryPart(
        gateway=gateway,
        generation=new.generation,
        version=new.version,
        number=number,
        kind="change",
        previous=previous,
        rows=snapshot_changes.difference(old.rows, new.rows),
        allocations=tuple(given),
        released=tuple(sorted(old.allocations.keys() - new.allocations.keys())),
        issued_at=at,
    )


def says_nothing(change: DirectoryPart) -> bool:
    """Return whether a change leaves everything as it is but the number of the directory's version."""
    return not (change.allocations or change.released) and snapshot_changes.is_empty(change.rows)


def in_chunks(part: DirectoryPart) -> list[DirectoryPart]:
    """Cut a part into chunks, each of which is small enough for one message."""
    texts = list(_pieces(part.rows)) or [""]
    given = [part.allocations[i : i + MAX_LISTED] for i in range(0, len(part.allocations), MAX_LISTED)]
    gone = [part.released[i : i + MAX_LISTED] for i in range(0, len(part.released), MAX_LISTED)]
    cut = list(zip_longest(texts, given, gone))
    return [
        part.model_copy(
            update={
                "chunk": number,
                "chunks": len(cut),
                "rows": rows or "",
                "allocations": allocations or (),
                "released": released or (),
            }
        )
        for number, (rows, allocations, released) in enumerate(cut, start=1)
    ]


def _pieces(text: str) -> Iterator[str]:
    begin = 0
    while begin < len(text):
        size = MAX_ROWS
        while len(json.dumps(text[begin : begin + size], ensure_ascii=False).encode()) > MAX_ROWS:
            size = size * 3 // 4
        yield text[begin : begin + size]
        begin += size
