"""An edge of bench/kanpur.py: the real journal, stamping, deliveries and directory part; its meters are a stream.

`python bench/kanpur_edge.py CONFIG CITY NUMBER cut-off|online`: CITY is JSON (`City` and the beginning). It takes
lines: `day N` journals what its meters recorded on a day, `status` says how far it is; each answer is one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.kanpur_city import City, Row
from gateway.config.file import load
from gateway.edge.stamping.clocks import MeterEvidence
from gateway.roles.edge import EdgeRole, edge_role
from protocols.reading import Number, ProfileName, Quantity, ReadingSet

ENERGY, INTERVAL = Quantity.of("1-0:1.8.0*255"), Quantity.of("1-0:1.29.0*255")
GOOD = MeterEvidence()
AT_ONCE = 200
"""Meters whose rows are journaled at the same time, so that commits are shared."""


def city_of(text: str) -> City:
    """Read what `bench/kanpur.py` gives."""
    known: dict[str, Any] = json.loads(text)
    return City(**{**known, "begin": datetime.fromisoformat(known["begin"])})


def reading(row: Row, received_at: datetime) -> ReadingSet:
    """Return a row as a session gives it."""
    quantity = ENERGY if row.start is None else INTERVAL
    return ReadingSet(
        profile=ProfileName(row.profile),
        at=row.at,
        start=row.start,
        received_at=received_at,
        values=((quantity, Number(row.wh, 0, "Wh")),),
    )


async def record(role: EdgeRole, city: City, edge: int, day: int) -> int:
    """Journal a day of all meters that this edge reads; return how many captures are new."""
    arrival, appended = city.at(day + 1.02), 0

    async def one(meter: int) -> int:
        rows = [reading(row, arrival) for row in city.rows(meter, day)]
        return await role.appender.append(city.meter(meter), rows, clock=GOOD) if rows else 0

    mine = [meter for meter in city.all_meters if city.edge_of(meter, day) == edge]
    for first in range(0, len(mine), AT_ONCE):
        appended += sum(await asyncio.gather(*map(one, mine[first : first + AT_ONCE])))
    return appended


async def main(config: Path, city: City, edge: int, *, online: bool) -> None:
    """Run until the input ends."""
    loaded = load(config)
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with edge_role(loaded, loaded.clock()) as role:
        delivering = asyncio.create_task(_deliver(role)) if online else None
        print(json.dumps({"ready": True}), flush=True)
        while line := await reader.readline():
            word, _, rest = line.decode().strip().partition(" ")
            answer: dict[str, Any] = {}
            if word == "day":
                answer["appended"] = await record(role, city, edge, int(rest))
            answer |= {
                "last_seq": role.journal.last_seq,
                "journal": role.journal.uuid,
                "version": role.directory.version,
                "meters": role.directory.counts().meters,
            }
            print(json.dumps(answer), flush=True)
        if delivering is not None:
            delivering.cancel()


async def _deliver(role: EdgeRole) -> None:
    async with asyncio.TaskGroup() as group:
        role.deliver(group)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(
        main(Path(sys.argv[1]), city_of(sys.argv[2]), int(sys.argv[3]), online=sys.argv[4] == "online")
    )
