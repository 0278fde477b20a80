"""Delivery reports at the running portal: each dress, the secret in both places, and what is no report."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.central.telling.messages import Accepted, State
from gateway.central.telling.queue import SmsQueue
from gateway.config.file import load
from gateway.roles.app import running
from tests.support.central.telling import NOON, PaperProvider, contact, notice
from tests.support.web.deployed import settings

SECRET = "r" * 24
HELD = {"Authorization": f"Bearer {SECRET}"}
SMS = """[sms]
provider = "http"
[sms.http]
url = "http://127.0.0.1:9/send"
fields = { to = "{mobile}", text = "{text}" }
[sms.reports]
secret_ref = "report-secret"
id = "messageId"
reference = "ref"
status = "status"
delivered = ["DELIVRD"]
undelivered = ["UNDELIV"]
reason = "err"
list = "items"
"""


@dataclass
class Portal:
    """A running portal with one accepted message: the provider calls it p1."""

    browser: httpx.AsyncClient
    queue: SmsQueue
    message: str


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    path = settings(tmp_path, SMS)
    (tmp_path / "keys" / "report-secret").write_text(SECRET)
    (tmp_path / "keys" / "report-secret").chmod(0o600)
    (tmp_path / "data").mkdir()
    async with running(load(path), provider=PaperProvider()) as parts:
        assert parts.telling is not None
        assert parts.portal is not None
        queue = parts.telling.queue
        queue.put(notice(contact(parts.telling.people)), now=NOON)
        (handed,) = queue.take(NOON, 1)
        queue.settle(handed, Accepted("p1"), reports=True, now=NOON)
        async with httpx.AsyncClient(base_url=parts.portal.url) as browser:
            yield Portal(browser, queue, handed.id)


@pytest.mark.parametrize(
    "call",
    [
        {"json": {"messageId": "p1", "status": "DELIVRD"}},
        {
            "json": {
                "items": [
                    {"messageId": "p0", "status": "SUBMITTED"},
                    {"messageId": "p1", "status": "DELIVRD"},
                ]
            }
        },
        {"json": [{"messageId": "p1", "status": "DELIVRD"}]},
        {"data": {"messageId": "p1", "status": "DELIVRD"}},
        {"params": {"messageId": "p1", "status": "DELIVRD"}},
        {"content": b'{"messageId": "p1", "status": "DELIVRD"}', "headers": {"content-type": "text/plain"}},
    ],
)
async def test_each_dress_of_a_report_is_read(portal: Portal, call: dict[str, Any]) -> None:
    headers = HELD | call.pop("headers", {})
    answer = await portal.browser.post("/sms/reports", headers=headers, **call)
    assert (answer.status_code, answer.json()) == (200, {"reports": 1})
    assert portal.queue.counts() == {State.DELIVERED: 1}


async def test_a_report_by_our_reference_with_the_secret_in_the_path(portal: Portal) -> None:
    report = {"ref": portal.message, "status": "UNDELIV", "err": "27 absent"}
    assert (await portal.browser.get(f"/sms/reports/{SECRET}", params=report)).status_code == 200
    (kept,) = portal.queue.find()
    assert (kept.state, kept.reason) == (State.UNDELIVERED, "UNDELIV 27 absent")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"{}",
        b'{"messageId": "p1"}',
        b'{"status": "DELIVRD"}',
        b"\xff\xfe",
        b"[" * 9000,
        b"a&" * 300,
        b"&".join(b"a=%d" % number for number in range(300)),
    ],
)
async def test_what_is_no_report_is_refused_and_changes_nothing(portal: Portal, body: bytes) -> None:
    answer = await portal.browser.post("/sms/reports", headers=HELD, content=body)
    assert answer.status_code == 400, answer.text
    assert portal.queue.counts() == {State.ACCEPTED: 1}


async def test_a_fault_of_ours_does_not_tell_the_secret_of_a_path(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[object]:
        raise RuntimeError("broken")

    monkeypatch.setattr("gateway.roles.telling.reports_in", broken)
    with capture_logs() as logs:
        answer = await portal.browser.post(f"/sms/reports/{SECRET}", json={"messageId": "p1", "status": "x"})
    assert answer.status_code == 500
    assert [one["path"] for one in logs if one["event"] == "page_failed"] == ["/sms/reports/{given}"]
    assert SECRET not in str(logs)


async def test_nobody_reports_without_the_secret(portal: Portal) -> None:
    report = json.dumps({"messageId": "p1", "status": "DELIVRD"})
    for headers, path in (({}, ""), ({"Authorization": "Bearer x"}, ""), ({}, "/x"), ({}, "/\u00e9")):
        answer = await portal.browser.post(f"/sms/reports{path}", headers=headers, content=report)
        assert answer.status_code == 401
    for _ in range(8):
        answer = await portal.browser.post("/sms/reports/guess", content=report)
    assert answer.status_code == 429
    assert portal.queue.counts() == {State.ACCEPTED: 1}
