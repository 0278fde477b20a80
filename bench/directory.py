"""The directory of a city: import, re-key, bulk attribution, and what a running central needs for one replaced meter.

`rekey_s`: 700,000 rows planned and applied by the two commands, `rekey_rss_mib` the most that either had resident,
`rekey_vs_bare` the seconds of bare SQLite that finds and writes the same rows ÷ ours; `import_s`, `import_vs_bare` so,
too. `attributions_per_s` and `attributions_vs_bare`: captures of whole days, sorted by meter and time, by our one pass
÷ by a join of the same rows. `central_start_s`: from the start of the process until it says that it is ready.
`central_rss_mib`: with all of the city behind it and nothing to do. `change_visible_ms`: from the commit of one
replaced meter to its edge, a real one, stamping by it; `change_cpu_ms`: CPU of central's process for it; medians. The
last line is one JSON object. `--quick`: 10,000 consumers and 2,000 meters, and says so. `--postgresql` keeps directory
and ledger in a PostgreSQL 15 of its own in place of files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.directory_bare import Bare
from bench.kanpur_audit import attributions_per_s, day_captures
from bench.kanpur_city import DAYS, City
from bench.kanpur_office import Office
from bench.kanpur_processes import Edge, Program
from gateway.roles.central_files import SIGNING_KEY, VERIFY_KEY, make_directory_keys
from mapping.changes import Change, Install, Remove
from mapping.directory import Role
from mapping.store import DirectoryStore
from tests.support.mosquitto import Mosquitto
from tests.support.postgres import PostgreSQL

METERS_OF_AN_EDGE = 1_000
PROBES = 5
PATIENCE = 600.0
QUIET = 3.0
"""Seconds without a change after which central has nothing left to do."""


class Bench:
    """A city in one folder."""

    def __init__(self, folder: Path, city: City, database: str | None) -> None:
        self._folder = folder
        self._city = city
        self._database = database
        self.figures: dict[str, float] = {}
        make_directory_keys(folder / "keys")
        self._broker = Mosquitto(folder / "broker").start()
        self._office = Office(folder, city, database, ("--config", str(self._config("central", "central"))))

    def _config(self, name: str, role: str) -> Path:
        path = self._folder / f"{name}.toml"
        central = "" if self._database is None else f'[central]\ndatabase = "{self._database}"\n'
        path.write_text(
            f"""[gateway]
name = "{name}"
data = "{self._folder / name}"
secrets = "{self._folder / "keys"}"
roles = ["{role}"]
[time]
trust = "host"
[mqtt]
port = {self._broker.port}
username = "{name}"
[directory]
signing_key_ref = "{SIGNING_KEY}"
verify_key_ref = "{VERIFY_KEY}"
{central if role == "central" else ""}""",
            encoding="utf-8",
        )
        return path

    def files(self) -> None:
        """Import and re-key, ours and bare, by the same files."""
        bare = Bare(self._folder / "bare.db")
        begun = time.perf_counter()
        path = self._office.move_in_everybody()
        ours = time.perf_counter() - begun
        self.figures |= {"import_s": ours, "import_vs_bare": bare.fill(path) / ours}
        rows = self._folder / "numbers.csv"
        with rows.open("w", encoding="utf-8") as file:
            file.write("legacy_number,account_number\n")
            for n in range(self._city.consumers):
                file.write(f"{self._city.old_number(n)},{self._city.new_number(n)}\n")
        begun = time.perf_counter()
        planned = self._office.command("directory", "rekey", "plan", rows, "--rows-shown", 0, "--json")
        mark = json.loads(planned)["fingerprint"]
        words = ("--by", "clerk", "--without-control", "--approver", "chief", "--json")
        self._office.command("directory", "rekey", "apply", mark, *words)
        ours = time.perf_counter() - begun
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        self.figures |= {"rekey_s": ours, "rekey_vs_bare": bare.re_key(rows) / ours, "rekey_rss_mib": most}
        with DirectoryStore(self._office.directory) as store:
            speed = attributions_per_s(self._city, store.snapshot())
        beside = bare.attribute(day_captures(self._city))
        self.figures |= {"attributions_per_s": speed, "attributions_vs_bare": speed / beside}

    def central(self) -> None:
        """Start central and one edge; replace a few of its meters, one at a time."""
        central = Program(self._folder, "run", "--config", str(self._folder / "central.toml"))
        edges = self._city.edges
        described = json.dumps({**asdict(self._city), "begin": self._city.begin.isoformat()})
        edge = Edge(self._config(f"edge-{edges - 1}", "edge"), described, edges - 1)
        try:
            with ready_told(self._folder / "ready") as told:
                begun = time.perf_counter()
                central.start()
                told.settimeout(PATIENCE)
                while b"READY=1" not in told.recv(4096):
                    pass
                self.figures["central_start_s"] = time.perf_counter() - begun
            for number in range(edges):
                meters = [m for m in range(self._city.meters) if self._city.edge_of(m, 0) == number]
                self._office.allocate(meters, number, 0)
            edge.start()
            until(lambda: edge.ask()["meters"] > 0, "the edge has its part")
            self._settle(central)
            self._probe(central, edge)
            central.look()
            self.figures["central_rss_mib"] = central.resident()
        finally:
            edge.kill()
            central.kill()

    def _probe(self, central: Program, edge: Edge) -> None:
        visible, spent = [], []
        for number in range(PROBES):
            point, at = self._city.meters - 1 - number, self._city.at(DAYS)
            new = self._city.meter(self._city.all_meters.stop + number)
            replaced: list[Change] = [
                Remove(self._city.meter(point), at),
                Install(new, self._city.point(point), Role.CONSUMER, at),
            ]
            before, begun = central.cpu(), time.perf_counter()
            version = self._office.change(replaced)
            until(partial(sees, edge, version), "the edge sees it", 0.01)
            visible.append(time.perf_counter() - begun)
            self._settle(central)
            spent.append(central.cpu() - before - self._idle * (time.perf_counter() - begun))
        self.figures["change_visible_ms"] = statistics.median(visible) * 1_000
        self.figures["change_cpu_ms"] = max(0.0, statistics.median(spent)) * 1_000

    def _settle(self, central: Program) -> None:
        """Wait until central does no more than it does without work, and note how much that is a second."""
        self._idle = float("inf")
        while True:
            before = central.cpu()
            time.sleep(QUIET)
            spent = (central.cpu() - before) / QUIET
            if spent >= self._idle * 0.8 or spent < 0.02:
                self._idle = spent
                return
            self._idle = spent

    def close(self) -> None:
        """End the broker."""
        self._broker.kill()


@contextmanager
def ready_told(path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does for what a service says of itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        os.environ["NOTIFY_SOCKET"] = str(path)
        try:
            yield told
        finally:
            del os.environ["NOTIFY_SOCKET"]


def sees(edge: Edge, version: int) -> bool:
    """Say whether an edge stamps by a version of the directory, or a later one."""
    return bool(edge.ask()["version"] >= version)


def until(true: Callable[[], bool], what: str, pause: float = 0.1) -> None:
    """Wait until it is true; SystemExit when it never is."""
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain until {what}")
        time.sleep(pause)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small town, in less than a minute")
    parser.add_argument("--consumers", type=int, default=700_000)
    parser.add_argument("--meters", type=int, default=150_000)
    parser.add_argument("--postgresql", action="store_true", help="in a PostgreSQL in place of files")
    asked = parser.parse_args()
    consumers, meters = asked.consumers, asked.meters
    if asked.quick:
        consumers, meters = 10_000, 2_000
        print("quick: 10,000 consumers and 2,000 meters in place of 700,000 and 150,000", flush=True)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    city = City(
        consumers=consumers,
        meters=meters,
        edges=meters // METERS_OF_AN_EDGE,
        interval_every=1,
        begin=today - timedelta(days=DAYS),
    )
    server = PostgreSQL() if asked.postgresql else nullcontext()
    with server as running, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        database = None if running is None else running.database()
        bench = Bench(Path(folder), city, database)
        try:
            bench.files()
            bench.central()
        finally:
            bench.close()
    sizes = {"quick": asked.quick, "consumers": consumers, "meters": meters}
    print(json.dumps(sizes | {name: round(value, 2) for name, value in bench.figures.items()}))


if __name__ == "__main__":
    main()
