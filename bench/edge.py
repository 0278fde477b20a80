"""What an edge costs beside our own client making the same reads, in one run, and how its memory grows.

Simulated HLS meters on TCP live in a process of their own, meter time running fast; edge and client, one after the
other, read them for some half hours with the default schedule. `edge_vs_client`: CPU of the edge's process (polling,
stamping, journal, MQTT to a Mosquitto, status) ÷ CPU of the client's, per poll; null where one made other numbers of
polls: on a machine that is too busy it takes two due times in one. `edge_vs_client_idle`: the same with a share of what
an idle edge uses in half an hour (`edge_idle_ms`), as of an edge with SHARED meters, in the edge's; so is
`edge_ms_per_meter`, CPU of the edge for a meter and half hour.
`rss_per_1000_meters`: octets. `client_ms_per_meter` is the limit. `edge_failures` should be 0: all meters are due at
once when the edge starts. The last line is one JSON object. Quick, it gives up where the machine is too busy for it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gateway.roles.central_files import VERIFY_KEY, make_directory_keys
from tests.support.mosquitto import Mosquitto

ROLES = Path(__file__).parent / "edge_roles.py"
HALF_HOUR = 1_800.0
SHARED = 1_000
"""Meters that share what an idle edge uses."""
QUICK = 46.0
"""Seconds after which the quick measurement gives up."""
SAME = 0.05
"""Share by which the numbers of polls may differ: some are under way when counting begins and ends."""
SERVER = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from protocols.simulator.neighbourhood.run import SimulatorSettings, run_simulator
settings = SimulatorSettings(
    meters=int(sys.argv[1]), folder=Path(sys.argv[2]), cuts=False, speed=float(sys.argv[3]),
    behind=timedelta(hours=float(sys.argv[4])),
)
asyncio.run(run_simulator(settings, ready=lambda plan: print("ready", flush=True)))
"""


def config_of(folder: Path, port: int) -> Path:
    """Write the edge's configuration beside the simulator's, and return its path."""
    make_directory_keys(folder / "town" / "keys")
    town = (folder / "town" / "edge.toml").read_text(encoding="utf-8")
    path = folder / "edge.toml"
    path.write_text(
        f"""[gateway]
name = "edge-1"
data = "{folder / "data"}"
secrets = "{folder / "town" / "keys"}"

[time]
trust = "host"

[mqtt]
port = {port}
username = "edge-1"

[admission]
per_segment = 64
per_host = 64
sessions_per_second = 1000

[schedule]
backfill_days = 0

[directory]
verify_key_ref = "{VERIFY_KEY}"

{town}""",
        encoding="utf-8",
    )
    return path


def run(role: str, config: Path, half_hours: int, end: float) -> dict[str, float]:
    """Run one process of edge_roles.py and return what it printed; one that runs on at `end` is killed."""
    patience = min(60.0, (end - time.monotonic()) / 5)
    command = [sys.executable, str(ROLES), role, str(config), str(half_hours), f"{patience:.1f}"]
    left = None if end == math.inf else max(0.1, end - time.monotonic())
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, cwd=ROLES.parent.parent, timeout=left
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"the machine is too busy: the {role} did not come to its end in time")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(meters: int, speed: float, half_hours: int, end: float) -> dict[str, float | None]:
    """Serve a neighbourhood, read it with client and edge, return the figures; SystemExit at `end`."""
    behind = 2.0 * (half_hours * 0.5 + 20.0 * speed / 3600) + 2.0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "data").mkdir()
        arguments = [str(meters), str(folder / "town"), str(speed), str(behind)]
        with subprocess.Popen(
            [sys.executable, "-c", SERVER, *arguments], stdout=subprocess.PIPE, cwd=ROLES.parent.parent
        ) as server:
            assert server.stdout is not None
            late = threading.Timer(min(end - time.monotonic(), threading.TIMEOUT_MAX), server.kill)
            late.daemon = True
            late.start()
            if not server.stdout.readline():
                sys.exit("the simulator did not start in time")
            broker = Mosquitto(folder / "broker").start()
            try:
                config = config_of(folder, broker.port)
                # The edge needs its half, and the time in which it has no work.
                client = run("client", config, half_hours, time.monotonic() + (end - time.monotonic()) * 0.45)
                edge = run("edge", config, half_hours, end)
            finally:
                late.cancel()
                broker.kill()
                server.terminate()
    return figures(client, edge, half_hours)


def figures(client: dict[str, float], edge: dict[str, float], half_hours: int) -> dict[str, float | None]:
    """Return what the two processes' counts say."""
    per_meter = 1000 / (client["meters"] * half_hours)
    idle = edge["idle"] * HALF_HOUR * 1000
    client_ms = client["cpu"] * per_meter
    comparable = abs(edge["polls"] - client["polls"]) <= SAME * max(edge["polls"], client["polls"])
    ratio = (edge["cpu"] / edge["polls"]) / (client["cpu"] / client["polls"]) if comparable else None
    return {
        "edge_vs_client": ratio,
        "edge_vs_client_idle": None if ratio is None else ratio + idle / SHARED / client_ms,
        "edge_ms_per_meter": edge["cpu"] * per_meter + idle / SHARED,
        "client_ms_per_meter": client_ms,
        "edge_idle_ms": idle,
        "rss_per_1000_meters": edge["rss"] / edge["meters"] * 1000,
        "meters": edge["meters"],
        "polls": edge["polls"],
        "client_polls": client["polls"],
        "captures": edge["captures"],
        "client_captures": client["captures"],
        "edge_failures": edge["failures"],
        "client_failures": client["failures"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer meters and half hours: ends within 50 s")
    parser.add_argument("--meters", type=int, default=None)
    given = parser.parse_args()
    meters = given.meters or (80 if given.quick else 400)
    end = time.monotonic() + QUICK if given.quick else math.inf
    found = measure(meters, 360.0 if given.quick else 120.0, 2 if given.quick else 4, end)
    for name, value in found.items():
        print(f"{name:>22} {'-' if value is None else f'{value:.3f}':>12}")
    print(json.dumps({name: value and round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
