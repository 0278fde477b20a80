"""Six weeks of Kanpur: a city's readings, a re-key that goes wrong on the way, and what a simple gateway would do.

700,000 consumers, 150,000 smart meters on edges of 10,000. All processes are real (central, edges, broker, commands);
the meters are streams into the edges' journals: a register a day from each, half hours from one in INTERVAL_EVERY.
Meters are replaced, crossed in pairs and rings, and go over from one edge to another; tenants move and their papers
come later; one edge is cut off for ten days. The re-key comes three days late in three files: one with damaged rows,
whose corrections are sent in again, one that slipped by a row, is applied all the same, found out and undone, and one
that is right. Central, edges and broker are killed on the way.

`lost`, `doubled`, `altered`, `misattributed`, `misnamed`, `unbilled_months`, `misbilled_months`: of the ledger and the
directory at the end, and in a quick run of a billing system that hears messages only; all 0, or the bench ends with 1.
`looked_up_wrong`: captures that a gateway would have put under another account, or none, that looks the number up when
a reading arrives; `looked_up_wrong_kwh` of the half hours among them. `rekey_rows_per_s`: rows planned and applied,
start of both commands included. `attributions_per_s`: captures sorted by meter and time. `central_rss_mib`: the most
that central's process had resident. `octets_per_capture`: the ledger's file with all indexes. `change_visible_ms`:
from the commit of a change to the edge that stamps by it, median. The last line is one JSON object; `--quick` is a
small town, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.kanpur_audit import Audit, Found, attributions_per_s, by_billing, octets
from bench.kanpur_city import CUT_OFF_FROM, CUT_OFF_UNTIL, DAYS, REKEY_CAME_ON, City
from bench.kanpur_office import Office
from bench.kanpur_processes import Edge, Program
from gateway.central.ledger.ledger import Ledger
from gateway.roles.central_files import SIGNING_KEY, VERIFY_KEY, make_directory_keys
from mapping.changes import MoveIn
from mapping.directory import PaymentMode
from mapping.store import DirectoryStore
from tests.support.mosquitto import Mosquitto
from tests.support.text_billing import TextBilling

INTERVAL_EVERY = 100
KILLS = {3: "broker", 9: "central", 12: "edge", REKEY_CAME_ON: "central", 33: "edge", 37: "central"}
"""On which days who is killed in the middle of the day's readings."""
PROBED = range(35, 40)
"""Days on which it is measured when an edge sees a change."""
PATIENCE = 3_600.0
HEARD_WITHIN = 15.0
"""Seconds in which billing has heard all that central knows."""


class Kanpur:
    """The city's processes in one folder, and the days that pass."""

    def __init__(self, folder: Path, city: City, *, with_billing: bool) -> None:
        self.folder = folder
        self.city = city
        self.office = Office(folder, city)
        self.files = self.office.files
        self.broker = Mosquitto(folder / "broker").start()
        self.central = Program(folder, "run", "--config", str(folder / "central.toml"))
        described = json.dumps({**asdict(city), "begin": city.begin.isoformat()})
        self.edges = [Edge(self._config(f"edge-{n}", "edge"), described, n) for n in range(city.edges)]
        self.billing = TextBilling(self.broker.port) if with_billing else None
        self.visible: list[float] = []
        self.kills = 0
        make_directory_keys(folder / "keys")
        self._config("central", "central")

    def _config(self, name: str, role: str) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"""[gateway]
name = "{name}"
data = "{self.folder / name}"
secrets = "{self.folder / "keys"}"
roles = ["{role}"]
[time]
trust = "host"
[mqtt]
port = {self.broker.port}
username = "{name}"
[journal]
ack_consumers = {'["central", "billing"]' if self.city.meters <= 5_000 else '["central"]'}
[directory]
signing_key_ref = "{SIGNING_KEY}"
verify_key_ref = "{VERIFY_KEY}"
""",
            encoding="utf-8",
        )
        return path

    # --- days -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let six weeks pass."""
        self.office.move_in_everybody()
        if self.billing is not None:
            self.billing.start()  # before central tells of the first change set
        self.central.start()
        self._until(lambda: self.files.has_ledger, "central opens its ledger")
        for edge in range(self.city.edges):
            meters = [m for m in range(self.city.meters) if self.city.edge_of(m, 0) == edge]
            self.office.allocate(meters, edge, 0)
        for one in self.edges:
            one.start()
        for day in range(DAYS):
            self.office.papers(day)
            last = self.edges[-1]
            if day in (CUT_OFF_FROM, CUT_OFF_UNTIL):
                last.kill()
                last.start(online=day == CUT_OFF_UNTIL)
            self._read(day)
            if day in PROBED:
                self._probe(day)
            if day % 7 == 6:
                print(f"day {day + 1} of {DAYS}", flush=True)
        self._settle()

    def _read(self, day: int) -> None:
        victim = KILLS.get(day)
        for edge in self.edges:
            edge.tell(f"day {day}")
        if victim is not None:
            self.kills += 1
        if victim == "edge":
            self.edges[0].kill()
            self.edges[0].start()
            self.edges[0].tell(f"day {day}")
        elif victim == "central":
            self.central.look()
            self.central.kill()
            self.central.start()
        elif victim == "broker":
            self.broker.kill()
            self.broker.start()
        for edge in self.edges:
            edge.hear()

    def _probe(self, day: int) -> None:
        """Measure when the edge concerned sees a change: how an account pays from now on."""
        point, edge = self.city.meters - 1 - day, self.edges[-1]
        self._until(lambda: edge.ask()["version"] >= self._version(), "the edge is up to date")
        with DirectoryStore(self.files.directory) as store:
            (held,) = store.snapshot().holdings(self.city.point(point))
            change = MoveIn(held.usage_point, held.account_id, self.city.at(day), PaymentMode.PREPAID)
            version = store.apply([change], by="desk", source="desk", at=datetime.now(UTC), sure=True)
        begun = time.perf_counter()
        self._until(lambda: edge.ask()["version"] >= version, "the edge sees the change", 0.01)
        self.visible.append((time.perf_counter() - begun) * 1_000)

    def _version(self) -> int:
        with DirectoryStore(self.files.directory) as store:
            return store.version

    def _settle(self) -> None:
        """Wait until central, and billing where it listens, has everything that the edges journaled."""
        ledger = Ledger(self.files.ledger, read_only=True)
        try:
            for edge in self.edges:
                edge.ask()
                self._until(partial(_has_all, ledger, edge), "central has all", 0.5)
        finally:
            ledger.close()
        if self.billing is not None:
            self._hear_out(self.billing)
        self.central.look()

    def _hear_out(self, billing: TextBilling) -> None:
        """Give billing time to hear and to ask again; what is wrong then stays wrong."""
        end = time.monotonic() + HEARD_WITHIN
        while time.monotonic() < end:
            found = Found()
            by_billing(self.city, billing.ledger(), found)
            if not found.counts:
                return
            time.sleep(1)

    def _until(self, true: Callable[[], bool], what: str, pause: float = 0.1) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > end:
                raise SystemExit(f"waited in vain until {what}")
            time.sleep(pause)

    def stop(self) -> None:
        """End all processes."""
        if self.billing is not None:
            self.billing.stop()
        for edge in self.edges:
            edge.kill()
        self.central.kill()
        self.broker.kill()

    # --- what was found ---------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """Compare everything with the script of the city."""
        ledger = Ledger(self.files.ledger, read_only=True)
        try:
            with DirectoryStore(self.files.directory) as store:
                directory = store.snapshot()
                found = Audit(self.city, ledger, directory).run()
                speed = attributions_per_s(self.city, directory)
        finally:
            ledger.close()
        heard = by_billing(self.city, self.billing.ledger(), found) if self.billing is not None else 0
        for kind, examples in found.examples.items():
            print(f"{kind}: {found.counts[kind]}, for example {examples}", file=sys.stderr)
        kinds = (
            "lost",
            "doubled",
            "altered",
            "misattributed",
            "misnamed",
            "unbilled_months",
            "misbilled_months",
        )
        return {
            "consumers": self.city.consumers,
            "meters": self.city.meters,
            "captures": found.captures,
            "captures_heard_by_billing": heard,
            "kills": self.kills,
            **{kind: found.counts[kind] for kind in kinds},
            "looked_up_wrong": found.counts["looked_up_wrong"],
            "looked_up_wrong_kwh": float(found.kwh_looked_up_wrong),
            "rekey_rows_per_s": round(self.office.rekey_rows / self.office.rekey_seconds),
            "attributions_per_s": round(speed),
            "central_rss_mib": round(self.central.most / 1024, 1),
            "octets_per_capture": round(octets(self.files.folder, found.captures), 1),
            "change_visible_ms": round(statistics.median(self.visible)),
        }


def _has_all(ledger: Ledger, edge: Edge) -> bool:
    return ledger.journals.state(edge.state["journal"]).contiguous >= int(edge.state["last_seq"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small town, in less than a minute")
    parser.add_argument("--consumers", type=int, default=700_000)
    parser.add_argument("--meters", type=int, default=150_000)
    parser.add_argument("--edges", type=int, default=15)
    asked = parser.parse_args()
    if asked.quick:
        asked.consumers, asked.meters, asked.edges = 1_000, 200, 2
        print(
            "quick: 1,000 consumers and 200 meters on 2 edges in place of 700,000 and 150,000 on 15",
            flush=True,
        )
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    city = City(
        consumers=asked.consumers,
        meters=asked.meters,
        edges=asked.edges,
        interval_every=100 if asked.quick else INTERVAL_EVERY,
        begin=today - timedelta(days=DAYS),
    )
    os.environ.setdefault("USER", "bench")
    with tempfile.TemporaryDirectory(prefix="kanpur-") as folder:
        kanpur = Kanpur(Path(folder), city, with_billing=asked.meters <= 5_000)
        try:
            kanpur.run()
            kanpur.central.kill()
            Ledger(kanpur.files.ledger).close()  # what waits in the log goes into the file
            figures = kanpur.figures()
        finally:
            kanpur.stop()
    figures = {"quick": asked.quick, **figures}
    print(json.dumps(figures))
    wrong = ("lost", "doubled", "altered", "misattributed", "misnamed", "unbilled_months", "misbilled_months")
    return 1 if any(figures[kind] for kind in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
