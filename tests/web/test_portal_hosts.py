"""A deployed portal: Host headers, origins, cookies, HSTS, links that stay here, staff pages on this machine only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from gateway.web.site import Site, address_key, own_path
from tests.support.web.client import TestClient
from tests.support.web.seed import NUMBERS, Town, town
from tests.support.web.steps import device, form_token, login

URL = "https://portal.example"
CLIENT = "100.64.0.1"
FOREIGN_HOSTS = [
    "evil.example",
    "portal.example.evil.example",
    "evil.example:443",
    "portal.example:8443",
    "portal.example@evil.example",
    "",
    "portal.example, evil.example",
    "evil.example/healthz?",
    "[x",
    "[::1",
    "localhost.evil.example",
    "localhost:80@evil.example",
]


@pytest.fixture
def folder(tmp_path: Path, seeded_files: Path) -> Path:
    return Path(shutil.copytree(seeded_files, tmp_path / "town"))


@pytest.fixture
def deployed(folder: Path) -> Iterator[Town]:
    with town(folder, seed=False, site=Site(public_url=URL), token="long-token-of-staff") as built:
        yield built


@pytest.fixture
def visitor(deployed: Town) -> Iterator[TestClient]:
    with device(deployed, CLIENT, base_url=URL) as made:
        yield made


# --- hosts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/me", "/operator", "/operator/api/overview.json", "/static/style.css"]
)
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_host_is_refused_with_a_plain_message(visitor: TestClient, path: str, host: str) -> None:
    answer = visitor.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert "not served under that name" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert "set-cookie" not in answer.headers
    if host:
        assert host not in answer.text


def test_the_public_name_is_taken_in_each_of_its_forms(visitor: TestClient) -> None:
    for host in ("portal.example", "PORTAL.example", "portal.example:443"):
        assert visitor.get("/me", headers={"Host": host}).status_code == 200


def test_this_machines_names_are_taken_from_this_machine_only(deployed: Town, visitor: TestClient) -> None:
    assert visitor.get("/me", headers={"Host": "127.0.0.1:8080"}).status_code == 421
    with device(deployed, "127.0.0.1", base_url="https://localhost") as here:
        assert here.get("/me").status_code == 200


def test_health_is_told_whatever_the_host(visitor: TestClient) -> None:
    assert visitor.get("/healthz", headers={"Host": "10.0.0.7"}).json() == {"status": "ok"}


# --- cookies, HSTS, origin --------------------------------------------------------------------------


def test_every_cookie_is_of_this_host_and_secure_and_hsts_is_sent(
    deployed: Town, visitor: TestClient
) -> None:
    kept: dict[str, str] = {}
    answers = [visitor.get("/me?lang=en")]
    answers.append(login(visitor, deployed, NUMBERS["asha"]))
    answers.append(visitor.get("/operator?token=long-token-of-staff"))
    answers.append(visitor.get("/me/code", headers={"Host": "evil.example"}))
    answers += [visitor.get(path) for path in ("/nowhere", "/static/style.css", "/healthz")]
    for answer in answers:
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
    for cookie in visitor.cookies.jar:
        kept[cookie.name] = str(cookie.value)
        assert cookie.secure
        assert cookie.path == "/"
        assert not cookie.domain_specified
        assert cookie.has_nonstandard_attr("HttpOnly")
    assert set(kept) == {"__Host-device", "__Host-lang", "__Host-session", "__Host-operator"}


def test_logging_out_drops_the_cookies_under_their_names(deployed: Town, visitor: TestClient) -> None:
    page = login(visitor, deployed, NUMBERS["asha"])
    answer = visitor.post("/me/logout", data={"form": form_token(page)})
    dropped = [header for header in answer.headers.get_list("set-cookie") if "Max-Age=0" in header]
    assert {header.split("=")[0] for header in dropped} == {"__Host-session", "__Host-challenge"}
    assert all("Secure" in header and "Path=/" in header for header in dropped)
    assert visitor.get("/me/home").status_code == 401


def test_a_cookie_without_the_prefix_is_not_taken(deployed: Town, visitor: TestClient) -> None:
    """A page over plain HTTP, or a neighbour under the domain, can set those."""
    login(visitor, deployed, NUMBERS["asha"])
    held = visitor.cookies["__Host-session"]
    visitor.cookies.clear()
    assert visitor.get("/me/home", headers={"Cookie": f"session={held}"}).status_code == 401
    assert visitor.get("/me/home", headers={"Cookie": f"__Host-session={held}"}).status_code == 200


def test_plain_http_on_this_machine_has_no_hsts_and_plain_cookies(client: TestClient) -> None:
    answer = client.get("/me")
    assert "strict-transport-security" not in answer.headers
    assert answer.headers["set-cookie"].startswith("device=")
    assert "Secure" not in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://portal.example", 303),
        (None, 303),
        ("http://portal.example", 403),
        ("https://portal.example:8443", 403),
        ("https://evil.example", 403),
        ("https://portal.example.evil.example", 403),
    ],
)
def test_forms_come_from_the_public_address(visitor: TestClient, origin: str | None, status: int) -> None:
    form = {"number": NUMBERS["asha"], "form": form_token(visitor.get("/me"))}
    headers = {} if origin is None else {"Origin": origin}
    assert visitor.post("/me", data=form, headers=headers).status_code == status


# --- links ------------------------------------------------------------------------------------------

FOREIGN_PATHS = [
    "//evil.example",
    "//evil.example/me",
    "///evil.example",
    "/\\evil.example",
    "/%5Cevil.example",
    "/%2Fevil.example",
    "/%09/evil.example",
    "//evil.example/me/",
    "//evil.example/%2e%2e",
]


@pytest.mark.parametrize("path", FOREIGN_PATHS)
def test_links_and_redirects_stay_here(client: TestClient, path: str) -> None:
    answer = client.get(f"http://127.0.0.1{path}")
    assert "location" not in answer.headers
    assert answer.status_code == 404
    assert 'href="/?lang=hi"' in answer.text
    assert 'href="//' not in answer.text
    assert 'href="/\\' not in answer.text


@pytest.mark.parametrize(
    "path", ["http://evil.example/", "\\\\evil.example", "evil", "/\t/evil", "/\u2028", ""]
)
def test_what_is_no_path_of_ours_is_no_link(path: str) -> None:
    assert own_path(path) == "/"


def test_a_slash_at_the_end_leads_to_the_page_without_naming_a_host(visitor: TestClient) -> None:
    for path in ("/me/", "/me/home//", "/operator/"):
        answer = visitor.get(f"{URL}{path}")
        assert (answer.status_code, answer.headers["location"]) == (307, path.rstrip("/"))


# --- staff ------------------------------------------------------------------------------------------


def test_staff_pages_of_a_deployed_portal_ask_for_the_token(deployed: Town, visitor: TestClient) -> None:
    for host in ("portal.example", "localhost", "127.0.0.1:8080"):
        assert visitor.get("/operator", headers={"Host": host}).status_code in (403, 421)
    with device(deployed, "127.0.0.1", base_url="https://localhost") as here:
        assert here.get("/operator").status_code == 403
        assert here.get("/operator?token=long-token-of-staff").status_code == 303
        assert here.get("/operator").status_code == 200


def test_without_a_token_a_deployed_portal_has_no_staff_pages(folder: Path) -> None:
    with town(folder, seed=False, site=Site(public_url=URL)) as built, device(built, "127.0.0.1") as here:
        for path in ("/operator", "/operator/api/overview.json", "/operator?token="):
            assert here.get(path).status_code == 403


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Proto": "http"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
    ],
)
def test_without_a_token_staff_pages_are_not_told_to_a_proxy(
    client: TestClient, header: dict[str, str]
) -> None:
    """A proxy nobody told the portal of may write `Host: 127.0.0.1:8080`, as nginx does by itself."""
    assert client.get("/operator").status_code == 200
    assert client.get("/operator", headers=header).status_code == 403


def test_a_household_is_one_address_however_many_it_has() -> None:
    """An IPv6 line has 2^64 addresses: shares counted by each would bound nothing."""
    assert address_key("2001:db8:1:2::5") == address_key("2001:db8:1:2:ffff::1")
    assert address_key("2001:db8:1:2::5") != address_key("2001:db8:1:3::5")
    assert address_key("::ffff:192.0.2.7") == address_key("192.0.2.7") != address_key("192.0.2.8")


def test_without_a_token_staff_pages_are_not_told_to_nginx_as_it_comes(seeded: Town) -> None:
    """It writes `Host: 127.0.0.1:8080` and no header of a proxy; the HTTP/1.0 that it speaks shows it."""

    async def by_nginx(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["http_version"] = "1.0"
        await seeded.app(scope, receive, send)

    with TestClient(by_nginx, base_url="http://127.0.0.1:8080", client=("127.0.0.1", 50000)) as nginx:
        assert nginx.get("/operator").status_code == 403
        assert nginx.get("/healthz").status_code == 200


def test_without_a_token_staff_pages_are_told_to_this_machine_only(seeded: Town) -> None:
    with device(seeded, "10.0.0.5") as other:
        assert other.get("/operator").status_code == 403


# --- the page closes when it says so ----------------------------------------------------------------


def test_the_page_asks_again_when_the_session_is_over(client: TestClient, seeded: Town) -> None:
    page = login(client, seeded, NUMBERS["asha"])
    assert "This page closes itself at 14:45, 15 minutes after the code." in page.text
    assert '<meta http-equiv="refresh" content="900;url=/me/home">' in page.text
    seeded.clock.advance(timedelta(minutes=10))
    later = client.get("/me/home?lang=hi")
    assert "यह पन्ना 14:45 बजे अपने-आप बंद हो जाएगा" in later.text
    assert '<meta http-equiv="refresh" content="300;url=/me/home">' in later.text
    seeded.clock.advance(timedelta(minutes=5))
    gone = client.get("/me/home")
    assert gone.status_code == 401
    assert "http-equiv" not in gone.text
