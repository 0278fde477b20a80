"""The shipped nginx and Caddy files in front of the real portal: what a browser, a stranger and a liar get."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.mosquitto import Certificates, make_certificates
from tests.support.waiting import PATIENCE
from tests.support.web.deployed import NAME, TOKEN, Phone, caddy, nginx, portal, public, two_ports, visitor
from tests.support.web.seed import LEGACY, NUMBERS
from tests.support.web.steps import form_token

Proxy = Callable[[Path, int, tuple[int, int], Certificates], AbstractContextManager[None]]
PROXIES = [
    pytest.param(nginx, id="nginx", marks=pytest.mark.nginx),
    pytest.param(caddy, id="caddy", marks=pytest.mark.caddy),
]
FOREIGN_PATHS = (
    "//evil.example", "//evil.example/me/", "/\\evil.example", "/%5Cevil.example", "/%2F/evil.example"
)  # fmt: skip
everywhere = pytest.mark.parametrize("proxy", PROXIES)


@dataclass(frozen=True)
class Deployed:
    """A portal behind a proxy: the proxy's ports for TLS and plain HTTP, and the portal's own."""

    tls: int
    plain: int
    portal: int
    phone: Phone
    certs: Certificates
    folder: Path

    def browser(self, address: str = "127.0.0.2") -> httpx.AsyncClient:
        return visitor(self.tls, self.certs, address)

    async def raw(self, text: str) -> bytes:
        """Send octets over TLS under the right name and return what comes until the proxy closes."""
        trusted = ssl.create_default_context(cafile=str(self.certs.ca))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.tls, ssl=trusted, server_hostname=NAME, local_addr=("127.0.0.2", 0)
        )
        writer.write(text.encode())
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()


@asynccontextmanager
async def deployed(proxy: Proxy, folder: Path, seeded_files: Path, more: str = "") -> AsyncIterator[Deployed]:
    ports, certs = two_ports(), make_certificates(folder / "tls")
    async with portal(folder, seeded_files, public(ports[0], more)) as (port, phone):
        with proxy(folder, port, ports, certs):
            yield Deployed(*ports, port, phone, certs, folder)


async def ask(browser: httpx.AsyncClient, number: str, **headers: str) -> httpx.Response:
    form = {"number": number, "form": form_token(await browser.get("/me"))}
    return await browser.post("/me", data=form, headers=headers)


async def log_in(browser: httpx.AsyncClient, phone: Phone, number: str) -> httpx.Response:
    before = len(phone.messages)
    assert (await ask(browser, number)).status_code == 303
    form = {"code": await phone.code(before + 1), "form": form_token(await browser.get("/me/code"))}
    assert (await browser.post("/me/code", data=form)).headers["location"] == "/me/home"
    return await browser.get("/me/home")


@everywhere
async def test_a_household_logs_in_through_the_proxy(
    proxy: Proxy, tmp_path: Path, seeded_files: Path
) -> None:
    async with deployed(proxy, tmp_path, seeded_files) as site, site.browser() as browser:
        page = await log_in(browser, site.phone, LEGACY["asha"])
        assert "1234 567 890" in page.text
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        assert page.headers["cache-control"] == "no-store"
        cookies = {cookie.name: cookie for cookie in browser.cookies.jar}
        assert set(cookies) == {"__Host-device", "__Host-session"}
        for cookie in cookies.values():
            assert (cookie.secure, cookie.path, cookie.domain_specified) == (True, "/", False)
            assert cookie.has_nonstandard_attr("HttpOnly")
        out = await browser.post("/me/logout", data={"form": form_token(page)})
        assert out.headers["location"] == "/me"
        assert (await browser.get("/me/home")).status_code == 401


@everywhere
async def test_a_form_of_another_origin_is_refused(proxy: Proxy, tmp_path: Path, seeded_files: Path) -> None:
    async with deployed(proxy, tmp_path, seeded_files) as site, site.browser() as browser:
        own = f"https://{NAME}:{site.tls}"
        assert (await ask(browser, NUMBERS["asha"], Origin=own)).status_code == 303
        for origin in (f"http://{NAME}:{site.tls}", f"https://{NAME}", "https://evil.example"):
            assert (await ask(browser, NUMBERS["asha"], Origin=origin)).status_code == 403


@everywhere
async def test_the_clients_address_is_the_proxys_word_only(
    proxy: Proxy, tmp_path: Path, seeded_files: Path
) -> None:
    """A share of five wishes: whoever claims other addresses uses up his own, and his alone."""
    async with deployed(proxy, tmp_path, seeded_files, "asks_per_address = 5") as site:
        answers = []
        for index in range(6):
            async with site.browser() as stranger:
                lies = {"X-Forwarded-For": f"198.51.100.{index}", "Forwarded": f"for=198.51.100.{index}"}
                answer = await ask(
                    stranger, f"KE00000{index}", **lies, **{"X-Real-IP": f"198.51.100.{index}"}
                )
                answers.append(answer.status_code)
        assert answers == [303] * 5 + [429]
        async with site.browser("127.0.0.3") as neighbour:
            assert (await ask(neighbour, "KE000009")).status_code == 303
        # Past the proxy, from an address that is none: its headers count for nothing.
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.portal}", transport=transport) as past:
            headers = {"Host": f"{NAME}:{site.tls}", "X-Forwarded-For": "198.51.100.77"}
            page = await past.get("/me", headers=headers)
            device = page.headers["set-cookie"].partition(";")[0]
            form = {"number": "KE000008", "form": form_token(page)}
            answer = await past.post("/me", data=form, headers={**headers, "Cookie": device})
            assert answer.status_code == 429


@everywhere
async def test_another_host_is_served_by_nobody(proxy: Proxy, tmp_path: Path, seeded_files: Path) -> None:
    async with deployed(proxy, tmp_path, seeded_files) as site:
        for host in (
            "evil.example",
            "localhost",
            "127.0.0.1",
            f"127.0.0.1:{site.portal}",
            f"{NAME}.evil.example",
        ):
            for path in ("/me", "/operator", "/operator/api/overview.json"):
                got = await site.raw(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
                assert got.split(b" ")[1] == b"421", (host, path, got)
                assert b"KE00" not in got
        got = await site.raw(
            f"GET http://evil.example/me HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
        )
        assert got.split(b" ")[1] in (b"421", b"400"), got
        got = await site.raw(
            f"GET /me HTTP/1.1\r\nHost: {NAME}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        )
        assert got.split(b" ")[1] == b"400", got


@everywhere
async def test_links_to_other_hosts_are_not_made(proxy: Proxy, tmp_path: Path, seeded_files: Path) -> None:
    async with deployed(proxy, tmp_path, seeded_files) as site:
        for path in (
            "//evil.example",
            "//evil.example/me/",
            "/\\evil.example",
            "/%5Cevil.example",
            "/%2F/evil.example",
        ):
            host = f"{NAME}:{site.tls}"
            got = await site.raw(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            head, _, body = got.partition(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"location:"):
                    assert b"//" not in line.replace(f"https://{host}/".encode(), b""), got
            assert b'href="//' not in body
            assert b'href="/\\' not in body
            assert b'<a href="//' not in body


@everywhere
async def test_plain_http_leads_to_tls(proxy: Proxy, tmp_path: Path, seeded_files: Path) -> None:
    async with deployed(proxy, tmp_path, seeded_files) as site, httpx.AsyncClient() as plain:
        answer = await plain.get(f"http://127.0.0.1:{site.plain}/me?x=1", headers={"Host": NAME})
        assert answer.status_code in (301, 308)
        assert answer.headers["location"] in (f"https://{NAME}:{site.tls}/me?x=1", f"https://{NAME}/me?x=1")


@everywhere
async def test_staff_pages_are_for_the_staffs_networks_and_token(
    proxy: Proxy, tmp_path: Path, seeded_files: Path
) -> None:
    async with deployed(proxy, tmp_path, seeded_files) as site:
        async with site.browser() as stranger:
            lie = {"X-Forwarded-For": "127.0.0.4"}
            paths = ("/operator", f"/operator?token={TOKEN}", "/operator/api/overview.json", "/staff/login")
            for path in paths:
                assert (await stranger.get(path, headers=lie)).status_code == 403
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            assert (await stranger.get("/operator/api/overview.json", headers=bearer)).status_code == 403
        async with site.browser("127.0.0.4") as staff:
            assert (await staff.get("/staff/login")).status_code == 200
            assert (await staff.get("/operator")).status_code == 403
            assert (await staff.get(f"/operator?token={TOKEN}")).headers["location"] == "/operator"
            assert "GEN:10000001" in (await staff.get("/operator")).text
        for log in site.folder.glob("*.log"):
            assert TOKEN not in log.read_text(), log


@everywhere
async def test_slow_and_large_requests_end_at_the_proxy(
    proxy: Proxy, tmp_path: Path, seeded_files: Path
) -> None:
    async with deployed(proxy, tmp_path, seeded_files) as site:
        got = await site.raw(f"GET /me HTTP/1.1\r\nHost: {NAME}:{site.tls}\r\nX-Slow: ")
        assert b"200" not in got.split(b"\r\n")[0]
        async with site.browser() as browser:
            # A system's change set may be as large: who it is, is asked for first.
            change_set = await browser.post("/v1/directory/change-sets", content=b"x" * 40_000)
            assert change_set.status_code == 401
            large = await browser.post("/me", content=b"x" * 40_000)
            assert large.status_code in (413, 502)  # Caddy 2.6 blames what is behind it
            assert (await browser.get("/me", headers={"X-Long": "x" * 60_000})).status_code in (400, 431)
            assert (await browser.get("/me")).status_code == 200
