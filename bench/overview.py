"""The operator's overview of a city: every meter judged, beside a bare `count(*)` of the same table.

`overview_ms` is one look at the whole (faults by cause, counts, one page of meters), the median of some, in CPU time of
this process; `overview_wall_ms` the same by the wall. `bare_count_ms` counts the rows of the same table by the same
connection, without any condition. Three towns: 3 % of the meters have a fault; none was ever read; all are silent
while their gateways are there. `--quick` makes a tenth of the meters, and says so. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import func, select

sys.path.insert(0, str(Path(__file__).parent.parent))

from gateway.central.directory.places import follow_places
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.meter_states import note_heard
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.state_tables import meter_states
from gateway.central.portal.views import Views
from gateway.contract.messages import MeterStatus, Status, StatusChanges
from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore

METERS = 150_000
PER_GATEWAY = 1_000
PER_LINE = 30
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=300)
RUN = "0123abcd"


class Still:
    """A clock that stands."""

    def now(self) -> datetime:
        return NOW

    def disciplined(self) -> bool:
        return True

    async def sleep_until(self, at: datetime) -> None:
        raise NotImplementedError(at)


def name(number: int) -> str:
    return f"GEN:{number:08}"


def bad(number: int) -> bool:
    """3 % of the meters."""
    return number % 100 < 3


def install(directory: DirectoryStore, number: int) -> None:
    changes: list[Change] = []
    for n in range(number):
        changes += [
            Install(name(n), f"UP-{n}", Role.CONSUMER, LONG_AGO),
            MoveIn(f"UP-{n}", f"acc-{n}", LONG_AGO),
            Name(f"acc-{n}", NumberKind.ACCOUNT, f"{n:010}"),
        ]
    directory.apply(changes, by="bench", source="bench", at=LONG_AGO)


def tell(ledger: Ledger, number: int, health: Callable[[int], str]) -> None:
    """Let every gateway tell of its meters, and own them."""
    for first in range(0, number, PER_GATEWAY):
        gateway, mine = f"edge-{first // PER_GATEWAY:03}", range(first, min(first + PER_GATEWAY, number))
        ledger.allocations.give_new((name(n) for n in mine), gateway, by="bench", at=LONG_AGO)
        status = Status(gateway=gateway, online=True, version="1", journal=gateway, at=NOW)
        meters = tuple(
            MeterStatus(meter=name(n), line=f"bus-{n % PER_GATEWAY // PER_LINE:02}", health=health(n))
            for n in mine
        )
        listing = StatusChanges(gateway=gateway, run=RUN, from_seq=0, to_seq=1, meters=meters, at=NOW)
        ledger.statuses.take([(status, NOW, False), (listing, NOW, False)])
    ledger.alive.leave(NOW, connected=True, fault=None)


def hear(ledger: Ledger, number: int, age: Callable[[int], timedelta]) -> None:
    """Note when each meter was heard, as ingest does."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    with ledger.database.writing("hearing") as connection:
        note_heard(
            connection,
            [_row(name(n), (NOW - age(n) - epoch) // timedelta(microseconds=1)) for n in range(number)],
            NOW,
        )


def _row(meter: str, at: int) -> CaptureRow:
    return CaptureRow(
        capture_id="", value_rev=1, meter=meter, profile="instantaneous", at=at, start=None, received_at=at,
        quality="1.0.0", reason=None, directory_version=1, gateway="", journal="", seq=1, ingested_at=at, body="",
    )  # fmt: skip


def measured(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median milliseconds of CPU and of the wall."""
    cpus, walls = [], []
    for _ in range(rounds + 1):
        begun = time.process_time(), time.perf_counter()
        work()
        cpus.append(time.process_time() - begun[0])
        walls.append(time.perf_counter() - begun[1])
    return statistics.median(cpus[1:]) * 1e3, statistics.median(walls[1:]) * 1e3


def measure(
    where: Path | str, directory: DirectoryStore, number: int, rounds: int, town: str
) -> dict[str, float]:
    ledger = Ledger(where)
    healthy = town == "faults"
    tell(ledger, number, lambda n: "meter_silent" if bad(n) or not healthy else "ok")
    if town != "never_read":
        fresh = timedelta(minutes=5)
        hear(ledger, number, lambda n: timedelta(hours=5) if bad(n) or not healthy else fresh)
    follow_places(ledger, directory.snapshot(), NOW)
    views = Views(ledger, directory.snapshot, Still())
    seen = views.overview()
    if seen.meters_total != number or not seen.issues:
        raise SystemExit(f"{seen.meters_total} of {number} meters, {seen.issues_total} issues")
    cpu, wall = measured(views.overview, rounds)

    def count() -> int:
        with ledger.database.reading("counting") as connection:
            return connection.execute(select(func.count()).select_from(meter_states)).scalar_one()

    bare, _ = measured(count, rounds)
    ledger.close()
    print(
        f"{town}: {number} meters, {seen.issues_total} issues, overview {cpu:.1f} ms, bare count {bare:.2f} ms"
    )
    return {f"{town}_overview_ms": cpu, f"{town}_overview_wall_ms": wall, f"{town}_bare_count_ms": bare}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the meters")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    number = METERS // 10 if asked.quick else METERS
    if asked.quick:
        print(f"quick: {number} meters in place of {METERS}")
    figures: dict[str, float] = {"meters": number}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with DirectoryStore(Path(folder) / "directory.db") as directory:
            install(directory, number)
            for town in ("faults", "never_read", "all_silent"):
                figures |= measure(Path(folder) / f"{town}.db", directory, number, asked.rounds, town)
    print(json.dumps({one: round(value, 3) for one, value in figures.items()}))


if __name__ == "__main__":
    main()
