"""Know your account number: page, SMS and call answer alike for every number (users.md A-01 to A-03, A-16, A-19)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from gateway.central.campaign.slips import Slips
from gateway.central.campaign.store import CampaignStore
from gateway.central.portal.asking import ASKS_PER_DEVICE
from gateway.central.portal.lookup import Asked, NumberLookup
from gateway.central.portal.otp import Asker
from mapping.changes import Name
from mapping.directory import NumberKind
from mapping.typed import TypedNumber
from tests.support.steps import Steps
from tests.support.web.client import TestClient
from tests.support.web.seed import LEGACY, NOW, NUMBERS, Town, town
from tests.support.web.steps import device, form_token, wait_codes

TOKEN = "provider-secret-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STALE = "old number ending {}: mobile must be verified again, call 1912"
TOLD = "new number of the connection with old number ending 2345: 1234567890"


@pytest.fixture
def doors(tmp_path: Path, seeded_files: Path) -> Iterator[Town]:
    shutil.copytree(seeded_files, tmp_path / "town")
    with town(tmp_path / "town", seed=False, number_token=TOKEN) as built:
        yield built


def know(client: TestClient, number: str, kind: str = "") -> Response:
    token = form_token(client.get("/number"))
    answer: Response = client.post("/number", data={"number": number, "kind": kind, "form": token})
    return answer


def test_row_a01_the_new_number_comes_by_sms_only(client: TestClient, seeded: Town) -> None:
    answer = know(client, LEGACY["asha"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/number/sent")
    wait_codes(seeded, 1)
    assert seeded.codes == [TOLD]
    page = client.get("/number/sent").text
    assert "If this number is ours and has a verified mobile, we have sent an SMS." in page
    assert "counter, call 1912, or look at the slip" in page
    for secret in ("1234567890", "1234 567 890", "987654", "Asha"):
        assert secret not in page


def test_row_a02_numbers_that_are_nobody_s_get_the_same_bytes(client: TestClient, seeded: Town) -> None:
    seeded.reverify("acc-birju", None)
    answers = []
    for number in (LEGACY["asha"], "KE9999999", LEGACY["birju"], "9999999999"):
        answer = know(client, number)
        kept = {k: v for k, v in answer.headers.items() if k != "set-cookie"}
        shape = [part.split("=")[0] for part in answer.headers["set-cookie"].split("; ")]
        answers.append((answer.status_code, answer.content, kept, shape, client.get("/number/sent").content))
    assert answers[0] == answers[1] == answers[2] == answers[3]
    wait_codes(seeded, 2)
    assert sorted(seeded.codes) == [
        TOLD,
        f"old number ending {LEGACY['birju'][-4:]}: mobile must be verified again, call 1912",
    ]


def test_row_a03_the_sixth_lookup_waits_also_when_some_were_logins(client: TestClient) -> None:
    """One limiter: wishes for a code and for a number count together."""
    for index in range(ASKS_PER_DEVICE):
        if index % 2:
            token = form_token(client.get("/me"))
            assert client.post("/me", data={"number": f"KE000{index}", "form": token}).status_code == 303
        else:
            assert know(client, f"KE000{index}").status_code == 303
    answer = know(client, "KE0009")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 900
    assert "Try again in 15 minutes." in answer.text
    assert "15 मिनट बाद" in answer.text


def test_the_fourth_message_an_hour_is_not_sent_whatever_the_channel(doors: Town) -> None:
    with device(doors, "10.9.0.1") as provider:
        for index, (number, sent) in enumerate(
            (
                (LEGACY["asha"], 1),
                (LEGACY["asha"], 2),
                (NUMBERS["asha"], 3),
                ("ke-0012345", 3),
                (LEGACY["birju"], 4),
            )
        ):
            body = {"from": f"987000000{index}", "text": f"NUMBER {number}"}
            answer = provider.post("/v1/number/sms", json=body, headers=BEARER)
            assert answer.status_code == 200
            wait_codes(doors, sent)
        # The fourth of its account is not sent, and nobody is told so: the next account's is the fourth that is.
        assert know(provider, NUMBERS["asha"]).status_code == 303
        assert know(provider, LEGACY["chand"]).status_code == 303
        wait_codes(doors, 5)
    assert doors.codes.count(TOLD) == 3


def test_row_a16_a_mobile_not_verified_of_late_gets_no_number(client: TestClient, seeded: Town) -> None:
    old = NOW - timedelta(days=366)
    seeded.reverify("acc-asha", old)
    assert know(client, LEGACY["asha"]).status_code == 303
    wait_codes(seeded, 1)
    assert seeded.codes == [STALE.format("2345")]


@pytest.mark.parametrize("typed", ["ke 0012345", "KE-००१२३४५", "K\u200bE0012345", "ke00.123-45"])
def test_row_a19_the_page_finds_what_the_lookup_finds(client: TestClient, seeded: Town, typed: str) -> None:
    assert know(client, typed).status_code == 303
    wait_codes(seeded, 1)
    assert seeded.codes == [TOLD]


@pytest.mark.parametrize("typed", ["१२३४५६७८९०", "1234 567 890", "1234-567-890", "1,234,567,890"])
def test_row_a19_the_number_is_echoed_in_groups(client: TestClient, typed: str) -> None:
    assert know(client, typed).status_code == 303
    assert 'value="1234 567 890"' in client.get("/number").text


def test_a_number_with_separators_in_the_directory_logs_in(client: TestClient, seeded: Town) -> None:
    seeded.directory.apply(
        [Name("acc-asha", NumberKind.LEGACY, "KE-00 77/1")], by="test", source="respelt", at=NOW
    )
    for typed in ("KE00771", "ke 0077 1"):
        assert know(client, typed).status_code == 303
    wait_codes(seeded, 2)


def test_sms_and_call_say_the_same_of_every_number(doors: Town) -> None:
    answers: dict[str, list[tuple[int, bytes]]] = {"sms": [], "call": []}
    with device(doors, "10.9.0.1") as provider:
        for index, number in enumerate((NUMBERS["asha"], "9999999999", NUMBERS["birju"], "4444444444")):
            sms = {"from": f"+91 98700 0000{index}", "text": f"number {number}"}
            call = {"caller": f"987111111{index}", "digits": number, "language": "hi"}
            for name, body in (("sms", sms), ("call", call)):
                answer = provider.post(f"/v1/number/{name}", json=body, headers=BEARER)
                answers[name].append((answer.status_code, answer.content))
    for same in answers.values():
        assert len(set(same)) == 1
        assert same[0][0] == 200
        assert not re.search(rb"[0-9]{5,}", same[0][1])
    assert "यदि यह नंबर हमारा है" in answers["call"][0][1].decode()


def test_a_provider_s_form_counts_as_json_does(doors: Town) -> None:
    with device(doors, "10.9.0.1") as provider:
        body = {"from": "9870000001", "text": "नंबर KE 0012345"}
        answer = provider.post("/v1/number/sms", data=body, headers=BEARER)
        assert answer.json()["accepted"] is True
        assert set(answer.json()["reply"]) == {"en", "hi"}
        wait_codes(doors, 1)
    assert doors.codes == [TOLD]


def test_one_sender_waits_and_is_told_in_his_language(doors: Town) -> None:
    with device(doors, "10.9.0.1") as provider:
        for index in range(ASKS_PER_DEVICE + 1):
            body = {"caller": "+919870000001", "digits": f"70000000{index:02}", "language": "hi"}
            answer = provider.post("/v1/number/call", json=body, headers=BEARER)
        other = provider.post("/v1/number/call", json=body | {"caller": "9870000002"}, headers=BEARER)
    assert answer.status_code == 429
    assert answer.json() == {"accepted": False, "say": {"hi": "बहुत अधिक अनुरोध। 15 मिनट बाद फिर कोशिश करें।"}}
    assert answer.headers["retry-after"] == "900"
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("sms", {"from": "9870000001", "text": "hello ????"}, 200),
        ("sms", {"from": "9870000001"}, 422),
        ("sms", {"from": "9870000001", "text": "1" * 701}, 422),
        ("call", {"caller": "9870000001", "digits": "12"}, 200),
        ("call", {"caller": "9870000001", "digits": "1234567890", "language": "fr"}, 422),
    ],
)
def test_what_is_no_number_is_told_how(doors: Town, name: str, body: dict[str, str], status: int) -> None:
    with device(doors, "10.9.0.1") as provider:
        answer = provider.post(f"/v1/number/{name}", json=body, headers=BEARER)
    assert answer.status_code == status
    assert answer.json().get("accepted", False) is False
    assert "1234567890" not in answer.text


def test_there_are_no_doors_where_no_token_is_set(client: TestClient) -> None:
    body = {"from": "9870000001", "text": LEGACY["asha"]}
    assert client.post("/v1/number/sms", json=body, headers=BEARER).status_code == 404


def test_the_doors_are_closed_without_the_token(doors: Town) -> None:
    body = {"from": "9870000001", "text": LEGACY["asha"]}
    with device(doors, "10.9.0.1") as stranger:
        for token in ("", "no", "é".encode()):
            headers = {"Authorization": b"Bearer " + token if isinstance(token, bytes) else f"Bearer {token}"}
            assert stranger.post("/v1/number/sms", json=body, headers=headers).status_code == 401
        for _ in range(10):
            last = stranger.post("/v1/number/sms", json=body, headers={"Authorization": "Bearer no"})
        assert last.status_code == 429
    assert doors.codes == []


async def test_the_answer_takes_the_same_steps_whoever_s_the_number_is(
    seeded: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the answer is there nothing looks a number up, and no line more is run for one that exists."""
    begun: list[Any] = []
    monkeypatch.setattr(NumberLookup, "_begin", lambda *given: begun.append(given))
    lookup = NumberLookup(seeded.views, seeded.contacts, seeded.otp, seeded.clock)

    def steps(number: str, who: str) -> tuple[int, int]:
        asked = Asked(typed=TypedNumber.of(number), asker=Asker(address=who, device=who))
        counted = []
        for ask in (lookup.number, lookup.code):
            with Steps() as counter:
                ask(asked)
            counted.append(counter.count)
        return counted[0], counted[1]

    steps("KE0000000", "warm")
    counts = {steps(number, f"who-{index}") for index, number in enumerate((LEGACY["asha"], "KE9912345"))}
    assert len(counts) == 1
    assert len(begun) == 6


def test_row_73_a_slip_s_code_opens_nothing_without_the_mobile(tmp_path: Path, seeded_files: Path) -> None:
    shutil.copytree(seeded_files, tmp_path / "town")
    with (
        CampaignStore(tmp_path / "campaign.db") as campaign,
        town(tmp_path / "town", seed=False, campaign=campaign) as built,
        device(built, "10.0.0.1") as phone,
    ):
        slips = Slips(campaign)
        slips.refresh(built.directory.snapshot(), NOW)
        token = next(
            one.token for sheet in slips.sheets(again=True) for one in sheet if one.account_id == "acc-asha"
        )
        pages = [phone.get(f"/q/{code}") for code in (token, "ZZZZZZZZZZZZZZ77")]
        shapes = {re.sub(r"[0-9a-f]{64}|[A-Z2-7]{16}", "…", page.text) for page in pages}
        assert len(shapes) == 1
        assert not any(told in pages[0].text for told in ("1234", "0012345", "Asha", "98765"))
        assert phone.get("/me/home").status_code == 401
        for code in ("ZZZZZZZZZZZZZZ77", token):
            answer = phone.post(f"/q/{code}", data={"form": form_token(pages[0])})
            assert (answer.status_code, answer.headers["location"]) == (303, "/me/code")
        (sent,) = wait_codes(built, 1)
        assert token not in phone.get("/me").text
        entered = phone.post("/me/code", data={"code": sent, "form": form_token(phone.get("/me/code"))})
        assert entered.headers["location"] == "/me/home"
        assert "1234 567 890" in phone.get("/me/home").text
        assert phone.get("/q/!!").status_code == 404
