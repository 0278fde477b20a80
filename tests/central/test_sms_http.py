"""A provider over HTTP on real sockets: what it is sent, what its answers mean, and what a broken line means."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from gateway.central.telling.answers import AnswerRules
from gateway.central.telling.http_provider import HttpProvider, HttpSettings, unknown_places
from gateway.central.telling.messages import Accepted, Doubtful, Handed, NotTaken, Outcome, Refused
from gateway.central.telling.templates import Rendered
from gateway.errors import ConfigError
from tests.support.central.sms_provider import BREAKS, answer, provider_server
from tests.support.mosquitto import free_port, make_certificates

HINDI = Rendered(
    text="कोड 482913 1912",
    template="login-code",
    dlt_id="1107160000000012345",
    header="KESCOE",
    entity_id="1101160000000054321",
    language="hi",
)
MESSAGE = Handed(id="m1", attempt=1, mobile="9876543210", rendered=HINDI)
RULES = AnswerRules(
    where="status", accepted=("success",), busy=("throttled",), id_at="data.0.id", busy_status=(429, 503)
)
FIELDS = {
    "route": "otp",
    "sms.0.to": "91{mobile}",
    "sms.0.text": "{text}",
    "dlt": "{dlt_id}/{entity_id}/{header}",
    "ref": "{reference}",
    "dcs": "{coding}",
}
GOOD = answer(200, json.dumps({"status": "success", "data": [{"id": 17}]}))


@asynccontextmanager
async def provider(port: int, **changes: Any) -> AsyncIterator[HttpProvider]:
    settings = HttpSettings(url=f"http://127.0.0.1:{port}/v1/send", fields=FIELDS, rules=RULES, seconds=20)
    made = HttpProvider(replace(settings, **changes))
    yield made
    await made.close()


async def test_a_message_is_sent_as_the_settings_say_and_its_id_is_found() -> None:
    async with (
        provider_server(GOOD) as server,
        provider(
            server.port,
            headers={"X-Route": "bulk"},
            secret_headers={"Authorization": "Bearer s3cret"},
            secret_fields={"key": "k3y"},
        ) as sending,
    ):
        assert await sending.hand(MESSAGE) == Accepted("17")
        (request,) = server.requests
        assert request.line == "POST /v1/send HTTP/1.1"
        assert (request.headers["authorization"], request.headers["x-route"]) == ("Bearer s3cret", "bulk")
        assert json.loads(request.body) == {
            "route": "otp",
            "sms": [{"to": "919876543210", "text": HINDI.text}],
            "dlt": "1107160000000012345/1101160000000054321/KESCOE",
            "ref": "m1",
            "dcs": "8",
            "key": "k3y",
        }
        assert "s3cret" not in repr(sending._settings)


@pytest.mark.parametrize("body", ["form", "query"])
async def test_fields_go_as_form_or_query(body: Any) -> None:
    async with provider_server(GOOD) as server:
        async with provider(server.port, body=body, method="POST" if body == "form" else "GET") as sending:
            assert await sending.hand(MESSAGE) == Accepted("17")
        (request,) = server.requests
        sent = request.body.decode() if body == "form" else request.line.split()[1].partition("?")[2]
        assert parse_qs(sent)["sms.0.text"] == [HINDI.text]


@pytest.mark.parametrize(
    ("octets", "outcome"),
    [
        (answer(200, '{"status": "throttled"}'), NotTaken),
        (answer(200, '{"status": "blocked"}'), Refused),
        (answer(200, '{"state": 1}'), Doubtful),
        (answer(200, "<html>"), Doubtful),
        (answer(200, '{"status": "success"}', claims=999), Doubtful),
        (answer(200, "x" * 70_000), Doubtful),
        (answer(429), NotTaken),
        (answer(503), NotTaken),
        (answer(401), NotTaken),
        (answer(302), NotTaken),
        (answer(404), NotTaken),
        (answer(400), Refused),
        (answer(500), Doubtful),
        (answer(504), Doubtful),
        (BREAKS, Doubtful),
        (b"HTTP/1.1 2", Doubtful),
        (b"\x16\x03\x01", Doubtful),
    ],
)
async def test_what_an_answer_means(octets: bytes, outcome: type[Outcome]) -> None:
    async with provider_server(octets) as server, provider(server.port) as sending:
        got = await sending.hand(MESSAGE)
        assert isinstance(got, outcome), got
        assert len(server.requests) == 1  # nothing is sent twice, nor followed elsewhere


async def test_reasons_hold_neither_secrets_nor_mobiles() -> None:
    said = json.dumps({"status": "no s3cret for 919876543210\n"})
    async with provider_server(answer(200, said)) as server:
        async with provider(server.port, secret_fields={"key": "s3cret"}) as sending:
            got = await sending.hand(MESSAGE)
    assert got == Refused("the provider says status = no *** for XXXXXXXX3210 ")


async def test_a_provider_that_is_not_there_has_nothing() -> None:
    async with provider(free_port()) as sending:
        assert await sending.hand(MESSAGE) == NotTaken(
            "the provider cannot be reached: ConnectError", away=True
        )


async def test_certificates_are_verified(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    async with provider_server(GOOD, certificates=certificates) as server:
        url = f"https://127.0.0.1:{server.port}/v1/send"
        async with provider(0, url=url, ca_file=certificates.ca) as sending:
            assert await sending.hand(MESSAGE) == Accepted("17")
        async with provider(0, url=url) as stranger:  # the system knows no such authority
            assert isinstance(await stranger.hand(MESSAGE), NotTaken)
        async with provider(0, url=url.replace("127.0.0.1", "localhost"), ca_file=certificates.ca) as other:
            assert isinstance(await other.hand(MESSAGE), NotTaken)
        assert len(server.requests) == 1


async def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"\[sms.http\] ca_file"):
        HttpProvider(HttpSettings(url="https://x.example", fields=FIELDS, ca_file=tmp_path / "ca.pem"))


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with provider_server(GOOD) as server, provider(server.port) as sending:
        assert await sending.hand(MESSAGE) == Accepted("17")


def test_braces_that_no_message_fills_are_named() -> None:
    assert unknown_places({"a": "{mobile}", "b": "{mobil}"}) == ["b"]
