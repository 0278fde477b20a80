"""What it costs to start a command: CPU time of whole processes beside that of importing typer and rich.

`help_vs_typer`: `meter-gateway --help`. `decode_hex_vs_typer`, `decode_trace_vs_typer`,
`decode_capture_vs_typer`: `meter-gateway decode` of one request as hex, of a trace file, and of a capture
(pcap) of the same conversation. A capture alone imports pktcap, which costs more than typer and rich together:
`decode_vs_typer` is the larger of the other two. Each is user + system time ÷ that of
`python -c "import typer, rich"`, medians of runs that take turns, with bytecode written as set-up does. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from protocols.capture.trace_file import read_trace
from tests.support.pcap_writer import CLIENT, METER, pcap, tcp

ROOT = Path(__file__).parent.parent
TRACE = ROOT / "tests" / "protocols" / "dlms" / "traces" / "clock-wrapper-lls.trace"
PROGRAM = (sys.executable, "-c", "from gateway.cli.main import main; main()")
REQUEST = "C0 01 C1 00 08 00 00 01 00 00 FF 02 00"
REFERENCE = "reference"


def commands(folder: Path) -> dict[str, Sequence[str]]:
    """Return the command line of each figure, and the reference's; files go to `folder`."""
    capture = folder / "conversation.pcap"
    capture.write_bytes(captured(TRACE.read_text(encoding="ascii")))
    return {
        REFERENCE: (sys.executable, "-c", "import typer, rich"),
        "help": (*PROGRAM, "--help"),
        "decode_hex": (*PROGRAM, "decode", REQUEST),
        "decode_trace": (*PROGRAM, "decode", str(TRACE)),
        "decode_capture": (*PROGRAM, "decode", str(capture)),
    }


def captured(trace: str) -> bytes:
    """Return a conversation of a trace as a capture of its TCP connection."""
    sent = {True: 0, False: 0}
    packets = []
    for piece in read_trace(trace):
        source, target = (CLIENT, METER) if piece.sent else (METER, CLIENT)
        packets.append(tcp(source, target, sent[piece.sent], piece.octets))
        sent[piece.sent] += len(piece.octets)
    return pcap(packets)


def cpu(command: Sequence[str]) -> float:
    """Return the CPU seconds of a process that must succeed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measure(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, float]:
    """Return the median CPU seconds of each command; all take turns, so that a busy moment strikes all."""
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        cpu(command)  # fills the page cache
    for _ in range(runs):
        for name, command in commands.items():
            spent[name].append(cpu(command))
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    """Measure and print."""
    for package in ("gateway", "mapping", "protocols"):
        compileall.compile_dir(ROOT / package, quiet=2)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, within 50 seconds")
    runs = 9 if parser.parse_args().quick else 31
    with tempfile.TemporaryDirectory() as folder:
        medians = measure(commands(Path(folder)), runs)
    reference = medians.pop(REFERENCE)
    print(f"reference: {reference * 1000:.0f} ms of CPU; {runs} runs of each")
    figures = {f"{name}_vs_typer": round(spent / reference, 2) for name, spent in medians.items()}
    figures["decode_vs_typer"] = max(figures["decode_hex_vs_typer"], figures["decode_trace_vs_typer"])
    for name, value in figures.items():
        print(f"{name:<24} {value:.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
