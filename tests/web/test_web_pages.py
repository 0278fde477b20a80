"""What the pages say and how they are guarded: headers, weight, words, hostile values."""

from __future__ import annotations

import gzip
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from markupsafe import Markup

import gateway.web
from gateway.central.campaign.targets import PlanState
from gateway.central.campaign.ticks import Ticked
from gateway.central.office.actors import StaffRole
from gateway.central.office.change_records import ChangeSetState
from gateway.central.portal.view_models import CentralState, IssueKind, Severity
from gateway.cli.commands import every_command
from gateway.contract.messages import Alarm, ClockStatus, Status
from gateway.contract.messages.codes import ALARM_CODES
from gateway.web.campaigns import COLUMNS as CAMPAIGN_COLUMNS
from gateway.web.charts import Bar, bar_chart, nice_top
from gateway.web.i18n import Words, catalogue, choose_language, grouped, masked
from mapping.changes import Name
from mapping.directory import NumberKind, Role
from tests.support.central.samples import tell_status
from tests.support.web.client import TestClient
from tests.support.web.seed import NOW, NUMBERS, SECRET, Town, capture, live, town, value, wallet
from tests.support.web.steps import ask, login

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
IST = ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    "path", ["/", "/me", "/me/code", "/me/home", "/operator", "/healthz", "/nowhere", "/me/x"]
)
def test_every_answer_is_guarded(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    for header in answer.headers.get_list("set-cookie"):
        assert "HttpOnly" in header
        assert "SameSite=strict" in header
    assert " style=" not in answer.text
    assert "<script" not in answer.text
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text)


def test_cookies_are_secure_over_tls(seeded: Town) -> None:
    with TestClient(seeded.app, base_url="https://127.0.0.1") as over_tls:
        assert "Secure" in over_tls.get("/me").headers["set-cookie"]


def test_balance_that_is_owed(client: TestClient, seeded: Town) -> None:
    text = login(client, seeded, NUMBERS["birju"]).text
    assert "−₹412.50" in text
    assert "minus ₹412.50" in text
    assert 'you owe / <span lang="hi">बकाया</span>' in text
    assert "Supply is off" in text
    hindi = client.get("/me/home?lang=hi").text
    assert 'बकाया / <span lang="en">you owe</span>' in hindi
    assert '<html lang="hi">' in hindi
    assert '<html lang="hi">' in client.get("/me/home").text


def test_old_reading_is_amber_and_in_words(client: TestClient, seeded: Town) -> None:
    login(client, seeded, NUMBERS["chand"])
    hindi = client.get("/me/home", headers={"Accept-Language": "hi-IN,hi;q=0.9,en;q=0.5"}).text
    assert "26 घंटे पुराना" in hindi
    assert "₹1,23,456.78" in hindi
    assert 'class="fresh old"' in hindi
    assert "आँकड़े नहीं" in hindi


def test_unknown_is_never_zero(client: TestClient, seeded: Town) -> None:
    text = login(client, seeded, NUMBERS["devi"]).text
    assert "Not known yet" in text
    assert "Supply not known" in text
    assert "₹0" not in text


def test_full_numbers_only_behind_a_tap(client: TestClient, seeded: Town) -> None:
    text = login(client, seeded, NUMBERS["asha"]).text
    assert "•••• •• 7890" in text
    assert text.count("1234 567 890") == 1
    assert "KE0012345" not in text
    assert "GEN:10000001" not in text
    assert "98765" not in text


def test_every_page_is_light(client: TestClient, seeded: Town) -> None:
    css = client.get("/static/style.css").content
    pages = [login(client, seeded, NUMBERS["asha"]), client.get("/me/home?lang=hi"), client.get("/me/code")]
    for page in pages:
        assert len(gzip.compress(page.content)) + len(gzip.compress(css)) <= 14 * 1024
        assert len(page.content) + len(css) <= 50 * 1024
    assert pages[0].headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("typed", [EVIL, "1", "a" * 200, "१२३", "12\x0034567", "", "नंबर मेरा"])
def test_unreadable_number_is_said_and_escaped(client: TestClient, typed: str) -> None:
    answer = ask(client, typed)
    assert answer.status_code == 422
    assert "cannot be an account number" in answer.text
    assert "<script>" not in answer.text
    assert "<img" not in answer.text


def test_hostile_values_are_escaped_on_the_operators_page(client: TestClient, seeded: Town) -> None:
    told = Status(
        gateway="edge-9", online=True, version="1", journal="j", at=NOW, alarms=(Alarm(code="x", text=EVIL),)
    )
    tell_status(seeded.ledger, told)
    seeded.writer.write(live("GEN:<b>bold</b>", NOW, 5))
    for lang in ("en", "hi"):
        text = client.get(f"/operator?lang={lang}").text
        assert "alert(1)" in text
        assert "<script>" not in text
        assert "<img" not in text
        assert "<b>bold" not in text
    assert "<b>bold" not in client.get("/me", params={"lang": "<b>bold"}).text
    assert "<b>bold" not in client.get("/<b>bold").text


def test_a_clock_that_is_only_declared_right_is_not_shown_as_one_that_was_proved(
    client: TestClient, seeded: Town
) -> None:
    for name, state in (("edge-7", "declared"), ("edge-8", "trusted")):
        clock = ClockStatus.model_validate({"disciplined": True, "at": NOW, "state": state})
        told = Status(gateway=name, online=True, version="1", journal=name, at=NOW, clock=clock)
        tell_status(seeded.ledger, told)
    page = client.get("/operator?lang=en").text
    of = {name: page[page.index(f">{name}</th>") :] for name in ("edge-7", "edge-8")}
    assert "declared right" in of["edge-7"][: of["edge-7"].index("</tr>")]
    assert "declared right" not in of["edge-8"][: of["edge-8"].index("</tr>")]
    rows = client.get("/operator/api/overview.json").json()["gateways"]
    states = {row["gateway"]: row["clock_state"] for row in rows}
    assert (states["edge-7"], states["edge-8"]) == ("declared", "trusted")


def test_charts_escape_what_they_are_given() -> None:
    drawn = bar_chart([Bar(Decimal(1), label=EVIL, above=EVIL)], summary=EVIL, scale=EVIL)
    assert isinstance(drawn, Markup)
    assert "<script>" not in drawn
    assert "<img" not in drawn


def test_charts_tell_no_data_from_zero() -> None:
    drawn = bar_chart([Bar(None), Bar(Decimal(0)), Bar(Decimal(1), partial=True)], summary="", scale="")
    assert drawn.count('class="none"') == 1
    assert drawn.count('class="bar"') == 1
    assert drawn.count('class="bar part"') == 1
    assert nice_top([]) == 1
    assert nice_top([Decimal("0.215")]) == Decimal("0.25")


def test_bad_forms_get_a_page_not_a_trace(client: TestClient) -> None:
    assert client.post("/me", files={"number": b"x"}).status_code in (403, 422)
    assert client.post("/me", content=b"\xff" * 20_000).status_code == 413
    assert client.post("/me", content=iter([b"number=" + b"1" * 9_000, b"1" * 9_000])).status_code >= 400
    assert client.put("/me").status_code == 405


def test_a_failure_shows_a_calm_page(seeded: Town) -> None:
    seeded.ledger.close()
    (seeded.folder / "ledger.sqlite3").unlink()
    with TestClient(seeded.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.get("/operator")
    assert answer.status_code == 500
    assert "We could not show this page" in answer.text
    assert "sqlite" not in answer.text.lower()
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


# --- operator ---------------------------------------------------------------------------------------


def test_overview_names_each_fault_with_its_age(client: TestClient) -> None:
    document = client.get("/operator/api/overview.json").json()
    kinds = {issue["kind"] for issue in document["issues"]}
    assert kinds == {
        "dead_meter", "line_down", "journal_alarm", "edge_offline", "identity_mismatch", "meter_clock",
        "unattributed", "backlog", "never_read", "gap_open", "meters_claimed",
    }  # fmt: skip
    silent = next(i for i in document["issues"] if i["kind"] == "dead_meter")
    assert silent["meters"] == ["GEN:10000003"]
    assert silent["age_seconds"] == 26 * 3600
    assert silent["what"] == "Meter is silent"
    assert silent["what_to_do"]
    meters = {m["meter"]: m for m in document["meters"]}
    assert meters["GEN:10000001"]["balance"] == "186.00"
    assert meters["GEN:10000001"]["energy_kwh"] == "4812.350"
    assert meters["GEN:10000002"]["relay"] == "open"
    assert meters["GEN:10000099"]["state"] == "never"
    page = client.get("/operator?lang=hi").text
    assert "मीटर चुप है" in page
    assert '<meta http-equiv="refresh"' in page
    assert '<meta http-equiv="refresh"' not in client.get("/operator?refresh=off").text


def test_operator_page_without_token_answers_to_this_machine_only(client: TestClient) -> None:
    assert client.get("/operator").status_code == 200
    assert client.get("/operator", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/operator/api/overview.json", headers={"Host": "10.0.0.1:8080"}).status_code == 421
    for host in ("localhost:8080", "[::1]:8080"):
        assert client.get("/operator", headers={"Host": host}).status_code == 200


def test_operator_token(tmp_path: Path) -> None:
    with (
        town(tmp_path, token="long-token-of-staff") as built,
        TestClient(built.app, base_url="http://127.0.0.1", follow_redirects=False) as client,
    ):
        assert client.get("/operator").status_code == 403
        assert client.get("/operator/api/overview.json").status_code == 403
        assert client.get("/operator?token=wrong").status_code == 403
        bearer = {"Authorization": "Bearer long-token-of-staff"}
        assert client.get("/operator/api/overview.json", headers=bearer).status_code == 200
        answer = client.get("/operator?token=long-token-of-staff")
        assert (answer.status_code, answer.headers["location"]) == (303, "/operator")
        assert "long-token" not in str(answer.headers)
        assert client.get("/operator").status_code == 200
        built.clock.advance(timedelta(hours=12))
        assert client.get("/operator").status_code == 403
        for _ in range(12):
            answer = client.get("/operator?token=guess")
        assert answer.status_code == 429


def test_empty_town_has_pages(tmp_path: Path) -> None:
    with (
        town(tmp_path, seed=False) as built,
        TestClient(built.app, base_url="http://127.0.0.1") as client,
    ):
        page = client.get("/operator")
        assert page.status_code == 200
        assert "No gateway has reported yet." in page.text


# --- words ------------------------------------------------------------------------------------------


def test_catalogues_have_the_same_keys_and_placeholders() -> None:
    english, hindi = catalogue("en"), catalogue("hi")
    assert english.keys() == hindi.keys()
    for key, words in english.items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", hindi[key])), key
        assert words.strip(), key
        assert hindi[key].strip(), key


def test_no_key_is_unused_and_none_is_missing() -> None:
    folder = Path(str(gateway.web.__file__)).parent
    text = "".join(p.read_text() for p in [*folder.glob("*.py"), *folder.glob("templates/*.html")])
    used = set(re.findall(r'"([a-z_]+(?:\.[a-z_0-9]+)+)"', text)) | set(
        re.findall(r"'([a-z_]+\.[a-z_]+)'", text)
    )
    used |= {f"{key}.{n}" for key in used for n in ("one", "other")}
    used |= {f"issue.{kind}.{part}" for kind in IssueKind for part in ("what", "do")}
    used |= {f"severity.{severity}" for severity in Severity} | {f"role.{role}" for role in Role}
    used |= {f"op.{word}" for word in ("up", "down", "idle", "busy", "unknown", "relay_open", "relay_closed")}
    used |= {f"op.meter_{state}" for state in ("heard", "silent", "never")}
    used |= {f"home.{word}" for word in ("fresh", "old", "stale", "left", "owing", "zero")}
    used |= {f"home.supply_{state}" for state in ("on", "off", "unknown", "was_on", "was_off")}
    used |= {f"op.central_{state}" for state in CentralState}
    used |= {f"staff.role.{role}" for role in StaffRole} | {f"staff.state.{s}" for s in ChangeSetState}
    used |= {f"staff.said.{said}" for said in ("denied", "moved_on", "decided")}
    used |= {f"alarm.{code}" for code in ALARM_CODES}
    used |= {
        f"{about}.{word}" for about in ("number", "know") for word in ("title", "lead", "button", "private")
    }
    used |= {f"camp.{word}" for word in CAMPAIGN_COLUMNS} | {f"camp.state_{state}" for state in PlanState}
    used |= {f"camp.tick_{said}" for said in Ticked}
    used |= {f"camp.said_{said}" for said in ("applied", "unchanged", "conflict", "rejected")}
    for key in ("wait", "missing", "form", "session", "broken", "closed", "not_yours"):
        used |= {f"error.{key}", f"error.{key}_title"}
    keys = set(catalogue("en"))
    assert keys - used == set()
    groups = {key.rpartition(".")[0] for key in keys}
    assert set(re.findall(r'\bt\("([a-z_]+(?:\.[a-z_]*[a-z])+)"', text)) <= keys | groups


@pytest.mark.parametrize("language", ["en", "hi"])
def test_every_command_that_is_advised_exists(language: str) -> None:
    known = every_command()
    for key, words in catalogue(language).items():
        for quoted in words.split("`")[1::2]:
            said = quoted.removeprefix("meter-gateway ").split()
            if not re.fullmatch(r"[a-z][a-z-]+", said[0]):
                continue  # a setting or a topic
            plain = [word for word in said if re.fullmatch(r"[a-z][a-z-]+", word)]
            found = known.get(tuple(plain)) or known.get(tuple(plain[:1]))
            is_group = len(plain) == 1 and any(words[0] == said[0] for words in known)
            assert found is not None or is_group, (key, quoted)
            options = set() if found is None else {name for one in found.params for name in one.opts}
            assert {word for word in said if word.startswith("--")} <= options, (key, quoted)


def test_every_alarm_says_what_its_reader_can_do(client: TestClient, seeded: Town) -> None:
    assert {f"alarm.{code}" for code in ALARM_CODES} <= catalogue("hi").keys()
    alarm = Alarm(code="twin", text="another edge publishes under this name")
    told = Status(gateway="edge-9", online=True, version="1", journal="j", at=NOW, alarms=(alarm,))
    tell_status(seeded.ledger, told)
    issues = client.get("/operator/api/overview.json").json()["issues"]
    (twin,) = [issue for issue in issues if issue["code"] == "twin"]
    assert twin["what_to_do"].startswith("Two gateways have one name: stop one")
    strange = [issue for issue in issues if issue["code"] == "journal_near_full"]
    assert strange[0]["what_to_do"].startswith("Read the detail")


def test_money_groups_as_lakh_and_crore() -> None:
    for language in ("en", "hi"):
        words = Words(language, IST)
        assert words.rupees(Decimal("123456.78")) == "₹1,23,456.78"
        assert words.rupees(Decimal("-123456.78")) == "−₹1,23,456.78"
        assert words.number(12345678) == "1,23,45,678"
        assert words.kwh(Decimal("4812.350")) == "4,812.35"
        assert words.kwh(Decimal(99000)) == "99,000.0"
    assert Words("hi", IST).ago(timedelta(hours=26)) == "26 घंटे पुराना"
    assert Words("hi", IST).ago(timedelta(minutes=65)) == "1 घंटा पुराना"
    assert Words("en", IST).ago(timedelta(days=9)) == "9 days old"
    assert (grouped("1234567890"), masked("1234567890")) == ("1234 567 890", "•••• •• 7890")


@pytest.mark.parametrize(
    ("asked", "cookie", "accept", "chosen"),
    [
        (None, None, None, "en"),
        ("hi", "en", "en", "hi"),
        ("xx", "hi", "en", "hi"),
        (None, None, "ta, hi;q=0.8, en;q=0.5", "hi"),
        (None, None, "en;q=0.1, hi-IN;q=0.9", "hi"),
        (None, None, "hi;q=x, en", "en"),
        (None, None, ",,;;=" * 5000, "en"),
    ],
)
def test_language(asked: str | None, cookie: str | None, accept: str | None, chosen: str) -> None:
    assert choose_language(asked, cookie, accept) == chosen


def test_a_new_number_appears_without_resending(client: TestClient, seeded: Town) -> None:
    assert "no new number yet (KE0012349)" in client.get("/operator").text
    seeded.directory.apply(
        [Name("acc-esha", NumberKind.ACCOUNT, "6789012345")], by="test", source="re-key", at=NOW
    )
    assert "6789 012 345" in client.get("/operator").text


def test_session_secret_must_be_long(seeded: Town) -> None:
    from gateway.web.app import create_app

    with pytest.raises(ValueError, match="16 octets"):
        create_app(
            seeded.views,
            seeded.contacts,
            seeded.otp,
            clock=seeded.clock,
            secret=SECRET[:15],
            operator_token=None,
        )


def test_hostile_meter_values_do_not_break_the_page(client: TestClient, seeded: Town) -> None:
    at = NOW - timedelta(minutes=1)
    seeded.writer.write(
        wallet("GEN:10000002", at, "9" * 40 + ".123456"),
        capture("GEN:10000002", "instantaneous", at, value("0-0:96.3.10*255", text="maybe")),
        capture(
            "GEN:10000002",
            "block_load",
            at,
            value("1-0:1.29.0*255", "5", "bananas"),
            start=at - timedelta(minutes=1),
        ),
    )
    page = login(client, seeded, NUMBERS["birju"])
    assert page.status_code == 200
    assert client.get("/operator").status_code == 200
