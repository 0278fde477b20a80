"""From the settings to a provider's socket and back: what is sent, what is refused before it can go wrong."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from gateway.central.telling.lint import load_library
from gateway.central.telling.messages import State
from gateway.config.file import load
from gateway.config.mistakes import ConfigMistakes
from gateway.errors import ConfigError
from gateway.roles.telling import telling_problems, telling_role
from tests.support.central.sms_provider import answer, provider_server
from tests.support.central.telling import MOBILE, code, contact
from tests.support.mosquitto import Certificates, make_certificates
from tests.support.waiting import until

ID = "1107160000000012345"
TOKEN = "Bearer t0ken-of-the-provider"
HTTP = """[sms]
provider = "http"
templates = "{folder}/templates.toml"
[sms.http]
url = "{url}"
ca_file = "{folder}/ca.pem"
fields = {{ to = "91{{mobile}}", text = "{{text}}", id = "{{dlt_id}}", ref = "{{reference}}" }}
secret_headers = {{ Authorization = "sms-token" }}
[sms.http.answer]
where = "status"
accepted = ["ok"]
id = "id"
"""


def registered() -> str:
    names = load_library(None).templates
    return f'header = "KESCOE"\nentity_id = "{ID}"\n' + "".join(
        f'[registered.{name}]\nen = "{ID}"\nhi = "{ID}"\n' for name in names
    )


def configured(folder: Path, text: str) -> Path:
    path = folder / "central.toml"
    path.write_text(
        f'[gateway]\nname = "c1"\ndata = "{folder}/data"\nsecrets = "{folder}/keys"\nroles = ["central"]\n{text}'
    )
    (folder / "keys").mkdir(mode=0o700)
    (folder / "keys" / "sms-token").write_text(TOKEN + "\n")
    (folder / "keys" / "sms-token").chmod(0o600)
    return path


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


async def test_a_code_goes_from_the_settings_to_the_provider(
    tmp_path: Path, certificates: Certificates
) -> None:
    (tmp_path / "templates.toml").write_text(registered())
    good = answer(200, json.dumps({"status": "ok", "id": "p1"}))
    async with provider_server(good, certificates=certificates) as server:
        url = f"https://127.0.0.1:{server.port}/send"
        config = load(configured(tmp_path, HTTP.format(folder=tmp_path, url=url)))
        assert telling_problems(config) == []
        with structlog.testing.capture_logs() as logs:
            async with telling_role(config) as told:
                running = asyncio.create_task(told.run())
                now = datetime.now(UTC)
                to = contact(told.people)
                told.queue.put(code(to), now=now)
                await until(lambda: told.queue.counts() == {State.ACCEPTED: 1})
                (kept,) = told.queue.find()
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
    (request,) = server.requests
    sent = json.loads(request.body)
    assert (sent["to"], sent["id"], sent["ref"]) == (f"91{MOBILE}", ID, kept.id)
    assert (request.headers["authorization"], kept.provider_id) == (TOKEN, "p1")
    assert "t0ken" not in str(logs)
    assert MOBILE not in str(logs)


async def test_a_provider_is_not_used_with_texts_that_operators_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "templates.toml").write_text(registered().replace(f'hi = "{ID}"', "", 1))
    config = load(configured(tmp_path, HTTP.format(folder=tmp_path, url="https://sms.example/")))
    (problem,) = telling_problems(config)
    assert "would refuse 1 of them (login-code.hi …)" in problem
    with pytest.raises(ConfigError, match="sms templates check"):
        async with telling_role(config):
            pass


def test_mistakes_of_templates_are_those_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "templates.toml").write_text('header = "x"\n')
    config = load(configured(tmp_path, HTTP.format(folder=tmp_path, url="https://sms.example/")))
    (problem,) = telling_problems(config)
    assert problem.startswith(f"{tmp_path}/templates.toml:1: header:")


@pytest.mark.parametrize("secret", ["", "two\nlines", "h\u00e9"])
async def test_a_secret_that_no_header_can_hold_is_refused(tmp_path: Path, secret: str) -> None:
    (tmp_path / "templates.toml").write_text(registered())
    make_certificates(tmp_path)
    config = load(configured(tmp_path, HTTP.format(folder=tmp_path, url="https://sms.example/")))
    (tmp_path / "keys" / "sms-token").write_text(secret)
    with pytest.raises(Exception, match="sms-token"):
        async with telling_role(config):
            pass


@pytest.mark.parametrize(
    ("old", "new", "field", "problem"),
    [
        ("https://sms", "http://sms", "sms.http.url", "by TLS only"),
        ("example/", "example/?key=1", "sms.http.url", "no query"),
        ("https://", "https://me:pw@", "sms.http.url", "no login"),
        ("{text}", "{txt}", "sms.http.fields", "there is no {txt}"),
        ('to = "91{mobile}", ', "", "sms.http.fields", "must have {mobile} and {text}"),
        ('where = "status"\n', "", "sms.http.answer", "go together"),
        ('id = "id"', 'id_pattern = "id"', "sms.http.answer.id_pattern", "needs a group"),
        ('id = "id"', 'id_pattern = "("', "sms.http.answer.id_pattern", "is no pattern"),
        ("secret_headers", 'method = "GET"\nsecret_headers', "sms.http", 'body = "query"'),
        ('provider = "http"', 'provider = "file"', "sms.provider", "needs `file`"),
    ],
)
def test_what_the_settings_may_not_say(tmp_path: Path, old: str, new: str, field: str, problem: str) -> None:
    right = HTTP.format(folder=tmp_path, url="https://sms.example/")
    assert old in right
    with pytest.raises(ConfigMistakes) as mistakes:
        load(configured(tmp_path, right.replace(old, new, 1)))
    assert [problem in one.problem for one in mistakes.value.mistakes if one.field == field] == [True]
