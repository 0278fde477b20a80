"""Fuzzes DLMS and Modbus: `python -m tests.support.fuzz --frames 1000000`; what it finds goes to `regressions/`.

Invariant: an event, a value or an error of the hierarchy, within the bounds of steps and memory; never else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import traceback
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

from protocols.errors import ProtocolError
from tests.support.fuzz.mutate import mutated
from tests.support.fuzz.targets import (
    MACHINES,
    PARSERS,
    all_frames,
    conversations,
    machine_of,
    seeds_of_files,
    whole_again,
)
from tests.support.paths import ROOT
from tests.support.steps import Steps

REGRESSIONS = Path(__file__).with_name("regressions")
STEPS_PER_OCTET = 40
STEPS_PER_OCTET_OF_MODBUS = 8_000
"""A hunt is given octet by octet and may look at a frame's length each time; traffic is read in three framings."""
LEAST_STEPS = 20_000
"""Steps (`tests.support.steps`) that a case may take: so many for each octet, and so many for itself."""
GROWTH_KIB = 64 * 1024
"""Resident memory that a run may add after its warm-up."""
LEAST_OCTETS = 4 << 20
OCTETS_PER_OCTET = 2048
"""Memory that one case may take: a tree for people has some hundred octets for each octet read."""
Feed = Callable[[bytes], object]


@dataclass
class Report:
    """What one process did and found."""

    frames: int = 0
    refused: int = 0
    octets: int = 0
    steps: int = 0
    most: float = 0.0
    """The largest share of its bound that a case took."""
    findings: list[dict[str, str]] = field(default_factory=list)


def _told(limit: int) -> str:
    """The fault that is being handled, with files as they lie in the repository: findings are kept there."""
    return traceback.format_exc(limit=limit).replace(f"{ROOT}{os.sep}", "")


def check(name: str, feed: Feed, data: bytes, report: Report) -> None:
    """Feed a parser once and count its steps."""
    report.frames += 1
    try:
        with Steps() as steps:
            feed(data)
    except ProtocolError:
        report.refused += 1
    except Exception:  # noqa: BLE001 - whatever else comes out is what the fuzzer looks for
        report.findings.append({"target": name, "hex": data.hex(), "error": _told(4)})
        return
    each = STEPS_PER_OCTET_OF_MODBUS if name.startswith("modbus-") else STEPS_PER_OCTET
    bound = LEAST_STEPS + each * len(data)
    if steps.count > bound:
        report.findings.append({"target": name, "hex": data.hex(), "error": f"{steps.count} steps"})
    report.octets += len(data)
    report.steps += steps.count
    report.most = max(report.most, steps.count / bound)


def weigh(name: str, feed: Feed, data: bytes, report: Report) -> None:
    """Feed a parser once more and weigh what it takes at the most; seldom done, since weighing is slow."""
    tracemalloc.start()
    try:
        feed(data)
    except ProtocolError:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if peak > LEAST_OCTETS + OCTETS_PER_OCTET * len(data):
        report.findings.append({"target": name, "hex": data.hex(), "error": f"{peak} octets of memory"})


def run(name: str, seed: int, talk: str, report: Report) -> None:
    """Run a state machine once; a finding holds what makes the same run again."""
    machine = machine_of(name, seed, talk)
    try:
        machine.run()
    except ProtocolError:
        report.refused += 1
    except Exception:  # noqa: BLE001 - as above
        fed = ",".join(one.hex() for one in machine.fed)
        text = _told(6)
        again = {"seed": str(seed), "talk": talk}
        report.findings.append({"target": name, "hex": fed, "error": text, **again})
    report.frames += machine.frames


def replay(finding: dict[str, str], report: Report) -> None:
    """Feed what a finding holds again."""
    if "seed" in finding:
        run(finding["target"], int(finding["seed"]), finding["talk"], report)
    else:
        check(finding["target"], PARSERS[finding["target"]], bytes.fromhex(finding["hex"]), report)


def _case(random: Random, name: str, frames: Sequence[bytes]) -> bytes:
    own = seeds_of_files().get(name)
    if own is not None and random.randrange(8):
        return mutated(random, random.choice(own), own)
    data = mutated(random, random.choice(frames), frames)
    data = whole_again(random.choice(("hdlc", "wrapper")), data) if random.randrange(2) else data
    return data[random.choice((0, 0, 8, 11)) :]


def fuzz(seed: int, frames: int, only: str = "") -> Report:
    """Feed about `frames` mutated frames: a third each to the parsers, the client and the server.

    With `only` they go to the parsers whose names begin so.
    """
    random, report = Random(seed), Report()
    names = [name for name in sorted(PARSERS) if name.startswith(only)]
    seeds, talks = all_frames(), conversations()
    memory = 0
    for name, octets in seeds_of_files().items():
        if name in names:
            with suppress(ProtocolError):
                PARSERS[name](octets[0])  # what a parser imports at its first use is not counted
    while report.frames < frames and len(report.findings) < 20:
        for turn in range(60):
            name = random.choice(names)
            data = _case(random, name, seeds)
            check(name, PARSERS[name], data, report)
            if not turn and len(report.findings) < 20:
                weigh(name, PARSERS[name], data, report)
        for name in () if only else MACHINES:
            run(name, random.getrandbits(64), random.choice(talks).name, report)
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if report.frames > frames // 10:
            memory = memory or now
            if now - memory > GROWTH_KIB:
                report.findings.append({"target": "memory", "hex": "", "error": f"{now - memory} KiB more"})
                break
    return report


def main() -> int:
    """Run on every core and print one JSON object at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31))
    parser.add_argument("--only", default="", help="parsers whose names begin so: modbus, trace, …")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    share = -(-options.frames // options.jobs)
    with multiprocessing.Pool(options.jobs) as pool:
        reports = pool.starmap(
            fuzz, [(options.seed + job, share, options.only) for job in range(options.jobs)]
        )
    findings = [finding for report in reports for finding in report.findings]
    REGRESSIONS.mkdir(exist_ok=True)
    for number, finding in enumerate(findings):
        path = REGRESSIONS / f"{finding['target']}-{options.seed}-{number}.json"
        path.write_text(json.dumps(finding, indent=1) + "\n")
        print(f"found: {finding['target']}: {finding['error']}", file=sys.stderr)
    figures = {
        "frames": sum(report.frames for report in reports),
        "refused": sum(report.refused for report in reports),
        "findings": len(findings),
        "steps_per_octet": round(sum(r.steps for r in reports) / sum(r.octets for r in reports), 1),
        "most_of_bound": round(max(report.most for report in reports), 2),
        "seed": options.seed,
    }
    print(json.dumps(figures))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
