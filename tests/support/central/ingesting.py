"""A central of its own process that stores batches in one ledger beside others; prints what became of them."""

from __future__ import annotations

import json
import random
import sys
from contextlib import closing

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import IngestResult
from tests.support.central.samples import batch, capture, received

BATCHES, PER_BATCH = 20, 50


def store_some(url: str, seed: int, gateways: list[str]) -> IngestResult:
    """Store the journals of some gateways in an order of its own, a batch a transaction."""
    sent = []
    for gateway in gateways:
        captures = [capture(n, meter=f"GEN:{gateway}") for n in range(1, BATCHES * PER_BATCH + 1)]
        sent += [
            received(batch(captures[n : n + PER_BATCH], journal=f"journal-{gateway}", gateway=gateway))
            for n in range(0, len(captures), PER_BATCH)
        ]
    random.Random(seed).shuffle(sent)
    total = IngestResult()
    with closing(Ledger(url)) as ledger:
        for one in sent:
            total += ledger.ingest([one])
    return total


if __name__ == "__main__":
    done = store_some(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    print(json.dumps({"stored": done.stored, "repeated": done.repeated, "quarantined": done.quarantined}))
