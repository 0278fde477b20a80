"""Machines that ask or tell: other systems, by a token, a client certificate, or a key that signs their messages."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import insert, select, update

from gateway.central.office.actors import Actor, Proof, StaffRole, roles_of, roles_text
from gateway.central.office.proofs import TOKEN_PREFIX, new_token, token_digest
from gateway.central.office.staff import checked_name
from gateway.central.office.tables import machine
from gateway.central.office.trail import Trail
from gateway.errors import UsageError
from mapping.database import Database
from mapping.instants import instant, micros

LONGEST: Final = timedelta(days=731)
"""How far ahead an expiry may lie: what nobody renews in two years nobody looks after."""
USED_EVERY: Final = timedelta(minutes=1)
"""The last use is written no more often: each is a transaction."""
PREFIX: Final = "machine:"


class MachineKind(StrEnum):
    """How a machine proves who it is."""

    TOKEN = "token"  # noqa: S105  # the word for it, no secret
    CERTIFICATE = "certificate"
    SIGNATURE = "signature"


_PROOF: Final = {
    MachineKind.TOKEN: Proof.TOKEN,
    MachineKind.CERTIFICATE: Proof.CERTIFICATE,
    MachineKind.SIGNATURE: Proof.SIGNATURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine as it is shown: of a token nothing is, of a certificate and a key what is public."""

    name: str
    kind: MachineKind
    proof: str
    roles: frozenset[StaffRole]
    made_at: datetime
    made_by: str
    expires_at: datetime
    revoked: bool
    last_used: datetime | None

    def actor(self, source: str) -> Actor:
        """Return it as somebody who acts."""
        return Actor(name=f"{PREFIX}{self.name}", roles=self.roles, proof=_PROOF[self.kind], source=source)


class Machines:
    """The machines; safe for threads and processes."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._db = database
        self._trail = trail

    def add_token(
        self, name: str, roles: Iterable[StaffRole], *, expires: datetime, by: Actor, at: datetime
    ) -> str:
        """Make a machine with a token and return the token: it is shown once and kept only as a digest."""
        token, digest = new_token(TOKEN_PREFIX)
        self._add(name, MachineKind.TOKEN, digest, roles, expires=expires, by=by, at=at)
        return token

    def add_certificate(
        self,
        name: str,
        sha256: str,
        roles: Iterable[StaffRole],
        *,
        expires: datetime,
        by: Actor,
        at: datetime,
    ) -> None:
        """Let in whoever shows the client certificate with this SHA-256 (hexadecimal)."""
        self._add(name, MachineKind.CERTIFICATE, sha256, roles, expires=expires, by=by, at=at)

    def add_key(
        self,
        name: str,
        public_key: str,
        roles: Iterable[StaffRole],
        *,
        expires: datetime,
        by: Actor,
        at: datetime,
    ) -> None:
        """Believe what is signed with this Ed25519 key (base64 of its 32 octets), over MQTT."""
        self._add(name, MachineKind.SIGNATURE, public_key, roles, expires=expires, by=by, at=at)

    def _add(
        self,
        given: str,
        kind: MachineKind,
        proof: str,
        roles: Iterable[StaffRole],
        *,
        expires: datetime,
        by: Actor,
        at: datetime,
    ) -> None:
        name, held = checked_name(given), frozenset(roles)
        if not held:
            raise UsageError(f"say what {name} may do: one or more of {', '.join(StaffRole)}")
        if StaffRole.APPROVER in held:
            raise UsageError("a machine approves nothing: that needs a second person")
        if not at < expires <= at + LONGEST:
            raise UsageError(f"the expiry lies after now and at most {LONGEST.days} days ahead")
        with self._db.writing("adding a machine") as db:
            known = db.execute(select(machine.c.name, machine.c.kind, machine.c.proof)).all()
            if any(row.name == name for row in known):
                raise UsageError(
                    f"there is a machine `{name}` already, perhaps revoked: its name stays taken"
                )
            twin = next((row.name for row in known if (row.kind, row.proof) == (kind, proof)), None)
            if twin is not None:
                raise UsageError(f"this {kind} is that of `{twin}` already")
            db.execute(
                insert(machine).values(
                    name=name,
                    kind=kind.value,
                    proof=proof,
                    roles=roles_text(held),
                    made_at=micros(at),
                    made_by=by.name,
                    expires_at=micros(expires),
                )
            )
            detail = {"kind": kind.value, "roles": roles_text(held), "expires": expires.isoformat()}
            self._trail.add(db, by, "machine.added", f"{PREFIX}{name}", at=at, detail=detail)
        self._trail.settle()

    def revoke(self, given: str, *, by: Actor, at: datetime) -> None:
        """Let a machine in no more, from this moment on."""
        name = checked_name(given)
        with self._db.writing("revoking a machine") as db:
            done = db.execute(
                update(machine)
                .where(machine.c.name == name, machine.c.revoked_at.is_(None))
                .values(revoked_at=micros(at))
            )
            if not done.rowcount:
                raise UsageError(
                    f"there is no machine `{name}` that is not revoked: `staff tokens list` shows them"
                )
            self._trail.add(db, by, "machine.revoked", f"{PREFIX}{name}", at=at)
        self._trail.settle()

    def all(self) -> list[Machine]:
        """Return all machines by name."""
        with self._db.reading("listing machines") as db:
            rows = db.execute(select(machine).order_by(machine.c.name)).all()
        return [_machine(row) for row in rows]

    def of_token(self, token: str, *, source: str, at: datetime) -> Actor | None:
        """Return whose token it is; None for an unknown, expired or revoked one."""
        return self._find(MachineKind.TOKEN, token_digest(token), source, at)

    def of_certificate(self, sha256: str, *, source: str, at: datetime) -> Actor | None:
        """Return whose client certificate it is, by its SHA-256; None as for tokens."""
        return self._find(MachineKind.CERTIFICATE, sha256, source, at)

    def with_key(self, name: str, at: datetime) -> Machine | None:
        """Return a machine that signs; None where it is not known by a key, expired or revoked."""
        with self._db.reading("asking for a machine") as db:
            row = db.execute(select(machine).where(machine.c.name == name)).first()
        if row is None or row.kind != MachineKind.SIGNATURE or not _lives(row, at):
            return None
        return _machine(row)

    def _find(self, kind: MachineKind, proof: str, source: str, at: datetime) -> Actor | None:
        query = select(machine).where(machine.c.kind == kind.value, machine.c.proof == proof)
        with self._db.reading("asking whose proof it is") as db:
            row = db.execute(query).first()
        if row is None or not hmac.compare_digest(row.proof, proof) or not _lives(row, at):
            return None
        if row.last_used is None or at - instant(row.last_used) >= USED_EVERY:
            with self._db.writing("noting a use") as db:
                db.execute(update(machine).where(machine.c.name == row.name).values(last_used=micros(at)))
        return _machine(row).actor(source)


def _lives(row: Any, at: datetime) -> bool:
    return row.revoked_at is None and row.expires_at > micros(at)


def _machine(row: Any) -> Machine:
    return Machine(
        name=row.name,
        kind=MachineKind(row.kind),
        proof="" if row.kind == MachineKind.TOKEN else row.proof,
        roles=roles_of(row.roles),
        made_at=instant(row.made_at),
        made_by=row.made_by,
        expires_at=instant(row.expires_at),
        revoked=row.revoked_at is not None,
        last_used=None if row.last_used is None else instant(row.last_used),
    )
