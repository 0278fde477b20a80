"""What a gateway tells of itself: a small retained summary, and what changed with its meters and lines.

Neither grows with the number of meters: the summary is cut at `MAX_STATUS`, changes are split at `MAX_CHANGES`.
Nothing here ends the connection that the readings travel on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from time import monotonic
from typing import Protocol

import structlog

from gateway.contract.envelope import wrap
from gateway.contract.messages import MAX_CHANGES, MAX_STATUS, LineStatus, MeterStatus, Status, StatusChanges
from gateway.contract.messages.texts import gateway_source
from gateway.contract.topics import Topics
from gateway.errors import PeerRefusedData, PeerRefusedLogin, PeerUnavailable
from gateway.mqtt.connection import MqttConnection
from gateway.statistics import counted

STATUS_EVERY = 30.0
"""Seconds after which the summary is published again though nothing changed: whoever hears none knows more."""
STATUS_LOOK = 2.0
"""Seconds between looks at what changed."""
STATUS_RECEIPT = 60.0
"""Longest wait for the broker's receipt, in seconds, before a message counts as lost and is made anew."""
LISTING_CALM = 60.0
"""Least seconds between two full listings: whoever may ask for one must not keep the edge busy with it."""
ALARM_TEXT = 300
"""Characters of an alarm's text in the summary, and of a meter's or line's detail."""
ALARMS = 24
"""Alarms in the summary; the rest is counted."""
KINDS = 24
"""Kinds of health that are counted by name in the summary; the rest are `other`."""
_ROOM = 2_048
"""Octets of a message of changes that are left for all but its rows."""
_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)

log = structlog.get_logger("gateway.edge.sinks")

Row = LineStatus | MeterStatus


class HealthSource(Protocol):
    """The health of this edge's meters and lines: rows by the number of their last change."""

    @property
    def number(self) -> int:
        """The number of the newest change."""

    def since(self, number: int) -> Sequence[tuple[int, Row]]:
        """Return what changed after `number`, in the order of changes."""

    def all(self) -> Iterator[tuple[int, Row]]:
        """Yield every meter and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusStatistics:
    """Counters since start: `summaries`, messages of `changes`, full `listings`; `fault` is why one was not taken."""

    summaries: int = 0
    changes: int = 0
    listings: int = 0
    refused: int = 0
    fault: str | None = None


class StatusReporter:
    """Tells the summary that `status` gives (cheap: it is asked every STATUS_LOOK) and what changed in `health`.

    Lives as long as the sink: what the broker took on one connection is not told again on the next.
    """

    def __init__(
        self,
        topics: Topics,
        gateway: str,
        *,
        status: Callable[[], Status],
        health: HealthSource | None = None,
    ) -> None:
        self._topics = topics
        self._gateway = gateway
        self._status = status
        self._health = health
        self._run = token_hex(4)
        self._told: int | None = None
        self._listing_wanted = False
        self._listed_at = self._quiet_until = -LISTING_CALM
        self._statistics = StatusStatistics()

    def statistics(self) -> StatusStatistics:
        """Return the counters since start, frozen."""
        return self._statistics

    def want_listing(self) -> None:
        """Tell all meters and lines again, soon: somebody missed changes."""
        self._listing_wanted = True

    def farewell(self) -> bytes | None:
        """Return the summary that says that this gateway is gone; None when none can be made."""
        try:
            gone = {"online": False, "meters": {}, "lines": {}, "alarms": ()}
            return self._summary(self._status(), gone)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the readings need their connection
            self._failed(error)
            return None

    async def run(self, connection: MqttConnection) -> None:
        """Tell until the connection ends, which raises PeerUnavailable; nothing else leaves it."""
        heartbeat = _Heartbeat()
        while True:
            try:
                await self._tell(connection, heartbeat)
            except PeerUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - a status that cannot be made must not stop the readings
                self._failed(error)
            await asyncio.sleep(STATUS_LOOK)

    async def _tell(self, connection: MqttConnection, heartbeat: _Heartbeat) -> None:
        await self._tell_summary(connection, heartbeat)
        if self._health is None or monotonic() < self._quiet_until:
            return
        for piece in self._due(self._health):
            if not await self._publish(connection, self._topics.status_changes(self._gateway), piece):
                # Refused: the next would fare no better, and asking each second helps nobody.
                self._quiet_until = monotonic() + STATUS_EVERY
                return
            self._statistics = counted(self._statistics, changes=1)
            if piece.part == piece.parts:
                self._told = piece.to_seq
            await self._tell_summary(connection, heartbeat)

    async def _tell_summary(self, connection: MqttConnection, heartbeat: _Heartbeat) -> None:
        status = self._status()
        essence = _essence(status)
        if heartbeat.due(essence):
            topic = self._topics.status(self._gateway)
            taken = await self._send(connection, topic, self._summary(status), retain=True)
            self._statistics = counted(self._statistics, summaries=int(taken))
            heartbeat.told(essence if taken else None)

    def _summary(self, status: Status, gone: Mapping[str, object] = {}) -> bytes:
        own = {"run": self._run, "status_seq": self._told or 0, **gone}
        return fitted(status.model_copy(update=own), self._wrapped)[1]

    def _due(self, health: HealthSource) -> Iterable[StatusChanges]:
        """Return what is to be told now: nothing, changes, or everything."""
        if self._told is not None and not (
            self._listing_wanted and monotonic() - self._listed_at >= LISTING_CALM
        ):
            rows = health.since(self._told)
            return self._changes(rows, self._told) if rows else ()
        self._listing_wanted = False
        self._listed_at = monotonic()
        self._statistics = counted(self._statistics, listings=1)
        return self._listing(health)

    def _changes(self, rows: Sequence[tuple[int, Row]], told: int) -> Iterator[StatusChanges]:
        for piece in split(rows):
            last = piece[-1][0]
            yield self._message(piece, first=told + 1, last=last)
            told = last

    def _listing(self, health: HealthSource) -> Iterator[StatusChanges]:
        number = health.number
        pieces = list(split(health.all())) or [[]]
        for part, piece in enumerate(pieces, 1):
            yield self._message(piece, first=0, last=number, part=part, parts=len(pieces))

    def _message(
        self, rows: Sequence[tuple[int, Row]], *, first: int, last: int, part: int = 1, parts: int = 1
    ) -> StatusChanges:
        return StatusChanges(
            gateway=self._gateway,
            run=self._run,
            from_seq=first,
            to_seq=last,
            part=part,
            parts=parts,
            lines=tuple(row for _, row in rows if isinstance(row, LineStatus)),
            meters=tuple(row for _, row in rows if isinstance(row, MeterStatus)),
            at=self._status().at,
        )

    async def _publish(self, connection: MqttConnection, topic: str, changes: StatusChanges) -> bool:
        return await self._send(connection, topic, self._wrapped(changes))

    async def _send(
        self, connection: MqttConnection, topic: str, payload: bytes, *, retain: bool = False
    ) -> bool:
        """Send one message; False when the broker does not take it. PeerUnavailable when the connection ended."""
        try:
            async with asyncio.timeout(STATUS_RECEIPT):
                await connection.send(topic, payload, retain=retain)
        except (PeerRefusedData, PeerRefusedLogin, TimeoutError) as error:
            self._failed(error)
            return False
        self._statistics = replace(self._statistics, fault=None)
        return True

    def _wrapped(self, message: Status | StatusChanges) -> bytes:
        which = "status" if isinstance(message, Status) else f"changes/{message.to_seq}/{message.part}"
        identity = f"{self._gateway}/{self._run}/{which}/{int(message.at.timestamp() * 1000)}"
        return wrap(message, id=identity, source=gateway_source(self._gateway), time=message.at)

    def _failed(self, error: Exception) -> None:
        told = str(error) or f"the broker gave no receipt in {STATUS_RECEIPT:g} s"
        self._statistics = replace(counted(self._statistics, refused=1), fault=told)
        log.warning("status_not_taken", error=told, code=type(error).__name__)


class _Heartbeat:
    """When the summary is due on one connection: at once when it says something else, else now and then.

    One that was refused is not due before its time: it would be refused again, and tell of that refusal.
    """

    def __init__(self) -> None:
        self._essence: str | None = None
        self._at = 0.0

    def due(self, essence: str) -> bool:
        return (self._essence is not None and essence != self._essence) or monotonic() >= self._at

    def told(self, essence: str | None) -> None:
        """Note what was told, None where it was refused."""
        self._essence, self._at = essence, monotonic() + STATUS_EVERY


def fitted(status: Status, wrapped: Callable[[Status], bytes]) -> tuple[Status, bytes]:
    """Return a summary cut to MAX_STATUS octets with its message: long texts first, then the last alarms."""
    status = status.model_copy(
        update={
            "version": status.version[:64],
            "meters": _bounded(status.meters),
            "lines": _bounded(status.lines),
            "clock": status.clock and status.clock.model_copy(update={"detail": cut(status.clock.detail)}),
            "alarms": tuple(alarm.model_copy(update={"text": cut(alarm.text)}) for alarm in status.alarms),
        }
    )
    kept = min(len(status.alarms), ALARMS)
    while True:
        shown = status.model_copy(
            update={
                "alarms": status.alarms[:kept],
                "more_alarms": status.more_alarms + len(status.alarms) - kept,
            }
        )
        payload = wrapped(shown)
        if len(payload) <= MAX_STATUS or not kept:
            return shown, payload
        kept -= 1


def split(rows: Iterable[tuple[int, Row]]) -> Iterator[list[tuple[int, Row]]]:
    """Yield the rows in lists, none of which makes a message longer than MAX_CHANGES octets."""
    piece: list[tuple[int, Row]] = []
    room = MAX_CHANGES - _ROOM
    for number, row in rows:
        size = len(row.model_dump_json(exclude_none=True).encode()) + 1
        if piece and size > room:
            yield piece
            piece, room = [], MAX_CHANGES - _ROOM
        piece.append((number, row))
        room -= size
    if piece:
        yield piece


def cut(text: str | None) -> str | None:
    """Return a text of at most ALARM_TEXT characters; what was cut shows."""
    return text if text is None or len(text) <= ALARM_TEXT else f"{text[: ALARM_TEXT - 1]}…"


def _bounded(counts: Mapping[str, int]) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda one: -one[1])
    named = [(name, count) for name, count in ranked if _PLAIN.fullmatch(name) and name != "other"][:KINDS]
    rest = sum(counts.values()) - sum(count for _, count in named)
    return dict(named) | ({"other": rest} if rest else {})


def _essence(status: Status) -> str:
    """Return what counts as a change: all but times and running counters."""
    volatile = dict.fromkeys(("at", "first_seq", "last_seq", "backlog", "acknowledged", "status_seq"), True)
    return status.model_dump_json(exclude={**volatile, "clock": {"at", "detail", "sources", "began"}})
