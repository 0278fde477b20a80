"""Soak of the simulator: one process serves 2,000 meters, our client reads each once; prints figures.

`python bench/soak_simulator.py [--meters N] [--profile instantaneous] [--at-once 16]`. Takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from protocols.clock import SystemClock
from protocols.dlms.reading.layout_cache import Layouts
from protocols.errors import ProtocolError
from protocols.line import Line
from protocols.lines.serial import SerialLine
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.reading import ProfileName
from protocols.session import SessionContext
from protocols.simulator.neighbourhood.files import read_plan, secret_files
from protocols.simulator.neighbourhood.plan import MeterPlan, Plan

SERVER = """
import asyncio, sys
from pathlib import Path
from protocols.simulator.neighbourhood.run import SimulatorSettings, run_simulator
settings = SimulatorSettings(meters=int(sys.argv[1]), folder=Path(sys.argv[2]), cuts=False)
asyncio.run(run_simulator(settings, ready=lambda plan: print("ready", flush=True)))
"""


class Keys:
    """The plan's secrets by reference."""

    def __init__(self, plan: Plan) -> None:
        self._files = {ref: content for m in plan.meters for ref, content in secret_files(m).items()}

    def secret(self, ref: str) -> bytes:
        content = self._files[ref]
        return bytes.fromhex(content[4:].decode()) if content.startswith(b"hex:") else content


class Counters:
    """Counters in memory."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, key: str, at_least: int = 0) -> int:
        self._last[key] = max(self._last.get(key, 0) + 1, at_least)
        return self._last[key]

    def believes(self, _key: str, _told: int) -> bool:
        return True

    def confirm(self, _key: str, _counter: int) -> None: ...

    def proven(self, _key: str) -> bool:
        return False

    def failed(self, _key: str) -> None: ...


def resident(pid: int) -> int:
    """Return a process's resident octets."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} shows no memory")


def lines_of(plan: Plan) -> dict[str, Line]:
    found: dict[str, Line] = {}
    for line in plan.lines:
        if line.device is not None:
            found[line.name] = SerialLine(line.name, line.device, baud=line.baud, parity=line.parity)
        else:
            found[line.name] = TcpLine(line.name, line.host or "", line.port or 0)
    return found


async def read_all(plan: Plan, profile: ProfileName, at_once: int) -> tuple[int, list[str]]:
    lines, keys, counters, clock = lines_of(plan), Keys(plan), Counters(), SystemClock()
    layouts: Layouts = {}
    turn = asyncio.Semaphore(at_once)
    wrong: list[str] = []
    good = 0

    async def one(meter: MeterPlan) -> None:
        nonlocal good
        async with turn:
            try:
                async with open_session(
                    lines[meter.line],
                    meter.spec,
                    SessionContext(secrets=keys, counters=counters, clock=clock),
                    layouts=layouts,
                ) as session:
                    async for _ in session.read(profile, datetime.now(UTC)):
                        good += 1
                        break
            except ProtocolError as error:
                wrong.append(f"{meter.meter}: {error}")
        if meter.line.startswith("tcp-"):
            await lines[meter.line].close()

    await asyncio.gather(*(one(meter) for meter in plan.meters))
    for line in lines.values():
        await line.close()
    return good, wrong


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--meters", type=int, default=2000)
    parser.add_argument("--profile", type=ProfileName, default=ProfileName.INSTANTANEOUS)
    parser.add_argument("--at-once", type=int, default=16)
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-simulator-") as folder:
        begun = time.monotonic()
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVER, str(wish.meters), folder, stdout=asyncio.subprocess.PIPE
        )
        assert server.stdout is not None
        try:
            await asyncio.wait_for(server.stdout.readline(), 120)
            started = time.monotonic() - begun
            fresh = resident(server.pid)
            plan = read_plan(Path(folder))
            begun = time.monotonic()
            good, wrong = await read_all(plan, wish.profile, wish.at_once)
            took = time.monotonic() - begun
            used = resident(server.pid)
        finally:
            server.terminate()
            await server.wait()
    print(f"meters_served {wish.meters} on {len(plan.lines)} lines")
    print(f"start_seconds {started:.2f}")
    print(f"bytes_per_meter_fresh {fresh // wish.meters}")
    print(f"bytes_per_meter_after_a_session {used // wish.meters}")
    print(f"sessions_read {good} of {len(plan.meters)} in {took:.1f} s ({good / took:.1f} per s)")
    for text in wrong[:20]:
        print("wrong:", text)
    return 0 if good == len(plan.meters) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
