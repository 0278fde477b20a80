"""Staff pages over real sockets: who gets in, what each role opens, and what a stranger's form or cookie does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest

from gateway.central.office.actors import StaffRole
from gateway.errors import JournalError
from gateway.roles.central_files import central_files
from gateway.web.api_access import Door
from gateway.web.pages import Pages
from gateway.web.security import Signer
from gateway.web.site import Site
from gateway.web.staff_door import StaffDoor
from mapping.proposals import Proposals, asked_undo
from tests.support.central.office import AT, Person, office_in, person, token
from tests.support.fakes import HandClock
from tests.support.waiting import PATIENCE
from tests.support.web.deployed import portal
from tests.support.web.staffed import Staffed, key, staffed

API = "/v1/directory/change-sets"
SET = "[directory]\napprove_above = 0"


@pytest.fixture
async def here(tmp_path: Path, seeded_files: Path) -> AsyncIterator[Staffed]:
    async with staffed(tmp_path, seeded_files, more=SET) as made:
        yield made


def browser(here: Staffed) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=here.base, timeout=PATIENCE)


def form_of(page: str) -> str:
    """Return the token of the last form of a page."""
    return str(re.findall(r'name="form" value="([0-9a-f]{64})"', page)[-1])


async def login(http: httpx.AsyncClient, who: Person, **other: str) -> httpx.Response:
    form = form_of((await http.get("/staff/login")).text)
    typed = {"name": who.name, "password": who.password, "code": who.code(datetime.now(UTC)), "form": form}
    return await http.post("/staff/login", data=typed | other)


async def test_a_login_opens_what_the_role_may_see(here: Staffed) -> None:
    async with browser(here) as http:
        closed = await http.get("/operator")
        assert (closed.status_code, closed.headers["Location"]) == (303, "/staff/login")
        assert (await http.get("/operator/api/overview.json")).status_code == 403
        assert (await http.get("/staff")).headers["Location"] == "/staff/login"
        done = await login(http, here.ravi)
        assert (done.status_code, done.headers["Location"]) == (303, "/staff/login")
        cookie = next(c for c in done.headers.get_list("set-cookie") if c.startswith("staff="))
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await http.get("/staff/login")).headers["Location"] == "/operator"
        page = await http.get("/operator")
        assert page.status_code == 200
        assert "ravi" in page.text
        assert (await http.get("/operator/api/overview.json")).status_code == 200
    async with browser(here) as http:
        await login(http, here.meera)
        assert (await http.get("/staff/login")).headers["Location"] == "/staff"
        assert (await http.get("/operator")).status_code == 403
        assert (await http.get("/staff")).status_code == 200


async def test_a_view_is_noted_once_in_a_quarter_of_an_hour(here: Staffed) -> None:
    async with browser(here) as http:
        await login(http, here.ravi)
        for page in ("/operator", "/operator", "/operator?find=1234567890", "/operator/api/overview.json"):
            assert (await http.get(page)).status_code == 200
    with here.office() as office:
        seen = [one for one in office.trail.entries(actor="ravi") if one.act == "overview.seen"]
    assert [one.subject for one in seen] == ["page:1", "page:1"]
    assert "1234567890" not in str(seen)
    assert seen[0].source == "127.0.0.1"


async def test_a_view_counts_as_noted_when_the_trail_has_it_and_for_each_address(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        clock = HandClock(AT)
        pages = Pages(clock, Signer(b"s" * 16), ZoneInfo("Asia/Kolkata"), Site())
        door = StaffDoor(pages, office, Door(office=office, clock=clock))
        ravi = person(office, "ravi", StaffRole.OPERATOR).actor(office, AT)
        office.close()
        (tmp_path / "office.db").rename(tmp_path / "away.db")
        (tmp_path / "office.db").mkdir()
        with pytest.raises(JournalError):
            await door.note_view(ravi, "overview.seen", "page:1")
        (tmp_path / "office.db").rmdir()
        (tmp_path / "away.db").rename(tmp_path / "office.db")
        for source in ("desk 3", "desk 3", "198.51.100.7"):
            await door.note_view(replace(ravi, source=source), "overview.seen", "page:1")
        seen = [one.source for one in office.trail.entries(act="overview.seen")]
        assert seen == ["198.51.100.7", "desk 3"]


async def test_cookies_are_secure_and_bound_to_the_host_over_tls(tmp_path: Path, seeded_files: Path) -> None:
    web = (
        'public_url = "https://portal.example"\ntrusted_proxies = ["127.0.0.1"]\n'
        'session_secret_ref = "portal-session"'
    )
    async with staffed(tmp_path, seeded_files, web) as here:
        headers = {"Host": "portal.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "10.0.0.7"}
        async with httpx.AsyncClient(base_url=here.base, headers=headers, timeout=PATIENCE) as http:
            first = await http.get("/staff/login")
            device = first.headers["set-cookie"].partition(";")[0]
            typed = {
                "name": "ravi",
                "password": here.ravi.password,
                "code": here.ravi.code(datetime.now(UTC)),
            }
            done = await http.post(
                "/staff/login", data=typed | {"form": form_of(first.text)}, headers={"Cookie": device}
            )
        cookie = next(c for c in done.headers.get_list("set-cookie") if "staff=" in c)
        assert cookie.startswith("__Host-staff=")
        assert "Secure" in cookie
        with here.office() as office:
            assert office.trail.entries(actor="ravi")[0].source == "10.0.0.7"


async def test_wrong_words_are_refused_alike_and_too_many_wait(here: Staffed) -> None:
    async with browser(here) as http:
        said = []
        for who, other in (
            (here.ravi, {"password": "something else now"}),
            (here.ravi, {"code": "000000"}),
            (Person("nobody", here.ravi.seed), {}),
        ):
            refused = await login(http, who, **other)
            assert refused.status_code == 403
            assert "staff" not in http.cookies
            said.append(re.sub(r'value="[0-9a-f]+"', "", refused.text))
        assert len(set(said)) == 1
        codes = [(await login(http, Person(f"guess{n}", here.ravi.seed))).status_code for n in range(18)]
        assert codes == [403] * 17 + [429]


async def test_a_form_from_elsewhere_logs_nobody_in(here: Staffed) -> None:
    async with browser(here) as http:
        typed = {"name": "ravi", "password": here.ravi.password, "code": here.ravi.code(datetime.now(UTC))}
        for wrong in ("", "0" * 64, "é"):
            assert (await http.post("/staff/login", data=typed | {"form": wrong})).status_code == 403
        form = form_of((await http.get("/staff/login")).text)
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            crossed = await http.post("/staff/login", data=typed | {"form": form}, headers=headers)
            assert crossed.status_code == 403
        assert "staff" not in http.cookies


async def test_a_session_that_somebody_put_into_the_browser_counts_no_more(here: Staffed) -> None:
    async with browser(here) as http:
        http.cookies.set("staff", "planted-by-somebody", domain="127.0.0.1")
        assert (await http.get("/operator")).status_code == 303
        await login(http, here.ravi)
        held = {cookie.value for cookie in http.cookies.jar if cookie.name == "staff"}
        assert "planted-by-somebody" not in held
    async with browser(here) as thief:
        thief.cookies.set("staff", "planted-by-somebody", domain="127.0.0.1")
        assert (await thief.get("/operator")).status_code == 303


async def test_a_logout_ends_the_session_for_every_copy_of_it(here: Staffed) -> None:
    async with browser(here) as http:
        await login(http, here.ravi)
        kept = http.cookies["staff"]
        page = (await http.get("/operator")).text
        assert (await http.post("/staff/logout", data={"form": "0" * 64})).status_code == 403
        assert (await http.get("/operator")).status_code == 200
        form = re.search(
            r'action="/staff/logout"><input type="hidden" name="form" value="([0-9a-f]{64})"', page
        )
        assert form is not None
        assert (await http.post("/staff/logout", data={"form": form[1]})).status_code == 303
        assert "staff" not in http.cookies
        http.cookies.set("staff", kept, domain="127.0.0.1")
        assert (await http.get("/operator")).status_code == 303


async def test_a_second_person_approves_on_the_page_what_is_shown(here: Staffed) -> None:
    move = {"kind": "move_out", "usage_point": "UP-asha", "at": "2026-11-22T10:00:00+05:30"}
    async with here.client() as machine:
        asked = await machine.post(API, json={"changes": [move]}, headers=key("one"))
        assert asked.status_code == 202
    page = f"/staff/change-sets/{asked.json()['id']}"
    async with browser(here) as clerk:
        await login(clerk, here.meera)
        seen = await clerk.get(page)
        assert "UP-asha" in seen.text
        assert 'value="approve"' not in seen.text
        assert re.search(r"Energy that moves to another account: [0-9.]+ kWh; in all 0\.000 kWh", seen.text)
        given = {"decision": "approve", "fingerprint": asked.json()["fingerprint"]}
        form = {"form": re.findall(r'name="form" value="([0-9a-f]{64})"', seen.text)[0]}
        assert (await clerk.post(page, data=given | form)).status_code == 403
    async with browser(here) as boss:
        await login(boss, here.verma)
        assert asked.json()["id"] in (await boss.get("/staff")).text
        seen = await boss.get(page)
        given = {"decision": "approve", "fingerprint": asked.json()["fingerprint"]}
        assert (await boss.post(page, data=given)).status_code == 403
        stale = given | {"form": form_of(seen.text), "fingerprint": "1-" + "0" * 32}
        assert (await boss.post(page, data=stale)).status_code == 409
        done = await boss.post(page, data=given | {"form": form_of(seen.text)})
        assert (done.status_code, done.headers["Location"]) == (303, page)
        assert "applied" in (await boss.get(page)).text
        assert (await boss.get("/staff/change-sets/cs-nothing")).status_code == 404
    with here.directory() as store:
        assert store.snapshot().changes[-1].by == "machine:sap, approved by verma"


async def test_what_a_command_left_for_a_second_person_is_approved_on_the_page(here: Staffed) -> None:
    with here.directory() as store:
        held = Proposals(store).keep(
            asked_undo(1, rest_alone=False),
            by="meera",
            at=datetime.now(UTC),
            source="directory undo 1",
            version=store.version,
            meters=5,
            accounts=5,
        )
    page = f"/staff/change-sets/plan-{held.fingerprint}"
    async with browser(here) as clerk:
        await login(clerk, here.meera)
        assert page in (await clerk.get("/staff")).text
        assert 'value="approve"' not in (await clerk.get(page)).text
    async with browser(here) as boss:
        await login(boss, here.verma)
        seen = await boss.get(page)
        assert "directory undo 1" in seen.text
        given = {"decision": "approve", "form": form_of(seen.text)}
        mark = re.findall(r'name="fingerprint" value="([^"]+)"', seen.text)[0]
        done = await boss.post(page, data=given | {"fingerprint": mark})
        assert (done.status_code, done.headers["Location"]) == (303, "/staff")
        assert page not in (await boss.get("/staff")).text
    with here.directory() as store:
        assert store.snapshot().changes[-1].by == "meera, approved by verma"


async def test_a_machine_reads_the_overview_as_a_document(here: Staffed) -> None:
    with here.office() as office:
        watch = token(office, "watch", StaffRole.OPERATOR, at=datetime.now(UTC))
    async with here.client(watch) as http:
        assert (await http.get("/operator/api/overview.json")).status_code == 200
    async with here.client() as http:
        assert (await http.get("/operator/api/overview.json")).status_code == 403


async def test_without_accounts_the_overview_is_as_before(tmp_path: Path, seeded_files: Path) -> None:
    async with portal(tmp_path, seeded_files, "") as (port, _):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
            assert (await http.get("/operator")).status_code == 200
            assert (await http.get("/staff")).headers["Location"] == "/staff/login"
    assert (central_files(tmp_path / "data").folder / "office.db").exists()
