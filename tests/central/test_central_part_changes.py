"""Whatever happens in town: every edge that heard all messages has just the part that the directory says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.central.directory.part_publisher import PartPublisher
from gateway.central.ledger.ledger import Ledger
from gateway.contract.envelope import parse
from gateway.contract.messages import DirectoryRequest, Signed
from gateway.contract.signing import new_key_pair
from gateway.contract.topics import Topics
from gateway.edge.stamping.stored_part import DirectoryHole, StoredPart
from gateway.errors import PeerRefusedData, PeerUnavailable
from mapping.changes import Change, CorrectHoldings, HoldingSpan, Install, MoveIn, MoveOut, Name, Remove
from mapping.directory import NumberKind, Role
from mapping.errors import ChangeRefused
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from tests.support.central.samples import DAY, NOW, T0

TOPICS = Topics("test")
PRIVATE, PUBLIC = new_key_pair()
EDGES = ("edge-1", "edge-2", "edge-3")
METERS = tuple(f"GEN:{n}" for n in range(7))
ACCOUNTS = tuple(f"acc-{n}" for n in range(5))
POINTS = tuple(f"UP-{n}" for n in range(6))

steps = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "name",
                "name",
                "move",
                "out",
                "swap",
                "correct",
                "give",
                "publish",
                "publish",
                "ask",
                "lose",
                "restart",
            )
        ),
        st.integers(0, 50),
        st.integers(0, 50),
    ),
    min_size=4,
    max_size=20,
)


class Town:
    """A directory, a ledger, a publisher, and edges that hear what the broker takes."""

    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore(folder / "directory.db")
        self.ledger = Ledger(folder / "ledger.db")
        self.parts = {name: StoredPart(folder / name, name, (PUBLIC,)) for name in EDGES}
        for part in self.parts.values():
            part.load()
        self.lost: str | None = None
        self.time = T0
        self.restart()

    def restart(self) -> None:
        """Another central begins: it remembers what the ledger does."""
        self.publisher = PartPublisher(
            store=self.store, ledger=self.ledger, topics=TOPICS, key=PRIVATE, clock=SystemClock(), calm=0.0
        )

    def close(self) -> None:
        self.store.close()
        self.ledger.close()

    def change(self, *changes: Change) -> None:
        try:
            self.store.apply(changes, by="test", source="test", at=NOW)
        except ChangeRefused:
            return  # this one cannot be: another town goes on

    def step(self, what: str, one: int, other: int) -> None:
        self.time += timedelta(hours=1)
        meter, account, point = METERS[one % 7], ACCOUNTS[other % 5], POINTS[one % 6]
        if what == "name":
            self.change(Name(account, NumberKind.ACCOUNT, f"{1_000_000_000 + one * 100 + other}"))
        elif what == "move":
            self.change(MoveIn(point, account, self.time))
        elif what == "out":
            self.change(MoveOut(point, self.time))
        elif what == "swap":
            self.change(Remove(meter, self.time))
            self.change(Install(meter, POINTS[other % 6], Role.CONSUMER, self.time))
        elif what == "correct":
            self.change(CorrectHoldings(point, (HoldingSpan(account, T0 - DAY, None),)))
        elif what == "give":
            self.ledger.allocations.give(
                [meter], EDGES[other % 3], since=self.time, by="test", note="", at=self.time
            )
        elif what == "ask":
            self.ask(EDGES[one % 3])
        elif what == "lose":
            self.lost = EDGES[one % 3]
        elif what == "restart":
            self.restart()
        else:
            asyncio.run(self.publish())
            self.lost = None

    def ask(self, edge: str) -> None:
        held = self.parts[edge].held
        self.publisher.requested(DirectoryRequest(gateway=edge, have_version=0, number=held.number), 2)

    async def publish(self) -> None:
        try:
            await self.publisher.publish(self)
        except PeerUnavailable:
            return

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        name = TOPICS.parse(topic).gateway or ""
        if name == self.lost:
            raise (
                PeerRefusedData("too large")
                if name == EDGES[0]
                else PeerUnavailable("the connection is gone")
            )
        part = self.parts[name]
        try:
            checked = part.check(parse(payload, Signed).data.jws)
        except DirectoryHole:
            self.ask(name)
        else:
            if checked is not None:
                part.store(checked)
        receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        receipt.set_result(None)
        return receipt

    def settle(self) -> None:
        """Let all that is due come: a refused part is tried again when its edge asks."""
        self.lost = None
        for edge in EDGES:
            self.ask(edge)
        for _ in range(3):
            asyncio.run(self.publish())

    def compare(self) -> None:
        for name in EDGES:
            own = [one.meter for one in self.ledger.allocations.current(name)]
            rows = self.parts[name].held.rows
            if rows is None:
                assert not own
                continue
            held, wanted = DirectorySnapshot.from_json(rows.text()), self.store.snapshot().part(own)
            assert held.relations() == wanted.relations()
            assert [one for one in held.changes if one.by] == [one for one in wanted.changes if one.by]


def walked(steps_: list[tuple[str, int, int]], settle: Callable[[Town], None]) -> None:
    with tempfile.TemporaryDirectory() as name:
        town = Town(Path(name))
        try:
            fitted: list[Change] = [
                Install(meter, POINTS[n % 6], Role.CONSUMER, T0 - DAY) for n, meter in enumerate(METERS[:6])
            ]
            town.change(*fitted, *(MoveIn(point, "acc-0", T0 - DAY) for point in POINTS[:3]))
            for n, meter in enumerate(METERS[:6]):
                town.step("give", n, n)
                assert meter in METERS
            asyncio.run(town.publish())
            for what, one, other in steps_:
                town.step(what, one, other)
            settle(town)
            town.compare()
        finally:
            town.close()


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_every_edge_has_its_part_after_all_that_may_happen(steps_: list[tuple[str, int, int]]) -> None:
    walked(steps_, Town.settle)


def quietly(town: Town) -> None:
    """No edge asks: what it has must come of the changes alone."""
    town.lost = None
    asyncio.run(town.publish())


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(steps.map(lambda made: [one for one in made if one[0] not in ("ask", "lose")]))
def test_changes_alone_lead_each_edge_to_its_part(steps_: list[tuple[str, int, int]]) -> None:
    walked(steps_, quietly)
