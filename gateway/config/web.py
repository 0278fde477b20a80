"""The section [web]: where the pages listen, what people type to reach them, who may speak for a client."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from gateway.config.types import Name, Port, Section
from protocols.toml_lines import Path as Trail

MIN_PREFIX = {4: 8, 6: 32}
"""Shortest prefix of a trusted network: whoever is in it can claim any address."""


class WebSection(Section):
    """The pages; on loopback unless told otherwise.

    `public_url` is what people type, for example `https://portal.example`: it decides cookies and the origin
    of forms, and requests for another name are refused. TLS is spoken here with `cert_file` and `key_file`,
    or by a proxy on this machine; `trusted_proxies` are the addresses or networks whose `X-Forwarded-For` and
    `X-Forwarded-Proto` count. Whole headers must come within `header_seconds`, a form's body within
    `body_seconds`; `connections_per_address` are open at once from one client, and `asks_per_address` codes
    may be asked for behind one address in 15 minutes (a mobile operator has thousands behind one).
    `number_token_ref` is the secret of the provider that hands over people's SMS and calls about their number. Other
    systems may prove who they are by a client certificate: where TLS is spoken here, one that `client_ca_file` issued;
    behind a trusted proxy, the one it saw and writes, as PEM or SHA-256, into `client_certificate_header`
    (docs/api.md).
    One-time codes go by [sms].
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    client_certificate_header: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{1,63}$")] | None = None
    operator_token_ref: Name | None = None
    session_secret_ref: Name | None = None
    number_token_ref: Name | None = None
    header_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0
    body_seconds: Annotated[float, Field(gt=0, le=120)] = 20.0
    connections_per_address: Annotated[int, Field(ge=4, le=500)] = 64
    asks_per_address: Annotated[int, Field(ge=5, le=100_000)] = 300

    @field_validator("public_url")
    @classmethod
    def _origin(cls, text: str | None) -> str | None:
        return None if text is None else origin(text)

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                network = ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"`{proxy}` is not an address or a network: {error}") from error
            if network.prefixlen < MIN_PREFIX[network.version]:
                raise ValueError(
                    f"`{proxy}` lets almost everybody claim any client address: name the proxies themselves"
                )
        return proxies


def origin(text: str) -> str:
    """Return a URL as scheme, host and port in the form that browsers write an origin.

    Raises ValueError when it has more parts, or no host.

    >>> origin("HTTPS://Portal.Example:443/")
    'https://portal.example'
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is written like `https://portal.example`")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("has only a name and perhaps a port, like `https://portal.example`")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port  # ValueError beyond 65535
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in (None, default) else f":{port}")


def is_loopback(host: str) -> bool:
    """Say whether a host to listen at, or a host of a URL, is this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_web(web: WebSection, roles: Collection[str]) -> Iterator[tuple[Trail, str]]:
    """Yield what makes the pages unsafe: the field's place, and why with its mend; nothing without the role."""
    if "portal" not in roles:
        return
    tls = web.cert_file is not None or web.key_file is not None
    if web.cert_file is None and tls:
        yield ("web", "key_file"), "TLS needs both files: name `cert_file`, too"
    if web.key_file is None and tls:
        yield ("web", "cert_file"), "TLS needs both files: name `key_file`, too"
    if web.client_ca_file is not None and not tls:
        yield (
            ("web", "client_ca_file"),
            "client certificates are seen with TLS only: name `cert_file` and `key_file`",
        )
    if web.client_certificate_header is not None and not web.trusted_proxies:
        yield (
            ("web", "client_certificate_header"),
            "anybody could write this header: name the proxy that does, in `trusted_proxies`",
        )
    if not is_loopback(web.host):
        if not tls:
            yield (
                ("web", "host"),
                f"`{web.host}` would send codes and balances over the network without TLS: name `cert_file` "
                'and `key_file`, or listen at "127.0.0.1" behind a proxy that speaks TLS',
            )
        if web.public_url is None:
            yield (
                ("web", "host"),
                f"`{web.host}` is open to other machines: set `public_url` to what people type",
            )
    if web.trusted_proxies and web.public_url is None:
        yield ("web", "trusted_proxies"), "behind a proxy, set `public_url` to what people type"
    if web.public_url is not None:
        yield from _check_public(web, web.public_url, tls=tls)


def _check_public(web: WebSection, public_url: str, *, tls: bool) -> Iterator[tuple[Trail, str]]:
    at: Trail = ("web", "public_url")
    scheme, _, host = public_url.partition("://")
    if scheme == "http" and (tls or not is_loopback(urlsplit(public_url).hostname or "")):
        yield at, f"people must reach the pages by TLS: `https://{host}`"
    if scheme == "https" and not tls and not web.trusted_proxies:
        yield (
            at,
            "TLS ends at a proxy, whose address would stand for every client: name it, for example "
            '`trusted_proxies = ["127.0.0.1"]`; or name `cert_file` and `key_file`',
        )
    if web.session_secret_ref is None:
        yield (
            at,
            "logins and known devices would end with each start: name `session_secret_ref`, a secret of at "
            "least 16 random octets",
        )
