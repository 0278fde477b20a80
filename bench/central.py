"""Central beside bare Python and SQLite: the same messages, 200 captures of 8 values in each.

`central_vs_bare`: bytes of a message → read, checked, judged, stored and counted durably, against `json.loads`
and one multi-row insert of the same captures (identity, meter, profile, instant, and the row as JSON; capture_id
is unique). Both put GROUP messages into a transaction (WAL, synchronous=FULL), as central does with what waits.
`central_cpu_vs_bare` is the same in CPU time. Bare ÷ ours; the median of alternating rounds. What was there before
is settled, as in the program (`gateway.memory`). The last line is one JSON object.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

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
from mapping.directory import Attribution
from protocols.reading import Number, ProfileName, Quantity, ReadingSet

PER_MESSAGE = 200
PER_POLL = 20
GROUP = 10
"""Messages in a transaction."""
T0 = datetime(2026, 1, 1, tzinfo=UTC)
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


def central(path: Path, payloads: list[bytes]) -> tuple[float, float]:
    """Seconds of wall and CPU time that central takes for all messages."""
    ledger = Ledger(path)
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
        "message_octets_per_set": sum(map(len, payloads)) / (count * PER_MESSAGE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--messages", type=int, default=40)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        figures = measure_central(Path(folder), asked.rounds, asked.messages)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
