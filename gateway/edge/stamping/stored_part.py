"""The edge's copy of its part of the directory: the signed chunks themselves, verified again when loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.contract.envelope import MAX_DIRECTORY_MESSAGE, parse_data
from gateway.contract.messages import DirectoryPart
from gateway.contract.messages.generation import NO_GENERATION, Generation
from gateway.contract.signing import DIRECTORY_TYP, verify
from gateway.contract.topics import gateway_name
from gateway.errors import ConfigError, ContractError
from mapping.errors import MappingError
from mapping.snapshot_changes import SnapshotRows
from protocols.durable import replace_file

MAX_CHANGES = 200
"""Changes kept after a snapshot; beyond it a new snapshot is asked for."""
_FILE = "directory.jws"


@dataclass(frozen=True, slots=True)
class HeldPart:
    """What an edge knows: the rows of its snapshot, and the epoch of the allocation of each of its meters.

    `number` counts the parts that central made for this edge (0: of version 1, or none).
    """

    number: int = 0
    version: int = 0
    generation: Generation = NO_GENERATION
    rows: SnapshotRows | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)
    changes: int = 0


@dataclass(frozen=True, slots=True)
class CheckedPart:
    """A part that came whole and fits: what the edge knows with it, and the signed chunks that say so."""

    held: HeldPart
    signed: tuple[str, ...]
    is_snapshot: bool


class StoredPart:
    """A snapshot and the changes after it, one compact JWS a line, in `{folder}/directory.jws` (0600).

    Blocking and small; callers in an event loop use a thread. `keys` are central's public keys: any of them may
    have signed. A part is taken in two steps, so that only what could be applied is kept:

    >>> checked = stored.check(jws)  # None until its last chunk has come  # doctest: +SKIP
    >>> apply(checked.held)  # doctest: +SKIP
    >>> stored.store(checked)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, gateway: str, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ConfigError("no key to verify the directory with: name central's public key")
        self._path = folder / _FILE
        self._gateway = gateway_name(gateway)
        self._keys = tuple(keys)
        self._chunks: dict[int, tuple[str, DirectoryPart]] = {}
        self._snapshot_only = True
        self.held = HeldPart()

    @property
    def full(self) -> bool:
        """Whether only a snapshot can follow: there is none yet, or too many changes follow it."""
        return self._snapshot_only or self.held.changes >= MAX_CHANGES

    def load(self) -> HeldPart | None:
        """Return what is stored, None when nothing is; what does not verify is left out (and asked for again)."""
        self.held, self._snapshot_only = HeldPart(), True
        try:
            lines = self._path.read_text(encoding="ascii").split()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        except OSError as error:
            raise ConfigError(
                f"the stored directory {self._path} cannot be read: {error.strerror}"
            ) from error
        sound = True
        for jws in lines:
            try:
                checked = self.check(jws)
            except (ContractError, MappingError):
                sound = False
                break
            if checked is not None:
                self._take(checked)
        if not sound or self._chunks:
            # What was appended to a damaged line could not be found again: a snapshot begins the file anew.
            self.expect_snapshot()
        return None if self.held.rows is None else self.held

    def expect_snapshot(self) -> None:
        """Take nothing but a snapshot next: what is stored cannot be applied. It may not be older."""
        self._snapshot_only = True
        self._chunks = {}

    def check(self, jws: str) -> CheckedPart | None:
        """Verify a chunk of a part that would follow what is stored; return the part when it has come whole.

        ContractError says why a chunk is not taken. A part may not be older than what is stored (nobody can set a
        gateway back by an old message); a change must follow the stored part (DirectoryHole).
        """
        payload = verify(jws, keys=self._keys, typ=DIRECTORY_TYP)
        part = parse_data(payload, DirectoryPart, limit=MAX_DIRECTORY_MESSAGE)
        if part.gateway != self._gateway:
            raise ContractError(f"$.gateway: a directory part for {part.gateway!r}, not for us")
        self._refuse_older(part)
        follows = part.previous == self.held.number and part.generation == self.held.generation
        if part.kind == "change" and (not follows or self.full):
            raise DirectoryHole(f"$.previous: a change after {part.previous}, but we have {self.held.number}")
        if any(_name(known) != _name(part) for _, known in self._chunks.values()):
            self._chunks = {}  # another part has begun; what came of the former is told again with it
        self._chunks[part.chunk] = jws, part
        if len(self._chunks) < part.chunks:
            return None
        whole = [self._chunks[number] for number in sorted(self._chunks)]
        self._chunks = {}
        held = self._following([chunk for _, chunk in whole])
        return CheckedPart(held, tuple(jws for jws, _ in whole), part.kind == "snapshot")

    def store(self, checked: CheckedPart) -> None:
        """Keep a checked part durably: a snapshot replaces everything, a change is appended."""
        lines = ("\n".join(checked.signed) + "\n").encode("ascii")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if checked.is_snapshot:
            replace_file(self._path, lines)
        else:
            with self._path.open("ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        self._take(checked)

    def _take(self, checked: CheckedPart) -> None:
        self.held = checked.held
        self._snapshot_only = False

    def _refuse_older(self, part: DirectoryPart) -> None:
        ours, theirs = self.held.generation, part.generation
        if theirs.is_before(ours):
            raise ContractError(f"$.generation: {theirs} is older than our {ours}")
        if theirs.is_twin_of(ours):
            raise ContractError(f"$.generation: two directories of one generation: {theirs} and our {ours}")
        if theirs == ours and part.version < self.held.version:
            raise ContractError(
                f"$.version: {part.kind} {part.version} is older than our {self.held.version}"
            )
        if part.number <= self.held.number and (part.number or self.held.number):
            raise ContractError(
                f"$.number: {part.kind} {part.number} is not newer than our {self.held.number}"
            )

    def _following(self, chunks: Sequence[DirectoryPart]) -> HeldPart:
        """Return what we know with a whole part; ContractError or DirectoryFault when it does not fit."""
        last = chunks[-1]
        rows = "".join(chunk.rows for chunk in chunks)
        given = {one.meter: one.epoch for chunk in chunks for one in chunk.allocations}
        if last.kind == "snapshot":
            return HeldPart(last.number, last.version, last.generation, SnapshotRows.read(rows), given)
        assert self.held.rows is not None
        released = {meter for chunk in chunks for meter in chunk.released}
        kept = {meter: epoch for meter, epoch in self.held.epochs.items() if meter not in released}
        after = self.held.rows.after(rows)
        changes = self.held.changes + 1
        return HeldPart(last.number, last.version, last.generation, after, kept | given, changes)


class DirectoryHole(ContractError):
    """A change does not follow what we have: a snapshot must be asked for."""


def _name(part: DirectoryPart) -> tuple[object, ...]:
    """Return what all chunks of one part have in common, and those of no other."""
    return part.number, part.kind, part.generation, part.version, part.previous, part.chunks, part.issued_at
