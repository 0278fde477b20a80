"""Watches the directory and publishes what changed: each edge's signed part, and spans for billing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import structlog

from gateway.central.directory.judging import DirectoryJudge, to_judge_again
from gateway.central.directory.lives import DirectoryLives
from gateway.central.directory.messages import allocation_message, change_messages, standing_messages
from gateway.central.directory.part_publisher import CALM, PartPublisher
from gateway.central.directory.places import follow_places
from gateway.central.directory.publishing import Publisher, send_all
from gateway.central.ledger.allocations import TOLD
from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.central.portal.reckoning import follow_use, reckon_due
from gateway.central.retelling import Retelling
from gateway.contract.messages import DirectoryRequest
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics, TopicVersion
from gateway.errors import NOT_TAKEN
from gateway.mqtt.connection import NOT_TAKEN_AGAIN
from gateway.threads import in_thread
from mapping.differences import attribution_spans, naming_changes, touched
from mapping.errors import DirectoryFault
from mapping.rows import in_batches
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.session import Clock

POLL = 0.5
"""Seconds between looks at the directory's version: another process may have changed it."""
PUBLISHED = "attributions_published"
"""Cursor of the ledger: changes up to this directory version were taken by the broker."""
LIFE = "directory_life_told"
"""Name of the retelling of a directory that was set back: the counter of its life."""
ALLOCATIONS = 1_000
"""Allocations told before it is noted that they were."""
MARKED = 1_000
"""Spans marked in one transaction."""

log = structlog.get_logger("gateway.central.directory")


class DirectoryService:
    """Publishes the directory. No reading is ever sent again: the ledger and billing resolve by the changes.

    Changes go out by rising version, each at least once: the cursor moves when the broker has taken all
    messages of a version. `signing_key` as `gateway.contract.signing.sign` takes it.
    """

    def __init__(
        self,
        *,
        store: DirectoryStore,
        ledger: Ledger,
        topics: Topics,
        signing_key: bytes,
        clock: Clock | None = None,
        poll: float = POLL,
        calm: float = CALM,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._topics = topics
        self._clock = clock or SystemClock()
        self._poll = poll
        self._parts = PartPublisher(
            store=store, ledger=ledger, topics=topics, key=signing_key, clock=self._clock, calm=calm
        )
        self._lives = DirectoryLives(store, ledger)
        self._woken = asyncio.Event()
        self.fault: str | None = None
        self.published = 0

    def requested(self, request: DirectoryRequest, contract: TopicVersion) -> None:
        """Answer an edge's request, which came by this version of the contract, soon."""
        if self._parts.requested(request, contract):
            self._woken.set()

    def present(self) -> tuple[DirectorySnapshot, Generation]:
        """Return the directory of now and the generation that it stands in. Blocks."""
        generation = self._lives.look()
        return self._store.snapshot(), generation

    def standing(self, meter: str) -> list[bytes]:
        """Return messages that say whose a meter is over all time, as the directory has it now. Blocks."""
        snapshot, generation = self.present()
        return standing_messages(meter, snapshot, self._clock.now(), generation=generation)

    async def serve(self, publisher: Publisher) -> None:
        """Publish changes and answers over this connection until it fails (PeerError) or is cancelled."""
        retellings = self._retellings()
        while True:
            try:
                # Before all: a directory that was set back begins a new life, which every message names.
                await in_thread(self._lives.look)
                for retelling in retellings:
                    await in_thread(retelling.look, monotonic())
                await self._tell_allocations(publisher)
                # Before its changes are marked: what comes stamped by the version before is judged again from now on.
                await in_thread(lambda: follow(self._ledger, self._store.snapshot()))
                # Edges first: until one has the new part it stamps by the old, and each such reading must be judged
                # again. Billing loses nothing by coming second, since its changes say from when they hold.
                await self._parts.publish(publisher)
                await self.catch_up(publisher)
                await in_thread(lambda: sweep(self._ledger, self._store.snapshot()))
                await in_thread(self._keep_lists)
                self.fault = next(iter(self._parts.faults.values()), None)
            except (DirectoryFault, LedgerError) as error:
                self.fault = str(error)
                log.error("directory_failed", error=str(error))
            except NOT_TAKEN as error:  # a topic is closed to us: the cursor stays, and all others go on
                self.fault = f"changes are not taken: {error}"
                await asyncio.sleep(NOT_TAKEN_AGAIN)
            with suppress(TimeoutError):
                # No wait_for: it swallows a stop that comes together with a request (Python 3.11).
                async with asyncio.timeout(self._poll):
                    await self._woken.wait()
            self._woken.clear()

    def _keep_lists(self) -> None:
        """Have the pages' lists say what the directory says now."""
        snapshot, now = self._store.snapshot(), self._clock.now()
        follow_places(self._ledger, snapshot, now)
        follow_use(self._ledger, snapshot)
        reckon_due(self._ledger, snapshot, now)

    def _retellings(self) -> tuple[Retelling, ...]:
        """Return what tells again, in a new connection, all that the last one may have told to nobody."""
        cursors, allocations, lives = self._ledger.cursors, self._ledger.allocations, self._lives
        return (
            Retelling(cursors, PUBLISHED),
            Retelling(cursors, TOLD, told=allocations.tellings, back=allocations.untell),
            Retelling(cursors, LIFE, told=lives.last_told, back=lives.untell),
        )

    async def _tell_allocations(self, publisher: Publisher) -> None:
        """Tell billing whose word counts, where that has changed."""
        while untold := await in_thread(self._ledger.allocations.untold, ALLOCATIONS):
            now = self._clock.now()
            messages = [allocation_message(one, now) for one in untold]
            await send_all(publisher, self._topics.attributions(), messages)
            await in_thread(self._ledger.allocations.set_told, untold)
            log.info("allocations_published", count=len(untold))

    async def catch_up(self, publisher: Publisher) -> None:
        """Publish what changed since the version that was published last, version by version. PeerError as `serve`."""
        generation = await in_thread(self._lives.look)
        if not await in_thread(self._lives.is_told):
            await self._tell_all(publisher, generation)
        done = await in_thread(self._ledger.cursors.get, PUBLISHED)
        target = await in_thread(lambda: self._store.version)
        if target <= done:
            self.published = done
            return
        # Each version by itself, though they could be merged: a consumer applies them in their order, and where
        # this process dies the cursor says which were sent.
        for version in range(done + 1, target + 1):
            await self._send_each(publisher, self._changes(version, generation))
            await in_thread(self._ledger.cursors.set, PUBLISHED, version)
            self.published = version
            log.info("changes_published", version=version)

    async def _tell_all(self, publisher: Publisher, generation: Generation) -> None:
        """Publish the whole state of a directory that was set back: every consumer converges to it."""
        snapshot = await in_thread(self._store.snapshot)
        await self._send_each(publisher, self._lives.whole_state(snapshot, self._clock.now(), generation))
        await in_thread(self._ledger.cursors.set, PUBLISHED, snapshot.version)
        await in_thread(self._lives.told, generation)
        log.info("directory_told_anew", version=snapshot.version)

    async def _send_each(self, publisher: Publisher, made: Iterator[list[bytes]]) -> None:
        """Send messages of `attributions` as they are made: some are made, sent and forgotten, then the next."""
        while (messages := await in_thread(next, made, None)) is not None:
            await send_all(publisher, self._topics.attributions(), messages)

    def _changes(self, version: int, generation: Generation) -> Iterator[list[bytes]]:
        """Yield the messages of one version, some at a time; the captures that they concern are to be judged again.

        Of a re-key of a city all of them would fill the memory. Each is marked before it is told, so that a crash
        cannot leave anything told and unmarked.
        """
        snapshot, now = self._store.snapshot(), self._clock.now()
        meters, accounts = touched(snapshot, version - 1, version)
        for spans in in_batches(attribution_spans(snapshot, meters, version - 1, version), MARKED):
            self._ledger.unattributed.recheck(to_judge_again(snapshot, spans, ()))
            yield change_messages(spans, (), snapshot, now, generation=generation)
        for names in in_batches(naming_changes(snapshot, accounts, version - 1, version), MARKED):
            again = to_judge_again(snapshot, (), names)
            for some in in_batches(again, MARKED):
                self._ledger.unattributed.recheck(some)
            yield change_messages((), names, snapshot, now, generation=generation)


def follow(ledger: Ledger, snapshot: DirectorySnapshot) -> None:
    """Have the ledger's lists judged by this version of the directory from now on."""
    ledger.unattributed.follow(snapshot.version, DirectoryJudge(snapshot).concerned)


def sweep(ledger: Ledger, snapshot: DirectorySnapshot) -> int:
    """Judge again what an older directory judged; return how many spans of captures were looked at."""
    follow(ledger, snapshot)
    return ledger.unattributed.sweep(DirectoryJudge(snapshot))
