"""Central on SQLite and on PostgreSQL beside bare inserts of the same rows: messages of 200 captures of 8 values.

`central_vs_bare`: bytes of a message → read, checked, judged, stored and counted durably, against `json.loads`
and one multi-row insert of the same captures (identity, meter, profile, instant, and the row as JSON; capture_id
is unique). Both put GROUP messages into a transaction (WAL, synchronous=FULL), as central does with what waits.
`central_cpu_vs_bare` is the same in CPU time. Bare ÷ ours; the median of alternating rounds. What was there before
is settled, as in the program (`gateway.memory`). The last line is one JSON object.

On PostgreSQL (`--postgresql`, Debian's, started for the bench on a socket of its own) bare is COPY of the same values
into a table with that key; CPU time is that of this process.
`octets_per_capture` is what the ledger takes for one, all tables and indexes, after `--fill` captures of `--meters`
meters (SQLite: its file; PostgreSQL: every relation of its schema). `month_ms` is the CPU time in which all of them of
one meter are read.
"""

from __future__ import annotations

import argparse
import json
import logging
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import create_engine, make_url

sys.path.insert(0, str(Path(__file__).parent.parent))

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.ledger import Ledger
from gateway.contract.blocks import (
    READINGS_TYPE,
    BlockTemplate,
    NumberedBlock,
    Sender,
    assemble_blocks,
    encode_block,
    holders_of,
    layout_of,
)
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics
from gateway.memory import settle
from mapping.database import POSTGRESQL
from mapping.directory import Attribution
from protocols.reading import MeterTime, Number, ProfileName, Quantity, ReadingSet

PER_MESSAGE = 200
PER_POLL = 20
GROUP = 10
"""Messages in a transaction."""
T0 = datetime(2026, 1, 1, tzinfo=UTC)
HALF_HOUR, INDIA = timedelta(minutes=30), timedelta(hours=5, minutes=30)
COLUMNS = (
    ("1-0:1.8.0*255", "Wh", 0),
    ("1-0:9.8.0*255", "VAh", 0),
    ("1-0:12.7.0*255", "V", -2),
    ("1-0:11.7.0*255", "A", -2),
    ("1-0:14.7.0*255", "Hz", -2),
    ("1-0:1.7.0*255", "W", 0),
    ("1-0:13.7.0*255", "", -3),
    ("0-0:94.96.24*255", "INR", -2),
)
LAYOUT = [(Quantity.of(q), unit, scaler) for q, unit, scaler in COLUMNS]
SENDER = Sender(journal="bench", generation=Generation(1, "9f2c01ab"), gateway="bench")


def poll(meter: str, begin: datetime, first: int) -> NumberedBlock:
    """One poll of a meter: PER_POLL sets, as the edge encodes them."""
    received = begin + timedelta(hours=1)
    sets = [
        ReadingSet(
            profile=ProfileName.INSTANTANEOUS,
            at=begin + timedelta(seconds=n),
            received_at=received,
            values=tuple((q, Number(23_000 + first + n, scaler, unit)) for q, unit, scaler in LAYOUT),
        )
        for n in range(PER_POLL)
    ]
    account = Attribution(
        account_id=f"a-{meter}", account_number="1234567890", legacy_number="K-1", usage_point="UP-1"
    )
    template = BlockTemplate(
        meter=meter,
        layout=layout_of(sets[0]),
        received_at=received,
        directory=f"{SENDER.generation}/1",
        holders=holders_of((account,)),
    )
    block = encode_block(template, sets)
    return NumberedBlock(
        first=first,
        last=first + PER_POLL - 1,
        body=block.body(),
        layout=template.layout.keyed,
        holders=template.holders,
    )


def messages(count: int) -> list[bytes]:
    """Messages of one journal, each of ten polls of ten meters; a hundred meters in all."""
    made = []
    for number in range(count):
        blocks = [
            poll(
                f"GEN:{(number * 10 + n) % 100:08}",
                T0 + timedelta(seconds=number * PER_POLL),
                1 + number * PER_MESSAGE + n * PER_POLL,
            )
            for n in range(PER_MESSAGE // PER_POLL)
        ]
        made.append(assemble_blocks(blocks, SENDER, type=READINGS_TYPE, time="2026-01-02T00:00:00Z"))
    return made


def central(where: Path | str, payloads: list[bytes]) -> tuple[float, float]:
    """Seconds of wall and CPU time that central takes for all messages."""
    ledger = Ledger(where)
    topics = Topics("bench")
    store = MessageStore(ledger, topics)
    topic, now = topics.readings("bench", "instantaneous"), T0 + timedelta(days=1)
    begun = time.perf_counter(), time.process_time()
    for first in range(0, len(payloads), GROUP):
        some = payloads[first : first + GROUP]
        handled = store.handle([ReceivedMessage(topic, payload, now) for payload in some])
        if handled.result.stored != PER_MESSAGE * len(some):
            raise SystemExit(f"not all was stored: {handled.result}")
    took = time.perf_counter() - begun[0], time.process_time() - begun[1]
    ledger.close()
    return took


def bare(path: Path, payloads: list[bytes]) -> tuple[float, float]:
    """Seconds of wall and CPU time for `json.loads` and one multi-row insert of each message."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    db.execute(
        "create table capture (capture_id text primary key, meter text, profile text, at text, seq integer, row text)"
    )
    begun = time.perf_counter(), time.process_time()
    for number, payload in enumerate(payloads):
        if number % GROUP == 0:
            db.execute("begin immediate")
        data = json.loads(payload)["data"]
        rows = [
            (
                f"{block['meter']}/{profile}/{row['at']}/0",
                block["meter"],
                profile,
                row["at"],
                seq,
                json.dumps(row),
            )
            for block in data["blocks"]
            for profile in (data["layouts"][block["layout"]]["profile"],)
            for seq, row in enumerate(block["captures"], block["seq"])
        ]
        db.executemany("insert into capture values (?, ?, ?, ?, ?, ?)", rows)
        if number % GROUP == GROUP - 1 or number == len(payloads) - 1:
            db.execute("commit")
    took = time.perf_counter() - begun[0], time.process_time() - begun[1]
    db.close()
    return took


def day_of(meters: int, day: int) -> Iterator[bytes]:
    """Messages of half-hours: a day of each meter is a block, ten blocks a message."""
    seq = 1 + day * meters * 48
    begin = T0 + timedelta(days=day)
    for first in range(0, meters, 10):
        blocks = []
        for meter in range(first, min(first + 10, meters)):
            sets = [
                ReadingSet(
                    profile=ProfileName.BLOCK_LOAD,
                    at=begin + (n + 1) * HALF_HOUR,
                    start=begin + n * HALF_HOUR,
                    received_at=begin + timedelta(days=1, seconds=meter % 900),
                    meter_time=MeterTime(
                        wall=f"{begin + (n + 1) * HALF_HOUR + INDIA:%Y-%m-%dT%H:%M:%S}",
                        deviation=-330,
                        status=0,
                    ),
                    values=tuple(
                        (q, Number(23_000 + (meter * 7 + day * 131 + n * n) % 9_000, scaler, unit))
                        for q, unit, scaler in LAYOUT
                    ),
                )
                for n in range(48)
            ]
            account = Attribution(
                account_id=f"a-{meter}", account_number=f"{meter:010}", legacy_number=f"K-{meter}",
                usage_point=f"UP-{meter}",
            )  # fmt: skip
            template = BlockTemplate(
                meter=f"GEN:{meter:08}",
                layout=layout_of(sets[0]),
                received_at=sets[0].received_at,
                directory=f"{SENDER.generation}/1",
                holders=holders_of((account,)),
                interval=1_800,
            )
            block = encode_block(template, sets)
            blocks.append(
                NumberedBlock(
                    first=seq, last=seq + 47, body=block.body(), layout=template.layout.keyed,
                    holders=template.holders,
                )
            )  # fmt: skip
            seq += 48
        yield assemble_blocks(blocks, SENDER, type=READINGS_TYPE, time="2026-01-02T00:00:00Z")


def fill(where: Path | str, captures: int, meters: int) -> tuple[float, float, float]:
    """Store half-hours of meters, a day after the other; return a capture's octets and CPU microseconds.

    The third is the CPU milliseconds in which a meter's are read.
    """
    ledger = Ledger(where)
    store, topics = MessageStore(ledger, Topics("bench")), Topics("bench")
    topic, stored, cpu = topics.readings("bench", "block_load"), 0, 0.0
    for day in range(max(1, captures // (meters * 48))):
        at = T0 + timedelta(days=day + 1, hours=1)
        payloads = list(day_of(meters, day))
        for first in range(0, len(payloads), GROUP):
            some = payloads[first : first + GROUP]
            begun = time.process_time()
            stored += store.handle([ReceivedMessage(topic, payload, at) for payload in some]).result.stored
            cpu += time.process_time() - begun
    if isinstance(where, Path):
        with closing(sqlite3.connect(where)) as db:
            db.execute("pragma wal_checkpoint(truncate)")
        octets = float(where.stat().st_size)
    else:
        with ledger.database.reading("measuring") as connection:
            octets = float(
                connection.exec_driver_sql(
                    "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'ledger'::regnamespace"
                ).scalar_one()
            )
    took = []
    for meter in range(min(meters, 5)):
        begun = time.process_time()
        if not ledger.captures.between(f"GEN:{meter:08}", "block_load"):
            raise SystemExit("nothing was read back")
        took.append((time.process_time() - begun) * 1e3)
    ledger.close()
    return octets / stored, cpu / stored * 1e6, statistics.median(took)


def copied(url: str, payloads: list[bytes]) -> tuple[float, float]:
    """Seconds of wall and CPU time for `json.loads` and COPY of each group of messages into a table with a key."""
    engine = create_engine(make_url(url).set(drivername=POSTGRESQL))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE bare (meter text, profile text, at text, seq bigint, body text,"
            " PRIMARY KEY (meter, profile, at))"
        )
    begun = time.perf_counter(), time.process_time()
    for first in range(0, len(payloads), GROUP):
        lines = []
        for payload in payloads[first : first + GROUP]:
            data = json.loads(payload)["data"]
            lines += [
                f"{block['meter']}\t{data['layouts'][block['layout']]['profile']}\t{row['at']}\t{seq}\t{json.dumps(row)}\n"
                for block in data["blocks"]
                for seq, row in enumerate(block["captures"], block["seq"])
            ]
        with engine.begin() as connection:
            cursor: Any = connection.connection.cursor()
            cursor.execute(
                "COPY bare (meter, profile, at, seq, body) FROM STDIN",
                stream=BytesIO("".join(lines).encode()),
            )
    took = time.perf_counter() - begun[0], time.process_time() - begun[1]
    engine.dispose()
    return took


def measure_postgresql(rounds: int, count: int, captures: int, meters: int) -> dict[str, float]:
    """The same on PostgreSQL, and what the server took."""
    from tests.support.postgres import PostgreSQL

    payloads, ours, beside, walls = messages(count), [], [], []
    with PostgreSQL(fsync=True) as server:
        for turn in range(rounds + 1):
            url = server.database()
            Ledger(url).close()
            took, bare_took = central(url, payloads), copied(server.database(), payloads)
            if turn:
                ours.append(took[1] / (count * PER_MESSAGE) * 1e6)
                beside.append(bare_took[1] / (count * PER_MESSAGE) * 1e6)
                walls.append(bare_took[0] / took[0])
        octets, cpu, month = fill(server.database(), captures, meters)
    return {
        "postgresql_vs_bare": statistics.median(walls),
        "postgresql_us_per_capture": statistics.median(ours),
        "postgresql_bare_us_per_capture": statistics.median(beside),
        "postgresql_captures_per_cpu_s": 1e6 / statistics.median(ours),
        "postgresql_octets_per_capture": octets,
        "postgresql_half_hours_per_cpu_s": 1e6 / cpu,
        "postgresql_month_ms": month,
    }


def measure_central(folder: Path, rounds: int, count: int) -> dict[str, float]:
    """Alternate ours and bare; medians of each round's ratios, and what central takes for a capture."""
    payloads = messages(count)
    settle()
    walls, cpus, ours_us, bare_us = [], [], [], []
    for turn in range(rounds + 1):
        ours = central(folder / f"ledger-{turn}.db", payloads)
        beside = bare(folder / f"bare-{turn}.db", payloads)
        if turn:
            walls.append(beside[0] / ours[0])
            cpus.append(beside[1] / ours[1])
            ours_us.append(ours[1] / (count * PER_MESSAGE) * 1e6)
            bare_us.append(beside[1] / (count * PER_MESSAGE) * 1e6)
    return {
        "central_vs_bare": statistics.median(walls),
        "central_cpu_vs_bare": statistics.median(cpus),
        "central_us_per_capture": statistics.median(ours_us),
        "bare_us_per_capture": statistics.median(bare_us),
        "central_captures_per_cpu_s": 1e6 / statistics.median(ours_us),
        "message_octets_per_set": sum(map(len, payloads)) / (count * PER_MESSAGE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--messages", type=int, default=40)
    parser.add_argument("--fill", type=int, default=60 * 48 * 31)
    parser.add_argument("--meters", type=int, default=60)
    parser.add_argument("--postgresql", action="store_true")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        figures = measure_central(Path(folder), asked.rounds, asked.messages)
        octets, cpu, month = fill(Path(folder) / "filled.db", asked.fill, asked.meters)
        figures |= {"octets_per_capture": octets, "half_hours_per_cpu_s": 1e6 / cpu, "month_ms": month}
    if asked.postgresql:
        figures |= measure_postgresql(asked.rounds, asked.messages, asked.fill, asked.meters)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
