"""Central's service: takes messages into the ledger, acknowledges, asks for what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import Protocol, TypeVar

import structlog

from gateway.backoff import Backoff
from gateway.central.directory.service import DirectoryService
from gateway.central.intake.batches import Desk, Outcome, Received
from gateway.central.intake.messages import SUBSCRIBED
from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import IngestResult, JournalState
from gateway.contract.envelope import wrap
from gateway.contract.messages import Ack, Status
from gateway.contract.replay import ReplayPlanner
from gateway.contract.topics import Topics
from gateway.errors import PeerError, PeerRefusedLogin
from gateway.mqtt.client import MqttMessage
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from protocols.clock import SystemClock

SOURCE = "/central"
SESSION_EXPIRY = 7 * 86_400
"""Seconds that the broker keeps our messages while we are away, where the settings say nothing."""
GROUP = 200
"""Most messages of one transaction."""
WAITING = 1_000
"""Most messages in memory; more stay with the broker."""

T = TypeVar("T")
log = structlog.get_logger("gateway.central")


class Clock(Protocol):
    """The time that stamps what arrives."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralOptions:
    """Paces, in seconds. `patience`: age of a hole before a replay is asked for.

    `lost_after`: how long a hole stands, after its edge said that it no longer holds those entries,
    before they are declared lost.
    """

    ack_interval: float = 0.5
    patience: float = 3.0
    most_patience: float = 60.0
    lost_after: float = 60.0


@dataclass(slots=True)
class CentralStatistics:
    """Counters since the start, and what is wrong now (`fault` is None when nothing is)."""

    connected: bool = False
    fault: str | None = None
    messages: int = 0
    set_aside: int = 0
    acks: int = 0
    replays: int = 0
    result: IngestResult = field(default_factory=IngestResult)


@dataclass(slots=True)
class _Journal:
    """What is known of one journal: stored state, last acknowledged, what its edge announced."""

    gateway: str
    state: JournalState
    acked: int = -1
    announced: int = 0
    oldest: int = 0


class Central:
    """One central; `run` serves until cancelled. The broker gets its PUBACK only for what is stored."""

    def __init__(
        self,
        *,
        settings: MqttSettings,
        ledger: Ledger,
        clock: Clock | None = None,
        password: bytes | None = None,
        directory: DirectoryService | None = None,
        options: CentralOptions | None = None,
    ) -> None:
        expiry = settings.session_expiry or SESSION_EXPIRY
        self._settings = settings.model_copy(update={"session_expiry": expiry})
        self._topics = Topics(settings.root)
        self._ledger = ledger
        self._clock = clock or SystemClock()
        self._password = password
        self._directory = directory
        self._options = options or CentralOptions()
        self._desk = Desk(ledger, self._topics)
        self._planner = ReplayPlanner(self._options.patience, self._options.most_patience)
        self._journals: dict[str, _Journal] = {}
        self._worker = ThreadPoolExecutor(1, "ledger")
        self.statistics = CentralStatistics()

    async def run(self) -> None:
        """Connect, serve, reconnect with back-off; ends only by cancellation."""
        backoff = Backoff(0.2, 30.0)
        try:
            for state in await self._work(self._ledger.journals.all):
                self._note(state)
            while True:
                refused = await self._connected(backoff)
                await asyncio.sleep(backoff.next(at_least=backoff.most if refused else 0.0))
        finally:
            self._worker.shutdown(wait=True)

    async def _connected(self, backoff: Backoff) -> bool:
        """Serve one connection until it fails; True when the broker refused the login."""
        failed: PeerError | None = None
        try:
            async with connect(self._settings, password=self._password, manual_ack=True) as connection:
                await connection.subscribe(*(self._topics.filter(kind) for kind in SUBSCRIBED))
                backoff.reset()
                self.statistics.connected, self.statistics.fault = True, None
                log.info("central_connected", broker=f"{self._settings.host}:{self._settings.port}")
                await self._serve(connection)
        except* PeerError as group:
            failed = _first(group)
            self.statistics.fault = str(failed)
            log.warning("central_disconnected", error=str(failed))
        finally:
            self.statistics.connected = False
        return isinstance(failed, PeerRefusedLogin)

    async def _serve(self, connection: MqttConnection) -> None:
        for journal in self._journals.values():
            journal.acked = -1
        waiting: asyncio.Queue[tuple[MqttMessage, Received]] = asyncio.Queue(WAITING)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(connection, waiting))
            group.create_task(self._store(connection, waiting))
            group.create_task(self._answer(connection))
            if self._directory is not None:
                group.create_task(self._directory.serve(connection))

    async def _receive(
        self, connection: MqttConnection, waiting: asyncio.Queue[tuple[MqttMessage, Received]]
    ) -> None:
        async for message in connection.messages():
            self.statistics.messages += 1
            await waiting.put((message, Received(message.topic, message.payload, self._clock.now())))

    async def _store(
        self, connection: MqttConnection, waiting: asyncio.Queue[tuple[MqttMessage, Received]]
    ) -> None:
        while True:
            group = [await waiting.get()]
            while len(group) < GROUP and not waiting.empty():
                group.append(waiting.get_nowait())
            outcome = await self._durably([received for _, received in group])
            # Only now may the broker forget them.
            for message, _ in group:
                connection.ack(message)
            self._digest(outcome)

    async def _durably(self, messages: list[Received]) -> Outcome:
        """Store, and while the ledger fails, wait and try again: nothing is acknowledged meanwhile."""
        backoff = Backoff(0.5, 30.0)
        while True:
            try:
                outcome = await self._work(lambda: self._desk.handle(messages))
            except LedgerError as error:
                self.statistics.fault = str(error)
                log.error("ledger_failed", error=str(error))
                await asyncio.sleep(backoff.next())
            else:
                self.statistics.fault = None
                return outcome

    def _digest(self, outcome: Outcome) -> None:
        self.statistics.result += outcome.result
        self.statistics.set_aside += outcome.set_aside
        for state in outcome.journals.values():
            self._note(state)
        for status in outcome.statuses:
            self._announced(status, outcome.journals[status.journal])
        if self._directory is not None:
            for request in outcome.requests:
                self._directory.requested(request)

    def _note(self, state: JournalState) -> None:
        known = self._journals.get(state.journal)
        if known is None:
            known = self._journals[state.journal] = _Journal(state.gateway, state)
        if state.repeated > known.state.repeated:
            # The edge sent again what we have: perhaps it missed our acknowledgement.
            known.acked = -1
        known.state = state
        known.gateway = state.gateway or known.gateway
        self._plan(known)

    def _announced(self, status: Status, state: JournalState) -> None:
        """A status tells what the journal holds: entries that never came at all are holes too."""
        known = self._journals[state.journal]
        known.gateway = status.gateway
        known.announced = max(known.announced, status.last_seq - status.backlog)
        known.oldest = max(known.oldest, status.first_seq)
        if status.online:
            known.acked = -1
        self._plan(known)

    def _plan(self, known: _Journal) -> None:
        state = known.state
        holes = list(state.holes)
        if known.announced > state.highest:
            holes.append((state.highest + 1, known.announced))
        self._planner.note(state.journal, state.contiguous, tuple(holes), monotonic())

    async def _answer(self, connection: MqttConnection) -> None:
        """Publish acknowledgements and replay requests at a steady pace."""
        while True:
            for journal in list(self._journals.values()):
                await self._acknowledge(connection, journal)
            for request in self._planner.due(monotonic()):
                await self._give_up_lost(self._journals[request.journal])
                topic = self._topics.replay(self._journals[request.journal].gateway)
                identity = f"central/{request.journal}/{request.first}-{request.last}"
                payload = wrap(request, id=identity, source=SOURCE, time=self._clock.now())
                await connection.publish(topic, payload)
                self.statistics.replays += 1
                log.info("replay_requested", journal=request.journal, first=request.first, last=request.last)
            await asyncio.sleep(self._options.ack_interval)

    async def _acknowledge(self, connection: MqttConnection, journal: _Journal) -> None:
        stored = journal.state.contiguous
        if stored == journal.acked or stored == 0:
            return
        ack = Ack(journal=journal.state.journal, seq=stored)
        payload = wrap(ack, id=f"central/{ack.journal}/{stored}", source=SOURCE, time=self._clock.now())
        await connection.publish(self._topics.acks(journal.gateway), payload)
        journal.acked = stored
        self.statistics.acks += 1

    async def _give_up_lost(self, journal: _Journal) -> None:
        """Entries that the edge no longer holds, and that did not come for long, are declared lost."""
        since = self._planner.open_since(journal.state.journal)
        if journal.oldest <= journal.state.contiguous + 1 or since is None:
            return
        if monotonic() - since < self._options.lost_after:
            return
        name, first, last = journal.state.journal, journal.state.contiguous + 1, journal.oldest - 1
        now = self._clock.now()

        def declare() -> JournalState:
            self._ledger.journals.declare_lost(name, first, last, "the journal no longer holds them", now)
            return self._ledger.journals.state(name)

        log.error("entries_lost", journal=name, first=first, last=last)
        state = await self._work(declare)
        self._note(replace(state, gateway=state.gateway or journal.gateway))

    async def _work(self, task: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, task)


def _first(group: BaseExceptionGroup[PeerError]) -> PeerError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group is never empty")
