"""Staff accounts by name: a password and an authenticator's code, throttled; and the sessions that a login opens."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.central.office.actors import Actor, Proof, StaffRole, roles_of, roles_text
from gateway.central.office.proofs import (
    Seal,
    check_new_password,
    hashed,
    is_password,
    new_seed,
    new_token,
    seed_uri,
    step_of,
    token_digest,
)
from gateway.central.office.tables import session, staff
from gateway.central.office.trail import Trail
from gateway.central.portal.limits import GrowingDelay
from gateway.errors import AccessDenied, UsageError
from mapping.database import Database
from mapping.instants import instant, micros

SESSION: Final = timedelta(hours=8)
"""A shift; after it one logs in again."""
MAX_SESSIONS: Final = 20
"""Open at once of one account; beyond it the oldest ends."""
FREE_TRIES: Final = 5
FIRST_WAIT: Final = timedelta(seconds=30)
MOST_WAIT: Final = timedelta(minutes=15)
"""Waits between wrong logins: none for five, then 30 s doubling to 15 min: 100 guesses of a code a day."""
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{1,31}", re.ASCII)
_WRONG: Final = "name, password or code are not right"


class LoginRefused(AccessDenied):
    """A login was wrong, or must wait: `left` says how long. Which part of it was wrong is not told."""

    def __init__(self, message: str, left: timedelta | None = None) -> None:
        super().__init__(message)
        self.left = left


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffAccount:
    """One account as it is shown; its secrets are not."""

    name: str
    roles: frozenset[StaffRole]
    disabled: bool
    made_at: datetime
    made_by: str
    last_login: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAuthenticator:
    """What the person puts into the authenticator app, shown once."""

    seed: str
    uri: str


def checked_name(given: str) -> str:
    """Return a name as it is kept; UsageError where it cannot be one."""
    name = given.strip().lower()
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`{given[:60]}` cannot be a name here: 2 to 32 of a-z 0-9 . _ - beginning with a letter"
        )
    return name


class Staff:
    """The accounts and their sessions; safe for threads and processes. Calls that hash a password take 50 ms."""

    def __init__(self, database: Database, trail: Trail, seal: Seal) -> None:
        self._db = database
        self._trail = trail
        self._seal = seal
        # As the tries of an account, which are forgotten by a right login alone: else a rest would tell them apart.
        self._strangers = GrowingDelay(FREE_TRIES, FIRST_WAIT, MOST_WAIT, remembers=True)

    # --- accounts ---------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Say whether there is any account, disabled ones too: from then on nobody acts without a login."""
        with self._db.reading("asking for staff") as db:
            return db.execute(select(staff.c.name).limit(1)).first() is not None

    def accounts(self) -> list[StaffAccount]:
        """Return all accounts by name."""
        with self._db.reading("listing staff") as db:
            rows = db.execute(select(staff).order_by(staff.c.name)).all()
        return [
            StaffAccount(
                name=row.name,
                roles=roles_of(row.roles),
                disabled=row.disabled_at is not None,
                made_at=instant(row.made_at),
                made_by=row.made_by,
                last_login=None if row.last_login is None else instant(row.last_login),
            )
            for row in rows
        ]

    def add(
        self, given: str, password: str, roles: Iterable[StaffRole], *, by: Actor, at: datetime
    ) -> NewAuthenticator:
        """Make an account; UsageError for a name that is taken, a bad password, or no role."""
        name, held = checked_name(given), frozenset(roles)
        check_new_password(password, name)
        if not held:
            raise UsageError(f"say what {name} does: one or more of {', '.join(StaffRole)}")
        seed, digest = new_seed(), hashed(password)
        with self._db.writing("adding a staff account") as db:
            if _row(db, name) is not None:
                raise UsageError(
                    f"there is an account `{name}` already: `staff reset {name}` gives new secrets"
                )
            db.execute(
                insert(staff).values(
                    name=name,
                    roles=roles_text(held),
                    password=digest,
                    seed=self._seal.close(seed, f"staff {name}"),
                    epoch=1,
                    code_step=0,
                    failures=0,
                    made_at=micros(at),
                    made_by=by.name,
                )
            )
            self._trail.add(db, by, "staff.added", f"staff:{name}", at=at, detail={"roles": roles_text(held)})
        self._trail.settle()
        return NewAuthenticator(seed=seed, uri=seed_uri(seed, name))

    def reset(self, given: str, password: str, *, by: Actor, at: datetime) -> NewAuthenticator:
        """Give an account a new password and authenticator, and enable it; its sessions end."""
        name = checked_name(given)
        check_new_password(password, name)
        seed = new_seed()
        changed = {
            "password": hashed(password),
            "seed": self._seal.close(seed, f"staff {name}"),
            "code_step": 0,
            "failures": 0,
            "wait_until": None,
            "disabled_at": None,
        }
        self._change(name, changed, "staff.reset", by=by, at=at, detail={})
        return NewAuthenticator(seed=seed, uri=seed_uri(seed, name))

    def disable(self, given: str, *, by: Actor, at: datetime) -> None:
        """Let an account log in no more; its sessions end. It stays, since the history names it."""
        self._change(
            checked_name(given), {"disabled_at": micros(at)}, "staff.disabled", by=by, at=at, detail={}
        )

    def give_roles(self, given: str, roles: Iterable[StaffRole], *, by: Actor, at: datetime) -> None:
        """Give an account these roles in place of those that it has; its sessions end."""
        held = roles_text(roles)
        if not held:
            raise UsageError(
                f"an account has one or more of {', '.join(StaffRole)}; `staff disable` shuts it"
            )
        changed = {"roles": held}
        self._change(checked_name(given), changed, "staff.roles", by=by, at=at, detail=changed)

    def _change(
        self,
        name: str,
        changed: dict[str, Any],
        act: str,
        *,
        by: Actor,
        at: datetime,
        detail: dict[str, Any],
    ) -> None:
        with self._db.writing("changing a staff account") as db:
            if _row(db, name) is None:
                raise UsageError(f"there is no account `{name}`: `staff list` shows them")
            values = {**changed, "epoch": staff.c.epoch + 1}
            db.execute(update(staff).where(staff.c.name == name).values(values))
            db.execute(delete(session).where(session.c.name == name))
            self._trail.add(db, by, act, f"staff:{name}", at=at, detail=detail)
        self._trail.settle()

    # --- logging in -------------------------------------------------------------------------------

    def login(self, given: str, password: str, code: str, *, kind: str, source: str, at: datetime) -> str:
        """Check a password and a code and open a session; returns its token, which is kept only as a digest.

        `kind` is `web` or `terminal`. Raises LoginRefused, the same for a wrong name, password or code.
        """
        name = given.strip().lower()[:64]
        row = self._attempt(name, at)
        good = is_password(password, None if row is None or row.disabled_at is not None else row.password)
        seed = None if row is None else self._seal.open(row.seed, f"staff {name}")
        step = None if seed is None else step_of(code, seed, at, row.code_step)
        if not good or step is None:
            self._note_failure(name if row is not None else "(unknown)", source, at)
            raise LoginRefused(_WRONG)
        token, digest = new_token()
        with self._db.writing("logging in") as db:
            # Of two who show the same code at once one is let in: the step is taken under the lock.
            taken = db.execute(
                update(staff)
                .where(staff.c.name == name, staff.c.code_step < step, staff.c.epoch == row.epoch)
                .values(code_step=step, failures=0, wait_until=None, last_login=micros(at))
            )
            if taken.rowcount != 1:
                raise LoginRefused(_WRONG)
            db.execute(delete(session).where(session.c.expires_at <= micros(at)))
            self._make_room(db, name)
            db.execute(
                insert(session).values(
                    digest=digest,
                    name=name,
                    kind=kind,
                    source=source,
                    epoch=row.epoch,
                    made_at=micros(at),
                    expires_at=micros(at + SESSION),
                )
            )
            actor = Actor(name=name, roles=roles_of(row.roles), proof=Proof.SESSION, source=source)
            self._trail.add(db, actor, "staff.login", f"staff:{name}", at=at, detail={"kind": kind})
        self._trail.settle()
        return token

    def _attempt(self, name: str, at: datetime) -> Any:
        """Count a try before it is judged, so that many at once have no more of them; LoginRefused while it waits."""
        with self._db.writing("beginning to log in") as db:
            row = _row(db, name)
            if row is not None:
                left = None if row.wait_until is None else instant(row.wait_until) - at
                if left is not None and left > timedelta(0):
                    raise LoginRefused(f"too many wrong logins: wait {int(left.total_seconds()) + 1} s", left)
                failures = row.failures + 1
                until = None
                if failures >= FREE_TRIES:
                    until = micros(at + min(FIRST_WAIT * 2 ** min(failures - FREE_TRIES, 10), MOST_WAIT))
                values = {"failures": failures, "wait_until": until}
                db.execute(update(staff).where(staff.c.name == name).values(values))
        if row is None and (left := self._strangers.hit(name, at)) is not None:
            raise LoginRefused(f"too many wrong logins: wait {int(left.total_seconds()) + 1} s", left)
        return row

    def _note_failure(self, name: str, source: str, at: datetime) -> None:
        nobody = Actor(name="nobody", roles=frozenset(), proof=Proof.SESSION, source=source)
        self._trail.record(nobody, "staff.login_failed", f"staff:{name}", at=at)

    def _make_room(self, db: Connection, name: str) -> None:
        held = db.execute(
            select(func.count()).select_from(session).where(session.c.name == name)
        ).scalar_one()
        if held >= MAX_SESSIONS:
            oldest = (
                select(session.c.digest)
                .where(session.c.name == name)
                .order_by(session.c.made_at)
                .limit(held - MAX_SESSIONS + 1)
            )
            db.execute(delete(session).where(session.c.digest.in_(oldest.scalar_subquery())))

    # --- sessions ---------------------------------------------------------------------------------

    def of_session(self, token: str, *, kind: str, source: str, at: datetime) -> Actor | None:
        """Return who a session's token stands for; None when it has ended, or its account changed since."""
        digest = token_digest(token)
        query = (
            select(session.c.digest, staff.c.name, staff.c.roles)
            .join(staff, staff.c.name == session.c.name)
            .where(
                session.c.digest == digest,
                session.c.kind == kind,
                session.c.expires_at > micros(at),
                session.c.epoch == staff.c.epoch,
                staff.c.disabled_at.is_(None),
            )
        )
        with self._db.reading("asking who is logged in") as db:
            row = db.execute(query).first()
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        return Actor(name=row.name, roles=roles_of(row.roles), proof=Proof.SESSION, source=source)

    def logout(self, token: str, *, by: Actor, at: datetime) -> None:
        """End a session."""
        with self._db.writing("logging out") as db:
            gone = db.execute(delete(session).where(session.c.digest == token_digest(token)))
            if gone.rowcount:
                self._trail.add(db, by, "staff.logout", f"staff:{by.name}", at=at)
        self._trail.settle()


def _row(db: Connection, name: str) -> Any:
    return db.execute(select(staff).where(staff.c.name == name)).first()
