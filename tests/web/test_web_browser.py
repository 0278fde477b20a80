"""The pages in Chromium: phone and desk, both languages, scripts off, nothing wider than the screen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright

from gateway.contract.messages import MeterStatus, Status
from gateway.errors import ConfigError
from gateway.web.server import serve
from tests.support import services
from tests.support.central.samples import tell_status
from tests.support.waiting import until
from tests.support.web.seed import LEGACY, NOW, Town
from tests.support.web.staffed import key, staffed

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """() => [...document.querySelectorAll('a,button,input:not([type=hidden]),select,summary')]
  .filter(e => e.offsetParent && !e.classList.contains('skip') && !e.closest('p'))
  .filter(e => { const r = e.getBoundingClientRect(); return r.height < 44 || r.width < 44; })
  .map(e => e.outerHTML)"""
UNLABELLED = """() => [...document.querySelectorAll('input:not([type=hidden]),select')]
  .filter(e => !e.labels.length).map(e => e.outerHTML)"""
CONTRAST = """() => {
  const rgb = c => c.match(/[\\d.]+/g).map(Number);
  const lum = c => { const [r, g, b] = rgb(c).slice(0, 3).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126*r + 0.7152*g + 0.0722*b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    const p = rgb(c); if (p.length < 4 || p[3] > 0) return c; } return 'rgb(255,255,255)'; };
  return [...document.querySelectorAll('main *, header *, footer *')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && !e.closest('svg'))
    .map(e => { const a = lum(getComputedStyle(e).color), b = lum(behind(e));
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 120)]; })
    .filter(([ratio]) => ratio < 4.5); }"""

pytestmark = pytest.mark.browser


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = services.program("browser", "chromium", "chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGS)
        try:
            yield browser
        finally:
            await browser.close()


async def fits(page: Page) -> None:
    """No sideways scroll, no unlabelled field, no small target, enough contrast."""
    assert await page.evaluate(WIDE) <= 0, page.url
    assert await page.evaluate(UNLABELLED) == []
    assert await page.evaluate(SMALL) == []
    assert await page.evaluate(CONTRAST) == []


async def shown_code(town: Town, count: int) -> str:
    await until(lambda: len(town.codes) >= count)
    return town.codes[-1].rsplit(" ", 1)[1]


async def walk(page: Page, base: str, town: Town, who: str, language: str, shots: Path) -> None:
    """From the front page to the account, taking a picture of each page."""
    name = f"{who}-{language}-{page.viewport_size['width'] if page.viewport_size else 0}"

    async def look(step: str) -> None:
        await fits(page)
        await page.screenshot(path=shots / f"{step}-{name}.png", full_page=True)

    await page.goto(f"{base}/?lang={language}")
    await look("choose")
    await page.goto(f"{base}/operator")
    await look("operator")
    await page.goto(f"{base}/me")
    await look("number")
    await page.fill("#number", LEGACY[who])
    before = len(town.codes)
    await page.press("#number", "Enter")
    await page.wait_for_url("**/me/code")
    await look("code")
    await page.fill("#code", await shown_code(town, before + 1))
    await page.press("#code", "Enter")
    await page.wait_for_url("**/me/home")
    for summary in await page.locator("summary").all():
        await summary.click()
    assert await page.locator("html").get_attribute("lang") == language
    await look("home")


@pytest.mark.parametrize(
    ("width", "language", "who"), [(320, "hi", "birju"), (360, "en", "asha"), (1280, "hi", "chand")]
)
async def test_the_whole_way_without_scripts(
    seeded: Town, tmp_path: Path, width: int, language: str, who: str
) -> None:
    async with serve(seeded.app) as port, chromium() as browser:
        context = await browser.new_context(
            viewport={"width": width, "height": 740}, java_script_enabled=False
        )
        page = await context.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await walk(page, f"http://127.0.0.1:{port}", seeded, who, language, tmp_path)
        assert problems == []
        assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{port}"}
        page_text = await page.inner_text("main")
        assert ("बकाया" in page_text) is (who == "birju")
        await page.click(".tools button")
        await page.wait_for_url("**/me")
        answer = await page.goto(f"http://127.0.0.1:{port}/me/home")
        assert answer is not None
        assert answer.status == 401
        assert len(list(tmp_path.glob("*.png"))) == 5


@pytest.mark.parametrize(
    ("width", "language", "deaf"),
    [(360, "en", True), (360, "hi", False), (1280, "en", False), (1280, "hi", True)],
)
async def test_the_overview_of_an_outage(
    seeded: Town, tmp_path: Path, width: int, language: str, deaf: bool
) -> None:
    words = {"en": "Central is deaf", "hi": "केंद्र को कुछ सुनाई नहीं दे रहा"}
    meters = [MeterStatus(meter=f"GEN:4{n:07}", line="rs485-c", health="meter_silent") for n in range(300)]
    told = Status(
        gateway="edge-3", online=True, version="1", journal="j", meters={"meter_silent": 300}, at=NOW
    )
    tell_status(seeded.ledger, told, meters=meters)
    if deaf:
        seeded.clock.advance(timedelta(minutes=3))
        fault = "broker 10.20.30.40:8883: [Errno 113] No route to host"
        seeded.ledger.alive.leave(seeded.clock.now(), connected=False, fault=fault)
    async with serve(seeded.app) as port, chromium() as browser:
        context = await browser.new_context(
            viewport={"width": width, "height": 740}, java_script_enabled=False
        )
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{port}/operator?lang={language}")
        await fits(page)
        await page.screenshot(path=tmp_path / f"outage-{language}-{width}.png", full_page=True)
        assert (words[language] in await page.inner_text("main")) is deaf
        await page.check("input[name=unwell]")
        await page.click(".find button")
        await fits(page)
        await page.screenshot(path=tmp_path / f"unwell-{language}-{width}.png", full_page=True)
        assert "unwell=1" in page.url
        assert await page.locator("#meters tbody tr").count() == 100
        await page.locator("#meters p a").last.click()
        assert "page=2" in page.url


async def test_serve_gives_its_port_and_stops(seeded: Town) -> None:
    async with serve(seeded.app) as port:
        async with httpx.AsyncClient() as web:
            answer = await web.get(f"http://127.0.0.1:{port}/healthz")
        assert answer.json() == {"status": "ok"}
        with pytest.raises(ConfigError):
            async with serve(seeded.app, "127.0.0.1", port):
                pass
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_forwarded_addresses_are_not_believed(seeded: Town) -> None:
    async with serve(seeded.app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as web:
        page = await web.get("/me")
        token = page.text.split('name="form" value="')[1][:64]
        codes = [
            (
                await web.post(
                    "/me",
                    data={"number": f"KE000{i}", "form": token},
                    headers={"X-Forwarded-For": f"10.0.0.{i}"},
                )
            ).status_code
            for i in range(6)
        ]
    assert codes == [303] * 5 + [429]


@pytest.mark.parametrize("language", ["en", "hi"])
async def test_the_sms_is_sent_again_on_a_phone(seeded: Town, tmp_path: Path, language: str) -> None:
    words = {
        "en": ("Send the SMS again", "from 14:31", "still be on its way"),
        "hi": ("SMS फिर भेजें", "14:31 बजे से", "रास्ते में"),
    }
    button, time, early = words[language]
    async with serve(seeded.app) as port, chromium() as browser:
        context = await browser.new_context(viewport={"width": 360, "height": 740}, java_script_enabled=False)
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{port}/me?lang={language}")
        await page.fill("#number", LEGACY["asha"])
        await page.press("#number", "Enter")
        await page.wait_for_url("**/me/code")
        first = await shown_code(seeded, 1)
        assert (await page.inner_text("#resend")).strip() == button
        assert time in await page.inner_text("main")
        await fits(page)
        await page.screenshot(path=tmp_path / f"resend-{language}.png", full_page=True)
        await page.click("#resend")
        assert early in await page.inner_text("[role=alert]")
        await fits(page)
        await page.screenshot(path=tmp_path / f"early-{language}.png", full_page=True)
        seeded.clock.advance(timedelta(minutes=1))
        await page.click("#resend")
        await page.wait_for_url("**/me/code")
        await shown_code(seeded, 2)
        await page.fill("#code", first)
        await page.press("#code", "Enter")
        await page.wait_for_url("**/me/home")


async def test_the_page_closes_itself_at_the_time_that_it_says(seeded: Town) -> None:
    """Nobody touches the browser: the account is gone from the screen when the session is over."""
    async with serve(seeded.app) as port, chromium() as browser:
        page = await (await browser.new_context(java_script_enabled=False)).new_page()
        await page.goto(f"http://127.0.0.1:{port}/me")
        await page.fill("#number", LEGACY["asha"])
        await page.press("#number", "Enter")
        await page.wait_for_url("**/me/code")
        await page.fill("#code", await shown_code(seeded, 1))
        await page.press("#code", "Enter")
        await page.wait_for_url("**/me/home")
        assert "closes itself at 14:45" in await page.inner_text("main")
        seeded.clock.advance(timedelta(minutes=14, seconds=58))
        await page.reload()
        assert "₹186.00" in await page.inner_text("main")
        seeded.clock.advance(timedelta(seconds=2))
        await page.get_by_text("You were logged out").first.wait_for()
        assert "186" not in await page.content()


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
async def test_staff_log_in_and_approve(tmp_path: Path, seeded_files: Path, width: int, height: int) -> None:
    """The whole way of an approver, in both languages, without a script."""
    move = {"kind": "move_out", "usage_point": "UP-asha", "at": "2026-11-22T10:00:00+05:30"}
    async with (
        staffed(tmp_path, seeded_files, more="[directory]\napprove_above = 0") as here,
        here.client() as machine,
        chromium() as browser,
    ):
        for language, number in (("en", "1"), ("hi", "2")):
            request = {"changes": [move | {"usage_point": ("UP-asha", "UP-chand")[int(number) - 1]}]}
            asked = await machine.post("/v1/directory/change-sets", json=request, headers=key(number))
            context = await browser.new_context(
                viewport={"width": width, "height": height}, java_script_enabled=True
            )
            page = await context.new_page()
            await page.goto(f"{here.base}/staff/login?lang={language}")
            await fits(page)
            await page.screenshot(path=tmp_path / f"login-{language}-{width}.png", full_page=True)
            await page.fill("#name", "verma")
            await page.fill("#password", "not the right words")
            await page.fill("#code", "000000")
            await page.click(".btn")
            assert await page.locator("#wrong").is_visible()
            await fits(page)
            await page.fill("#name", "verma")
            await page.fill("#password", here.verma.password)
            await page.fill("#code", here.verma.code(datetime.now(UTC)))
            await page.click(".btn")
            await page.wait_for_url("**/staff")
            await fits(page)
            await page.screenshot(path=tmp_path / f"sets-{language}-{width}.png", full_page=True)
            await page.goto(f"{here.base}/staff/change-sets/{asked.json()['id']}")
            await fits(page)
            await page.screenshot(path=tmp_path / f"set-{language}-{width}.png", full_page=True)
            await page.click("button[value=approve]")
            assert await page.locator("button[value=approve]").count() == 0
            await page.screenshot(path=tmp_path / f"done-{language}-{width}.png", full_page=True)
            await context.close()
        with here.directory() as store:
            assert {c.by for c in store.snapshot().changes[-2:]} == {"machine:sap, approved by verma"}
