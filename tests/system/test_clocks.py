"""A gateway that boots with a wrong clock: everything is delivered at once, and ends at the right instant and account.

Edge, central, broker and meters are processes; only the edge's clock is wrong (libfaketime). Nobody disciplines it:
that it is wrong is told by the meters.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from gateway.contract.messages import Status
from tests.support.town import Town, town
from tests.support.waiting import wait_until
from tests.support.wrong_clocks import held, live_of, read_live, set_clock, wrong_clock

pytestmark = [pytest.mark.mosquitto, pytest.mark.faketime, pytest.mark.slow]

CALM = 180.0
BLOCK, DAYS = timedelta(minutes=31), timedelta(days=2)
ZERO, QUARTER = timedelta(0), timedelta(minutes=15)


def clock_of(made: Town) -> str | None:
    ledger = Ledger(made.files.ledger, read_only=True)
    try:
        found = [Status.model_validate_json(one.body) for one in ledger.statuses.all()]
    finally:
        ledger.close()
    return next((one.clock.state for one in found if one.clock is not None), None)


def settled(captures: Sequence[StoredCapture], reasons: set[str]) -> bool:
    profiles = {one.profile for one in captures}
    return {"block_load", "instantaneous"} <= profiles and "untrusted_time" not in reasons


@pytest.mark.parametrize("offset", ["-25m", "+3d"])
def test_a_gateway_that_boots_with_a_wrong_clock_ends_right(tmp_path: Path, offset: str) -> None:
    with town(tmp_path, meters=8, seed=5, speed=1, behind=timedelta(0), backfill_days=2) as made:
        wrong_clock(made, offset)
        made.central.start()
        began = datetime.now(UTC)
        made.edge.start()
        try:
            wait_until(
                lambda: (
                    settled(*held(made))
                    and clock_of(made) == "wrong"
                    and made.audit(began - DAYS, began - BLOCK).clean
                ),
                lambda: f"{held(made)[1]}\n--- edge\n{made.edge.tail()}\n--- central\n{made.central.tail()}",
                CALM,
            )
            captures, reasons = held(made)
            ended = datetime.now(UTC)
        finally:
            made.edge.stop()
    assert reasons <= {"no_account", "not_a_consumer"}
    live = live_of(captures)
    moved = [one for one in live if one.at != datetime.fromisoformat(one.capture_id.split("/")[2])]
    assert moved, "meters without a clock were stamped by the gateway's, and put right"
    slack = timedelta(minutes=2)
    assert all(began - slack <= one.at <= ended + slack for one in live), [one.capture_id for one in live]


def test_a_clock_that_jumps_to_and_fro_misdates_nothing(tmp_path: Path) -> None:
    """Live readings each ten seconds while the gateway's clock is set again and again."""
    jumps = {"+0": ZERO, "-25m": -timedelta(minutes=25), "+2h": timedelta(hours=2), "-3d": -timedelta(days=3)}
    with town(tmp_path, meters=8, seed=5, speed=1, behind=timedelta(0), backfill_days=1) as made:
        wrong_clock(made, "+0")
        read_live(made)
        made.central.start()
        began = datetime.now(UTC)
        made.edge.start()
        try:

            def received(by: timedelta) -> int:
                return sum(by <= one.received_at - began < by + QUARTER for one in live_of(held(made)[0]))

            for offset in (*jumps, "+0"):
                # By this clock: what still comes in by the one before says nothing.
                before = received(jumps[offset])
                set_clock(made, offset)
                wait_until(
                    lambda by=jumps[offset], least=before + 8: received(by) >= least,  # type: ignore[misc]
                    lambda: f"--- edge\n{made.edge.tail()}\n--- central\n{made.central.tail()}",
                    CALM,
                )
            wait_until(
                lambda: settled(*held(made)) and made.audit(began - timedelta(days=1), began - BLOCK).clean,
                lambda: (
                    f"{held(made)[1]} {made.audit(began - timedelta(days=1), began - BLOCK)}\n"
                    f"--- edge\n{made.edge.tail()}\n--- central\n{made.central.tail()}"
                ),
                CALM,
            )
        finally:
            made.edge.stop()
            captures, ended = live_of(held(made)[0]), datetime.now(UTC)
    slack = timedelta(minutes=2)
    wrong = [one.capture_id for one in captures if not began - slack <= one.at <= ended + slack]
    assert wrong == []
