"""Measures how a change of the directory reaches the edges: a re-key of all, then one meter; prints a figure a line.

150 edges of 1,000 meters each, or as many as are named; `--quick`: 10. The broker is one that takes everything at
once, so what is measured is central's own work: CPU, memory (`_adds_mib`: over what was resident before), octets sent.
`bare_...` is the least that any program must do with the same rows: read them from the same database, write them as
JSON, sign.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from gateway.central.directory.part_publisher import PartPublisher
from gateway.central.directory.service import DirectoryService
from gateway.central.ledger.ledger import Ledger
from gateway.contract.signing import DIRECTORY_TYP, new_key_pair, sign
from gateway.contract.topics import Topics
from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from protocols.clock import SystemClock

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BEGUN = NOW - timedelta(days=300)
TOPICS = Topics("bench")
AT_ONCE = 50_000
"""Meters of one change set while the directory is filled."""


class Broker:
    """Takes everything at once, and counts."""

    def __init__(self) -> None:
        self.messages = self.octets = self.largest = 0

    def send(self, _topic: str, payload: bytes) -> asyncio.Future[None]:
        """Count a message and forget it."""
        self.messages += 1
        self.octets += len(payload)
        self.largest = max(self.largest, len(payload))
        receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        receipt.set_result(None)
        return receipt


def main(edges: int, meters: int) -> None:
    """Print the figures of so many edges of so many meters each."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    private, _ = new_key_pair()
    with tempfile.TemporaryDirectory() as name, DirectoryStore(Path(name) / "directory.db") as store:
        ledger = Ledger(Path(name) / "ledger.db")
        print(f"edges {edges} meters_each {meters}")
        fill(store, ledger, edges, meters)
        publisher = PartPublisher(
            store=store, ledger=ledger, topics=TOPICS, key=private, clock=SystemClock(), calm=0.0
        )
        broker = Broker()
        with measured("first_parts", edges):
            run(publisher.publish(broker))
        tell(broker, "first_parts")
        with measured("bare_read_write_sign", edges):
            bare(store, private, edges, meters)
        names: list[Change] = [
            Name(f"acc-{n}", NumberKind.ACCOUNT, f"{1_000_000_000 + n}") for n in range(edges * meters)
        ]
        store.apply(names, by="bench", source="rekey", at=NOW)
        del names
        with measured("rekey_of_all", edges):
            run(publisher.publish(broker))
        tell(broker, "rekey_of_all")
        service = DirectoryService(
            store=store, ledger=ledger, topics=TOPICS, signing_key=private, clock=SystemClock()
        )
        ledger.cursors.set("attributions_published", store.version - 1)
        with measured("rekey_told_to_billing", edges):
            run(service.catch_up(broker))
        tell(broker, "rekey_told_to_billing")
        store.apply([Name("acc-7", NumberKind.ACCOUNT, "9999999999")], by="bench", source="one", at=NOW)
        with measured("one_account", 1):
            run(publisher.publish(broker))
        tell(broker, "one_account")
        ledger.close()


def fill(store: DirectoryStore, ledger: Ledger, edges: int, meters: int) -> None:
    """Let every edge have its meters, each with a house and a holder."""
    for begin in range(0, edges * meters, AT_ONCE):
        changes: list[Change] = []
        for n in range(begin, min(begin + AT_ONCE, edges * meters)):
            changes += [
                Install(f"GEN:{n:08d}", f"UP-{n}", Role.CONSUMER, BEGUN),
                MoveIn(f"UP-{n}", f"acc-{n}", BEGUN),
                Name(f"acc-{n}", NumberKind.LEGACY, f"KE{n:08d}"),
            ]
        store.apply(changes, by="bench", source="fill", at=NOW)
    for edge in range(edges):
        some = [f"GEN:{n:08d}" for n in range(edge * meters, (edge + 1) * meters)]
        ledger.allocations.give(some, f"edge-{edge:03d}", by="bench", note="", since=BEGUN, at=NOW)


def bare(store: DirectoryStore, key: bytes, edges: int, meters: int) -> None:
    """Read each edge's rows, write them as JSON, sign them: nothing is compared, remembered or cut."""
    snapshot = store.snapshot()
    for edge in range(edges):
        some = [f"GEN:{n:08d}" for n in range(edge * meters, (edge + 1) * meters)]
        rows = snapshot.part(some).relations()
        text = json.dumps(rows, default=str).encode()
        sign(text, key=key, typ=DIRECTORY_TYP)


def run(work: Awaitable[None]) -> None:
    """Run until it is done."""

    async def waited() -> None:
        await work

    asyncio.run(waited())


@contextmanager
def measured(what: str, edges: int) -> Iterator[None]:
    """Print wall and CPU seconds, CPU an edge, and by how much memory rose meanwhile, looked at every 10 ms."""
    before, peak, ended = resident_mib(), [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], resident_mib())

    looking = threading.Thread(target=look)
    looking.start()
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ended.set()
    looking.join()
    print(f"{what}_s {wall:.2f}")
    print(f"{what}_cpu_ms_per_edge {cpu / edges * 1_000:.1f}")
    print(f"{what}_adds_mib {max(0.0, peak[0] - before):.0f}")


def tell(broker: Broker, what: str) -> None:
    """Print what was sent, and begin to count anew."""
    print(
        f"{what}_messages {broker.messages} mib {broker.octets / 2**20:.1f} largest_kib {broker.largest // 1024}"
    )
    broker.messages = broker.octets = broker.largest = 0


def resident_mib() -> float:
    """Give the memory that is resident now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    chosen = [int(text) for text in sys.argv[1:] if text.isdecimal()]
    main(10 if "--quick" in sys.argv else chosen[0] if chosen else 150, 1_000)
