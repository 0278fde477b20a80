"""A portal with an office, for the tests of its doors: a machine's token, and people of each trade."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from gateway.central.office.actors import StaffRole
from gateway.central.office.office import Office
from gateway.roles.central_files import central_files
from mapping.store import DirectoryStore
from tests.support.central.office import Person, person, token
from tests.support.web.deployed import portal


@dataclass
class Staffed:
    """A portal with an office: a machine's token, a clerk, an approver, an operator, and the files below."""

    base: str
    token: str
    meera: Person
    verma: Person
    ravi: Person
    folder: Path

    def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        held = {"Authorization": f"Bearer {token or self.token}"} | headers
        return httpx.AsyncClient(base_url=self.base, headers=held)

    def office(self) -> Office:
        files = central_files(self.folder / "data")
        return Office(files.office, files.folder)

    def directory(self) -> DirectoryStore:
        return DirectoryStore(central_files(self.folder / "data").directory)

    def session(self, who: Person) -> str:
        with self.office() as office:
            return who.login(office, datetime.now(UTC))


@asynccontextmanager
async def staffed(folder: Path, seeded: Path, web: str = "", more: str = "") -> AsyncIterator[Staffed]:
    files = central_files(folder / "data").made()
    now = datetime.now(UTC)
    with Office(files.office, files.folder) as office:
        secret = token(office, "sap", StaffRole.CLERK, at=now)
        meera, verma, ravi = (
            person(office, name, role, at=now)
            for name, role in (
                ("meera", StaffRole.CLERK),
                ("verma", StaffRole.APPROVER),
                ("ravi", StaffRole.OPERATOR),
            )
        )
    async with portal(folder, seeded, f"{web}\n{more}") as (port, _):
        yield Staffed(f"http://127.0.0.1:{port}", secret, meera, verma, ravi, folder)


def key(text: str) -> dict[str, str]:
    """Return the header that makes a request one that is done once."""
    return {"Idempotency-Key": f'"{text}"'}
