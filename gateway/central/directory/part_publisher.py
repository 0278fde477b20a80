"""Sends each edge its part of the directory: of the meters allocated to it, whatever it asks; numbered and in order.

Each edge stands for itself: what fails for one, or one that asks without end, delays no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Final

import structlog

from gateway.central.directory.messages import part_message_of_version_1, part_messages
from gateway.central.directory.parts import EdgePart, change_of, says_nothing, snapshot_of
from gateway.central.directory.publishing import Publisher, send_all
from gateway.central.directory.sent_parts import RememberedPart, change_of_few
from gateway.central.ledger.edges import SentPart
from gateway.central.ledger.ledger import Ledger
from gateway.contract.messages import DirectoryRequest, PartAllocation
from gateway.contract.messages.generation import Generation
from gateway.contract.signing import key_id, private_key
from gateway.contract.topics import Topics, TopicVersion
from gateway.errors import NOT_TAKEN, ConfigError, ContractError
from gateway.threads import in_thread
from mapping.differences import touched
from mapping.errors import MappingError
from mapping.rows import in_batches
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.session import Clock

CALM: Final = 5.0
"""Least seconds between two answers to one edge: it may ask as often as it likes."""
MAX_REQUESTS: Final = 10_000
"""Edges whose requests wait; beyond that they ask again."""
FEW: Final = 5_000
"""Meters changed at once up to which an edge's change is worked out of those alone; of more each part is cut anew."""
MAX_OF_VERSION_1: Final = 900_000
"""Octets of a message to an edge of version 1, which takes its part whole; brokers take 1 MiB."""

log = structlog.get_logger("gateway.central.directory")


@dataclass(frozen=True, slots=True)
class _Request:
    number: int
    contract: TopicVersion


class PartPublisher:
    """Knows which edges may have another part than they were sent, and which have asked."""

    def __init__(
        self,
        *,
        store: DirectoryStore,
        ledger: Ledger,
        topics: Topics,
        key: bytes,
        clock: Clock,
        calm: float = CALM,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._topics = topics
        self._key = key
        self._key_id = key_id(private_key(key).public_key())
        self._clock = clock
        self._calm = calm
        self._requests: dict[str, _Request] = {}
        self._answered: dict[str, float] = {}
        self._due: dict[str, set[str] | None] = {}
        self._behind: set[str] = set()
        self._snapshot = DirectorySnapshot()
        self._version: int | None = None
        self._generation: str | None = None
        self._allocated: tuple[int, dict[str, tuple[int, int, object]]] | None = None
        self.faults: dict[str, str] = {}
        """What is wrong with single edges' parts, by gateway."""

    def requested(self, request: DirectoryRequest, contract: TopicVersion) -> bool:
        """Answer an edge soon; of several requests of one edge the last counts. False when too many wait."""
        if len(self._requests) >= MAX_REQUESTS and request.gateway not in self._requests:
            return False
        self._requests[request.gateway] = _Request(request.number, contract)
        return True

    async def publish(self, publisher: Publisher) -> None:
        """Send what is due over a connection; PeerError when that fails, LedgerError or DirectoryFault of a store."""
        await in_thread(self._look)
        for gateway in self._ready():
            request = self._requests.pop(gateway, None)
            touched = self._due.pop(gateway, None)
            if request is not None:
                self._answered[gateway] = monotonic()
            try:
                await self._send(publisher, gateway, request, None if gateway in self._behind else touched)
                self.faults.pop(gateway, None)
                self._behind.discard(gateway)
            except (*NOT_TAKEN, ContractError, ConfigError, MappingError, ValueError) as error:
                # The next change, or the edge's next request, tries again.
                self.faults[gateway] = str(error)
                self._behind.add(gateway)
                log.error("part_refused", gateway=gateway, error=str(error))
            except BaseException:
                self._due[gateway] = None
                raise

    def _ready(self) -> list[str]:
        """Return whose turn it is: who may have another part, then who asked and was not just answered."""
        now = monotonic()
        if len(self._answered) > MAX_REQUESTS:
            self._answered = {g: at for g, at in self._answered.items() if now - at < self._calm}
        asked = [g for g in self._requests if now - self._answered.get(g, -self._calm) >= self._calm]
        return list(dict.fromkeys([*self._due, *asked]))

    def _look(self) -> None:
        """Note the edges whose part may differ from what they were sent."""
        # The directory first: who is allocated to whom is asked after it, for the meters that changed in it.
        snapshot, changed = self._store.snapshot(), self._ledger.allocations.changed()
        generation = self._store.life.generation
        if self._version is None or self._allocated is None:
            self._wholly_due(self._ledger.edges.gateways())
            self._wholly_due(self._ledger.allocations.summaries())
        elif snapshot.version > self._version:
            meters = touched_meters(snapshot, self._version)
            concerned = sorted(self._ledger.allocations.gateways_of(meters))
            if len(meters) > FEW:
                self._wholly_due(concerned)
            for gateway in concerned if len(meters) <= FEW else ():
                before = self._due.get(gateway, set())
                both = None if before is None else before.union(meters)
                self._due[gateway] = None if both is None or len(both) > FEW else both
        if generation != self._generation:  # the directory was set back: every part is told anew
            self._wholly_due(self._ledger.edges.gateways())
            self._generation = generation
        if self._allocated is None or changed != self._allocated[0]:
            now: dict[str, tuple[int, int, object]] = dict(self._ledger.allocations.summaries())
            former = {} if self._allocated is None else self._allocated[1]
            self._wholly_due(g for g in {**former, **now} if former.get(g) != now.get(g))
            self._allocated = changed, now
        self._version, self._snapshot = snapshot.version, snapshot

    def _wholly_due(self, gateways: Iterable[str]) -> None:
        """Note edges whose part is to be compared as a whole: not only meters' rows may have changed."""
        self._due |= dict.fromkeys(gateways)

    async def _send(
        self, publisher: Publisher, gateway: str, request: _Request | None, touched: set[str] | None
    ) -> None:
        made = await in_thread(self._make, gateway, request, touched)
        if made is None:
            return
        topic, payloads, number = made
        await send_all(publisher, topic, payloads)
        await in_thread(self._ledger.edges.set_sent, gateway, number)
        log.info("part_published", gateway=gateway, number=number, messages=len(payloads))

    def _make(
        self, gateway: str, request: _Request | None, touched: set[str] | None
    ) -> tuple[str, list[bytes], int] | None:
        """Return the messages of what an edge should be sent, which is remembered; None when it has all.

        `touched` are the meters that changed since it was looked at last, where nothing else can have.
        """
        sent, generation = self._ledger.edges.part(gateway), Generation.parse(self._store.life.generation)
        known = sent is not None and sent.sent and sent.key == self._key_id
        held = RememberedPart.load(sent.body) if sent is not None and known else None
        if held is not None and held.generation != generation:
            held = None  # a life of the directory begins with a snapshot: what was before is no beginning
        if (
            sent is not None
            and sent.contract == 2
            and held is not None
            and held.marked is not None
            and held.version <= self._snapshot.version
            and touched is not None
            and request is None
        ):
            return self._make_of_few(gateway, sent.number, held, touched)
        return self._make_whole(gateway, request, sent, held, generation)

    def _make_of_few(
        self, gateway: str, previous: int, held: RememberedPart, touched: set[str]
    ) -> tuple[str, list[bytes], int] | None:
        """Make the change of an edge whose meters are the same, by those of them that changed."""
        at, number = self._clock.now(), previous + 1
        # Of the directory that was looked at: what came since is not among `touched`, and is looked at next.
        change, now = change_of_few(
            held, self._snapshot, touched, gateway=gateway, previous=previous, number=number, at=at
        )
        if says_nothing(change):
            return None
        payloads = part_messages(change, key=self._key, at=at)
        return self._remember(
            gateway,
            SentPart(number=number, contract=2, key=self._key_id, sent=False, body=now.dump()),
            payloads,
        )

    def _make_whole(
        self,
        gateway: str,
        request: _Request | None,
        sent: SentPart | None,
        held: RememberedPart | None,
        generation: Generation,
    ) -> tuple[str, list[bytes], int] | None:
        """Make the part of an edge anew, and of it the change from what it has, where that is less."""
        allocations = {
            one.meter: PartAllocation(meter=one.meter, epoch=one.epoch, since=one.since)
            for one in self._ledger.allocations.current(gateway)
        }
        snapshot = self._store.snapshot()
        part_now = snapshot.part(set(allocations))
        if request is None and held is not None and held.is_still(part_now, allocations):
            return None
        new = EdgePart.of(part_now, allocations, generation)
        number = 1 + max(sent.number if sent else 0, request.number if request else 0)
        contract = request.contract if request else sent.contract if sent else 2
        at = self._clock.now()
        part = snapshot_of(new, gateway, number, at)
        if sent is not None and held is not None and held.version <= snapshot.version:
            change = change_of(held.as_sent(snapshot), new, gateway, sent.number, number, at)
            if request is None and says_nothing(change):
                return None
            follows = request is None or request.number == sent.number
            if follows and contract == 2 and len(change.rows) < len(part.rows):
                part = change
        body = RememberedPart.of(new).dump()
        if contract == 1:
            payload = part_message_of_version_1(part, key=self._key, at=at)
            if len(payload) > MAX_OF_VERSION_1:
                raise ContractError(
                    f"the part of {gateway} has {len(payload)} octets, too many for an edge of version 1: update it"
                )
            payloads = [payload]
        else:
            payloads = part_messages(part, key=self._key, at=at)
        remembered = SentPart(number=number, contract=contract, key=self._key_id, sent=False, body=body)
        return self._remember(gateway, remembered, payloads)

    def _remember(self, gateway: str, part: SentPart, payloads: list[bytes]) -> tuple[str, list[bytes], int]:
        # Before it is sent: after a crash in between, no other part may go out under this number.
        self._ledger.edges.set_part(gateway, part)
        return self._topics.of_version(part.contract).directory(gateway), payloads, part.number


def touched_meters(snapshot: DirectorySnapshot, since: int) -> list[str]:
    """Return the meters whose part of the directory changed after a version."""
    meters, accounts = touched(snapshot, since, snapshot.version)
    found = set(meters)
    for owners in in_batches(accounts):
        snapshot.rows.expect(accounts=owners)
        held = {point for account in owners for point in snapshot.usage_points_of(account)}
        for points in in_batches(held):
            snapshot.rows.expect(usage_points=points)
            found.update(meter for point in points for meter in snapshot.meters_at(point))
    return sorted(found)
