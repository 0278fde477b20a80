"""One connection's work on the journal: batches out, receipts in, the cursor behind them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, time

import structlog

from gateway.contract.blocks import GAPS_TYPE, NumberedBlock, Sender, assemble_blocks, assemble_gaps
from gateway.contract.messages import rfc3339
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics
from gateway.edge.sinks.base import JournalReader
from gateway.edge.sinks.batching import Batcher, BatchLimits, OutgoingBatch
from gateway.edge.sinks.denied import DeniedTopics
from gateway.edge.sinks.tasks import first_ended
from gateway.errors import PeerDeniesTopic, PeerRefusedData, PeerUnavailable
from gateway.mqtt.connection import MqttConnection

RECEIPT_DEADLINE = 30.0
"""Longest wait for a PUBACK, in seconds, before the connection is given up and opened anew."""
ENVELOPE = 1024
"""Room for the envelope around a batch, in octets."""
log = structlog.get_logger("gateway.edge.sinks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a handful of receipts brought: messages and their captures taken, entries set aside, the rest."""

    messages: int
    entries: int
    dead: int
    in_flight: int
    cursor: int


class JournalPublisher:
    """Publishes what follows the cursor of `sink` in the journal, and moves the cursor.

    `run` ends when the journal is closed and all of it was taken; it raises PeerUnavailable or
    PeerRefusedLogin when the connection is of no more use, JournalError when a cursor or a dead letter
    cannot be kept. Whatever ends it: what was not acknowledged is published again from the cursor on.
    """

    def __init__(
        self,
        sink: str,
        connection: MqttConnection,
        journal: JournalReader,
        *,
        topics: Topics,
        gateway: str,
        limits: BatchLimits,
        on_progress: Callable[[Progress], None],
        denied: DeniedTopics | None = None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._sink = sink
        self._connection = connection
        self._journal = journal
        self._gateway = gateway
        self._on_progress = on_progress
        self._on_turn = on_turn
        self._denied = denied or DeniedTopics()
        limits = replace(limits, size=min(limits.size, max(1, connection.largest - ENVELOPE)))
        self._batcher = Batcher(topics, gateway, limits, cursor=self._denied.delivered)
        self._receipts: deque[tuple[OutgoingBatch, asyncio.Future[None]]] = deque()
        self._in_flight = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._journal_ended = self._receipts_due = False
        self._last_receipt = monotonic()
        self._acked = 0

    async def run(self) -> None:
        """Publish until the journal ends or the connection fails."""
        await first_ended(self._take_entries(), self._publish(), wait_all=True)

    async def _take_entries(self) -> None:
        """Take entries from the journal as long as there is room for them in memory."""
        async with contextlib.aclosing(self._journal.follow(self._sink)) as chunks:
            async for chunk in chunks:
                # What was delivered behind a denied topic, on a connection before this one, is not sent again.
                new = [
                    entry for entry in self._journal.deliverable(chunk) if entry.last > self._denied.delivered
                ]
                self._batcher.take(new, monotonic())
                self._work.set()
                while self._batcher.full:
                    self._room.clear()
                    await self._room.wait()
        self._journal_ended = True
        self._work.set()

    async def _publish(self) -> None:
        while not (self._journal_ended and self._batcher.idle):
            self._on_turn()
            # Cleared before looking: what comes while we look sets it again, and nothing is overslept.
            self._work.clear()
            self._fill_window()
            if self._receipts or self._receipts_due:
                # Receipts first: they make room in the window, and the cursor must not lag behind them.
                await self._settle_receipts()
            else:
                await self._wait_for_work()

    def _fill_window(self) -> None:
        now = monotonic()
        while self._in_flight < self._connection.window:
            batch = self._batcher.next(now, flush=self._journal_ended)
            if batch is None:
                break
            if self._in_flight == 0:
                # After a pause the deadline counts from this message, not from the last receipt long ago.
                self._last_receipt = now
            if batch.topic in self._denied:
                self._denied.deny(batch)
                self._batcher.done(batch)
                self._receipts_due = True
            else:
                self._send(batch)
        if not self._batcher.full:
            self._room.set()

    def _send(self, batch: OutgoingBatch) -> None:
        def arrived(receipt: asyncio.Future[None]) -> None:
            self._receipts.append((batch, receipt))
            self._work.set()

        self._in_flight += 1
        self._journal.note_sent(self._sink, batch.entries[-1].last)
        payload = batch_message(batch, self._journal, self._gateway)
        self._connection.send(batch.topic, payload).add_done_callback(arrived)

    def denials_changed(self) -> None:
        """Move the cursor soon: a topic is no longer denied."""
        self._receipts_due = True
        self._work.set()

    async def _settle_receipts(self) -> None:
        messages = entries = dead = 0
        self._receipts_due = False
        while self._receipts:
            batch, receipt = self._receipts.popleft()
            self._in_flight -= 1
            try:
                receipt.result()
            except PeerDeniesTopic:
                # The access rules must be mended; until then all other topics go on.
                self._denied.deny(batch)
                self._batcher.done(batch)
            except PeerRefusedData as error:
                # Refused for good (too large, bad topic, bad payload): what follows must not wait for it.
                # Any other failure ends the session, and all that has no receipt is sent again.
                if batch.count > 1:
                    self._batcher.again(batch)  # in halves, until the bad capture stands alone
                else:
                    await self._set_aside(batch, error)
                    dead += 1
            else:
                self._batcher.done(batch)
                messages += 1
                entries += batch.count
        self._last_receipt = monotonic()
        cursor = self._denied.cursor(self._batcher.cursor)
        if cursor > self._acked:
            # After the dead letters of the loop above: a crash between them repeats an entry, skips none.
            await self._journal.ack(self._sink, cursor)
            self._acked = cursor
        self._on_progress(
            Progress(messages=messages, entries=entries, dead=dead, in_flight=self._in_flight, cursor=cursor)
        )

    async def _set_aside(self, batch: OutgoingBatch, error: PeerRefusedData) -> None:
        """Let a tombstone go in place of an entry that is refused for good, so that the count goes on."""
        [entry] = batch.entries
        log.error("mqtt_entry_refused", seq=entry.seq, error=str(error))
        tombstone = await self._journal.bury(self._sink, entry, str(error))
        if tombstone is None:
            # Consumers have it, or even its tombstone is refused: then whoever counts asks for it again.
            self._batcher.done(batch)
        else:
            self._batcher.instead(batch, tombstone)

    async def _wait_for_work(self) -> None:
        """Wait for entries, a receipt, or the moment that a batch is due; PeerUnavailable for no receipt."""
        now = monotonic()
        wait = RECEIPT_DEADLINE
        if self._in_flight:
            # A broker that hangs may keep the connection and acknowledge nothing: waiting on helps nobody.
            wait = max(self._last_receipt, self._connection.last_receipt) + RECEIPT_DEADLINE - now
            if wait <= 0:
                raise PeerUnavailable(f"the broker gave no receipt in {RECEIPT_DEADLINE:g} s")
        if self._in_flight < self._connection.window:
            due = self._batcher.due_in(now)
            wait = wait if due is None else min(wait, due)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait, 0.001)):
                await self._work.wait()


def batch_message(batch: OutgoingBatch, journal: JournalReader, gateway: str) -> bytes:
    """Return the message of a batch: the entries' own octets, spliced."""
    sender = _sender(journal.uuid, journal.generation, gateway)
    written = _text_of(int(time()))
    if batch.type == GAPS_TYPE:
        return assemble_gaps([(entry.seq, entry.body) for entry in batch.entries], sender, time=written)
    return assemble_blocks(
        [
            NumberedBlock(
                first=entry.seq,
                last=entry.last,
                body=entry.body,
                layout=entry.layout,
                holders=entry.holders,
            )
            for entry in batch.entries
            if entry.layout is not None  # every block has one
        ],
        sender,
        type=batch.type,
        time=written,
    )


@lru_cache(maxsize=4)
def _sender(journal: str, generation: Generation, gateway: str) -> Sender:
    return Sender(journal=journal, generation=generation, gateway=gateway)


@lru_cache(maxsize=4)
def _text_of(second: int) -> str:
    return rfc3339(datetime.fromtimestamp(second, UTC))
