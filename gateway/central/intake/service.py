"""Central's service: takes messages into the ledger, acknowledges, asks for what is missing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import TypeVar

import structlog

from gateway.backoff import Backoff
from gateway.central.directory.service import DirectoryService
from gateway.central.history.service import HistoryService
from gateway.central.intake.batches import RELEASED, HandledMessages, MessageStore, ReceivedMessage
from gateway.central.intake.carrying import CALM, Carrying
from gateway.central.intake.journals import JournalWatch
from gateway.central.intake.listings import ListingWatch
from gateway.central.intake.messages import SUBSCRIBED
from gateway.central.intake.orders import RereadOrders
from gateway.central.intake.systems import Systems
from gateway.central.intake.time_answers import TimeAnswers
from gateway.central.intake.times import TimeService
from gateway.central.intake.witnesses import Witnesses
from gateway.central.keys.desk import KeyDesk
from gateway.central.ledger.authority import UNREADABLE
from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import IngestResult
from gateway.contract.central_word import CENTRAL, wrap_signed
from gateway.contract.envelope import TYPE_OF, of_version_1, wrap
from gateway.contract.messages import Ack, ReplayRequest, StatusRequest
from gateway.contract.replay import ReplayPlanner
from gateway.contract.signing import verify_key_of
from gateway.contract.topics import NEW_IN_2, TopicKind, Topics
from gateway.errors import PeerError, PeerRefusedLogin
from gateway.mqtt.client import MqttMessage
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from gateway.mqtt.refusals import Refusals
from protocols.clock import NowSource, SystemClock
from protocols.session import Clock

SOURCE = "/central"
SESSION_EXPIRY = 7 * 86_400
"""Seconds that the broker keeps our messages while we are away, where the settings say nothing."""
ORDERED = 50
"""Meters whose orders to be read again are made in one go."""
GROUP = 200
"""Most messages of one transaction."""
TICK_ROUNDS = 10
"""Rounds of acknowledgements between two ticks of the ledger: what is copied before a tick is told by it."""
SIGN_EVERY = 15.0
"""Seconds between central's signs of life in the ledger; a change of the connection is noted at once."""
WAITING = 1_000
"""Most messages in memory; more stay with the broker."""

T = TypeVar("T")
log = structlog.get_logger("gateway.central.intake")


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralOptions:
    """Paces, in seconds. `patience`: age of a hole before a replay is asked for.

    `lost_after`: how long a hole stands, after its edge said that it no longer holds those entries,
    before they are declared lost. `carry_calm`: least time between two answers to a gateway that begins with nothing.
    """

    ack_interval: float = 0.5
    patience: float = 3.0
    most_patience: float = 60.0
    lost_after: float = 60.0
    carry_calm: float = CALM


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralStatistics:
    """Counters since the start, and what is wrong now (`fault` is None when nothing is).

    `refused`: messages and subscriptions that the broker did not take or grant.
    `set_backs`: how often the ledger was found to be an older copy of itself, since it was made.
    """

    connected: bool = False
    fault: str | None = None
    refused: int = 0
    messages: int = 0
    set_aside: int = 0
    acks: int = 0
    replays: int = 0
    set_backs: int = 0
    result: IngestResult = field(default_factory=IngestResult)


class Central:
    """One central; `run` serves until cancelled. The broker gets its PUBACK only for what is stored.

    What it tells edges is signed with `signing_key` (as `gateway.contract.signing.sign` takes it).
    `wall` is the time of the machine, by which it is judged who is alive; `clock` may be a simulation's.
    """

    def __init__(
        self,
        *,
        settings: MqttSettings,
        ledger: Ledger,
        signing_key: bytes,
        clock: Clock | None = None,
        wall: NowSource | None = None,
        password: bytes | None = None,
        directory: DirectoryService | None = None,
        times: TimeAnswers | None = None,
        verdicts: TimeService | None = None,
        keys: KeyDesk | None = None,
        history: HistoryService | None = None,
        systems: Systems | None = None,
        options: CentralOptions | None = None,
    ) -> None:
        expiry = settings.session_expiry or SESSION_EXPIRY
        self._settings = settings.model_copy(update={"session_expiry": expiry})
        self._topics = Topics(settings.root)
        self._ledger = ledger
        self._clock = clock or SystemClock()
        self._wall = wall or SystemClock()
        self._changed = asyncio.Event()
        self._password = password
        self._directory = directory
        self._times = times
        self._verdicts = verdicts
        self._keys = keys
        self._history = history
        self._systems = systems
        options = options or CentralOptions()
        self._ack_interval = options.ack_interval
        self._key = signing_key
        self._carrying = Carrying(ledger, self._topics, signing_key, self._clock, calm=options.carry_calm)
        self._rereads = RereadOrders(ledger, self._topics, signing_key, self._clock)
        witnesses = Witnesses(ledger, (verify_key_of(signing_key),))
        self._messages = MessageStore(ledger, self._topics, witnesses)
        planner = ReplayPlanner(options.patience, options.most_patience)
        self._journals = JournalWatch(planner, lost_after=options.lost_after)
        self._listings = ListingWatch()
        self._doubtful: set[str] = set()
        self._worker = ThreadPoolExecutor(1, "ledger")
        self._refusals = Refusals()
        self._statistics = CentralStatistics(set_backs=len(ledger.identity.set_backs()))
        self._released: int | None = None

    def statistics(self) -> CentralStatistics:
        """Return the counters since the start, frozen."""
        now = self._statistics
        times = None if self._verdicts is None else self._verdicts.trouble
        return replace(now, refused=self._refusals.total, fault=now.fault or self._refusals.fault or times)

    async def run(self) -> None:
        """Connect, serve, reconnect with back-off; ends only by cancellation."""
        backoff = Backoff(0.2, 30.0)
        signs = asyncio.create_task(self._leave_signs())
        try:
            for state in await self._work(self._ledger.journals.all):
                self._journals.stored(state, monotonic())
            while True:
                refused = await self._serve_once(backoff)
                # A password or a rule must be mended first: brokers lock out who knocks every second.
                await asyncio.sleep(backoff.next(at_least=backoff.most if refused else 0.0))
        finally:
            signs.cancel()
            await asyncio.gather(signs, return_exceptions=True)
            self._worker.shutdown(wait=True)

    async def _leave_signs(self) -> None:
        """Note in the ledger that central lives and whether it hears the broker, for whoever reads only that."""
        while True:
            self._changed.clear()
            now = self.statistics()
            leave = partial(self._ledger.alive.leave, connected=now.connected, fault=now.fault)
            try:
                await self._work(partial(leave, self._wall.now()))
            except LedgerError as error:
                log.error("ledger_failed", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SIGN_EVERY):
                    await self._changed.wait()

    async def _serve_once(self, backoff: Backoff) -> bool:
        """Serve one connection until it fails; True when the broker refused the login."""
        failed: PeerError | None = None
        try:
            async with connect(
                self._settings, password=self._password, manual_ack=True, refusals=self._refusals
            ) as connection:
                filters = _filters(self._topics)
                if self._times is not None:
                    filters.append(self._topics.filter(TopicKind.TIME_REQUEST))
                if self._history is not None:
                    filters.append(self._history.filter())
                if self._systems is not None:
                    filters.append(self._systems.filter())
                    self._systems.begin()
                if self._keys is not None:
                    filters += self._keys.filters()
                    self._keys.begin()
                # At once: what the first subscription brings is acknowledged only while we serve, and a broker
                # that waits for that (amqtt) does not answer a second one.
                missing = await connection.subscribe(*filters)
                backoff.reset()
                self._update(connected=True, fault=None)
                log.info("central_connected", broker=connection.broker)
                await self._serve(connection, missing)
        except* PeerError as group:
            failed = _first(group)
            self._update(fault=str(failed))
            log.warning("central_disconnected", error=str(failed))
        finally:
            self._update(connected=False)
        return isinstance(failed, PeerRefusedLogin)

    async def _serve(self, connection: MqttConnection, missing: Sequence[str]) -> None:
        self._journals.owe_all()
        self._rereads.look()
        waiting: asyncio.Queue[tuple[MqttMessage, ReceivedMessage]] = asyncio.Queue(WAITING)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(connection, waiting))
            group.create_task(self._store(connection, waiting))
            group.create_task(self._answer(connection))
            group.create_task(connection.keep_asking(missing))
            group.create_task(self._release())
            group.create_task(self._give_up())
            if self._directory is not None:
                group.create_task(self._directory.serve(connection))
            if self._times is not None:
                group.create_task(self._times.serve(connection))
            if self._verdicts is not None:
                group.create_task(self._verdicts.serve(connection))
            if self._history is not None:
                group.create_task(self._history.serve(connection))
            if self._systems is not None:
                group.create_task(self._systems.serve(connection))
            if self._keys is not None:
                group.create_task(self._keys.serve(connection, self._work))

    async def _receive(
        self, connection: MqttConnection, waiting: asyncio.Queue[tuple[MqttMessage, ReceivedMessage]]
    ) -> None:
        async for message in connection.messages():
            self._update(messages=self._statistics.messages + 1)
            if self._times is not None and self._times.requested(message.topic, message.payload):
                connection.ack(message)  # answered at once, or not at all: an old answer proves nothing
                continue
            if self._history is not None and self._history.requested(message.topic, message.payload):
                connection.ack(message)  # one that is lost is asked again
                continue
            if self._keys is not None and self._keys.takes(message, connection):
                continue  # acknowledged when it is on the disk
            if self._systems is not None and self._systems.takes(message, connection):
                continue  # acknowledged when its answer is on the disk
            received = ReceivedMessage(
                message.topic,
                message.payload,
                self._clock.now(),
                retained=message.retained,
                heard_at=self._wall.now(),
            )
            await waiting.put((message, received))

    async def _store(
        self, connection: MqttConnection, waiting: asyncio.Queue[tuple[MqttMessage, ReceivedMessage]]
    ) -> None:
        while True:
            # One fsync for all that has come meanwhile: a transaction for each would be as slow as the disk.
            group = [await waiting.get()]
            while len(group) < GROUP and not waiting.empty():
                group.append(waiting.get_nowait())
            handled = await self._durably([received for _, received in group])
            # Only now may the broker forget them.
            for message, _ in group:
                connection.ack(message)
            self._note(handled)

    async def _durably(self, messages: list[ReceivedMessage]) -> HandledMessages:
        """Store, and while the ledger fails, wait and try again: nothing is acknowledged meanwhile."""
        backoff = Backoff(0.5, 30.0)
        while True:
            try:
                handled = await self._work(lambda: self._handle(messages))
            except LedgerError as error:
                self._update(fault=str(error))
                log.error("ledger_failed", error=str(error))
                await asyncio.sleep(backoff.next())
            else:
                self._update(fault=None)
                return handled

    def _handle(self, messages: list[ReceivedMessage]) -> HandledMessages:
        handled = self._messages.handle(messages)
        if self._verdicts is not None:
            for status, received in handled.fresh:
                self._verdicts.told(status, received)
        return handled

    def _note(self, handled: HandledMessages) -> None:
        self._update(
            result=self._statistics.result + handled.result,
            set_aside=self._statistics.set_aside + handled.set_aside,
        )
        now = monotonic()
        for state in handled.journals.values():
            self._journals.stored(state, now)
        for status in handled.statuses:
            self._journals.announced(status, now)
        for said in handled.heard:
            self._journals.heard(said)
        if handled.set_backs:
            self._journals.owe_all()
            self._update(set_backs=self._statistics.set_backs + len(handled.set_backs))
        if handled.behind is not None:
            self._listings.behind(handled.behind, now)
        for request, version in handled.requests:
            if version > 1:
                self._carrying.asked(request)
            if self._directory is not None:
                self._directory.requested(request, version)

    async def _answer(self, connection: MqttConnection) -> None:
        """Publish acknowledgements and replay requests at a steady pace; a ledger that fails is asked again."""
        rounds = 0
        while True:
            rounds += 1
            try:
                await self._answer_once(connection, tick=rounds % TICK_ROUNDS == 0)
            except LedgerError as error:
                log.error("ledger_failed", error=str(error))
            await asyncio.sleep(self._ack_interval)

    async def _answer_once(self, connection: MqttConnection, *, tick: bool) -> None:
        for gateway, ack in self._journals.acks_due():
            await self._acknowledge(connection, gateway, ack)
        for gateway, request in self._journals.replays_due(monotonic()):
            self._doubtful.add(request.journal)
            await self._ask_again(connection, gateway, request)
        for gateway in self._listings.requests_due(monotonic()):
            at = self._clock.now()
            wanted = StatusRequest(gateway=gateway, at=at)
            identity = f"central/status/{gateway}/{int(at.timestamp() * 1000)}"
            payload = wrap(wanted, id=identity, source=SOURCE, time=at)
            await connection.offer(self._topics.status_request(gateway), payload)
        # One in each round: acknowledgements must not wait for all who ask.
        if (newcomer := self._carrying.next()) is not None:
            for topic, payload in await self._work(partial(self._carrying.messages, newcomer)):
                await connection.offer(topic, payload)
        for topic, payload in await self._work(self._rereads.due):
            await connection.offer(topic, payload)
        if tick:
            result = self._statistics.result
            stored = result.stored + result.revised + result.gaps
            await self._work(partial(self._ledger.identity.tick, stored))

    async def _acknowledge(self, connection: MqttConnection, gateway: str, ack: Ack) -> None:
        identity, life = f"central/{ack.journal}/{ack.seq}", self._ledger.identity
        now = self._clock.now()
        if self._journals.version_of(ack.journal) == 1:
            topic = self._topics.of_version(1).acks(gateway, CENTRAL)
            payload = wrap(ack, id=identity, source=SOURCE, time=now, type=of_version_1(TYPE_OF[Ack]))
        else:
            topic = self._topics.acks(gateway, CENTRAL)
            seen = await self._work(self._ledger.directory_seen.get)
            named = {
                "ledger": life.uuid,
                "ledger_generation": life.generation,
                "directory": None if seen is None else seen.state,
                "issued_at": now,
            }
            payload = self._signed(ack.model_copy(update=named), identity)
        await connection.offer(topic, payload)  # one that is not taken is told; the next will say more anyway
        self._journals.acknowledged(ack)
        self._update(acks=self._statistics.acks + 1)

    async def _ask_again(self, connection: MqttConnection, gateway: str, request: ReplayRequest) -> None:
        identity = f"central/{request.journal}/{request.first}-{request.last}"
        now = self._clock.now()
        if self._journals.version_of(request.journal) == 1:
            topic = self._topics.of_version(1).replay(gateway, CENTRAL)
            kind = of_version_1(TYPE_OF[ReplayRequest])
            payload = wrap(request, id=identity, source=SOURCE, time=now, type=kind)
        else:
            topic = self._topics.replay(gateway, CENTRAL)
            payload = self._signed(request.model_copy(update={"issued_at": now}), identity)
        if not await connection.offer(topic, payload):
            return
        self._update(replays=self._statistics.replays + 1)
        log.info(
            "replay_requested",
            gateway=gateway,
            journal=request.journal,
            first=request.first,
            last=request.last,
        )

    def _signed(self, message: Ack | ReplayRequest, identity: str) -> bytes:
        return wrap_signed(message, key=self._key, id=identity, source=SOURCE, time=self._clock.now())

    async def _release(self) -> None:
        """Take again what waited in quarantine for another allocation; at the start, what this program may read."""
        while True:
            try:
                changed = await self._work(self._ledger.allocations.changed)
                if changed != self._released:
                    await self._take_again({*RELEASED, UNREADABLE} if self._released is None else RELEASED)
                    self._released = changed
            except LedgerError as error:
                log.error("ledger_failed", error=str(error))
            await asyncio.sleep(self._ack_interval)

    async def _take_again(self, reasons: Collection[str]) -> None:
        for group in await self._work(lambda: self._messages.waiting(reasons)):
            after: tuple[str, int] | None = ("", 0)
            while after is not None:
                # A few in each turn: readings that arrive must not wait for all that ever waited.
                handled, after = await self._work(partial(self._messages.take_again, group, after))
                self._note(handled)
            log.info("quarantine_released", gateway=group.gateway, meter=group.meter, entries=group.entries)

    async def _give_up(self) -> None:
        """Look after journals with holes, beside the acknowledgements: those of others must not wait for it."""
        while True:
            try:
                while self._doubtful:
                    await self._give_up_lost(self._doubtful.pop())
            except LedgerError as error:
                log.error("ledger_failed", error=str(error))
            await asyncio.sleep(self._ack_interval)

    async def _give_up_lost(self, journal: str) -> None:
        """Declare lost what the edge no longer holds: else what follows would never be acknowledged.

        What the meters keep of it is read again.
        """
        lost = self._journals.lost(journal, monotonic())
        if lost is None:
            return
        first, last = lost
        now, ledger = self._clock.now(), self._ledger
        log.error("entries_lost", journal=journal, first=first, last=last)
        if self._journals.version_of(journal) > 1:  # an edge of version 1 knows no such order
            gateway = (await self._work(partial(ledger.journals.state, journal))).gateway
            meters = [one.meter for one in await self._work(partial(ledger.allocations.current, gateway))]
            for begin in range(0, len(meters), ORDERED):  # in between, what arrives is stored
                some = meters[begin : begin + ORDERED]
                await self._work(partial(ledger.rereads.want, gateway, some, journal, lost, now))
        # After the orders: should this process die in between, they are given once more.
        reason = "the journal no longer holds them"
        await self._work(partial(ledger.journals.declare_lost, journal, first, last, reason, now))
        self._journals.stored(await self._work(partial(ledger.journals.state, journal)), monotonic())
        self._rereads.look()

    def _update(self, **changed: object) -> None:
        before = self._statistics
        self._statistics = after = replace(before, **changed)  # type: ignore[arg-type]  # names of its fields
        if (before.connected, before.fault) != (after.connected, after.fault):
            self._changed.set()

    async def _work(self, task: Callable[[], T]) -> T:
        """Run a task in the one thread that the ledger has here: transactions come one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, task)


def _filters(topics: Topics) -> list[str]:
    """Return what central subscribes to, of both versions of the contract."""
    return [
        *(topics.filter(kind) for kind in SUBSCRIBED),
        *(topics.of_version(1).filter(kind) for kind in SUBSCRIBED if kind not in NEW_IN_2),
    ]


def _first(group: BaseExceptionGroup[PeerError]) -> PeerError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group is never empty")
