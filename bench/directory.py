"""Measures the directory at a city's size: import, reload, re-key and lookups; prints one figure a line."""

from __future__ import annotations

import multiprocessing
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mapping.imports import apply_import, plan_import
from mapping.rekey import apply_rekey, plan_rekey
from mapping.store import DirectoryStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def main(consumers: int) -> None:
    """Run it all over `consumers` meters."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "import.csv").open("w") as file:
            file.write("meter,usage_point,role,legacy_number,account_number,valid_from\n")
            for i in range(consumers):
                file.write(f"GEN:{i:08d},UP{i:07d},consumer,K{i:07d},,2026-01-01T00:00:00+05:30\n")
        with (folder / "rekey.csv").open("w") as file:
            file.write("legacy_number,account_number\n")
            for i in range(consumers):
                file.write(f"K{i:07d},{i * 7919 % 10**10:010d}\n")
        for stage in (first_import, re_key):
            child = multiprocessing.get_context("spawn").Process(target=stage, args=(folder, consumers))
            child.start()
            child.join()


def first_import(folder: Path, _: int) -> None:
    """Fill an empty directory."""
    with DirectoryStore(folder / "directory.db") as store:
        began = time.perf_counter()
        imported = plan_import(store.snapshot(), folder / "import.csv", at=NOW)
        began = lap("import_plan_s", began)
        apply_import(store, imported, by="bench", at=NOW)
        began = lap("import_apply_s", began)
        print(imported.counts)


def re_key(folder: Path, consumers: int) -> None:
    """Load it, re-key every account, look up."""
    with DirectoryStore(folder / "directory.db") as store:
        began = time.perf_counter()
        snapshot = store.snapshot()
        began = lap("reload_s", began)
        before = now_mib()
        with plan_rekey(snapshot, folder / "rekey.csv", at=NOW, folder=folder / "plans") as plan:
            began = lap("rekey_plan_s", began)
            print(f"rekey_plan_adds_mib {now_mib() - before:.0f}")
            del snapshot
            apply_rekey(store, plan, by="bench", approver="another", at=NOW)
            began = lap("rekey_apply_s", began)
            print(plan.counts)
        spans, names = store.differences(1, 2)
        began = lap("differences_s", began)
        print(f"spans {len(spans)} names {len(names)}")
        snapshot = store.snapshot()
        meters = [f"GEN:{random.randrange(consumers):08d}" for _ in range(100_000)]
        began = time.perf_counter()
        for meter in meters:
            snapshot.attributions(meter, NOW, NOW + timedelta(minutes=30))
        print(f"attributions_us {(time.perf_counter() - began) / len(meters) * 1e6:.1f}")


def now_mib() -> float:
    """Give the memory that is resident now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def lap(label: str, began: float) -> float:
    """Print the time since `began` and the peak memory."""
    now = time.perf_counter()
    if label:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{label} {now - began:.1f} rss_peak_mib {peak:.0f}", flush=True)
    return time.perf_counter()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 700_000)
