"""Connections of the pages: deadlines for slow clients and a share for each address.

uvicorn times idle connections only: one that sends a header a minute, or never reads its answer, would be kept
for ever. h11 has no clock. So this protocol watches at which stage a connection is.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.web.site import address_key

_OVERDUE = b"\r\n".join(
    (b"HTTP/1.1 408 Request Timeout", b"Content-Length: 9", b"Connection: close", b"", b"too slow\n")
)
LOG_SECONDS = 60.0
log = structlog.get_logger("gateway.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one client may take.

    Seconds for whole headers, for a whole body, for taking the answer, and for saying nothing between requests.
    """

    header_seconds: float = 10.0
    body_seconds: float = 20.0
    answer_seconds: float = 30.0
    idle_seconds: int = 15
    per_address: int = 64
    connections: int = 500


class Stage(Enum):
    """Whose turn it is on a connection, and for what."""

    IDLE = "idle"
    HEADER = "header"
    BODY = "body"
    ANSWER = "answer"
    CLOSING = "closing"


@dataclass(slots=True)
class OpenConnections:
    """The connections of one server, by address, oldest first.

    When an address has used its share, or all have used the whole, the oldest that waits for its client makes
    room: so those who hold connections open lose them, not the household behind the same address.
    A trusted proxy has no share of its own: it stands for many, and counts them itself.
    """

    limits: ConnectionLimits = ConnectionLimits()
    trusted: tuple[str, ...] = ()
    turned_away: int = 0
    overdue: int = 0
    _told_at: float | None = None
    _all: dict[GuardedProtocol, str | None] = field(default_factory=dict)
    _by_address: dict[str, dict[GuardedProtocol, None]] = field(default_factory=dict)

    def admit(self, connection: GuardedProtocol, address: str) -> None:
        """Count a connection; it, or one that waits, is dropped when the share or the whole is used up."""
        key = None if self._is_trusted(address) else address_key(address)
        if key is not None and len(self._by_address.get(key, ())) >= self.limits.per_address:
            self._make_room(connection, self._by_address[key])
        elif len(self._all) >= self.limits.connections:
            self._make_room(connection, self._all)
        self._all[connection] = key
        if key is not None:
            self._by_address.setdefault(key, {})[connection] = None

    def leave(self, connection: GuardedProtocol) -> None:
        """Forget a connection that was lost."""
        key = self._all.pop(connection, None)
        if key is None or key not in self._by_address:
            return
        self._by_address[key].pop(connection, None)
        if not self._by_address[key]:
            del self._by_address[key]

    def expired(self, stage: Stage, now: float) -> None:
        """Count a connection that was too slow, and log it once in a minute: `now` is the loop's time."""
        self.overdue += 1
        if self._told_at is None or now - self._told_at >= LOG_SECONDS:
            self._told_at = now
            log.warning(
                "connections_overdue", stage=stage.value, overdue=self.overdue, turned_away=self.turned_away
            )

    def _make_room(self, new: GuardedProtocol, among: dict[GuardedProtocol, Any]) -> None:
        self.turned_away += 1
        waiting = (Stage.IDLE, Stage.HEADER, Stage.BODY)
        victim = next((one for one in among if one.stage in waiting), new)
        self.leave(victim)
        victim.drop()

    def _is_trusted(self, address: str) -> bool:
        try:
            peer = ip_address(address)
        except ValueError:
            return False
        return any(peer in ip_network(network) for network in self.trusted)

    def __len__(self) -> int:
        return len(self._all)


def _client_certificate(transport: asyncio.Transport) -> str | None:
    """Return the SHA-256 of the certificate that a client proved to have, None without one."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    shown = None if tls is None else tls.getpeercert(binary_form=True)
    return None if shown is None else hashlib.sha256(shown).hexdigest()


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 connection with a deadline at each stage."""

    def __init__(self, *args: Any, open_connections: OpenConnections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stage = Stage.HEADER
        self._open = open_connections
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Count the connection and wait for its first headers."""
        super().connection_made(transport)
        # Each request finds them in its state: whom TLS proved, and who is at the other end, a proxy or not.
        self.app_state = {**self.app_state, "peer": self.client[0] if self.client else ""}
        if (digest := _client_certificate(transport)) is not None:
            self.app_state["client_certificate"] = digest
        self._open.admit(self, self.client[0] if self.client else "")
        self._enter(Stage.HEADER)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._open.leave(self)
        self._cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take octets; the first after an answer begin the headers of the next request."""
        super().data_received(data)
        self._look(Stage.HEADER)

    def on_response_complete(self) -> None:
        """Begin with the next request, which may have been sent already."""
        self.stage = Stage.IDLE
        self._cancel()
        super().on_response_complete()
        self._look(Stage.HEADER if self.conn.trailing_data[0] else Stage.IDLE)

    def drop(self) -> None:
        """End the connection without an answer."""
        self.transport.abort()

    def _look(self, between: Stage) -> None:
        """Enter the stage that the connection is at; `between`: the one before a request is there."""
        if self.transport.is_closing():
            stage = Stage.CLOSING
        elif self.conn.their_state is h11.SEND_BODY:
            stage = Stage.BODY
        elif self.conn.their_state is h11.IDLE:
            stage = between
        else:
            stage = Stage.ANSWER
        if stage is not self.stage:
            self._enter(stage)

    def _enter(self, stage: Stage) -> None:
        self._cancel()
        self.stage = stage
        limits = self._open.limits
        seconds = {
            Stage.HEADER: limits.header_seconds,
            Stage.BODY: limits.body_seconds,
            Stage.ANSWER: limits.answer_seconds,
            Stage.CLOSING: limits.answer_seconds,
        }.get(stage)  # an idle connection has uvicorn's own deadline
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        stage = self.stage
        self._open.expired(stage, self.loop.time())
        begun = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if stage in (Stage.ANSWER, Stage.CLOSING) or begun:
            self.transport.abort()
            return
        self.transport.write(_OVERDUE)
        self.transport.close()
        self._enter(Stage.CLOSING)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, and drop it when its peer does not take the rest of the answer."""
        super().timeout_keep_alive_handler()
        self._look(Stage.IDLE)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
