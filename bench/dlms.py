"""What the DLMS stack costs beside its peers, on the same octets, in one run; CPU time of processes, medians.

`decode_vs_gurux`, `decode_vs_dlms_cosem`: a block load buffer of 1,440 rows × 8 columns; ours to a columnar block
with exact integers, scalers and instants resolved, theirs to native rows with dates left as octets; theirs ÷
ours. `sets_vs_gurux`: ours from octets to all 1,440 reading sets. `decode_cold_ms` is ours with nothing known
of the days and times of day. `limit_vs_block`: `struct.iter_unpack` of the same rows, dates left as octets,
÷ ours. `session_cpu_vs_gurux`: client CPU of a complete HLS-GMAC, authenticated-encrypted session over the
wrapper that reads one register (connect, associate, read, release, close), ours ÷ theirs, both with our
served meter. `sessions_per_s_core`: such sessions of 20 meters side by side, per second of client CPU.
`bytes_per_meter_idle`: resident octets of an association that our client keeps open;
`bytes_per_meter_served`: of a simulated meter on a port of its own with that association, on its side.
`round_trips_per_half_hour`, `octets_per_half_hour`: messages of ours (SNRM, AARQ, requests, further blocks, RR, RLRQ,
DISC) and octets both ways that the edge's own poller takes for a meter with HLS 2, ciphered, over the wrapper with the
default schedule (block load and events each half hour, present values and prepayment each quarter), on the average of a
day; `…_gmac` the same with HLS-GMAC, `…_hdlc` over HDLC with fields of 1,024 octets and a window of 7.
dlms-cosem runs in an interpreter of its own (`deploy/setup.sh peers`). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from gurux_dlms import GXByteBuffer
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo

from bench.role import running
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.types import array, double_long_unsigned, long_unsigned, octets, structure
from protocols.dlms.profile import stamps
from protocols.dlms.profile.decoder import decode_buffer
from protocols.dlms.profile.layouts import CLOCK, CapturedColumn, Layout
from protocols.reading import Obis, ProfileName, Quantity
from protocols.simulator.faults.script import FaultScript
from tests.support.edge.half_hour import a_day, gmac, polled
from tests.support.virtual_time import VirtualTimeLoop

ROOT = Path(__file__).parent.parent
ROWS = 1440
PERIOD = timedelta(minutes=30)
BEGIN = datetime(2026, 3, 31, 18, 30, tzinfo=UTC)
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
role = partial(running, Path(__file__).parent / "dlms_roles.py")
LANES = 20
LAYOUT = Layout(
    profile=ProfileName.BLOCK_LOAD,
    obis=Obis(1, 0, 99, 1, 0),
    columns=(
        CapturedColumn(class_id=8, quantity=Quantity(CLOCK)),
        *(
            CapturedColumn(class_id=3, quantity=Quantity.of(text), scale=scale)
            for text, scale in (
                ("1-0:1.29.0*255", (0, "Wh")),
                ("1-0:9.29.0*255", (0, "VAh")),
                ("1-0:2.29.0*255", (0, "Wh")),
                ("1-0:12.27.0*255", (-2, "V")),
                ("1-0:11.27.0*255", (-2, "A")),
                ("1-0:13.27.0*255", (-3, "")),
                ("1-0:14.27.0*255", (-2, "Hz")),
            )
        ),
    ),
    period=int(PERIOD.total_seconds()),
)


def block_load() -> bytes:
    """Random values under half-hourly stamps."""
    rng = random.Random(1440)
    return axdr.encode(
        array(
            *(
                structure(
                    octets(cosem_time.encode(BEGIN + (n + 1) * PERIOD)),
                    *(double_long_unsigned(rng.getrandbits(32)) for _ in range(3)),
                    *(long_unsigned(rng.getrandbits(16)) for _ in range(4)),
                )
                for n in range(ROWS)
            )
        )
    )


def timed(decode: Callable[[], object], rounds: int) -> list[float]:
    """CPU seconds of each round, after one to warm up."""
    decode()
    spent = []
    for _ in range(rounds):
        begun = time.process_time()
        decode()
        spent.append(time.process_time() - begun)
    return spent


def median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def measure_decode(rounds: int) -> dict[str, float]:
    """Decode the same octets by all."""
    data = block_load()
    zone = cosem_time.INDIA
    row = struct.Struct(">4x12s" + "xI" * 3 + "xH" * 4)

    def cold() -> None:
        stamps.forget()
        decode_buffer(LAYOUT, data, zone=zone)

    def gurux() -> Any:
        return _GXCommon.getData(None, GXByteBuffer(data), _GXDataInfo())

    def sets() -> Any:
        return decode_buffer(LAYOUT, data, zone=zone).sets(received_at=BEGIN)

    block = decode_buffer(LAYOUT, data, zone=zone)
    total = sum(sum(v for v in column.values if isinstance(v, int)) for column in block.columns)
    peer = dlms_cosem(data, rounds)
    assert peer["rows"] == len(gurux()) == block.count == len(sets().sets) == ROWS
    assert peer["sum"] == sum(sum(one[1:]) for one in gurux()) == total, "the decoders disagree"
    ours = median_ms(timed(lambda: decode_buffer(LAYOUT, data, zone=zone), 5 * rounds))
    theirs = median_ms(timed(gurux, rounds))
    all_sets = median_ms(timed(sets, 3 * rounds))
    limit = median_ms(timed(lambda: list(row.iter_unpack(memoryview(data)[4:])), 5 * rounds))
    return {
        "decode_vs_gurux": theirs / ours,
        "decode_vs_dlms_cosem": median_ms(peer["seconds"]) / ours,
        "sets_vs_gurux": theirs / all_sets,
        "limit_vs_block": limit / ours,
        "decode_ms": ours,
        "decode_cold_ms": median_ms(timed(cold, 3 * rounds)),
        "sets_ms": all_sets,
        "gurux_ms": theirs,
        "dlms_cosem_ms": median_ms(peer["seconds"]),
    }


def dlms_cosem(data: bytes, rounds: int) -> dict[str, Any]:
    """Time dlms-cosem in its own interpreter."""
    command = [str(PEER_PYTHON), str(Path(__file__).parent / "dlms_cosem_peer.py"), str(rounds)]
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(*arguments: object) -> dict[str, Any]:
    """Run a role for its one line."""
    with role(*arguments) as process:
        return process.hear()


def measure_sessions(rounds: int, meters: int) -> dict[str, float]:
    """Run sessions of both clients against one served process, then keep some open."""
    with role("serve", meters) as server:
        found = server.hear()
        port, *others = found["ports"]
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(3):  # in turns, so that a slow moment hits both
            mine, peer = (
                told(name, port, rounds // 3, 1 + 1_000_000 * (2 * turn + offset))
                for offset, name in enumerate(("ours", "gurux"))
            )
            assert mine["value"] == peer["value"], "the clients disagree"
            ours += mine["seconds"]
            theirs += peer["seconds"]
        many = told("many", rounds // 3, 10_000_000, *others[:LANES])
        with role("keep", 20_000_000, *others) as kept:
            per_session = kept.hear()["per_session"]
            served = (server.ask()["rss"] - found["before"]) / len(others)
    return {
        "session_cpu_vs_gurux": statistics.median(ours) / statistics.median(theirs),
        "session_ms": median_ms(ours),
        "gurux_session_ms": median_ms(theirs),
        "sessions_per_s_core": many["sessions"] / many["cpu"],
        "bytes_per_meter_idle": per_session,
        "bytes_per_meter_served": served,
    }


def measure_round_trips(half_hours: int) -> dict[str, float]:
    """Poll simulated meters for some half hours and count what goes over their lines."""

    async def counted(framing: str, changes: dict[str, Any]) -> tuple[float, float]:
        async with polled(FaultScript(), framing, **changes) as meter:
            costs = await a_day(meter, half_hours)
        return (
            statistics.mean(cost.trips for cost in costs),
            statistics.mean(cost.octets for cost in costs),
        )

    found: dict[str, float] = {}
    for name, framing, changes in (
        ("", "wrapper", {}),
        ("_gmac", "wrapper", gmac()),
        ("_hdlc", "hdlc", {}),
    ):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            trips, octets = runner.run(counted(framing, changes))
        found |= {f"round_trips_per_half_hour{name}": trips, f"octets_per_half_hour{name}": octets}
    return found


def main(*, quick: bool) -> None:
    """Measure and print; `quick` takes fewer rounds."""
    result = measure_decode(5 if quick else 15)
    result |= measure_round_trips(12 if quick else 48)
    result |= measure_sessions(30 if quick else 120, 100 if quick else 400)
    print(f"block load of {ROWS} rows x {len(LAYOUT.columns)} columns, {len(block_load())} octets")
    for name, goal in (
        ("decode_vs_gurux", ">= 20"),
        ("decode_vs_dlms_cosem", ">= 10"),
        ("sets_vs_gurux", ">= 5"),
        ("session_cpu_vs_gurux", "<= 0.2"),
        ("round_trips_per_half_hour", "<= 12"),
    ):
        print(f"{name:26} {result[name]:8.3f}   goal {goal}")
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="end within 50 s")
    main(quick=parser.parse_args().quick)
