"""A number alone opens and reveals nothing; a code opens one account, once, for a while (users.md A-01 to A-03)."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import Any

import pytest

from gateway.central.portal.lookup import NumberLookup
from tests.support.waiting import PATIENCE
from tests.support.web.client import TestClient
from tests.support.web.seed import LEGACY, NOW, NUMBERS, Town
from tests.support.web.steps import ask, device, enter, form_token, login, wait_codes


def test_old_and_new_number_open_the_same_account_after_the_code(client: TestClient, seeded: Town) -> None:
    page = login(client, seeded, LEGACY["asha"])
    assert "1234 567 890" in page.text
    assert seeded.codes == [f"code for account ending 7890: {seeded.codes[0][-6:]}"]
    client.cookies.clear()
    assert "1234 567 890" in login(client, seeded, NUMBERS["asha"]).text


@pytest.mark.parametrize(
    "typed", ["१२३४५६७८९०", "1234 567 890", "1234-567-890", " 1234567890 ", "１２３４５６７８９０"]
)
def test_digits_of_any_script(client: TestClient, seeded: Town, typed: str) -> None:
    assert "1234 567 890" in login(client, seeded, typed).text


def test_typed_number_comes_back_grouped(client: TestClient) -> None:
    ask(client, "१२३४५६७८९०")
    assert 'value="1234 567 890"' in client.get("/me").text
    assert "1234" not in client.get("/me/code").text


def test_row_72_known_and_unknown_numbers_get_the_same_bytes(client: TestClient, seeded: Town) -> None:
    seeded.reverify("acc-birju", None)
    answers = []
    for number in (LEGACY["asha"], "KE9999999", NUMBERS["birju"], "9999999999"):
        answer = ask(client, number)
        page = client.get("/me/code")
        kept = {k: v for k, v in answer.headers.items() if k != "set-cookie"}
        shape = [part.split("=")[0] for part in answer.headers["set-cookie"].split("; ")]
        size = len(answer.headers["set-cookie"]) - len(number) * 4 // 3
        answers.append(
            (answer.status_code, answer.content, kept, shape, page.status_code, page.content, size // 4)
        )
    wait_codes(seeded, 2)
    assert answers[0][:-1] == answers[1][:-1] == answers[2][:-1] == answers[3][:-1]
    told = re.sub(
        r"[0-9a-f]{16,}", "…", answers[0][5].decode()
    )  # tokens, which hold any four digits now and then
    for secret in ("1234", "7890", "9876", "asha"):
        assert secret not in told
    assert len(seeded.codes) == 2
    assert "must be verified again" in seeded.codes[1]


@pytest.mark.parametrize("number", [LEGACY["asha"], "KE7700001"])
def test_the_answer_does_not_wait_for_the_lookup(
    client: TestClient, seeded: Town, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    """So its time does not tell a known number from an unknown one."""
    begun, answered, ended = (threading.Event() for _ in range(3))
    find = NumberLookup._find

    def find_when_answered(*arguments: Any) -> Any:
        begun.set()
        assert answered.wait(PATIENCE)
        found = find(*arguments)
        ended.set()
        return found

    monkeypatch.setattr(NumberLookup, "_find", find_when_answered)
    assert ask(client, number).status_code == 303
    assert begun.wait(PATIENCE)
    assert seeded.codes == []
    answered.set()
    assert ended.wait(PATIENCE)
    if number == LEGACY["asha"]:
        wait_codes(seeded, 1)


def test_wrong_code_then_too_many(client: TestClient, seeded: Town) -> None:
    ask(client, NUMBERS["asha"])
    code = wait_codes(seeded, 1)[0]
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for _ in range(5):
        answer = enter(client, wrong)
        assert answer.status_code == 422
        assert "wrong or has expired" in answer.text
    assert enter(client, code).status_code == 422
    assert client.get("/me/home").status_code == 401


def test_code_is_single_use_and_ends_after_five_minutes(client: TestClient, seeded: Town) -> None:
    ask(client, NUMBERS["asha"])
    held = client.cookies["challenge"]
    code = wait_codes(seeded, 1)[0]
    assert enter(client, code).status_code == 303
    client.cookies.set("challenge", held, domain="127.0.0.1", path="/")
    assert enter(client, code).status_code == 422
    client.cookies.clear()
    ask(client, NUMBERS["birju"])
    code = wait_codes(seeded, 2)[1]
    token = form_token(client.get("/me/code"))
    seeded.clock.advance(timedelta(minutes=5, seconds=1))
    assert client.post("/me/code", data={"code": code, "form": token}).status_code == 422


def test_a_code_works_only_in_the_browser_that_asked(client: TestClient, seeded: Town) -> None:
    ask(client, NUMBERS["asha"])
    code = wait_codes(seeded, 1)[0]
    with TestClient(seeded.app, base_url="http://127.0.0.1", follow_redirects=False) as other:
        ask(other, NUMBERS["birju"])
        assert enter(other, code).status_code == 422


def test_sixth_lookup_of_one_client_waits_in_both_languages(client: TestClient, seeded: Town) -> None:
    for index in range(5):
        assert ask(client, f"KE000{index}").status_code == 303
    answer = ask(client, "KE0009")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 900
    assert "Try again in 15 minutes." in answer.text
    assert '<p lang="hi">' in answer.text
    assert "15 मिनट बाद" in answer.text
    seeded.clock.advance(timedelta(minutes=15))
    assert ask(client, "KE0009").status_code == 303


@pytest.mark.parametrize("number", [NUMBERS["asha"], "9999999999"])
def test_fourth_code_an_hour_for_one_number_waits_whoever_asks(seeded: Town, number: str) -> None:
    codes = []
    for index in range(4):
        address = (f"10.0.0.{index}", 5000)
        with TestClient(
            seeded.app, base_url="http://127.0.0.1", follow_redirects=False, client=address
        ) as someone:
            codes.append(ask(someone, number).status_code)
    assert codes == [303, 303, 303, 429]


def test_per_account_limit_holds_over_old_and_new_number(seeded: Town) -> None:
    for index, number in enumerate(
        (NUMBERS["asha"], NUMBERS["asha"], LEGACY["asha"], LEGACY["asha"], NUMBERS["birju"])
    ):
        with device(seeded, f"10.0.0.{index}") as someone:
            assert ask(someone, number).status_code == 303
            # Inside: a browser that goes takes the application with it, and what it was about to send.
            wait_codes(seeded, (1, 2, 3, 3, 4)[index])
    assert [shown.split(":")[0][-4:] for shown in seeded.codes] == ["7890", "7890", "7890", "8901"]


def test_sessions_see_their_own_account_only(client: TestClient, seeded: Town) -> None:
    mine = login(client, seeded, NUMBERS["asha"])
    assert "₹186.00" in mine.text
    with TestClient(seeded.app, base_url="http://127.0.0.1", follow_redirects=False) as other:
        theirs = login(other, seeded, NUMBERS["birju"])
        assert "412.50" in theirs.text
        for secret in ("1234 567 890", "186.00", "2345<"):
            assert secret not in theirs.text
        forged = other.cookies["session"].split(".")
        other.cookies.set("session", mine.request.headers["cookie"][:40] + "." + forged[1], path="/")
        assert other.get("/me/home").status_code == 401
    assert "412.50" not in client.get("/me/home?account=acc-birju").text


def test_tokens_of_one_purpose_do_not_serve_another(client: TestClient) -> None:
    ask(client, NUMBERS["asha"])
    client.cookies.set("session", client.cookies["challenge"], domain="127.0.0.1", path="/")
    assert client.get("/me/home").status_code == 401


def test_session_ends_after_fifteen_minutes(client: TestClient, seeded: Town) -> None:
    login(client, seeded, NUMBERS["asha"])
    seeded.clock.advance(timedelta(minutes=14))
    assert client.get("/me/home").status_code == 200
    seeded.clock.advance(timedelta(minutes=1))
    assert client.get("/me/home").status_code == 401


def test_logout_ends_the_session_even_for_a_kept_cookie(client: TestClient, seeded: Town) -> None:
    page = login(client, seeded, NUMBERS["asha"])
    held = client.cookies["session"]
    assert client.post("/me/logout", data={"form": form_token(page)}).status_code == 303
    assert "session" not in client.cookies
    client.cookies.set("session", held, domain="127.0.0.1", path="/")
    assert client.get("/me/home").status_code == 401


def test_forms_of_other_sites_are_refused(client: TestClient) -> None:
    token = form_token(client.get("/me"))
    good = {"number": NUMBERS["asha"], "form": token}
    assert client.post("/me", data={"number": NUMBERS["asha"]}).status_code == 403
    assert client.post("/me", data=good | {"form": "0" * 64}).status_code == 403
    assert client.post("/me", data=good | {"form": "é"}).status_code == 403
    assert client.post("/me", data=good, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/me", data=good, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/me", data=good, headers={"Origin": "http://127.0.0.1"}).status_code == 303


def test_row_70_a_mobile_not_verified_within_a_year_gets_no_code(client: TestClient, seeded: Town) -> None:
    old = NOW - timedelta(days=366)
    seeded.reverify("acc-asha", old)
    ask(client, NUMBERS["asha"])
    wait_codes(seeded, 1)
    assert seeded.codes == ["old number ending 2345: mobile must be verified again, call 1912"]


@pytest.mark.parametrize("cookie", ["", "x", "a.b", "é.é", "." * 50, "eyJ9.00", "A" * 5000])
def test_garbage_cookies_are_no_session(client: TestClient, cookie: str) -> None:
    headers = {
        "Cookie": f"session={cookie}; challenge={cookie}; operator={cookie}".encode("utf-8", "replace")
    }
    assert client.get("/me/home", headers=headers).status_code == 401
    assert client.get("/me/code", headers=headers).status_code == 303


def test_a_session_ends_when_the_account_has_no_mobile_any_more(client: TestClient, seeded: Town) -> None:
    """It stands for a mobile that was proved: an erasure, or a number given back, closes open pages."""
    login(client, seeded, LEGACY["asha"])
    assert client.get("/me/home").status_code == 200
    for held in seeded.contacts.of_account("acc-asha"):
        seeded.contacts.remove(held.id, by="t", why="t", at=NOW)
    assert client.get("/me/home").status_code == 401
