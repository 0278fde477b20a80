"""Central's file of sealed keys. Nothing in it can be opened without the escrow key, or central's store key.

Nothing is ever taken out: a key that was in force once opens what was recorded then. All of it stands in a second copy,
too, before anybody is told that it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.second_copy import SecondCopy
from gateway.contract.messages import rfc3339
from gateway.contract.sealing import digest
from gateway.errors import ContractError, JournalError, UsageError
from gateway.private_database import PrivateDatabase

FORMAT = 2
COPY = "keys.copy"
"""The second copy's name, where no other place is named for it: beside the store."""
MAX_UNPROVED = 24
"""Changes of one meter by one gateway without proof that are kept: a gateway that makes more is at fault."""
MAX_CHANGES = 500
"""Changes of one meter by one gateway that are kept at all: one a week for ten years."""
_SCHEMA = """
create table sealed (number integer primary key, key_id text not null unique, gateway text not null,
  meter text not null, slots text not null, digest text not null, sealed blob not null, made_at text not null,
  kept_at text not null, proved_at text, source text not null default '') strict;
create index sealed_meter on sealed (meter, number);
create table box (gateway text primary key, key text not null, name text not null, asked_at text not null,
  trusted text, trusted_by text, trusted_at text) strict;
create table given (gateway text not null, meter text not null, primary key (gateway, meter)) strict;
"""
_SECOND = "create table second (one integer primary key check (one = 1), path text not null, mark text not null) strict"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBox:
    """A gateway's box that asked for keys: its public key's text and name, and the name that a person trusts."""

    gateway: str
    key: str
    name: str
    asked_at: datetime
    trusted: str | None = None
    trusted_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What the store and its second copy gave each other, and how many lines of the copy cannot be read."""

    filled: int = 0
    copied: int = 0
    damaged: int = 0


class SealedStore(PrivateDatabase):
    """The file; safe for threads, and for central and an office command at once. JournalError when it fails.

    `copy` is where the second copy stands: None where it was last, or beside the file.
    """

    def __init__(self, path: Path, copy: Path | None = None) -> None:
        super().__init__(path, named="sealed keys")
        before = self._read("select path from second")
        self.copy = SecondCopy(copy or (Path(before[0][0]) if before else path.with_name(COPY)))

    def _prepare(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        with self._transaction():
            self._make()

    def _make(self) -> None:
        found = self._db.execute("pragma user_version").fetchone()[0]
        if found not in (0, 1, FORMAT):
            raise JournalError(f"{self._path} was made by a newer program (format {found})")
        if found == 0:
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
        if found < FORMAT:
            self._db.execute(_SECOND)
            self._db.execute(f"pragma user_version = {FORMAT}")

    # the second copy

    def settle(self, *, anew: bool = False, look: bool = False) -> Settled:
        """Fill the store from the second copy and the copy from the store, where either was set back or damaged.

        Costs nothing where both are as they were left, unless all is to be looked at. JournalError when the copy cannot
        be used, and where it is gone: its disk may not be mounted. `anew` makes it again.
        """
        with self._transaction():
            known = self._read("select path from second")
            if known == [(str(self.copy.path),)] and not self.copy.there and not anew:
                raise JournalError(
                    f"the second copy of the sealed keys, {self.copy.path}, is gone: mount its disk,"
                    " or make it anew (`keys check --anew`)"
                )
            return Settled() if self._as_left() and not look else self._settle()

    def _settle(self) -> Settled:
        copied = self.copy.read()
        filled = sum(self._fill(one) for one in (*copied.keys.values(), *self._former_copy()))
        lacks = [
            one
            for one in self.all()
            if not self._damaged(one)
            and ((there := copied.keys.get(one.key_id)) is None or (one.proved_at and not there.proved_at))
        ]
        self._append(lacks)
        return Settled(filled=filled, copied=len(lacks), damaged=copied.damaged)

    def _former_copy(self) -> list[SealedKeys]:
        """Return what stands in the second copy's former place, where another is named now and it can be read."""
        found: list[SealedKeys] = []
        for (path,) in self._read("select path from second"):
            if path != str(self.copy.path):
                with suppress(JournalError):
                    found += SecondCopy(Path(path)).read().keys.values()
        return found

    def _fill(self, one: SealedKeys) -> bool:
        """Take from the second copy what the store lacks of sealed keys; say whether it lacked any."""
        mine = self._sealed("where key_id = ?", one.key_id)
        if not mine:
            self._insert(one, one.kept_at or one.made_at)
            return True
        (_, there) = mine[0]
        if self._damaged(there):
            self._db.execute("update sealed set sealed = ? where key_id = ?", (one.sealed, one.key_id))
            return True
        if there.proved_at is None and one.proved_at is not None:
            at = rfc3339(one.proved_at)
            self._db.execute("update sealed set proved_at = ? where key_id = ?", (at, one.key_id))
            return True
        return False

    def _damaged(self, one: SealedKeys) -> bool:
        return self._read("select digest from sealed where key_id = ?", one.key_id) != [(digest(one.sealed),)]

    def _append(self, keys: Sequence[SealedKeys]) -> None:
        """Append to the second copy, and note how it was left."""
        self.copy.append(keys)
        self._db.execute(
            "insert or replace into second (one, path, mark) values (1, ?, ?)",
            (str(self.copy.path), self.copy.mark()),
        )

    # sealed keys

    def keep(self, keys: Sequence[SealedKeys], at: datetime) -> int:
        """Keep sealed keys, here and in the second copy, durable on return; return how many are new.

        ContractError for a name that is taken by other keys, or a meter with too many changes without proof; then
        none is kept. JournalError when either cannot be written: what one of them has then, the other is given later.
        """
        with self._transaction():
            self.settle()
            new = [replace(one, kept_at=at) for one in keys if self._keep(one, at)]
            if new:
                self._append(new)
        return len(new)

    def _keep(self, one: SealedKeys, at: datetime) -> bool:
        there = self._read("select digest, gateway, meter from sealed where key_id = ?", one.key_id)
        name = digest(one.sealed)
        if there:
            if there[0] != (name, one.gateway, one.meter):
                raise ContractError(f"other keys are kept under the name {one.key_id}")
            return False
        count = self._read(
            "select count(*) from sealed where meter = ? and gateway = ?", one.meter, one.gateway
        )
        if count[0][0] >= MAX_CHANGES:
            raise ContractError(f"{MAX_CHANGES} changes of {one.meter} are kept already")
        if one.proved_at is None:
            waiting = self._read(
                "select count(*) from sealed where meter = ? and gateway = ? and proved_at is null",
                one.meter,
                one.gateway,
            )
            if waiting[0][0] >= MAX_UNPROVED:
                raise ContractError(
                    f"{MAX_UNPROVED} changes of {one.meter} wait for proof: look at its gateway first"
                )
        self._insert(one, at)
        return True

    def _insert(self, one: SealedKeys, at: datetime) -> None:
        self._db.execute(
            "insert into sealed (key_id, gateway, meter, slots, digest, sealed, made_at, kept_at, proved_at, source)"
            " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                one.key_id,
                one.gateway,
                one.meter,
                " ".join(one.slots),
                digest(one.sealed),
                one.sealed,
                rfc3339(one.made_at),
                rfc3339(at),
                None if one.proved_at is None else rfc3339(one.proved_at),
                one.source,
            ),
        )

    def prove(self, gateway: str, meter: str, key_id: str, sealed_digest: str, at: datetime) -> bool:
        """Note that a meter has proved keys; False where the gateway never escrowed just these.

        Where the second copy cannot be written now, it hears of it when it is settled.
        """
        with self._transaction():
            changed = self._db.execute(
                "update sealed set proved_at = coalesce(proved_at, ?)"
                " where key_id = ? and gateway = ? and meter = ? and digest = ?",
                (rfc3339(at), key_id, gateway, meter, sealed_digest),
            )
            if changed.rowcount == 1:
                with suppress(JournalError):
                    if self._as_left():
                        self._append([one for _, one in self._sealed("where key_id = ?", key_id)])
            return changed.rowcount == 1

    def _as_left(self) -> bool:
        """Whether the second copy is as it was last left."""
        known = self._read("select path, mark from second")
        return known == [(str(self.copy.path), self.copy.mark())] and known[0][1] != ""

    def of_meters(self, meters: Iterable[str]) -> list[SealedKeys]:
        """Return all sealed keys of some meters, in the order in which they came."""
        found: list[tuple[int, SealedKeys]] = []
        for meter in dict.fromkeys(meters):
            found += self._sealed("where meter = ? order by number", meter)
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def all(self) -> list[SealedKeys]:
        """Return all sealed keys, in the order in which they came."""
        return [one for _, one in self._sealed("order by number")]

    def missing(self, key_ids: Sequence[str]) -> list[str]:
        """Return those names under which nothing is kept."""
        return [one for one in key_ids if not self._read("select 1 from sealed where key_id = ?", one)]

    def _sealed(self, where: str, *given: object) -> list[tuple[int, SealedKeys]]:
        rows = self._read(
            "select number, key_id, gateway, meter, slots, sealed, made_at, kept_at, proved_at, source"
            f" from sealed {where}",
            *given,
        )
        return [
            (
                number,
                SealedKeys(
                    key_id=key_id,
                    gateway=gateway,
                    meter=meter,
                    slots=tuple(slots.split()),
                    sealed=bytes(sealed),
                    made_at=_at(made_at),
                    kept_at=_at(kept_at),
                    proved_at=None if proved_at is None else _at(proved_at),
                    source=source,
                ),
            )
            for number, key_id, gateway, meter, slots, sealed, made_at, kept_at, proved_at, source in rows
        ]

    # boxes

    def asked(self, gateway: str, key: str, name: str, at: datetime) -> KnownBox:
        """Note which box asks for a gateway's keys; return what is known of it."""
        with self._transaction():
            self._db.execute(
                "insert into box (gateway, key, name, asked_at) values (?, ?, ?, ?) on conflict (gateway) do update"
                " set key = excluded.key, name = excluded.name, asked_at = excluded.asked_at"
                " where key != excluded.key",
                (gateway, key, name, rfc3339(at)),
            )
        return next(one for one in self.boxes() if one.gateway == gateway)

    def trust(self, gateway: str, name: str, *, by: str, at: datetime) -> None:
        """Trust the box that asked under this name; UsageError when another did, or none."""
        with self._transaction():
            known = next((one for one in self.boxes() if one.gateway == gateway), None)
            if known is None:
                raise UsageError(f"{gateway} never asked for keys (`keys boxes` lists who did)")
            if known.name != name:
                raise UsageError(
                    f"the box of {gateway} that asks shows {known.name}, not {name}: compare it on the box itself"
                    " (`keys box` there)"
                )
            self._db.execute(
                "update box set trusted = name, trusted_by = ?, trusted_at = ? where gateway = ?",
                (by, rfc3339(at), gateway),
            )

    def boxes(self) -> list[KnownBox]:
        """Return the boxes that ever asked."""
        rows = self._read(
            "select gateway, key, name, asked_at, trusted, trusted_by from box order by gateway"
        )
        return [
            KnownBox(gateway=g, key=k, name=n, asked_at=_at(at), trusted=t, trusted_by=by)
            for g, k, n, at, t, by in rows
        ]

    def note_given(self, gateway: str, meters: Iterable[str]) -> None:
        """Note whose keys a gateway was given: should another read them one day, they are to be dropped there."""
        with self._transaction():
            self._db.executemany(
                "insert or ignore into given (gateway, meter) values (?, ?)",
                [(gateway, meter) for meter in meters],
            )

    def meters_of(self, gateway: str) -> set[str]:
        """Return the meters whose keys a gateway has had: it made them, or was given them."""
        rows = self._read(
            "select meter from given where gateway = ? union select meter from sealed where gateway = ?",
            gateway,
            gateway,
        )
        return {meter for (meter,) in rows}


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
