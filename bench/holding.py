"""Counts what a re-key of an edge's meters touches in the series `holding`, beside moving every point of theirs.

One figure a line; no server is measured, so the counts are exact and the same everywhere. `--quick`: 200 meters, not
1,000.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.edge.influx.holding import HORIZON, Statement, overwritten, restated, steps_of
from mapping.changes import Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore

NOW = datetime(2026, 11, 1, tzinfo=UTC)
POINTS_A_DAY = {"block_load": 48, "instantaneous": 96, "prepayment": 96, "daily": 1}
"""Points of a meter, by the schedule that stands where nothing is configured."""


def main(meters: int) -> None:
    """Print the figures of so many meters."""
    names = [f"GEN:{n:08d}" for n in range(meters)]
    with tempfile.TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "directory.db") as store:
        begun = NOW - timedelta(days=900)
        fitted = [
            change
            for n, meter in enumerate(names)
            for change in (
                Install(meter, f"UP{n}", Role.CONSUMER, begun),
                MoveIn(f"UP{n}", f"acc-{n}", begun),
                Name(f"acc-{n}", NumberKind.ACCOUNT, f"1{n:09d}"),
            )
        ]
        store.apply(fitted, by="bench", source="bench", at=NOW)
        influx: dict[str, dict[int, str]] = {meter: {} for meter in names}
        victoria: dict[str, dict[int, Statement]] = {meter: {} for meter in names}
        print(f"meters {meters}")
        written(store.snapshot(), influx, victoria, "first")
        rekeyed = [Name(f"acc-{n}", NumberKind.ACCOUNT, f"2{n:09d}") for n in range(meters)]
        store.apply(rekeyed, by="bench", source="bench", at=NOW)
        written(store.snapshot(), influx, victoria, "rekey")
    moved = meters * sum(POINTS_A_DAY.values()) * HORIZON.days
    print(f"rekey_points_moved_with_the_tag {2 * moved}  # each written anew, and deleted or marked")


def written(
    snapshot: DirectorySnapshot,
    influx: dict[str, dict[int, str]],
    victoria: dict[str, dict[int, Statement]],
    what: str,
) -> None:
    """Write who holds each meter into both models; print how many points that took, and the time of reckoning."""
    began, steps, samples = time.process_time(), 0, 0
    for meter in snapshot.each(influx):
        stands = steps_of(snapshot, meter)
        new = overwritten(stands, influx[meter], NOW)
        influx[meter].update(new)
        steps += len(new)
        held = victoria[meter]
        for one in restated(stands, list(held.values()), NOW):
            statement = held.setdefault(one.span, Statement(one.account, one.span))
            times = (
                statement.gone if one.field == "gone" else statement.ones if one.value else statement.zeros
            )
            times.add(one.at)
            samples += 1
    print(f"{what}_points_influxdb {steps}")
    print(f"{what}_points_victoriametrics {samples}")
    print(f"{what}_cpu_us_per_meter {(time.process_time() - began) / len(influx) * 1e6:.0f}")


if __name__ == "__main__":
    main(200 if "--quick" in sys.argv else 1_000)
