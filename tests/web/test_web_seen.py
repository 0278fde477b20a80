"""The running portal notes whom each consumer's session could see, before anything is shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import httpx

from gateway.central.office.breaches import exposure
from gateway.central.office.office import Office
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.config.file import load
from gateway.roles.app import running
from gateway.roles.central_files import central_files
from mapping.changes import MoveIn, Name
from mapping.directory import NumberKind
from mapping.store import DirectoryStore
from tests.support.central.telling import PaperProvider
from tests.support.waiting import until
from tests.support.web.deployed import settings


async def test_a_login_goes_by_the_queue_and_is_in_the_trail(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    files = central_files(tmp_path / "data").made()
    with DirectoryStore(files.directory) as store:
        named = [
            Name("acc-1", NumberKind.LEGACY, "KE0012345"),
            Name("acc-1", NumberKind.ACCOUNT, "1234567890"),
        ]
        store.apply([MoveIn("UP-1", "acc-1", now), *named], by="t", source="t", at=now)
    people = PeopleStore(files.people)
    ContactStore(people).add("acc-1", "9876543210", by="t", source="t", at=now, verified_at=now)
    people.close()
    provider = PaperProvider()
    async with running(load(settings(tmp_path, "")), provider=provider) as parts:
        assert parts.portal is not None
        assert parts.telling is not None
        assert parts.telling.sender is not None
        queue = parts.telling.queue
        async with httpx.AsyncClient(base_url=parts.portal.url) as browser:
            await browser.post("/me", data={"number": "KE0012345", "form": await form(browser, "/me")})
            # This portal runs without central, which sends: what is queued is looked at in its place.
            await until(lambda: queue.is_due(datetime.now(UTC)))
            (handed,) = queue.take(datetime.now(UTC), 1)
            (code,) = re.findall(r"[0-9]{6}", handed.rendered.text)
            home = await browser.post(
                "/me/code", data={"code": code, "form": await form(browser, "/me/code")}
            )
            assert home.headers["location"] == "/me/home"
    with Office(files.office, files.folder) as office:
        found = exposure(office.trail.entries())
        assert office.trail.verify().whole
    (seen,) = found.seen
    assert (seen.account_id, seen.actor, seen.acts) == ("acc-1", "consumer", ("consumer.login",))


async def form(browser: httpx.AsyncClient, path: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', (await browser.get(path)).text)
    assert found is not None
    return found[1]
