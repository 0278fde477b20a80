"""What the pipeline costs beside its bare engines: SQLite alone, aiomqtt alone, paho alone; one run, ratios.

Reading sets of 8 values, 20 in a poll. All ratios are bare ÷ ours, each the median of short rounds that take turns,
so that a disk or a neighbour that is busy for a while meets both. `load` is that of the last minute, at the end.

`durable_vs_bare`, `durable_cpu_vs_bare`: decoded sets → stamped → journaled by eight lines, against bare SQLite
commits (WAL, synchronous=FULL) of the same octets, a row a set and a transaction a poll; by the wall, and by
CPU. `durable_vs_bare_one_line`: by one line, which waits for each fsync as the bare one does.

`acked_vs_bare`: decoded → stamped → journaled → taken by Mosquitto (PUBACK), window 20, against aiomqtt
publishing the very same messages with the same window, one set in a message (polls of one row, as live reads).
`acked_batched_vs_bare_both`: the same with a poll in a message, against what stores and sends as ours does: bare
SQLite commits of the same octets, then aiomqtt with the same messages. `…_paho`: with paho, the fastest way
known to send. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.central import LAYOUT, T0, measure_central
from gateway.contract.messages import Status
from gateway.contract.messages.generation import Generation
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.sinks.batching import BatchLimits
from gateway.edge.sinks.mqtt import MqttSink
from gateway.edge.stamping.stamp import stamp
from gateway.memory import settle
from gateway.mqtt.connection import MqttSettings
from mapping.directory import Attribution, Attributions
from protocols.clock import SystemClock
from protocols.reading import Number, ProfileName, ReadingSet

GROUP = 20
WINDOW = 20
LANES = 8
"""Lines that are read side by side, as many as an edge reads of one host (`[admission] per_host`) where nothing else is
configured; each appends one group and waits for it, as the poller does."""


class Directory:
    """One account for all: what a lookup costs is the mapping's own bench."""

    version = 1
    generation = Generation(1, "00000001")
    answer = Attributions(
        accounts=(
            Attribution(
                account_id="a-000001", account_number="1234567890", legacy_number="K-1", usage_point="UP-1"
            ),
        ),
        reason=None,
        directory_version=1,
    )

    def attributions(self, *_: object) -> Attributions:
        return self.answer

    def epoch(self, _: str) -> int:
        return 1


def reading_sets(count: int, base: int, poll: int = GROUP) -> list[ReadingSet]:
    """Decoded sets, each at a second of its own; those of one poll were received together."""
    times = [T0 + timedelta(seconds=base + n) for n in range(count)]
    received = [times[min(n - n % poll + poll, count) - 1] for n in range(count)]
    return [
        ReadingSet(
            profile=ProfileName.INSTANTANEOUS,
            at=at,
            received_at=received[n],
            values=tuple((q, Number(23_000 + n, scaler, unit)) for q, unit, scaler in LAYOUT),
        )
        for n, at in enumerate(times)
    ]


def groups(sets: list[ReadingSet]) -> list[list[ReadingSet]]:
    return [sets[i : i + GROUP] for i in range(0, len(sets), GROUP)]


async def durable(journal: Journal, sets: list[ReadingSet], lanes: int = LANES) -> float:
    """Seconds to stamp and journal all sets."""
    directory = Directory()
    waiting = iter(enumerate(groups(sets)))

    async def lane() -> None:
        for number, group in waiting:
            meter = f"GEN:{number % 100:08}"
            blocks = stamp(group, meter, directory)
            mark = ((meter, "instantaneous", group[-1].at),)
            await journal.append(JournalBatch(blocks=blocks, watermarks=mark))

    begun = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    return time.perf_counter() - begun


def bare_sqlite(path: Path, bodies: list[bytes]) -> tuple[float, float]:
    """Seconds (wall, CPU) for bare commits of the same octets, GROUP rows a transaction."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    db.execute("create table if not exists j (seq integer primary key, body blob)")
    begun, cpu = time.perf_counter(), time.process_time()
    for i in range(0, len(bodies), GROUP):
        db.execute("begin immediate")
        db.executemany("insert into j (body) values (?)", [(b,) for b in bodies[i : i + GROUP]])
        db.execute("commit")
    took = time.perf_counter() - begun, time.process_time() - cpu
    db.close()
    return took


async def newest(journal: Journal, count: int) -> list[bytes]:
    """The newest sets as rows of their own: the octets of each block, a share for each set."""
    rows: list[bytes] = []
    seq = journal.last_seq - count + 1
    while seq <= journal.last_seq:
        for entry in await journal.read(seq, journal.last_seq):
            size = -(-len(entry.body) // entry.count)
            rows += [entry.body[n * size : (n + 1) * size] for n in range(entry.count)]
            seq = entry.last + 1
    return rows


async def measure_durable(folder: Path, rounds: int, count: int) -> dict[str, float]:
    """Alternate ours and bare; medians of each round's ratio."""
    journal = await Journal.open(folder / "journal.db", clock=SystemClock())
    ratios, by_cpu, single, rates = [], [], [], []
    rows: list[bytes] = []
    for turn in range(rounds + 1):
        sets, alone_sets = (reading_sets(count, (3 * turn + n) * count) for n in (0, 1))
        cpu = time.process_time()
        ours = await durable(journal, sets)
        ours_cpu = time.process_time() - cpu
        alone = await durable(journal, alone_sets, lanes=1)
        rows = await newest(journal, count)
        bare, bare_cpu = bare_sqlite(folder / "bare.db", rows)
        if turn:
            ratios.append(bare / ours)
            by_cpu.append(bare_cpu / ours_cpu)
            single.append(bare / alone)
            rates.append(count / ours)
    await journal.close()
    return {
        "durable_vs_bare": statistics.median(ratios),
        "durable_cpu_vs_bare": statistics.median(by_cpu),
        "durable_vs_bare_one_line": statistics.median(single),
        "sets_per_s": statistics.median(rates),
        "set_octets": sum(map(len, rows)) / len(rows),
    }


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """A broker of our own on a port of the system's choice."""
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n"
        "max_queued_messages 0\n"
    )
    broker = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port
    finally:
        broker.terminate()
        broker.wait()


def offline_status(journal: Journal) -> Callable[[], Status]:
    return lambda: Status(
        gateway="bench", online=True, version="0", journal=journal.uuid, at=datetime.now(UTC)
    )


async def acked(port: int, folder: Path, sets: list[ReadingSet], per_message: int, turn: int) -> float:
    """Seconds from decoded sets to the last PUBACK, with journal and sink as in the gateway."""
    limits = JournalLimits(sinks=("mqtt",))
    journal = await Journal.open(
        folder / f"acked-{turn}-{per_message}.db", clock=SystemClock(), limits=limits
    )
    settings = MqttSettings(port=port, client_id="bench", root="bench", window=WINDOW)
    sink = MqttSink(
        settings, "bench", status=offline_status(journal), limits=BatchLimits(count=per_message, age=0.01)
    )
    task = asyncio.create_task(sink.run(journal))
    while not sink.statistics().connected:
        await asyncio.sleep(0.005)
    begun = time.perf_counter()
    await durable(journal, sets)
    while (await journal.cursors())["mqtt"] < len(sets):
        await asyncio.sleep(0.001)
    took = time.perf_counter() - begun
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await journal.close()
    return took


async def caught(port: int, ready: asyncio.Event, kept: list[tuple[str, bytes]], total: int) -> None:
    """Keep the very messages that the sink sends."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("bench/v2/bench/readings/#", qos=1)
        ready.set()
        seen = 0
        async for message in client.messages:
            kept.append((str(message.topic), bytes(message.payload)))
            seen += message.payload.count(b'"checksum":')
            if seen >= total:
                return


async def bare_aiomqtt(port: int, messages: list[tuple[str, bytes]]) -> float:
    quiet = logging.getLogger("bench.quiet")
    quiet.setLevel(logging.CRITICAL)
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        max_inflight_messages=WINDOW,
        max_concurrent_outgoing_calls=WINDOW,
        logger=quiet,
    ) as client:
        waiting = iter(messages)

        async def slot() -> None:
            for topic, payload in waiting:
                await client.publish(topic, payload, qos=1)

        begun = time.perf_counter()
        await asyncio.gather(*(slot() for _ in range(WINDOW)))
        return time.perf_counter() - begun


def bare_paho(port: int, messages: list[tuple[str, bytes]]) -> float:
    """The fastest paho mode: one thread that calls loop() and keeps the window full."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(WINDOW)
    acked_count = 0
    connected = threading.Event()

    def on_publish(*_: object) -> None:
        nonlocal acked_count
        acked_count += 1

    client.on_publish = on_publish
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", port)
    while not connected.is_set():
        client.loop(0.1)
    sent = 0
    begun = time.perf_counter()
    while acked_count < len(messages):
        while sent < len(messages) and sent - acked_count < WINDOW:
            client.publish(*messages[sent], qos=1)
            sent += 1
        client.loop(0.1)
    took = time.perf_counter() - begun
    client.disconnect()
    client.loop(0.1)
    return took


async def measure_acked(folder: Path, rounds: int, count: int, per_message: int) -> dict[str, float]:
    """Ours against bare clients with the messages that ours sent, taken from the broker once."""
    alone, both, both_paho, rates = [], [], [], []
    with mosquitto(folder) as port:
        kept: list[tuple[str, bytes]] = []
        ready = asyncio.Event()
        listener = asyncio.create_task(caught(port, ready, kept, count))
        await ready.wait()
        await acked(port, folder, reading_sets(count, 0, per_message), per_message, 0)
        await asyncio.wait_for(listener, 20)
        rows = await journaled(folder / f"acked-0-{per_message}.db", count)
        for turn in range(1, rounds + 1):
            sets = reading_sets(count, turn * count, per_message)
            ours = await acked(port, folder, sets, per_message, turn)
            sent = await bare_aiomqtt(port, kept)
            sent_paho = await asyncio.to_thread(bare_paho, port, kept)
            stored, _ = bare_sqlite(folder / f"bare-{per_message}.db", rows)
            alone.append(sent / ours)
            both.append((stored + sent) / ours)
            both_paho.append((stored + sent_paho) / ours)
            rates.append(count / ours)
    return {
        "vs_bare": statistics.median(alone),
        "vs_bare_both": statistics.median(both),
        "vs_bare_both_paho": statistics.median(both_paho),
        "per_s": statistics.median(rates),
    }


async def journaled(path: Path, count: int) -> list[bytes]:
    """The rows of a journal that was closed."""
    journal = await Journal.open(path, clock=SystemClock())
    try:
        return await newest(journal, count)
    finally:
        await journal.close()


async def main(*, quick: bool) -> None:
    """Measure and print; `quick` takes fewer and smaller rounds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rounds, count = (7, 2_000) if quick else (25, 5_000)
    settle()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        result = await measure_durable(folder, 2 * rounds, count)
        many = await measure_acked(folder, rounds, count, GROUP)
        one = await measure_acked(folder, rounds, count // 2, 1)
        result |= measure_central(folder, rounds, 40)
    result |= {
        "acked_vs_bare": one["vs_bare"],
        "acked_vs_bare_both": one["vs_bare_both"],
        "acked_sets_per_s": one["per_s"],
        "acked_batched_vs_bare_both": many["vs_bare_both"],
        "acked_batched_vs_bare_both_paho": many["vs_bare_both_paho"],
        "acked_sets_per_s_batched": many["per_s"],
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "load": os.getloadavg()[0],
    }
    print(f"reading sets of {len(LAYOUT)} values, {result['set_octets']:.0f} octets, polls of {GROUP}")
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="end within 50 s")
    asyncio.run(main(quick=parser.parse_args().quick))
