"""Codes are limited by account and device; no stranger keeps an owner out, nor a neighbour behind one address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.portal import otp
from gateway.central.portal.asking import ASKS_PER_DEVICE, Ask, AskingLimits
from gateway.central.portal.limits import FairTurns, GrowingDelay
from tests.support.web.client import TestClient
from tests.support.web.seed import LEGACY, NUMBERS, Town, town
from tests.support.web.steps import ask, device, enter, form_token, login, wait_codes

AT = datetime(2026, 11, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
CARRIER = "100.64.0.1"
ASHA = NUMBERS["asha"]


def hammer(seeded: Town, number: str, addresses: int = 3) -> None:
    """Strangers at many addresses ask for a number until nobody is sent a code any more."""
    for index in range(addresses):
        for _ in range(3):
            with device(seeded, f"203.0.113.{index}") as stranger:
                ask(stranger, number)
    with device(seeded, "203.0.113.99") as stranger:
        assert ask(stranger, number).status_code == 429


def resend(client: TestClient) -> int:
    token = form_token(client.get("/me/code"))
    return int(client.post("/me/resend", data={"form": token}).status_code)


# --- the owner --------------------------------------------------------------------------------------


def test_a_known_device_gets_its_code_while_strangers_hammer_the_number(seeded: Town) -> None:
    with device(seeded, CARRIER) as owner:
        page = login(owner, seeded, ASHA)
        owner.post("/me/logout", data={"form": form_token(page)})
        seeded.clock.advance(2 * HOUR)
        hammer(seeded, ASHA)
        hammer(seeded, LEGACY["asha"])
        assert "1234 567 890" in login(owner, seeded, ASHA).text
        owner.cookies.delete("session")
        assert "1234 567 890" in login(owner, seeded, LEGACY["asha"]).text


def test_a_known_device_has_a_budget_too(seeded: Town) -> None:
    with device(seeded, CARRIER) as owner:
        login(owner, seeded, ASHA)
        owner.cookies.delete("session")
        assert [ask(owner, ASHA).status_code for _ in range(4)] == [303, 303, 303, 429]


def test_a_device_is_known_for_its_own_numbers_only_and_for_180_days(seeded: Town) -> None:
    with device(seeded, CARRIER) as owner:
        login(owner, seeded, ASHA)
        owner.cookies.delete("session")
        hammer(seeded, NUMBERS["birju"])
        assert ask(owner, NUMBERS["birju"]).status_code == 429
        seeded.clock.advance(timedelta(days=181))
        hammer(seeded, ASHA)
        assert ask(owner, ASHA).status_code == 429


def test_a_forged_device_is_a_strangers(seeded: Town) -> None:
    with device(seeded, CARRIER) as owner, device(seeded, "198.51.100.1") as stranger:
        login(owner, seeded, ASHA)
        packed, _, tag = owner.cookies["device"].partition(".")
        stranger.cookies.set("device", f"{packed}.{tag[::-1]}", domain="127.0.0.1", path="/")
        hammer(seeded, ASHA)
        assert ask(stranger, ASHA).status_code == 429


def test_a_code_that_was_sent_works_while_strangers_hammer(seeded: Town) -> None:
    with device(seeded, CARRIER) as owner:
        assert ask(owner, ASHA).status_code == 303
        code = wait_codes(seeded, 1)[0]
        hammer(seeded, ASHA)
        with device(seeded, "203.0.113.7") as stranger:
            ask(stranger, NUMBERS["birju"])
            wrong = f"{(int(code) + 1) % 1_000_000:06}"
            for _ in range(12):
                enter(stranger, wrong)
        assert enter(owner, code).status_code == 303


def test_a_flood_of_numbers_pushes_out_no_code(seeded: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otp, "MAX_CHALLENGES", 5)
    with device(seeded, CARRIER) as owner:
        ask(owner, ASHA)
        code = wait_codes(seeded, 1)[0]
        for _ in range(20):
            seeded.otp.begin()
        assert enter(owner, code).status_code == 303


def test_one_stranger_leaves_a_turn_to_an_owner_at_a_new_device(seeded: Town) -> None:
    for _ in range(5):
        with device(seeded, "203.0.113.1") as stranger:
            ask(stranger, ASHA)
    with device(seeded, CARRIER) as owner:
        login(owner, seeded, ASHA)


def test_who_waits_for_a_turn_gets_it_before_those_who_hammer(seeded: Town) -> None:
    hammer(seeded, ASHA, addresses=2)
    with device(seeded, CARRIER) as owner:
        answer = ask(owner, ASHA)
        assert answer.status_code == 429
        seeded.clock.advance(timedelta(seconds=int(answer.headers["retry-after"])))
        for index in range(20, 30):
            with device(seeded, f"203.0.113.{index}") as stranger:
                ask(stranger, ASHA)
        assert ask(owner, ASHA).status_code == 303


@pytest.mark.parametrize("number", [ASHA, "9999999999"])
def test_limits_tell_nothing_of_a_number(seeded: Town, number: str) -> None:
    hammer(seeded, number)
    with device(seeded, CARRIER) as someone:
        answer = ask(someone, number)
        assert (answer.status_code, answer.headers["retry-after"]) == (
            429,
            "7200",
        )  # three who wait are before


# --- devices and addresses --------------------------------------------------------------------------


def test_neighbours_behind_one_address_do_not_wait_for_each_other(seeded: Town) -> None:
    for index in range(40):
        with device(seeded, CARRIER) as neighbour:
            assert ask(neighbour, f"KE00{index:04}").status_code == 303


def test_an_address_has_a_coarse_share_and_known_devices_do_not_need_it(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with town(tmp_path / "own", limits=AskingLimits(asks_per_address=10)) as built:
        with device(built, CARRIER) as owner:
            login(owner, built, ASHA)
            owner.cookies.delete("session")
            answers = []
            for index in range(12):
                with device(built, CARRIER) as stranger:
                    answers.append(ask(stranger, f"KE00{index:04}").status_code)
            assert answers == [303] * 9 + [429] * 3
            with device(built, "100.64.0.2") as elsewhere:
                assert ask(elsewhere, "KE000001").status_code == 303
            login(owner, built, ASHA)


def test_a_device_that_goes_on_asking_waits_longer_each_time(client: TestClient, seeded: Town) -> None:
    for index in range(ASKS_PER_DEVICE):
        assert ask(client, f"KE000{index}").status_code == 303
    waits = []
    for index in range(4):
        answer = ask(client, f"KE001{index}")
        assert answer.status_code == 429
        waits.append(int(answer.headers["retry-after"]))
        seeded.clock.advance(timedelta(seconds=waits[-1]))
        assert ask(client, f"KE002{index}").status_code == 303
    assert waits == [900, 1800, 3600, 3600]


def test_a_device_that_mistypes_codes_waits_longer_each_time(client: TestClient, seeded: Town) -> None:
    ask(client, "KE7700001")
    for _ in range(10):
        assert enter(client, "000000").status_code == 422
    waits = []
    for _ in range(3):
        answer = enter(client, "000000")
        assert answer.status_code == 429
        waits.append(int(answer.headers["retry-after"]))
        seeded.clock.advance(timedelta(seconds=waits[-1]))
        assert enter(client, "000000").status_code == 422
    assert waits == [60, 120, 240]


# --- sending again ----------------------------------------------------------------------------------


def test_the_sms_can_be_sent_again_after_the_time_that_the_page_names(
    client: TestClient, seeded: Town
) -> None:
    ask(client, ASHA)
    first = wait_codes(seeded, 1)[0]
    page = client.get("/me/code")
    assert 'action="/me/resend"' in page.text
    assert "from 14:31." in page.text  # it is 14:30 in Kanpur
    assert resend(client) == 429
    seeded.clock.advance(timedelta(seconds=59))
    token = form_token(page)
    early = client.post("/me/resend", data={"form": token})
    assert (early.status_code, early.headers["retry-after"]) == (429, "1")
    assert "may still be on its way" in early.text
    assert 'href="/me/code?lang=hi"' in early.text
    assert "14:31 बजे से" in client.post("/me/resend?lang=hi", data={"form": token}).text
    seeded.clock.advance(timedelta(seconds=1))
    assert "अब दोबारा भेजा जा सकता है" in client.get("/me/code").text
    assert client.post("/me/resend", data={"form": token}).headers["location"] == "/me/code"
    assert wait_codes(seeded, 2)[1] != ""
    assert enter(client, first).status_code == 303


def test_every_code_lives_its_own_five_minutes(client: TestClient, seeded: Town) -> None:
    ask(client, ASHA)
    first = wait_codes(seeded, 1)[0]
    seeded.clock.advance(4 * MINUTE)
    assert resend(client) == 303
    second = wait_codes(seeded, 2)[1]
    seeded.clock.advance(timedelta(minutes=1, seconds=1))
    if first != second:
        assert enter(client, first).status_code == 422
    seeded.clock.advance(3 * MINUTE)
    assert enter(client, second).status_code == 303


def test_sending_again_after_the_codes_life_needs_no_typing(client: TestClient, seeded: Town) -> None:
    ask(client, ASHA)
    wait_codes(seeded, 1)
    seeded.clock.advance(10 * MINUTE)
    assert resend(client) == 303
    assert enter(client, wait_codes(seeded, 2)[1]).status_code == 303


def test_sending_again_counts_as_asking(client: TestClient, seeded: Town) -> None:
    ask(client, ASHA)
    seeded.clock.advance(MINUTE)
    assert resend(client) == 303
    seeded.clock.advance(MINUTE)
    assert resend(client) == 429
    seeded.clock.advance(MINUTE)
    answer = client.post("/me/resend", data={"form": form_token(client.get("/me/code"))})
    assert answer.status_code == 429
    assert "Too many tries" in answer.text
    assert len(seeded.codes) == 2


def test_sending_again_is_the_same_for_a_number_that_is_nobodys(client: TestClient, seeded: Town) -> None:
    pages = []
    for number in (ASHA, "9999999999"):
        client.cookies.clear()
        ask(client, number)
        pages.append(client.get("/me/code").content)
        seeded.clock.advance(MINUTE)
        token = form_token(client.get("/me/code"))
        answer = client.post("/me/resend", data={"form": token})
        kept = {key: value for key, value in answer.headers.items() if key != "set-cookie"}
        pages += [answer.content, kept, client.get("/me/code").status_code]
        seeded.clock.advance(-MINUTE)
    half = len(pages) // 2
    assert _unsigned(pages[0]) == _unsigned(pages[half])
    assert pages[1:half] == pages[half + 1 :]


def _unsigned(page: object) -> bytes:
    """Leave out the form token, which every browser has of its own."""
    assert isinstance(page, bytes)
    token = form_token_of(page)
    return page.replace(token, b"")


def form_token_of(page: bytes) -> bytes:
    return page.split(b'name="form" value="')[1].split(b'"')[0]


def test_resending_needs_the_form_and_a_number(client: TestClient) -> None:
    assert client.post("/me/resend").status_code == 403
    token = form_token(client.get("/me"))
    assert client.post("/me/resend", data={"form": token}).headers["location"] == "/me"


# --- the arithmetic ---------------------------------------------------------------------------------


def test_growing_delay_doubles_to_its_most_and_is_forgotten_when_quiet() -> None:
    delay = GrowingDelay(2, MINUTE, 4 * MINUTE, max_keys=3)
    assert [delay.hit("a", AT), delay.hit("a", AT)] == [None, None]
    now, waits = AT, []
    for _ in range(4):
        left = delay.hit("a", now)
        assert left is not None
        waits.append(left)
        now += left
        assert delay.hit("a", now) is None
    assert waits == [MINUTE, 2 * MINUTE, 4 * MINUTE, 4 * MINUTE]
    now += 8 * MINUTE
    assert [delay.hit("a", now), delay.hit("a", now)] == [None, None]
    assert delay.left("a", now) == MINUTE
    delay.forget("a")
    assert delay.left("a", now) is None
    for index in range(100):
        delay.hit(f"k{index}", now)
    assert len(delay) == 3


def test_fair_turns_are_never_more_than_the_limit_in_a_window() -> None:
    """Whatever the askers do, in any hour no more than three turns are taken, and one of two at one address."""
    turns = FairTurns(3, HOUR, each=2, max_keys=2)
    taken: list[tuple[datetime, str]] = []
    for minute in range(0, 600, 7):
        now = AT + minute * MINUTE
        askers = ("a", "a", "b", "c", f"d{minute % 5}")
        taken += [(now, asker) for asker in askers if turns.take("n", asker, now) is None]
    for at, _ in taken:
        window = [who for when, who in taken if at <= when < at + HOUR]
        assert len(window) <= 3
        assert max(window.count(who) for who in window) <= 2
    assert len(taken) >= 20
    for index in range(100):
        turns.take(f"k{index}", "a", AT)
    assert len(turns) == 2


def test_a_turn_is_kept_for_a_quarter_of_the_window_and_turns_are_bounded() -> None:
    turns = FairTurns(1, HOUR, each=1)
    assert turns.take("n", "a", AT) is None
    assert turns.take("n", "b", AT) == HOUR
    assert turns.take("n", "c", AT) == 2 * HOUR
    assert turns.take("n", "b", AT + 76 * MINUTE) == 104 * MINUTE  # b came too late: behind c
    for index in range(1000):
        turns.take("n", f"x{index}", AT + 76 * MINUTE)
    assert len(turns._turns["n"]) <= 24


def test_a_refused_wish_is_counted_nowhere() -> None:
    limits = AskingLimits(asks_per_address=5)
    wish = Ask(number="N", device="d", address="a", known=False)
    assert limits.ask(wish, AT) is None
    assert limits.ask(wish, AT) is None
    for _ in range(50):
        assert limits.ask(wish, AT) == HOUR
    other = Ask(number="M", device="d", address="a", known=False)
    assert [limits.ask(other, AT), limits.ask(other, AT)] == [None, None]
