"""[web]: what is unsafe is refused by `check` and at the start, with file, line, field and mend; TLS is served."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.cli.exits import Exit
from gateway.config.file import load
from gateway.config.mistakes import ConfigMistakes
from gateway.config.web import origin
from gateway.errors import ConfigError
from gateway.roles.app import running
from tests.support.cli import Cli, command_line
from tests.support.mosquitto import make_certificates
from tests.support.paths import ROOT
from tests.support.web.deployed import TOKEN, settings

URL = 'public_url = "https://portal.example"\n'
SECRET = 'session_secret_ref = "portal-session"\n'
PROXY = 'trusted_proxies = ["127.0.0.1"]\n'
TLS = 'cert_file = "/etc/ssl/portal.pem"\nkey_file = "/etc/ssl/private/portal.key"\n'
UNSAFE = {
    "other machines without TLS": ('host = "0.0.0.0"\n' + URL + SECRET + PROXY, "web.host", "without TLS: name"),
    "every address of IPv6": ('host = "::"\n' + URL + SECRET + PROXY, "web.host", "without TLS: name"),
    "a name that may be anywhere": ('host = "portal.example"\n', "web.host", "without TLS: name"),
    "no host at all": ('host = ""\n', "web.host", "without TLS: name"),
    "TLS without a public name": ('host = "0.0.0.0"\n' + TLS, "web.host", "set `public_url`"),
    "half of TLS": ('cert_file = "/etc/ssl/portal.pem"\n', "web.cert_file", "name `key_file`, too"),
    "the other half": ('key_file = "/etc/ssl/private/portal.key"\n', "web.key_file", "name `cert_file`, too"),
    "a public name without TLS": (
        'public_url = "http://portal.example"\n' + SECRET + PROXY, "web.public_url", "by TLS: `https://portal.example`",
    ),
    "plain name of a TLS server": (
        'public_url = "http://127.0.0.1"\n' + SECRET + TLS, "web.public_url", "by TLS: `https://127.0.0.1`",
    ),
    "a proxy that stands for everybody": (URL + SECRET, "web.public_url", '`trusted_proxies = ["127.0.0.1"]`'),
    "proxies without a public name": (PROXY, "web.trusted_proxies", "set `public_url`"),
    "everybody is a proxy": (URL + SECRET + 'trusted_proxies = ["0.0.0.0/0"]\n', "web.trusted_proxies", "almost"),
    "all of IPv6 is a proxy": (URL + SECRET + 'trusted_proxies = ["::/0"]\n', "web.trusted_proxies", "almost"),
    "half of all": (URL + SECRET + 'trusted_proxies = ["128.0.0.0/1"]\n', "web.trusted_proxies", "almost"),
    "any proxy": (URL + SECRET + 'trusted_proxies = ["*"]\n', "web.trusted_proxies", "not an address"),
    "a proxy's name": (URL + SECRET + 'trusted_proxies = ["proxy-1"]\n', "web.trusted_proxies", "not an address"),
    "codes in the log": (
        URL + SECRET + PROXY + '[sms]\nprovider = "console"\n', "sms.provider", '`provider = "none"`',
    ),
    "sessions that end with each start": (URL + PROXY, "web.public_url", "name `session_secret_ref`"),
    "a path": ('public_url = "https://portal.example/me"\n', "web.public_url", "like `https://portal.example`"),
    "a user": ('public_url = "https://x@portal.example"\n', "web.public_url", "like `https://portal.example`"),
    "no scheme": ('public_url = "portal.example"\n', "web.public_url", "like `https://portal.example`"),
    "a script": ('public_url = "javascript:alert(1)"\n', "web.public_url", "like `https://portal.example`"),
}  # fmt: skip
SAFE = {
    "nothing": "",
    "a demonstration": '[sms]\nprovider = "console"\n',
    "behind a proxy": URL + SECRET + PROXY,
    "TLS here": 'host = "0.0.0.0"\n' + URL + SECRET + TLS,
    "TLS here and a proxy elsewhere": 'host = "::"\ntrusted_proxies = ["10.0.0.0/24"]\n' + URL + SECRET + TLS,
    "TLS on this machine": TLS,
    "a name of this machine": 'public_url = "http://localhost:8080"\n' + SECRET,
    "IPv6 of this machine": 'host = "::1"\n',
}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with command_line(tmp_path_factory.mktemp("cli")) as given:
        yield given


@pytest.mark.parametrize(("web", "field", "mend"), UNSAFE.values(), ids=list(UNSAFE))
async def test_what_is_unsafe_is_refused_where_it_stands(
    cli: Cli, tmp_path: Path, web: str, field: str, mend: str
) -> None:
    path = settings(tmp_path, web)
    for command in ("check", "run"):
        told = cli(command, "--config", path, code=Exit.CONFIG).err
        assert f"{path}:" in told
        line = next(line for line in told.splitlines() if f": {field}" in line)
        assert mend in line
    with pytest.raises(ConfigMistakes):
        load(path)


@pytest.mark.parametrize("web", SAFE.values(), ids=list(SAFE))
def test_what_is_safe_is_taken(tmp_path: Path, web: str) -> None:
    assert load(settings(tmp_path, web)).gateway.roles == ("portal",)


def test_without_the_portal_nothing_is_asked_of_its_section(tmp_path: Path) -> None:
    assert load(settings(tmp_path, 'host = "0.0.0.0"\n', roles='"central"')).web.host == "0.0.0.0"


def test_the_shipped_example_is_safe() -> None:
    assert load(ROOT / "deploy" / "portal.example.toml").web.public_url == "https://portal.example"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("HTTPS://Portal.Example:443/", "https://portal.example"),
        ("https://portal.example:8443", "https://portal.example:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, written: str) -> None:
    assert origin(text) == written


@pytest.mark.parametrize("name", ["portal-session", "portal-staff"])
async def test_short_secrets_are_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    path = settings(tmp_path, URL + SECRET + PROXY + 'operator_token_ref = "portal-staff"\n')
    (tmp_path / "keys" / name).write_text("short")
    told = cli("check", "--config", path, code=Exit.CONFIG).err
    assert "has 5 octets" in told
    assert "`openssl rand -base64 32`" in told
    assert f"{path}:" in told
    with pytest.raises(ConfigError, match="has 5 octets"):
        async with running(load(path)):
            pass
    cli("run", "--config", path, code=Exit.CONFIG)


async def test_tls_is_served_and_its_files_are_looked_at(cli: Cli, tmp_path: Path) -> None:
    certs = make_certificates(tmp_path / "tls")
    web = f'cert_file = "{certs.server_cert}"\nkey_file = "{certs.server_key}"\noperator_token_ref = "portal-staff"\n'
    path = settings(tmp_path, web)
    (tmp_path / "data").mkdir()
    cli("check", "--config", path)
    trusted = ssl.create_default_context(cafile=str(certs.ca))
    async with running(load(path)) as parts:
        role = parts.portal
        assert role is not None
        assert role.url.startswith("https://127.0.0.1:")
        async with httpx.AsyncClient(base_url=role.url, verify=trusted) as browser:
            page = await browser.get("/me")
            assert page.headers["set-cookie"].startswith("__Host-device=")
            assert "Secure" in page.headers["set-cookie"]
            assert (await browser.get(f"/operator?token={TOKEN}")).status_code == 303
            assert (await browser.get("/operator")).status_code == 200
    certs.server_key.chmod(0o644)
    for command in ("check", "run"):
        assert "everybody can read the key" in cli(command, "--config", path, code=Exit.CONFIG).err
    certs.server_key.write_bytes(certs.client_key.read_bytes())
    certs.server_key.chmod(0o600)
    for command in ("check", "run"):
        assert "no TLS with" in cli(command, "--config", path, code=Exit.CONFIG).err
    certs.server_key.unlink()
    for command in ("check", "run"):
        assert "no TLS with" in cli(command, "--config", path, code=Exit.CONFIG).err
