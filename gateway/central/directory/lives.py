"""The directory's lives: whether it was set back, by what the ledger saw of it; the whole of a new life is told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import structlog

from gateway.central.directory.messages import change_messages, standing_messages
from gateway.central.ledger.directory_seen import SeenDirectory
from gateway.central.ledger.identity import SetBack
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.meter_states import ANEW
from gateway.central.ledger.unattributed import JUDGED_BY
from gateway.central.ledger.use import FOLLOWED
from gateway.contract.messages.generation import Generation
from mapping.directory import NamingChange, NumberKind
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore

METERS: Final = 200
"""Meters told, or accounts named, in one go."""

log = structlog.get_logger("gateway.central.directory")


class DirectoryLives:
    """Compares the directory with what the ledger saw of it. Blocking; LedgerError and DirectoryFault pass."""

    def __init__(self, store: DirectoryStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def look(self) -> Generation:
        """Return the generation that stands now; a new one begins where the ledger saw more of the directory."""
        while (found := self._looked()) is None:
            pass  # an edge has shown a later state while we compared: that one is what to compare with
        return found

    def _looked(self) -> Generation | None:
        life, version = self._store.life, self._store.version
        seen = self._ledger.directory_seen.get()
        found: SetBack | None = None
        if seen is not None and (why := self._contradicts(seen)) is not None:
            life = self._store.begin_anew(seen.generation)
            found = _set_back(life.generation, why)
        elif seen is not None and seen.generation != life.generation:
            found = _set_back(
                life.generation, self._store.set_back or f"generation {seen.generation} was before"
            )
        now = SeenDirectory(
            uuid=life.uuid,
            generation=life.generation,
            version=version,
            mark=self._mark(version),
            # What was told of a directory before it had generations holds: they were none.
            told=life.generation if seen is None else seen.told,
        )
        if now != seen and not self._ledger.directory_seen.put(now, seen, found):
            return None
        return Generation.parse(life.generation)

    def _contradicts(self, seen: SeenDirectory) -> str | None:
        life = self._store.life
        ours, theirs = Generation.parse(life.generation), Generation.parse(seen.generation)
        if theirs.is_before(ours):
            return None
        if seen.uuid != life.uuid:
            return f"it is another directory than {seen.uuid}, of which the ledger has seen version {seen.version}"
        if theirs.is_twin_of(ours):
            return f"generation {theirs} lived beside {ours}: one of the two directories is a copy"
        if ours.is_before(theirs):
            return f"the ledger has seen generation {theirs}"
        if seen.version > self._store.version:
            return f"the ledger has seen version {seen.version}, and it is at {self._store.version}"
        if self._mark(seen.version) != seen.mark:
            return f"its version {seen.version} is not the one that the ledger has seen"
        return None

    def _mark(self, version: int) -> str:
        """Return what tells the change set of a version from any other of the same version."""
        for change in reversed(self._store.snapshot().changes):
            if change.version == version:
                told = f"{change.at.isoformat()}|{change.by}|{change.source}|{change.digest}"
                return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        return ""

    def is_told(self) -> bool:
        """Say whether consumers were told the whole of the life that stands now."""
        seen = self._ledger.directory_seen.get()
        return seen is None or seen.told == seen.generation

    def whole_state(
        self, snapshot: DirectorySnapshot, at: datetime, generation: Generation
    ) -> Iterator[list[bytes]]:
        """Yield messages of all that a consumer must know, whatever it was told in a life before.

        Meters that are in the ledger alone are nobody's now. Their captures are marked to be judged again.
        """
        # Lower numbers may come again: what was judged by a higher version of the life before is not judged.
        self._ledger.cursors.set(JUDGED_BY, 0)
        self._ledger.meters.set_places_version(ANEW)
        self._ledger.cursors.set(FOLLOWED, ANEW)
        meters = sorted({*snapshot.meters(), *self._ledger.captures.meters()})
        for begin in range(0, len(meters), METERS):
            some = meters[begin : begin + METERS]
            self._ledger.unattributed.recheck([(meter, None, None) for meter in some])
            snapshot.expect(some)
            yield [
                message
                for meter in some
                for message in standing_messages(meter, snapshot, at, generation=generation)
            ]
        accounts = sorted(snapshot.accounts())
        for begin in range(0, len(accounts), METERS):
            snapshot.rows.expect(accounts=accounts[begin : begin + METERS])
            names = [
                NamingChange(
                    account_id=account,
                    kind=kind,
                    old=None,
                    new=snapshot.name(account, kind),
                    version=snapshot.version,
                )
                for account in accounts[begin : begin + METERS]
                for kind in NumberKind
            ]
            yield change_messages((), names, snapshot, at, generation=generation)

    def told(self, generation: Generation) -> None:
        """Note that the whole of this life was told; one that began meanwhile is still to be told."""
        self._ledger.directory_seen.set_told(str(generation))

    def last_told(self) -> int:
        """Return the counter of the life that was told as a whole; 0 before the first."""
        seen = self._ledger.directory_seen.get()
        return 0 if seen is None or not seen.told else Generation.parse(seen.told).counter

    def untell(self, _after: int) -> None:
        """Have the whole told again: nobody may have heard it."""
        self._ledger.directory_seen.set_told("")


def _set_back(generation: str, why: str) -> SetBack:
    log.error("directory_set_back", generation=generation, why=why)
    return SetBack(generation=generation, begun_at=datetime.now(UTC), why=why, store="directory")
