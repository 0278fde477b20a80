"""An office with people and machines in it, for the tests of its doors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.central.office.actors import Actor, Proof, StaffRole
from gateway.central.office.office import Office
from gateway.central.office.proofs import STEP_SECONDS, code_at

BOX = Actor(name="box:root", roles=frozenset(StaffRole), proof=Proof.BOX, source="terminal")
PASSWORD = "a long word, and others"  # a test's
AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@dataclass
class Person:
    """Somebody with an authenticator; every code that it shows is a later one."""

    name: str
    seed: str
    password: str = PASSWORD
    shown: int = 0

    def code(self, at: datetime) -> str:
        """Return a code that counts at `at` and was not shown before (a step ahead where it must be)."""
        self.shown = max(int(at.timestamp()) // STEP_SECONDS, self.shown + 1)
        return code_at(self.seed, self.shown)

    def login(self, office: Office, at: datetime, *, kind: str = "terminal") -> str:
        """Log in and return the session's token."""
        return office.staff.login(self.name, self.password, self.code(at), kind=kind, source="desk 3", at=at)

    def actor(self, office: Office, at: datetime) -> Actor:
        """Log in and return who is logged in."""
        token = self.login(office, at)
        found = office.staff.of_session(token, kind="terminal", source="desk 3", at=at)
        assert found is not None
        return found


def person(office: Office, name: str, *roles: StaffRole, at: datetime = AT) -> Person:
    """Make a staff account."""
    return Person(name, office.staff.add(name, PASSWORD, roles, by=BOX, at=at).seed)


def token(office: Office, name: str, *roles: StaffRole, at: datetime = AT, days: int = 30) -> str:
    """Make a machine with a token."""
    return office.machines.add_token(name, roles, expires=at + timedelta(days=days), by=BOX, at=at)


@contextmanager
def office_in(folder: Path, where: Path | str | None = None) -> Iterator[Office]:
    """Open the office of a folder, or that of a database."""
    with Office(where or folder / "office.db", folder) as office:
        yield office
