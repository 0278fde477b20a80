"""What central remembers of a part that it sent, and what leads from it to now: for few meters by those alone. Pure.

Which rows a part had is not kept: the directory tells it of any version. So a change costs what it changes, however
many meters the edge has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from gateway.central.directory.parts import EdgePart
from gateway.contract.messages import DirectoryPart, PartAllocation, rfc3339
from gateway.contract.messages.generation import NO_GENERATION, Generation
from mapping import snapshot_changes
from mapping.snapshot import DirectorySnapshot


class HeldAllocation(NamedTuple):
    """A meter's allocation as it was sent: its epoch, and since when, as text."""

    epoch: int
    since: str


@dataclass(frozen=True, slots=True)
class RememberedPart:
    """The part that was sent last: whose meters, of which version of which life of the directory.

    `marked`: its last change set is named without who made it, since it changed no row of this edge; None where
    an older central did not note it. `rows` is the text of the part where an older central kept it.
    """

    allocations: Mapping[str, HeldAllocation]
    version: int
    generation: Generation
    marked: bool | None = None
    rows: str | None = None

    @classmethod
    def of(cls, part: EdgePart) -> RememberedPart:
        """Return what is remembered of a part."""
        allocations = {meter: _held(one) for meter, one in part.allocations.items()}
        return cls(allocations, part.version, part.generation, part.marked)

    def dump(self) -> str:
        """Write it; `load` reads it."""
        listed = [[meter, *one] for meter, one in self.allocations.items()]
        return json.dumps(
            {
                "allocated": listed,
                "version": self.version,
                "generation": str(self.generation),
                "marked": self.marked,
            },
            separators=(",", ":"),
        )

    @classmethod
    def load(cls, text: str) -> RememberedPart:
        """Read what `dump` wrote, or an older central did."""
        data: dict[str, Any] = json.loads(text)
        generation = Generation.parse(data.get("generation", str(NO_GENERATION)))
        if "rows" in data:
            listed = {one["meter"]: HeldAllocation(one["epoch"], one["from"]) for one in data["allocations"]}
            return cls(listed, data["version"], generation, rows=data["rows"])
        allocated = {meter: HeldAllocation(epoch, since) for meter, epoch, since in data["allocated"]}
        return cls(allocated, data["version"], generation, data["marked"])

    def is_still(self, part: DirectorySnapshot, allocations: Mapping[str, PartAllocation]) -> bool:
        """Say whether a part of the directory, as it is now, says nothing that was not sent."""
        if {meter: _held(one) for meter, one in allocations.items()} != self.allocations:
            return False
        changed = [change.version for change in part.changes if change.by]
        return self.version <= part.version and max(changed, default=0) <= self.version

    def as_sent(self, snapshot: DirectorySnapshot) -> EdgePart:
        """Return the part as it was sent, out of a directory of that version or a later one."""
        allocations = {
            meter: PartAllocation(meter=meter, epoch=one.epoch, since=datetime.fromisoformat(one.since))
            for meter, one in self.allocations.items()
        }
        rows = self.rows
        if rows is None:
            rows = _at(snapshot, self.version).part(self.allocations).to_json()
        return EdgePart(rows, allocations, self.version, self.generation)


def change_of_few(
    held: RememberedPart,
    snapshot: DirectorySnapshot,
    touched: Iterable[str],
    *,
    gateway: str,
    previous: int,
    number: int,
    at: datetime,
) -> tuple[DirectoryPart, RememberedPart]:
    """Return the change that leads from a part to now, and the part then; the same meters are allocated.

    `touched` are all meters whose rows changed since, others may be among them. ValueError where the part was noted
    by an older central.
    """
    if held.marked is None:
        raise ValueError("it was not noted how the part's last change set is named")
    meters = [meter for meter in touched if meter in held.allocations]
    before, after = _at(snapshot, held.version).part(meters), snapshot.part(meters)
    change = json.loads(snapshot_changes.difference(before.to_json(), after.to_json()))
    # Of the change sets that these meters' rows name, the edge has those of before. What stands for the last one
    # goes where it was but a mark; where rows of other meters name it, it stays.
    gone = [row for row in change["removed"]["changes"] if held.marked and int(row[0]) == held.version]
    change["removed"]["changes"] = gone
    message = DirectoryPart(
        gateway=gateway,
        generation=held.generation,
        version=snapshot.version,
        number=number,
        kind="change",
        previous=previous,
        rows=json.dumps(change, separators=(",", ":"), ensure_ascii=False),
        issued_at=at,
    )
    return message, replace(
        held, version=snapshot.version, marked=bool(after.changes) and not after.changes[-1].by
    )


def _held(one: PartAllocation) -> HeldAllocation:
    return HeldAllocation(one.epoch, rfc3339(one.since))


def _at(snapshot: DirectorySnapshot, version: int) -> DirectorySnapshot:
    return snapshot if snapshot.version == version else DirectorySnapshot(snapshot.rows.rewound(version))
