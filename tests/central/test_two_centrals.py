"""Two central processes on one PostgreSQL: nothing is stored twice, and each journal's book is right."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing

import pytest

from gateway.central.ledger.ledger import Ledger
from tests.support.central.ingesting import BATCHES, PER_BATCH
from tests.support.central.ledgers import LedgerDatabase
from tests.support.central.samples import batch, capture, received
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

OF_ONE = BATCHES * PER_BATCH


@pytest.mark.postgres
def test_two_processes_store_their_own_and_the_same_journals_at_once(
    ledger_in_postgresql: LedgerDatabase,
) -> None:
    url = ledger_in_postgresql.emptied()
    shares = (["a", "both"], ["both", "b"])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.central.ingesting", url, str(seed), *gateways],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for seed, gateways in enumerate(shares)
    ]
    told = []
    for process in processes:
        out, err = process.communicate(timeout=4 * PATIENCE)
        assert process.returncode == 0, err
        told.append(json.loads(out))
    assert sum(one["stored"] for one in told) == 3 * OF_ONE
    assert sum(one["repeated"] for one in told) == OF_ONE
    with closing(Ledger(url)) as ledger:
        for gateway in ("a", "both", "b"):
            state = ledger.journals.state(f"journal-{gateway}")
            assert (state.contiguous, state.holes, state.stored) == (OF_ONE, (), OF_ONE)
            assert len(ledger.captures.between(f"GEN:{gateway}")) == OF_ONE
        assert ledger.counts().captures == 3 * OF_ONE


@pytest.mark.postgres
def test_one_gateway_s_readings_do_not_wait_for_another_s(ledger_in_postgresql: LedgerDatabase) -> None:
    url = ledger_in_postgresql.emptied()
    with closing(Ledger(url)) as one, closing(Ledger(url)) as other:
        for gateway in ("a", "b"):
            one.ingest(
                [
                    received(
                        batch([capture(1, meter=f"GEN:{gateway}")], journal=f"j-{gateway}", gateway=gateway)
                    )
                ]
            )
        with one.database.sharing("storing", ["a"]) as connection:
            connection.exec_driver_sql("SELECT 1")
            more = received(batch([capture(2, meter="GEN:b")], journal="j-b", gateway="b"))
            assert other.ingest([more]).stored == 1
