"""Steps that a person takes on the pages."""

from __future__ import annotations

import re

from httpx import Response

from tests.support.waiting import wait_until
from tests.support.web.client import TestClient
from tests.support.web.seed import Town


def form_token(page: Response) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found[1]


def ask(client: TestClient, number: str, kind: str = "") -> Response:
    token = form_token(client.get("/me"))
    answer: Response = client.post("/me", data={"number": number, "kind": kind, "form": token})
    return answer


def enter(client: TestClient, code: str) -> Response:
    token = form_token(client.get("/me/code"))
    answer: Response = client.post("/me/code", data={"code": code, "form": token})
    return answer


def wait_codes(town: Town, count: int) -> list[str]:
    wait_until(lambda: len(town.codes) >= count, lambda: f"{len(town.codes)} of {count} codes: {town.codes}")
    return [shown.rsplit(" ", 1)[1] for shown in town.codes]


def login(client: TestClient, town: Town, number: str) -> Response:
    before = len(town.codes)
    assert ask(client, number).status_code == 303
    code = wait_codes(town, before + 1)[-1]
    answer = enter(client, code)
    assert answer.headers["location"] == "/me/home", answer.text
    page: Response = client.get("/me/home")
    return page


def device(town: Town, address: str, *, base_url: str = "http://127.0.0.1") -> TestClient:
    """Return a browser of its own at an address; to be used as a context."""
    return TestClient(town.app, base_url=base_url, follow_redirects=False, client=(address, 50000))
