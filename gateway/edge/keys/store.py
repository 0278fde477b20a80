"""The edge's file of keys: those in force, meter by meter, and changes under way; private, and safe for two processes.

What it holds stands before the file that a reference names in the secrets folder, which may be read-only (systemd's
credentials) or shared by many meters. SQLite overwrites what is deleted (`secure_delete`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gateway.contract.messages import rfc3339
from gateway.contract.sealing import digest
from gateway.edge.keys.change import Stage
from gateway.edge.keys.file import KeyFile
from gateway.errors import UsageError
from protocols.dlms.acts.keys import KeySlot

FILE = "keys.db"
TRIES = 2
"""Keys beside those in force that a meter is met with in an hour: many lock out who is wrong three to five times."""
TRIES_IN = timedelta(hours=1)
FORGOTTEN = timedelta(days=30)
"""What was tried so long ago is as good as never tried."""


SLOTS_OF: Mapping[str, tuple[KeySlot, ...]] = {
    "global": (KeySlot.ENCRYPTION, KeySlot.AUTHENTICATION),
    "broadcast": (KeySlot.BROADCAST,),
    "secret": (KeySlot.SECRET,),
    "master": (KeySlot.MASTER,),
}
"""The keys that change together: what one request to the meter brings, so that few states are possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a meter's keys; `keys` are the new ones that it has not adopted yet."""

    key_id: str
    meter: str
    client: int
    what: str
    stage: Stage
    sealed: bytes = field(repr=False)
    slots: tuple[str, ...]
    made_at: datetime
    keys: Mapping[KeySlot, bytes] = field(repr=False)
    note: str = ""
    digest: str = ""
    given: bool = False
    """Whether central gave it: keys that the meter may hold, and that nobody sends again."""


class KeyStore(KeyFile):
    """The file; made by whoever opens it for writing. JournalError when it cannot be used.

    Safe for threads, and for the running edge and a command at once: every step is one durable transaction.
    """

    # what is in force

    def held(self, meter: str, client: int) -> dict[KeySlot, bytes]:
        """Return a meter's keys in force that are kept here: of the association of `client`, and its master key."""
        rows = self._read("select slot, octets from held where meter = ? and client in (?, 0)", meter, client)
        return {KeySlot(slot): bytes(octets) for slot, octets in rows}

    def given_to(self, meter: str, client: int) -> bool:
        """Say whether keys in force of an association are central's word alone: no association proved them here."""
        return bool(
            self._read(
                "select 1 from held where meter = ? and client = ? and given = 1 limit 1", meter, client
            )
        )

    def forget_given(self, meter: str, client: int) -> None:
        """Drop what central said of an association: its meter proved to hold what the secrets folder says."""
        with self._transaction():
            self._db.execute("delete from held where meter = ? and client = ? and given = 1", (meter, client))

    def names(self) -> list[tuple[str, int, str, str | None, str]]:
        """Return meter, client, slot, key id and since when of all keys in force that are kept here."""
        return self._read("select meter, client, slot, key_id, since from held order by meter, client, slot")

    # changes

    def open_change(self, meter: str, client: int, what: str) -> Change | None:
        """Return the change of these keys that is under way; None where there is none."""
        return self._one(
            "meter = ? and client = ? and what = ? and stage != 'proven' and given = 0", meter, client, what
        )

    def change(self, key_id: str) -> Change | None:
        """Return a change by its name."""
        return self._one("key_id = ?", key_id)

    def changes(self, meter: str | None = None) -> list[Change]:
        """Return the changes under way, of a meter or all, oldest first."""
        where, given = ("", ()) if meter is None else (" and meter = ?", (meter,))
        rows = self._read(
            f"select key_id from change where stage != 'proven'{where} order by made_at, key_id", *given
        )
        return [one for (key_id,) in rows if (one := self.change(key_id)) is not None]

    def may_hold(self, meter: str, client: int) -> list[Change]:
        """Return the changes whose new keys the meter may hold already: they were sent and nothing is proved."""
        rows = self._read(
            "select key_id from change where meter = ? and client in (?, 0) and stage = 'sent' order by made_at",
            meter,
            client,
        )
        return [one for (key_id,) in rows if (one := self.change(key_id)) is not None]

    def make(self, change: Change) -> Change:
        """Keep new keys before anybody else has them; where others are under way for them, return those instead.

        UsageError while another change of the same association may have reached the meter.
        """
        with self._transaction():
            there = self.open_change(change.meter, change.client, change.what)
            if there is not None:
                return there
            for other in self.may_hold(change.meter, change.client):
                if other.given:
                    continue
                raise UsageError(
                    f"{change.meter}: its {other.what} keys are under way: `keys rotate` them to the end first"
                )
            self._insert(change)
        return change

    def _insert(self, change: Change) -> None:
        self._db.execute(
            "insert into change (key_id, meter, client, what, stage, sealed, slots, made_at, note, digest, given)"
            " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                change.key_id,
                change.meter,
                change.client,
                change.what,
                change.stage,
                change.sealed,
                " ".join(change.slots),
                rfc3339(change.made_at),
                change.note,
                change.digest or (digest(change.sealed) if change.sealed else ""),
                int(change.given),
            ),
        )
        self._db.executemany(
            "insert into new_key (key_id, client, slot, octets) values (?, ?, ?, ?)",
            [(change.key_id, client_of(slot, change.client), slot, k) for slot, k in change.keys.items()],
        )

    def note(self, key_id: str, stage: Stage, text: str = "") -> None:
        """Note how far a change has come; never back from proven."""
        with self._transaction():
            self._db.execute(
                "update change set stage = ?, note = ? where key_id = ? and stage != 'proven'",
                (stage, text[:500], key_id),
            )

    def explain(self, key_id: str, text: str) -> None:
        """Keep what last kept a change from going on."""
        with self._transaction():
            self._db.execute("update change set note = ? where key_id = ?", (text[:500], key_id))

    def adopt(self, key_id: str, slots: Iterable[KeySlot], at: datetime) -> None:
        """Put proved keys in force and drop those before them; the change is over with its last key."""
        with self._transaction():
            change = self.change(key_id)
            if change is None:
                return
            for slot in slots:
                if (octets := change.keys.get(slot)) is None:
                    continue
                self._put(change.meter, client_of(slot, change.client), slot, octets, key_id, at)
                self._db.execute("delete from new_key where key_id = ? and slot = ?", (key_id, slot))
            left = self._db.execute("select 1 from new_key where key_id = ? limit 1", (key_id,)).fetchone()
            self._db.execute(
                "delete from tried where meter = ? and client = ?", (change.meter, change.client)
            )
            if left is None:
                self._db.execute("update change set stage = 'proven', note = '' where key_id = ?", (key_id,))
                self._forget_given(change)

    def _forget_given(self, proved: Change) -> None:
        """Drop what central gave for the same keys: the meter holds others."""
        where = "meter = ? and client = ? and what = ? and given = 1 and key_id != ?"
        of = (proved.meter, proved.client, proved.what, proved.key_id)
        self._db.execute(f"delete from new_key where key_id in (select key_id from change where {where})", of)
        self._db.execute(f"delete from change where {where}", of)

    def _put(
        self, meter: str, client: int, slot: KeySlot, octets: bytes, key_id: str | None, at: datetime
    ) -> None:
        self._db.execute(
            "insert into held (meter, client, slot, octets, key_id, since) values (?, ?, ?, ?, ?, ?)"
            " on conflict (meter, client, slot) do update set"
            " octets = excluded.octets, key_id = excluded.key_id, since = excluded.since, given = 0",
            (meter, client, slot, octets, key_id, rfc3339(at)),
        )

    # what was tried

    def may_try(self, meter: str, client: int, way: str, at: datetime) -> bool:
        """Note durably that keys beside those in force are tried now; False where they may not.

        `way` names them. Of a meter, whichever client, TRIES ways are tried in TRIES_IN, and none of them twice.
        """
        with self._transaction():
            self._settle_times(at)
            lately = self.lately(meter, at)
            if len(lately) >= TRIES or (client, way) in lately:
                return False
            self.note_try(meter, client, way, at)
            return True

    def note_try(self, meter: str, client: int, way: str, at: datetime) -> None:
        """Note that keys are tried that a meter may refuse."""
        with self._transaction():
            row = (meter, client, way, rfc3339(at))
            self._db.execute("insert or replace into tried values (?, ?, ?, ?)", row)

    def _settle_times(self, at: datetime) -> None:
        """Forget what is long ago; and a clock that was set back must not make an hour longer."""
        self._db.execute("delete from tried where at < ?", (rfc3339(at - FORGOTTEN),))
        self._db.execute("update tried set at = ? where at > ?", (rfc3339(at), rfc3339(at)))

    def tried(self, meter: str) -> dict[tuple[int, str], datetime]:
        """Return when each way of a meter's keys was tried last, by client and way."""
        rows = self._read("select client, way, at from tried where meter = ?", meter)
        return {(client, way): datetime.fromisoformat(at) for client, way, at in rows}

    def lately(self, meter: str, at: datetime) -> list[tuple[int, str]]:
        """Return the ways, by client, that were tried of a meter in the hour before `at`."""
        return [one for one, before in self.tried(meter).items() if at - before < TRIES_IN]

    # what central is told

    def untold(self) -> list[tuple[str, str, str]]:
        """Return name, meter and digest of changes that are proved and central was not told."""
        return self._read(
            "select key_id, meter, digest from change where stage = 'proven' and told = 0 and digest != '' limit 200"
        )

    def told(self, key_id: str) -> None:
        """Note that the broker took the word that a change is proved."""
        with self._transaction():
            self._db.execute("update change set told = 1 where key_id = ? and told = 0", (key_id,))

    def unsure(self) -> list[str]:
        """Return the names of changes that were told to a broker, which may have fallen before central heard it."""
        rows = self._read("select key_id from change where stage = 'proven' and told = 1 and given = 0")
        return [name for (name,) in rows]

    def tell_again(self, key_ids: Iterable[str]) -> None:
        """Have it told once more that these are proved."""
        with self._transaction():
            self._db.executemany("update change set told = 0 where key_id = ?", [(one,) for one in key_ids])

    def sure(self, key_ids: Iterable[str]) -> None:
        """Note that central surely heard of these."""
        with self._transaction():
            self._db.executemany(
                "update change set told = 2 where key_id = ? and told = 1", [(one,) for one in key_ids]
            )

    def remembered(self) -> list[Change]:
        """Return the changes whose sealed texts central must have: those sent, and those whose keys are in force."""
        rows = self._read(
            "select key_id from change where sealed != x'' and"
            " (stage = 'sent' or given = 1 or key_id in (select key_id from held)) order by made_at, key_id"
        )
        return [one for (key_id,) in rows if (one := self.change(key_id)) is not None]

    # what central gives

    def give(
        self,
        held: Mapping[tuple[str, int, KeySlot], bytes],
        maybe: Iterable[Change],
        gone: Iterable[str],
        name: str,
        at: datetime,
    ) -> tuple[int, int]:
        """Take what central gave: keys in force, and changes; return how many are kept and dropped.

        Changes are those that a meter may have taken (sent), and proved ones, whose sealed texts are kept for central.

        What this box knows by proof or has under way stands, and what central says beside it is tried where that is
        refused: one of the two is older, and a meter knows which. The keys of `gone` meters, which another gateway
        reads now, are dropped.
        """
        kept = dropped = 0
        maybe = tuple(maybe)
        with self._transaction():
            # Central's store was set back to before it heard of a proof that this box was told of: it stands.
            known = [c for c in maybe if (there := self.change(c.key_id)) and there.stage is Stage.PROVEN]
            proved = {(c.meter, client_of(slot, c.client), slot) for c in known for slot in c.keys}
            for (meter, client, slot), octets in held.items():
                if (meter, client, slot) in proved:
                    continue
                own = self._db.execute(
                    "select key_id, given from held where meter = ? and client = ? and slot = ?",
                    (meter, client, slot),
                ).fetchone()
                if own is not None and not own[1]:
                    continue
                self._put(meter, client, slot, octets, None, at)
                self._db.execute(
                    "update held set given = 1 where meter = ? and client = ? and slot = ?",
                    (meter, client, slot),
                )
                kept += 1
            for change in (*maybe, *self._other(held, at)):
                there = self.change(change.key_id)
                if there is None:
                    self._insert(replace(change, given=True))
                    self.told(change.key_id)
                elif there.stage in (Stage.MADE, Stage.ESCROWED):
                    # This file may be a copy that was put back: what came after it went to the meter.
                    self.note(change.key_id, Stage.SENT)
            for meter in gone:
                dropped += self._db.execute("delete from held where meter = ?", (meter,)).rowcount
                self._db.execute(
                    "delete from new_key where key_id in (select key_id from change where meter = ?)",
                    (meter,),
                )
                self._db.execute("delete from change where meter = ?", (meter,))
            self._db.execute("insert or replace into life values ('given', ?)", (name,))
        return kept, dropped

    def _other(self, held: Mapping[tuple[str, int, KeySlot], bytes], at: datetime) -> Iterator[Change]:
        """Yield, as changes that may have happened, the keys that central says are in force and are not ours."""
        for meter, client in sorted({(meter, client) for meter, client, _ in held}):
            own = self.held(meter, client)
            for what, slots in SLOTS_OF.items():
                told = {slot: key for slot in slots if (key := held.get((meter, client, slot))) is not None}
                new = {slot: key for slot, key in told.items() if own.get(slot) not in (None, key)}
                if new:
                    text = f"{meter} {client} {[(slot, key.hex()) for slot, key in sorted(new.items())]}"
                    yield Change(
                        key_id=hashlib.sha256(text.encode()).hexdigest()[:32],
                        meter=meter,
                        client=client,
                        what=what,
                        stage=Stage.SENT,
                        sealed=b"",
                        slots=tuple(slot_name(client, slot) for slot in new),
                        made_at=at,
                        keys=new,
                    )

    def given(self) -> str | None:
        """Return the digest of what central gave last."""
        rows = self._read("select text from life where name = 'given'")
        return rows[0][0] if rows else None

    # the file

    def _one(self, where: str, *given: object) -> Change | None:
        rows = self._read(
            "select key_id, meter, client, what, stage, sealed, slots, made_at, note, digest, given from change"
            f" where {where} order by made_at limit 1",
            *given,
        )
        if not rows:
            return None
        key_id, meter, client, what, stage, sealed, slots, made_at, note, name, given_ = rows[0]
        keys = self._read("select slot, octets from new_key where key_id = ?", key_id)
        return Change(
            key_id=key_id,
            meter=meter,
            client=client,
            what=what,
            stage=Stage(stage),
            sealed=bytes(sealed),
            slots=tuple(slots.split()),
            made_at=datetime.fromisoformat(made_at).astimezone(UTC),
            keys={KeySlot(slot): bytes(octets) for slot, octets in keys},
            note=note,
            digest=name,
            given=bool(given_),
        )


def client_of(slot: KeySlot, client: int) -> int:
    """Return under which client a key is kept: the master key is the meter's."""
    return 0 if slot is KeySlot.MASTER else client


def slot_name(client: int, slot: KeySlot) -> str:
    """Name a key as messages do: `48/encryption`."""
    return f"{client_of(slot, client)}/{slot}"
