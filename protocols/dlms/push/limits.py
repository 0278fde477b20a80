"""Bounds of a push listener, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.push.framing import MAX_PUSH


@dataclass(frozen=True, slots=True, kw_only=True)
class PushLimits:
    """Bounds of a listener.

    `connections` at one time; `first` seconds for the first whole push of a connection, `idle` seconds
    between pushes; `octets` of one push; `queue` notifications that wait for the consumer; `ask_after`
    seconds of silence after which a new connection is asked who it is.
    """

    connections: int = 4_096
    first: float = 30.0
    idle: float = 300.0
    octets: int = MAX_PUSH
    queue: int = 1_000
    ask_after: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStatistics:
    """Counters since the start; `connections`, `dialled_in` and `queued` are of now."""

    connections: int = 0
    peak: int = 0
    dialled_in: int = 0
    queued: int = 0
    opened: int = 0
    over_limit: int = 0
    foreign_network: int = 0
    broken_framing: int = 0
    no_push_in_time: int = 0
    idle_closed: int = 0
    datagrams: int = 0
    broken_datagrams: int = 0
    queue_full: int = 0
    asked: int = 0
    unknown_callers: int = 0
