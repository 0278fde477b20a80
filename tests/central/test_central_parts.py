"""Each edge's part of the directory: of its own meters alone, in small signed messages, numbered."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.central.directory.part_publisher import PartPublisher
from gateway.central.directory.parts import EdgePart, in_chunks, snapshot_of
from gateway.central.ledger.ledger import Ledger
from gateway.contract.envelope import parse
from gateway.contract.messages import DirectoryRequest, PartAllocation, Signed
from gateway.contract.signing import new_key_pair
from gateway.contract.topics import Topics
from gateway.edge.stamping.stored_part import DirectoryHole, HeldPart, StoredPart
from gateway.errors import ContractError, PeerDeniesTopic, PeerError, PeerRefusedData, PeerUnavailable
from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from tests.support.central.samples import DAY, NOW, T0

TOPICS = Topics("test")
PRIVATE, PUBLIC = new_key_pair()
NEW_PRIVATE, NEW_PUBLIC = new_key_pair()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with DirectoryStore(tmp_path / "directory.db") as made:
        yield made


class Broker:
    """Takes messages by topic; `refuse` says which it will not have, `fail` that the connection is gone."""

    def __init__(self) -> None:
        self.sent: dict[str, list[bytes]] = defaultdict(list)
        self.refuse: Callable[[str], bool] = lambda _topic: False
        self.refusal: PeerError = PeerRefusedData("too large")
        self.fail = False

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        if self.fail:
            raise PeerUnavailable("the connection is gone")
        if self.refuse(topic):
            raise self.refusal
        self.sent[topic].append(payload)
        receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        receipt.set_result(None)
        return receipt

    def take(self, gateway: str, version: int = 2) -> list[str]:
        """The signed chunks that were sent to an edge since the last time."""
        topics = TOPICS if version == 2 else TOPICS.of_version(1)
        sent = self.sent.pop(topics.directory(gateway), [])
        return [parse(payload, Signed).data.jws for payload in sent]


class Edge:
    """An edge's stored part, fed with what the broker took."""

    def __init__(self, folder: Path, name: str, keys: tuple[bytes, ...] = (PUBLIC,)) -> None:
        self.name = name
        self.stored = StoredPart(folder / name, name, keys)
        self.stored.load()

    def hear(self, chunks: list[str]) -> HeldPart:
        for jws in chunks:
            checked = self.stored.check(jws)
            if checked is not None:
                self.stored.store(checked)
        return self.stored.held

    @property
    def meters(self) -> list[str]:
        assert self.stored.held.rows is not None
        return sorted(DirectorySnapshot.from_json(self.stored.held.rows.text()).meters())

    def snapshot(self) -> DirectorySnapshot:
        assert self.stored.held.rows is not None
        return DirectorySnapshot.from_json(self.stored.held.rows.text())


def publisher(
    ledger: Ledger, store: DirectoryStore, *, key: bytes = PRIVATE, calm: float = 0.0
) -> PartPublisher:
    return PartPublisher(store=store, ledger=ledger, topics=TOPICS, key=key, clock=SystemClock(), calm=calm)


def fit(store: DirectoryStore, *meters: str) -> None:
    changes: list[Change] = []
    for meter in meters:
        point, account = f"UP-{meter}", f"acc-{meter}"
        changes += [Install(meter, point, Role.CONSUMER, T0 - DAY), MoveIn(point, account, T0 - DAY)]
    store.apply(changes, by="test", source="directory.csv", at=NOW)


def rekey(store: DirectoryStore, meter: str, number: str) -> None:
    change = Name(f"acc-{meter}", NumberKind.ACCOUNT, number)
    store.apply([change], by="test", source="rekey.csv", at=NOW)


def give(ledger: Ledger, gateway: str, *meters: str) -> None:
    ledger.allocations.give(meters, gateway, by="asha", note="", since=T0, at=NOW)


def request(gateway: str, number: int = 0, *meters: str) -> DirectoryRequest:
    return DirectoryRequest(gateway=gateway, have_version=0, number=number, meters=meters)


async def test_an_edge_gets_the_part_of_its_own_meters_whatever_it_asks(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    """It got whatever its request named: any login could read the whole town's accounts."""
    fit(store, "GEN:1", "GEN:2")
    give(ledger, "edge-1", "GEN:1")
    give(ledger, "edge-2", "GEN:2")
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    parts.requested(request("edge-1", 0, "GEN:1", "GEN:2"), 2)
    await parts.publish(broker)
    held = edge.hear(broker.take("edge-1"))
    assert edge.meters == ["GEN:1"]
    assert held.epochs == {"GEN:1": 1}
    parts.requested(request("stranger", 0, "GEN:1", "GEN:2"), 2)
    await parts.publish(broker)
    stranger = Edge(tmp_path, "stranger")
    stranger.hear(broker.take("stranger"))
    assert stranger.meters == []


async def test_after_the_snapshot_come_numbered_changes_and_only_to_whom_they_concern(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    fit(store, "GEN:1", "GEN:2", "GEN:3")
    give(ledger, "edge-1", "GEN:1", "GEN:2")
    give(ledger, "edge-2", "GEN:3")
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    await parts.publish(broker)
    edge.hear(broker.take("edge-1"))
    broker.take("edge-2")
    rekey(store, "GEN:1", "0123456789")
    await parts.publish(broker)
    (change,) = broker.take("edge-1")
    assert broker.take("edge-2") == []
    held = edge.hear([change])
    assert (held.number, held.changes, held.version) == (2, 1, store.version)
    assert edge.snapshot() == store.snapshot().part({"GEN:1", "GEN:2"})
    again = Edge(tmp_path, "edge-1")
    assert again.stored.held == held, "stored, and verified again when loaded"


async def test_a_moved_meter_leaves_one_part_and_enters_another_with_its_epoch(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    fit(store, "GEN:1", "GEN:2")
    give(ledger, "edge-1", "GEN:1", "GEN:2")
    parts, broker = publisher(ledger, store), Broker()
    one, two = Edge(tmp_path, "edge-1"), Edge(tmp_path, "edge-2")
    await parts.publish(broker)
    one.hear(broker.take("edge-1"))
    give(ledger, "edge-2", "GEN:2")
    await parts.publish(broker)
    assert one.hear(broker.take("edge-1")).epochs == {"GEN:1": 1}
    assert one.meters == ["GEN:1"]
    assert two.hear(broker.take("edge-2")).epochs == {"GEN:2": 2}
    assert two.meters == ["GEN:2"]


async def test_a_hole_is_noticed_asked_for_and_healed_by_a_snapshot(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    await parts.publish(broker)
    edge.hear(broker.take("edge-1"))
    rekey(store, "GEN:1", "0123456789")
    await parts.publish(broker)
    broker.take("edge-1")  # lost on the way
    rekey_again = Name("acc-GEN:1", NumberKind.LEGACY, "KE-1")
    store.apply([rekey_again], by="test", source="x", at=NOW)
    await parts.publish(broker)
    with pytest.raises(DirectoryHole, match="a change after 2, but we have 1"):
        edge.hear(broker.take("edge-1"))
    parts.requested(request("edge-1", edge.stored.held.number), 2)
    await parts.publish(broker)
    assert edge.hear(broker.take("edge-1")).number == 4
    assert edge.snapshot() == store.snapshot().part({"GEN:1"})


async def test_an_edge_that_asks_and_has_all_is_answered_with_an_empty_change(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    await parts.publish(broker)
    edge.hear(broker.take("edge-1"))
    parts.requested(request("edge-1", 1), 2)
    await parts.publish(broker)
    held = edge.hear(broker.take("edge-1"))
    assert (held.number, held.changes) == (2, 1)


async def test_a_ledger_that_was_set_back_numbers_above_what_the_edge_shows(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    parts.requested(request("edge-1", 40), 2)
    await parts.publish(broker)
    assert edge.hear(broker.take("edge-1")).number == 41


async def test_a_directory_that_was_set_back_reaches_edges_that_know_more_of_its_former_life(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    copy = tmp_path / "copy.db"
    with DirectoryStore(copy) as other:
        fit(other, "GEN:1")
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    rekey(store, "GEN:1", "0123456789")
    await parts.publish(broker)
    assert edge.hear(broker.take("edge-1")).version == 2
    with DirectoryStore(copy) as restored:
        life = restored.begin_anew(store.life.generation)
        await publisher(ledger, restored).publish(broker)
        held = edge.hear(broker.take("edge-1"))
        assert (held.version, str(held.generation)) == (1, life.generation)
        assert edge.snapshot() == restored.snapshot().part({"GEN:1"})
    # The former life's word counts no more, though its version is higher.
    rekey(store, "GEN:1", "2222222222")
    await publisher(ledger, store).publish(broker)
    with pytest.raises(ContractError, match="is older than our"):
        edge.hear(broker.take("edge-1"))


async def test_what_was_not_sent_whole_is_followed_by_a_snapshot(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    """A crash or a lost connection in mid-part: no change may build on what perhaps never came."""
    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    await parts.publish(broker)
    edge.hear(broker.take("edge-1"))
    rekey(store, "GEN:1", "0123456789")
    broker.fail = True
    with pytest.raises(PeerUnavailable):
        await parts.publish(broker)
    broker.fail = False
    for later in (
        parts,
        publisher(ledger, store),
    ):  # on the next connection; and after a restart nothing is left
        await later.publish(broker)
    held = edge.hear(broker.take("edge-1"))
    assert (held.number, held.changes) == (3, 0)
    assert edge.snapshot() == store.snapshot().part({"GEN:1"})


async def test_a_part_of_thousands_of_meters_travels_in_messages_that_any_broker_takes(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    """3,000 meters made one message larger than the broker takes, which threw central off again and again."""
    meters = [f"GEN:{n:08d}" for n in range(3_000)]
    fit(store, *meters)
    give(ledger, "edge-1", *meters)
    parts, broker, edge = publisher(ledger, store), Broker(), Edge(tmp_path, "edge-1")
    await parts.publish(broker)
    sent = broker.sent[TOPICS.directory("edge-1")]
    assert len(sent) > 3
    assert max(map(len, sent)) < 256 * 1024
    chunks = broker.take("edge-1")
    assert edge.hear(chunks[:-1]).number == 0, "nothing is believed before the last chunk"
    assert len(edge.hear(chunks).epochs) == 3_000
    assert edge.meters == meters


def test_the_longest_names_in_any_script_fit_into_chunks() -> None:
    part = EdgePart(
        rows='"मीटर\\"\x01' * 60_000,
        allocations={
            f"{n}": PartAllocation(meter=f"{n:0200d}", epoch=2**53 - 1, since=NOW) for n in range(500)
        },
        version=1,
    )
    chunks = in_chunks(snapshot_of(part, "edge-1", 1, NOW))
    assert "".join(chunk.rows for chunk in chunks) == part.rows
    assert [one for chunk in chunks for one in chunk.allocations] == list(part.allocations.values())
    assert (
        max(len(chunk.model_dump_json(exclude_none=True).encode()) for chunk in chunks) * 4 / 3 < 255 * 1024
    )


@pytest.mark.parametrize("refusal", [PeerRefusedData("too large"), PeerDeniesTopic("not allowed")])
async def test_one_edge_s_failure_delays_no_other(
    ledger: Ledger, store: DirectoryStore, refusal: PeerError
) -> None:
    fit(store, "GEN:1", "GEN:2", "GEN:3")
    for number in (1, 2, 3):
        give(ledger, f"edge-{number}", f"GEN:{number}")
    parts, broker = publisher(ledger, store), Broker()
    broker.refuse, broker.refusal = lambda topic: topic == TOPICS.directory("edge-2"), refusal
    parts.requested(request("edge-2", 2**53 - 1), 2)  # and there is no number after this one
    await parts.publish(broker)
    await parts.publish(broker)
    assert len(broker.take("edge-1")) == len(broker.take("edge-3")) == 1
    assert set(parts.faults) == {"edge-2"}


async def test_an_edge_that_asks_without_end_is_answered_at_a_pace(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    parts, broker = publisher(ledger, store, calm=3600.0), Broker()
    for _ in range(50):
        parts.requested(request("edge-1"), 2)
        await parts.publish(broker)
    assert len(broker.take("edge-1")) == 1
    rekey(store, "GEN:1", "0123456789")
    await parts.publish(broker)
    assert len(broker.take("edge-1")) == 1, "a change is sent all the same"


async def test_an_edge_of_version_1_gets_whole_parts_as_it_knows_them(
    ledger: Ledger, store: DirectoryStore
) -> None:
    fit(store, "GEN:1", "GEN:2")
    give(ledger, "edge-1", "GEN:1")
    parts, broker = publisher(ledger, store), Broker()
    parts.requested(request("edge-1", 0, "GEN:1", "GEN:2"), 1)
    await parts.publish(broker)
    assert len(broker.take("edge-1", 1)) == 1
    rekey(store, "GEN:1", "0123456789")
    await parts.publish(broker)
    assert len(broker.take("edge-1", 1)) == 1
    assert broker.take("edge-1") == []


async def test_parts_signed_with_a_new_key_go_to_every_edge_and_either_key_is_believed_meanwhile(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    """The rotation of the signing key, step by step, as docs/operator.md has it."""
    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    broker = Broker()
    edge = Edge(tmp_path, "edge-1", keys=(PUBLIC,))
    await publisher(ledger, store).publish(broker)
    edge.hear(broker.take("edge-1"))
    # 1. Every edge believes both keys. What the old one signed is still good.
    edge = Edge(tmp_path, "edge-1", keys=(PUBLIC, NEW_PUBLIC))
    assert edge.meters == ["GEN:1"]
    # 2. Central signs with the new key: every edge gets its part anew.
    await publisher(ledger, store, key=NEW_PRIVATE).publish(broker)
    assert edge.hear(broker.take("edge-1")).changes == 0
    # 3. The old key is taken out; what is stored stays good, and the old key's word is worth nothing.
    edge = Edge(tmp_path, "edge-1", keys=(NEW_PUBLIC,))
    assert edge.meters == ["GEN:1"]
    await publisher(ledger, store).publish(broker)
    with pytest.raises(ContractError, match="which is not trusted"):
        edge.hear(broker.take("edge-1"))


def test_a_torn_or_forged_line_in_the_stored_part_is_left_out_and_asked_for(
    ledger: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    async def fill() -> None:
        broker, edge = Broker(), Edge(tmp_path, "edge-1")
        parts = publisher(ledger, store)
        await parts.publish(broker)
        edge.hear(broker.take("edge-1"))
        rekey(store, "GEN:1", "0123456789")
        await parts.publish(broker)
        edge.hear(broker.take("edge-1"))

    fit(store, "GEN:1")
    give(ledger, "edge-1", "GEN:1")
    asyncio.run(fill())
    file = tmp_path / "edge-1" / "directory.jws"
    file.write_bytes(file.read_bytes()[:-50])
    torn = Edge(tmp_path, "edge-1")
    assert (torn.stored.held.number, torn.stored.full) == (1, True)
    assert torn.meters == ["GEN:1"]


async def test_a_directory_that_was_set_back_reaches_the_edge_though_its_version_is_lower(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Restored from a copy and re-keyed otherwise: the edge must not stamp by the numbers of before for ever."""
    path, copy = tmp_path / "lives" / "directory.db", tmp_path / "copy.db"
    path.parent.mkdir()
    broker, edge = Broker(), Edge(tmp_path, "edge-1")
    give(ledger, "edge-1", "GEN:1", "GEN:2")

    def numbers() -> list[str | None]:
        held = edge.snapshot()
        return [held.name(f"acc-GEN:{n}", NumberKind.ACCOUNT) for n in (1, 2)]

    with DirectoryStore(path) as store:
        fit(store, "GEN:1", "GEN:2")
        await publisher(ledger, store).publish(broker)
        before = broker.take("edge-1")
        edge.hear(before)
    shutil.copy(path, copy)
    with DirectoryStore(path) as store:
        rekey(store, "GEN:1", "1111111111")
        rekey(store, "GEN:2", "2222222222")
        await publisher(ledger, store).publish(broker)
        crossed = broker.take("edge-1")
        edge.hear(crossed)
        assert numbers() == ["1111111111", "2222222222"]
    shutil.copy(copy, path)
    with DirectoryStore(path) as store:
        sending = publisher(ledger, store)
        await sending.publish(broker)
        held = edge.hear(broker.take("edge-1"))
        assert (held.generation.counter, held.version) == (2, 1)
        assert numbers() == [None, None]
        rekey(store, "GEN:1", "2222222222")
        rekey(store, "GEN:2", "1111111111")
        await sending.publish(broker)
        held = edge.hear(broker.take("edge-1"))
        assert (held.generation.counter, held.version) == (2, 3)
        assert numbers() == ["2222222222", "1111111111"]
    for old in (before, crossed):
        with pytest.raises(ContractError, match=r"\$\.generation: .* is older than our"):
            edge.hear(old)
    assert Edge(tmp_path, "edge-1").stored.held.generation == held.generation, "after a restart, too"
