"""What a capture's body costs the ledger: cut out of the message it came in, against written by the model anew.

Captures of 8 values in batches of 200. The last line is one JSON object: octets of a body and microseconds a
capture, both ways, each the best of all rounds (what else runs only adds), and their ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.pipeline import Directory, reading_sets
from gateway.central.ledger.bodies import bodies, written_anew
from gateway.contract.batches import parse_batch
from gateway.contract.envelope import READINGS_TYPE, assemble
from gateway.edge.stamping.stamp import stamp

COUNT = 200


def microseconds(task: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        task()
        taken.append(time.process_time() - begun)
    return min(taken) / COUNT * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    directory = Directory()
    sent = [stamp(one, "GEN:00000001", directory, disciplined=True).body for one in reading_sets(COUNT, 0)]
    entries = list(enumerate(sent, start=1))
    payload = assemble(entries, type=READINGS_TYPE, journal="j", gateway="g", time="2026-01-01T00:00:00Z")
    batch = parse_batch(payload).data
    kept = bodies(payload, batch)
    anew = [written_anew(one) for one in batch.captures]
    figures = {
        "kept_octets": statistics.mean(map(len, kept)),
        "anew_octets": statistics.mean(map(len, anew)),
        "kept_us": microseconds(lambda: bodies(payload, batch), rounds),
        "anew_us": microseconds(lambda: [written_anew(one) for one in batch.captures], rounds),
        "parse_us": microseconds(lambda: parse_batch(payload), rounds),
    }
    figures["octets_vs_anew"] = figures["kept_octets"] / figures["anew_octets"]
    figures["us_vs_anew"] = figures["kept_us"] / figures["anew_us"]
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
