"""The real portal from a settings file, and a proxy with the file that we ship in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.portal.otp import CodeMessage
from gateway.config.file import load
from gateway.roles.central_files import central_files
from gateway.roles.portal import portal_role
from tests.support import services
from tests.support.fakes import ManualClock
from tests.support.mosquitto import Certificates, free_port
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until, wait_until
from tests.support.web.seed import NOW

NAME = "portal.example"
TOKEN = "long-token-of-the-staff"


@dataclass
class Phone:
    """The registered mobile: keeps the messages that reach it."""

    messages: list[CodeMessage] = field(default_factory=list)

    async def send(self, message: CodeMessage) -> None:
        self.messages.append(message)

    async def code(self, count: int) -> str:
        """Return the code of the message of this number, 1 for the first."""
        await until(lambda: len(self.messages) >= count, lambda: f"{len(self.messages)} of {count} messages")
        return self.messages[count - 1].code


def settings(folder: Path, web: str, *, roles: str = '"portal"') -> Path:
    """Write a settings file with the given [web] and its secrets."""
    keys = folder / "keys"
    keys.mkdir(exist_ok=True, mode=0o700)
    for name, text in (("portal-session", "s" * 32), ("portal-staff", TOKEN)):
        (keys / name).write_text(text)
        (keys / name).chmod(0o600)
    path = folder / "portal.toml"
    path.write_text(
        f'[gateway]\nname = "central-1"\ndata = "{folder / "data"}"\nsecrets = "{keys}"\nroles = [{roles}]\n'
        f"[web]\nport = 0\n{web}\n"
    )
    return path


def public(port: int, more: str = "") -> str:
    """Return the keys of [web] for a portal behind a proxy that listens at a port."""
    return (
        f'public_url = "https://{NAME}:{port}"\ntrusted_proxies = ["127.0.0.1"]\n'
        f'session_secret_ref = "portal-session"\noperator_token_ref = "portal-staff"\n{more}'
    )


@asynccontextmanager
async def portal(folder: Path, seeded: Path, web: str) -> AsyncIterator[tuple[int, Phone]]:
    """Run the portal on seeded files and yield its port and the mobile of all accounts."""
    files = central_files(folder / "data").made()
    for name, path in (
        ("directory", files.directory),
        ("ledger", files.ledger),
        ("contacts", files.people),
    ):
        shutil.copyfile(seeded / f"{name}.sqlite3", path)
    people = PeopleStore(files.people)
    contacts, now = ContactStore(people), datetime.now(UTC)
    for who in ("asha", "birju"):
        contacts.add(f"acc-{who}", "9876543210", by="t", source="t", at=now, verified_at=now)
    phone = Phone()
    try:
        async with portal_role(load(settings(folder, web)), ManualClock(NOW), contacts, phone) as role:
            yield int(role.url.rsplit(":", 1)[1]), phone
    finally:
        people.close()


@contextmanager
def _process(arguments: list[str], port: int, log: Path, env: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=out, env=env)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, log.name)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _replaced(name: str, changes: dict[str, str]) -> str:
    """Return a shipped file with each text replaced; every one of them stands in it."""
    text = (ROOT / "deploy" / name).read_text()
    for old, new in changes.items():
        assert old in text, f"deploy/{name} has no `{old}`"
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(folder: Path, upstream: int, ports: tuple[int, int], certs: Certificates) -> Iterator[None]:
    """Run nginx with deploy/nginx-portal.conf: `ports` for TLS and plain HTTP, the staff at 127.0.0.4."""
    program = services.program("nginx", "nginx", "nginx-light", "/usr/sbin/nginx")
    tls, plain = ports
    shipped = _replaced(
        "nginx-portal.conf",
        {
            "listen 443": f"listen {tls}",
            "listen 80": f"listen {plain}",
            "https://portal.example$request_uri": f"https://portal.example:{tls}$request_uri",
            "http://127.0.0.1:8080": f"http://127.0.0.1:{upstream}",
            "/etc/ssl/portal.pem": str(certs.server_cert),
            "/etc/ssl/private/portal.key": str(certs.server_key),
            "/var/log/nginx/portal.log": str(folder / "access.log"),
            "/var/log/nginx/error.log": str(folder / "staff-error.log"),
            "allow 10.0.0.0/24": "allow 127.0.0.4",
            "client_header_timeout 10s": "client_header_timeout 1s",
        },
    )
    (folder / "portal.conf").write_text(shipped)
    temporary = "".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # the files of a test are the user's own
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr info;\nevents {{}}\n"
        f"http {{ {temporary} include {folder}/portal.conf; }}\n"
    )
    arguments = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with _process(arguments, tls, folder / "nginx.log", dict(os.environ)):
        yield


@contextmanager
def caddy(folder: Path, upstream: int, ports: tuple[int, int], certs: Certificates) -> Iterator[None]:
    """Run Caddy with deploy/Caddyfile.portal: `ports` for TLS and plain HTTP, the staff at 127.0.0.4."""
    program = services.program("caddy", "caddy", "caddy", "/usr/bin/caddy")
    tls, plain = ports
    own = "{\n\tadmin off\n\tauto_https disable_certs\n"
    shipped = _replaced(
        "Caddyfile.portal",
        {
            "{\n\tservers {": f"{own}\thttp_port {plain}\n\thttps_port {tls}\n\tservers {{",
            "portal.example {": f"portal.example {{\n\ttls {certs.server_cert} {certs.server_key}",
            "reverse_proxy 127.0.0.1:8080": f"reverse_proxy 127.0.0.1:{upstream}",
            "remote_ip 10.0.0.0/24": "remote_ip 127.0.0.4",
            "read_header 10s": "read_header 1s",
        },
    )
    (folder / "Caddyfile").write_text(shipped)
    env = dict(os.environ) | {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    arguments = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with _process(arguments, tls, folder / "caddy.log", env):
        yield


def two_ports() -> tuple[int, int]:
    """Return two free ports, for TLS and for plain HTTP."""
    first, second = free_port(), free_port()
    return (first, second) if first != second else two_ports()


class _OwnName(httpx.AsyncHTTPTransport):
    """Connects to a port of this machine and says another name, in the handshake and in the request."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        own = httpx.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1"),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": NAME},
        )
        return await super().handle_async_request(own)


def visitor(port: int, certs: Certificates, address: str = "127.0.0.2") -> httpx.AsyncClient:
    """Return a browser at an address of this machine that types the public URL."""
    trusted = ssl.create_default_context(cafile=str(certs.ca))
    transport = _OwnName(verify=trusted, local_address=address)
    return httpx.AsyncClient(base_url=f"https://{NAME}:{port}", transport=transport)
