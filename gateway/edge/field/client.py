"""What a command asks of a running edge beside its lines: its counters, and what it does itself."""

from __future__ import annotations

import socket
from itertools import count
from pathlib import Path

from gateway.edge.field.messages import (
    Answer,
    Call,
    Called,
    Count,
    Done,
    Failed,
    FieldMessageError,
    Refused,
    answer_of,
    body_length,
    packed,
)
from gateway.edge.field.socket_file import connected_socket
from gateway.errors import GatewayError, UsageError
from protocols.errors import LocalError

ANSWER_TIME = 30.0
"""Seconds in which the edge answers about counters, which it writes to its disk."""
CALL_TIME = 1_800.0
"""Seconds that what the edge does itself may take: it waits for the conversations of lines."""


class EdgeCounters:
    """`CounterStore` that asks the running edge: a meter's title is the edge's, and so are its counters.

    Its calls block, as those of a file do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._numbers = count(1)

    def next(self, key: str, at_least: int = 0) -> int:
        """Return a counter that was never given before; LocalError when the edge gives none."""
        return self._asked("next", key, at_least)

    def believes(self, key: str, told: int) -> bool:
        """Say whether the key may go on above a counter that was told without proof."""
        return bool(self._asked("believes", key, told))

    def confirm(self, key: str, counter: int) -> None:
        """Note a proven answer."""
        self._asked("confirm", key, counter)

    def proven(self, key: str) -> bool:
        """Say whether a meter has answered with proof that it holds the key."""
        return bool(self._asked("proven", key))

    def failed(self, key: str) -> None:
        """Note that a try with our own counter failed."""
        self._asked("failed", key)

    def close(self) -> None:
        """Let go of the socket. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _asked(self, do: str, key: str, counter: int = 0) -> int:
        number = next(self._numbers)
        request = Count.model_validate({"number": number, "do": do, "key": key, "counter": counter})
        try:
            if self._socket is None:
                self._socket = connected_socket(self._path)
                self._socket.settimeout(ANSWER_TIME)
            self._socket.sendall(packed(request))
            answer = received(self._socket)
        except (OSError, FieldMessageError) as error:
            self.close()
            raise LocalError(f"the edge's counters cannot be asked at {self._path}: {error}") from error
        match answer:
            case Done(number=done) if done == number:
                return answer.count
            case Failed() | Refused():
                raise LocalError(answer.text)
        raise LocalError(f"the edge does not answer about counters at {self._path}")


def call_edge(path: Path, name: str, *words: str) -> Called:
    """Let the edge at this socket do something itself and say what came of it; GatewayError."""
    try:
        with connected_socket(path) as connected:
            connected.settimeout(CALL_TIME)
            connected.sendall(packed(Call(name=name, words=words)))
            answer = received(connected)
    except (OSError, FieldMessageError) as error:
        raise GatewayError(f"the edge does not answer at {path}: {error}") from error
    if isinstance(answer, Refused):
        raise UsageError(answer.text)
    if not isinstance(answer, Called):
        raise GatewayError(f"the edge at {path} stopped in the middle; its log says more")
    return answer


def received(connected: socket.socket) -> Answer | None:
    """Return the next answer from a blocking socket, None at the end; OSError, FieldMessageError."""
    head = _exactly(connected, 4)
    return None if not head else answer_of(_exactly(connected, body_length(head)))


def _exactly(connected: socket.socket, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        piece = connected.recv(octets - len(found))
        if not piece:
            return b""
        found += piece
    return found
