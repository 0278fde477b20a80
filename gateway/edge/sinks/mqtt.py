"""The MQTT sink: journal entries out in batches at QoS 1, the retained status, one shared connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Protocol

import structlog

from gateway.backoff import Backoff
from gateway.contract.envelope import assemble, gateway_source, wrap
from gateway.contract.messages import Status, rfc3339
from gateway.contract.topics import Topics, gateway_name
from gateway.edge.journal.entry import Entry
from gateway.edge.sinks.base import JournalReader
from gateway.edge.sinks.batching import ENVELOPE, Batcher, BatchLimits, Outgoing
from gateway.errors import (
    GatewayError,
    JournalError,
    PeerError,
    PeerRefusedData,
    PeerRefusedLogin,
    PeerUnavailable,
)
from gateway.mqtt.connection import MqttConnection, MqttSettings, Will, connect

log = structlog.get_logger()

SINK = "mqtt"
STATUS_EVERY = 30.0
STATUS_LOOK = 1.0
RECEIPT_DEADLINE = 30.0
"""Longest wait for a PUBACK, in seconds, before the connection is given up and opened anew."""
STEADY = 30.0
"""A connection that lasted this long, in seconds, starts the back-off anew."""
FAREWELL = 2.0


class Companion(Protocol):
    """Something that shares the sink's connection, such as `gateway.edge.sinks.link.EdgeLink`."""

    async def serve(self, connection: MqttConnection, journal: JournalReader) -> None:
        """Work until the connection ends (raises PeerError) or it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttStatistics:
    """Counters since start; `delivered` counts entries, `messages` their messages."""

    connected: bool = False
    version: str | None = None
    delivered: int = 0
    messages: int = 0
    dead: int = 0
    failures: int = 0
    last_error: str | None = None
    in_flight: int = 0
    cursor: int = 0


class MqttSink:
    """Follows the journal and publishes it; keeps the retained status and its last will.

    `status` gives the present Status (cheap; it is asked every second). `companions` share the connection.
    """

    name = SINK

    def __init__(
        self,
        settings: MqttSettings,
        gateway: str,
        *,
        status: Callable[[], Status],
        password: bytes | None = None,
        companions: Sequence[Companion] = (),
        limits: BatchLimits | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._gateway = gateway_name(gateway)
        self._topics = Topics(settings.root)
        self._password = password
        self._status = status
        self._companions = tuple(companions)
        self._limits = limits or BatchLimits()
        self._backoff = backoff or Backoff()
        self._statistics = MqttStatistics()
        self._connection: MqttConnection | None = None

    def statistics(self) -> MqttStatistics:
        """Return a frozen copy of the counters."""
        return self._statistics

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish something else on the sink's connection; PeerUnavailable when there is none now."""
        if self._connection is None:
            raise PeerUnavailable("not connected to the broker")
        await self._connection.publish(topic, payload)

    async def run(self, journal: JournalReader) -> None:
        """Deliver until cancelled or the journal closes and all of it was taken; reconnects by itself."""
        while True:
            began = monotonic()
            try:
                await self._session(journal)
            except PeerRefusedLogin as error:
                wait = self._backoff.next(at_least=self._backoff.most)
                self._failed(error, wait)
            except PeerError as error:
                if monotonic() - began > STEADY:
                    self._backoff.reset()
                wait = self._backoff.next()
                self._failed(error, wait)
            except JournalError as error:  # a disk that is full or fails: what is not acked is sent again
                wait = self._backoff.next()
                self._failed(error, wait)
            else:
                return
            await asyncio.sleep(wait)

    async def _session(self, journal: JournalReader) -> None:
        topic = self._topics.status(self._gateway)
        will = Will(topic, self._offline(journal))
        async with connect(self._settings, password=self._password, will=will) as connection:
            self._connection = connection
            self._count(connected=True, version=connection.version, last_error=None)
            log.info("mqtt_connected", host=self._settings.host, version=connection.version)
            try:
                await first_ended(
                    self._deliver(connection, journal),
                    self._report(connection, journal),
                    *(companion.serve(connection, journal) for companion in self._companions),
                )
            finally:
                self._connection = None
                self._count(connected=False, in_flight=0)
                with contextlib.suppress(PeerError, TimeoutError):
                    async with asyncio.timeout(FAREWELL):
                        await connection.send(topic, self._offline(journal), retain=True)

    # -- the journal

    async def _deliver(self, connection: MqttConnection, journal: JournalReader) -> None:
        delivery = _Delivery(connection, journal, self._limits, self._topics, self._gateway)
        delivery.on_progress = self._progressed
        async with contextlib.aclosing(_generator(journal.follow(SINK))) as chunks:
            await first_ended(delivery.feed(chunks), delivery.send(), wait_all=True)

    def _progressed(self, messages: int, entries: int, dead: int, in_flight: int, cursor: int) -> None:
        self._backoff.reset()
        was = self._statistics
        self._count(
            delivered=was.delivered + entries,
            messages=was.messages + messages,
            dead=was.dead + dead,
            in_flight=in_flight,
            cursor=cursor,
        )

    # -- the status

    async def _report(self, connection: MqttConnection, journal: JournalReader) -> None:
        """Publish the status when it changes, and every 30 s."""
        topic = self._topics.status(self._gateway)
        last, due = "", 0.0
        while True:
            status = self._status()
            essence = _essence(status)
            if essence != last or monotonic() >= due:
                await connection.publish(topic, self._wrapped(status, journal), retain=True)
                last, due = essence, monotonic() + STATUS_EVERY
            await asyncio.sleep(STATUS_LOOK)

    def _offline(self, journal: JournalReader) -> bytes:
        status = self._status()
        gone = {"online": False, "lines": (), "meters": (), "alarms": ()}
        return self._wrapped(status.model_copy(update=gone), journal)

    def _wrapped(self, status: Status, journal: JournalReader) -> bytes:
        identity = f"{journal.uuid}/status/{int(status.at.timestamp() * 1000)}"
        return wrap(status, id=identity, source=gateway_source(self._gateway), time=status.at)

    def _failed(self, error: GatewayError, wait: float) -> None:
        self._count(failures=self._statistics.failures + 1, last_error=str(error))
        log.warning("mqtt_failed", error=str(error), code=type(error).__name__, retry_in=round(wait, 1))

    def _count(self, **changes: Any) -> None:
        self._statistics = replace(self._statistics, **changes)


class _Delivery:
    """One connection's work on the journal: batches out, receipts in, the cursor behind them."""

    def __init__(
        self,
        connection: MqttConnection,
        journal: JournalReader,
        limits: BatchLimits,
        topics: Topics,
        gateway: str,
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._gateway = gateway
        self._largest = connection.maximum_packet
        if self._largest is not None:
            limits = replace(limits, size=max(1, min(limits.size, self._largest - 2 * ENVELOPE)))
        self._batcher = Batcher(topics, gateway, limits)
        self._receipts: deque[tuple[Outgoing, asyncio.Future[None]]] = deque()
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._last_receipt = monotonic()
        self._acked = 0
        self.on_progress: Callable[[int, int, int, int, int], None] = lambda *_: None

    async def feed(self, chunks: AsyncIterator[list[Entry]]) -> None:
        """Take entries from the journal as long as there is room."""
        async for chunk in chunks:
            self._batcher.take(chunk, monotonic())
            self._wake.set()
            while self._batcher.full:
                self._room.clear()
                await self._room.wait()
        self._ended = True
        self._wake.set()

    async def send(self) -> None:
        """Keep the window full; end when the journal has ended and everything was taken."""
        while not (self._ended and self._batcher.idle):
            self._wake.clear()
            self._fill_window()
            if self._receipts:
                await self._settle()
                continue
            await self._wait()

    def _fill_window(self) -> None:
        now = monotonic()
        while self._in_flight < self._connection.window:
            batch = self._batcher.next(now, flush=self._ended)
            if batch is None:
                break
            if self._in_flight == 0:
                self._last_receipt = now
            self._launch(batch)
        if not self._batcher.full:
            self._room.set()

    def _launch(self, batch: Outgoing) -> None:
        payload = encode(batch, self._journal.uuid, self._gateway)
        self._in_flight += 1
        if self._largest is not None and len(payload) + ENVELOPE > self._largest:
            receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            receipt.set_exception(PeerRefusedData(f"larger than the broker's {self._largest} octets"))
        else:
            receipt = self._connection.send(batch.topic, payload)
        receipt.add_done_callback(lambda done: self._arrived(batch, done))

    def _arrived(self, batch: Outgoing, receipt: asyncio.Future[None]) -> None:
        self._receipts.append((batch, receipt))
        self._wake.set()

    async def _settle(self) -> None:
        """Work off the receipts; PeerUnavailable and PeerRefusedLogin end the session."""
        messages = entries = dead = 0
        while self._receipts:
            batch, receipt = self._receipts.popleft()
            self._in_flight -= 1
            try:
                receipt.result()
            except PeerRefusedData as error:
                dead += await self._refused(batch, error)
            else:
                self._batcher.done(batch)
                messages += 1
                entries += len(batch.entries)
        self._last_receipt = monotonic()
        cursor = self._batcher.cursor
        if cursor > self._acked:
            await self._journal.ack(SINK, cursor)
            self._acked = cursor
        self.on_progress(messages, entries, dead, self._in_flight, cursor)

    async def _refused(self, batch: Outgoing, error: PeerRefusedData) -> int:
        """Halve a refused batch until the bad entry stands alone; that one is set aside with the reason."""
        if len(batch.entries) > 1:
            self._batcher.again(batch)
            return 0
        entry = batch.entries[0]
        await self._journal.dead_letter(SINK, entry.seq, str(error), entry.body)
        self._batcher.done(batch)
        log.error("mqtt_entry_refused", seq=entry.seq, error=str(error))
        return 1

    async def _wait(self) -> None:
        """Wait for entries, a receipt, or the moment that a batch is due."""
        now = monotonic()
        wait = RECEIPT_DEADLINE
        if self._in_flight:
            wait = self._last_receipt + RECEIPT_DEADLINE - now
            if wait <= 0:
                raise PeerUnavailable(f"the broker gave no receipt in {RECEIPT_DEADLINE:g} s")
        if self._in_flight < self._connection.window:
            due = self._batcher.due_in(now)
            wait = wait if due is None else min(wait, due)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait, 0.001)):
                await self._wake.wait()


def encode(batch: Outgoing, journal: str, gateway: str) -> bytes:
    """Return the message of a batch: the entries' own octets, spliced."""
    return assemble(
        [(entry.seq, entry.body) for entry in batch.entries],
        type=batch.type,
        journal=journal,
        gateway=gateway,
        time=rfc3339(datetime.now(UTC).replace(microsecond=0)),
    )


async def first_ended(*works: Awaitable[None], wait_all: bool = False) -> None:
    """Run all until the first ends (with `wait_all`: until all end or one fails); cancel the others.

    The first failure is raised as it is.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    when = asyncio.FIRST_EXCEPTION if wait_all else asyncio.FIRST_COMPLETED
    try:
        done, _ = await asyncio.wait(tasks, return_when=when)
        for task in tasks:
            if task in done:
                task.result()
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel until all have ended: `asyncio.wait_for` of Python 3.11, inside libraries, may swallow one."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: the first failure is already on its way


async def _generator(chunks: AsyncIterator[list[Entry]]) -> AsyncGenerator[list[Entry], None]:
    """Make an iterator closable, and close a generator below it."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _essence(status: Status) -> str:
    """Return what counts as a change: all but times and running counters."""
    volatile = dict.fromkeys(("at", "first_seq", "last_seq", "backlog"), True)
    return status.model_dump_json(
        exclude={**volatile, "clock": {"at"}, "meters": {"__all__": {"last_reading_at"}}}
    )
