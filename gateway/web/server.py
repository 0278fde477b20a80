"""Serves an application with uvicorn inside a running event loop; the port may be left to the system."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from gateway.errors import ConfigError
from gateway.web.connections import ConnectionLimits, GuardedProtocol, OpenConnections

MAX_HEADERS = 16 * 1024
"""Octets of one request's headers; a browser's have one or two thousand."""
DEFAULT_LIMITS = ConnectionLimits()
_STOP_SECONDS = 5
_POLL_SECONDS = 0.01


class _Server(uvicorn.Server):
    """A server of guarded connections that leaves signals to the program around it."""

    def __init__(
        self, config: uvicorn.Config, open_connections: OpenConnections, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(config)
        self._open = open_connections
        self._tls = tls

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, with our protocol and a deadline for the TLS handshake, too."""
        assert sockets is not None
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self.should_exit = True
            return
        # A handshake comes before the protocol sees the connection: it has the headers' time, too.
        handshake = None if self._tls is None else self._open.limits.header_seconds
        server = await asyncio.get_running_loop().create_server(
            self._protocol, sock=sockets[0], ssl=self._tls, backlog=256, ssl_handshake_timeout=handshake
        )
        self.servers = [server]
        self.started = True

    def _protocol(self) -> GuardedProtocol:
        return GuardedProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            open_connections=self._open,
        )


def tls_context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return what serves TLS with a certificate chain and its key; clients may show one that `client_ca` issued.

    Raises ConfigError when a file cannot be read, they do not belong together, or everybody can read the key.
    """
    try:
        if key.stat().st_mode & 0o007:
            raise ConfigError(f"everybody can read the key {key}: make a new one, with mode 0600")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A key under a password would have OpenSSL ask for it on the terminal.
        context.load_cert_chain(cert, key, password="")
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL  # browsers have none, and need none
    except (OSError, ValueError) as error:
        raise ConfigError(f"no TLS with {cert} and {key}: {error}") from error
    return context


def _listen(host: str, port: int) -> socket.socket:
    """Bind host and port (0: the system chooses); ConfigError when that fails."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, number)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(256)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigError(f"the pages cannot be served at {host}:{port}: {error}") from error
    bound.setblocking(False)
    return bound


@asynccontextmanager
async def serve(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    trusted_proxies: tuple[str, ...] = (),
    limits: ConnectionLimits = DEFAULT_LIMITS,
) -> AsyncIterator[int]:
    """Serve while the block runs and yield the bound port. No signal handler is installed.

    ConfigError when the address cannot be bound. X-Forwarded-For and X-Forwarded-Proto are believed of
    `trusted_proxies` only (addresses or networks; uvicorn's middleware); of anybody else they are ignored.
    """
    bound = _listen(host, port)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        server_header=False,
        lifespan="on",
        limit_concurrency=limits.connections + 12,
        h11_max_incomplete_event_size=MAX_HEADERS,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    server = _Server(config, OpenConnections(limits, trusted_proxies), tls)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started and not running.done():
            await asyncio.sleep(_POLL_SECONDS)
        if running.done():
            await running
            raise ConfigError(f"the pages at {host}:{port} did not start")
        yield int(bound.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.wait({running}, timeout=_STOP_SECONDS + 2)
        running.cancel()
        bound.close()
