"""Where the pages are reached: which Host names are theirs, which origin their forms have, how cookies are kept."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

HSTS = "max-age=31536000"
"""A year; without subdomains, which are not the portal's to speak for."""
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What [web] says about the address of the pages; the default is this machine, over plain HTTP.

    Example: `Site(public_url="https://portal.example")`
    """

    public_url: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that every answer of this site carries."""
        return {"Strict-Transport-Security": HSTS} if (self.public_url or "").startswith("https:") else {}

    def is_secure(self, request: Request) -> bool:
        """Say whether cookies are Secure: always with a public https address, else where TLS is used."""
        return bool(self.headers) or request.scope["scheme"] == "https"

    def cookie(self, request: Request, name: str) -> str:
        """Return the full name of a cookie.

        With `__Host-` a browser takes it over TLS from this very host only: neither a page over plain HTTP nor
        a neighbour under the same domain can set one.
        """
        return f"__Host-{name}" if self.is_secure(request) else name

    def knows_host(self, host: str, client: str | None) -> bool:
        """Say whether a Host header names these pages: the public address, or this machine to itself."""
        if self.public_url is not None:
            own = urlsplit(self.public_url)
            default = {"http": ":80", "https": ":443"}[own.scheme]
            if host.lower().removesuffix(default) == own.netloc:
                return True
            if not is_loopback_address(client):
                return False
        return names_this_machine(host)

    def is_own_origin(self, request: Request, origin: str) -> bool:
        """Say whether an Origin header is these pages' own."""
        host = request.headers.get("host", "")
        if self.public_url is not None and not names_this_machine(host):
            return origin == self.public_url
        return origin.partition("://")[2] == host

    def is_this_machine(self, request: Request) -> bool:
        """Say whether a request was made on this machine, for pages that ask for nothing else.

        A Host header alone proves nothing: a proxy may write it (nginx sends `Host: 127.0.0.1:8080` when it is
        not told otherwise). So there is no public address, the connection comes from this machine, and nothing
        shows that a proxy made it: neither one of their headers, nor the HTTP/1.0 that nginx speaks to what it serves.
        """
        client = request.client.host if request.client else None
        return (
            self.public_url is None
            and is_loopback_address(client)
            and names_this_machine(request.headers.get("host", ""))
            and request.scope.get("http_version") != "1.0"
            and not any(name in request.headers for name in _FORWARDED)
        )


def names_this_machine(host: str) -> bool:
    """Say whether a Host header is a name of this machine (a foreign name may be DNS rebinding).

    >>> names_this_machine("localhost:8080"), names_this_machine("localhost.evil.example")
    (True, False)
    """
    name, colon, port = host.lower().rpartition(":")
    return host.lower() in _LOOPBACK_NAMES or (colon == ":" and port.isdecimal() and name in _LOOPBACK_NAMES)


def is_loopback_address(address: str | None) -> bool:
    """Say whether a client's address is this machine's own."""
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def own_path(path: str) -> str:
    r"""Return a path of a request as a link that stays on these pages.

    `//evil.example` and `/\evil.example` are addresses of other hosts to a browser, and `http://…` may stand in a
    request line, too.

    >>> own_path("/me"), own_path("//evil.example/me"), own_path("http://evil.example/")
    ('/me', '/', '/')
    """
    plain = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable()
    return path if plain else "/"


def address_key(address: str) -> str:
    """Return what shares are counted by: an IPv4 address, or the /64 that one IPv6 household has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 6:
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)
