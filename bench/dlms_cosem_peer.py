"""dlms-cosem's A-XDR decoder, timed in a process with its own packages: octets in, JSON out."""

from __future__ import annotations

import json
import sys
import time

from dlms_cosem.utils import parse_as_dlms_data


def main() -> None:
    rounds = int(sys.argv[1])
    octets = sys.stdin.buffer.read()
    rows = parse_as_dlms_data(octets)
    seconds = []
    for _ in range(rounds):
        begun = time.process_time()
        rows = parse_as_dlms_data(octets)
        seconds.append(time.process_time() - begun)
    json.dump({"seconds": seconds, "rows": len(rows), "sum": sum(sum(row[1:]) for row in rows)}, sys.stdout)


if __name__ == "__main__":
    main()
