"""The walk of `docs/api.md`, run with curl as it is written; `python -m tests.support.web.api_walk` rewrites it.

A fence `json NAME` is a file, a fence `console` has commands behind `$ ` and what they print, laid out. Fingerprints,
ids and times are other ones in each run: they are matched in the order in which they come up.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import StaffRole
from gateway.central.office.office import Office
from gateway.config.file import load
from gateway.roles.central_files import central_files
from gateway.roles.portal import portal_role
from gateway.roles.telling import telling_role
from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from tests.support.central.office import token
from tests.support.paths import ROOT
from tests.support.services import program
from tests.support.waiting import PATIENCE
from tests.support.web.deployed import settings

PAGE = ROOT / "docs" / "api.md"
SITE = "https://portal.example"
_FENCE = re.compile(r"```(json|console)(?: (\S+))?\n(.*?)```", re.DOTALL)
_FINGERPRINT = re.compile(r"\b\d+-[0-9a-f]{32}\b")
_NAMED = re.compile(
    r"\b\d+-[0-9a-f]{32}\b|\bcs-[0-9a-f]{24}\b|(?<=_at\": \")20\d\d-\d\d-\d\dT[0-9:.]+\+00:00"
)


@dataclass
class Walk:
    """Runs a page's commands in a folder; `names` maps what the page calls something to what this run calls it."""

    folder: Path
    base: str
    names: dict[str, str] = field(default_factory=dict)
    last: str = ""

    async def run(self, page: str) -> str:
        """Give the page with what curl prints now, under the page's own names where it has them."""
        pieces, end = [], 0
        for fence in _FENCE.finditer(page):
            pieces.append(page[end : fence.start()])
            pieces.append(await self._fence(fence))
            end = fence.end()
        return "".join([*pieces, page[end:]])

    async def _fence(self, fence: re.Match[str]) -> str:
        kind, name, body = fence.groups()
        if kind == "json":
            (self.folder / name).write_text(_FINGERPRINT.sub(lambda _: self.last, body), encoding="utf-8")
            return f"```json {name}\n{self._as_page(_FINGERPRINT.sub(lambda _: self.last, body))}```"
        if "$ curl" not in body:
            return fence[0]
        said = [await self._said(*part) for part in _commands(body)]
        return f"```console\n{''.join(said)}```"

    async def _said(self, command: str, told: str) -> str:
        words = shlex.split(command.replace(SITE, self.base))
        curl = await asyncio.create_subprocess_exec(
            program("curl", "curl", "curl", "/usr/bin/curl"),
            *words[1:],
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(curl.communicate(), PATIENCE)
        assert curl.returncode == 0, command
        printed = json.dumps(json.loads(out), indent=1, ensure_ascii=False) + "\n"
        self.last = next(iter(_FINGERPRINT.findall(printed)), self.last)
        before, now = (list(dict.fromkeys(_NAMED.findall(text))) for text in (told, printed))
        known = set(self.names.values())
        self.names |= dict(
            zip((n for n in before if n not in self.names), (n for n in now if n not in known), strict=False)
        )
        return f"$ {command}\n{self._as_page(printed)}"

    def _as_page(self, text: str) -> str:
        called = {actual: page for page, actual in self.names.items()}
        return _NAMED.sub(lambda m: called.get(m[0], m[0]), text)


def _commands(body: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return [(command, told) for command, _, told in (part.partition("\n") for part in parts)]


@asynccontextmanager
async def walked(folder: Path) -> AsyncIterator[Walk]:
    """Run a portal on three consumers, with a token in the file `headers`."""
    now = datetime.now(UTC)
    files = central_files(folder / "data").made()
    Ledger(files.ledger).close()
    with DirectoryStore(files.directory) as store, Office(files.office, files.folder) as office:
        changes: list[Change] = []
        for number in (1, 2, 3):
            changes.append(Install(f"GEN:1000000{number}", f"UP-0{number}", Role.CONSUMER, SINCE))
            changes.append(MoveIn(f"UP-0{number}", f"acc-0{number}", SINCE))
            changes.append(Name(f"acc-0{number}", NumberKind.LEGACY, f"KE000000{number}"))
        store.apply(changes, by="clerk", source="meters.csv", at=SINCE)
        held = token(office, "sap", StaffRole.CLERK, at=now)
    text = f"Authorization: Bearer {held}\nContent-Type: application/json\n"
    (folder / "headers").write_text(text, encoding="ascii")
    config = load(settings(folder, ""))
    async with telling_role(config) as told:
        async with portal_role(config, SystemClock(), told.contacts, told.codes) as role:
            yield Walk(folder, role.url)


SINCE = datetime(2024, 1, 1, tzinfo=UTC)


async def _rewrite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with walked(Path(folder)) as walk:
            PAGE.write_text(await walk.run(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(_rewrite())
