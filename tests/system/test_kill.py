"""The kill test: edge, central and broker die at seeded instants; nothing is lost, doubled or misattributed."""

from __future__ import annotations

import json
import os
import queue
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gateway.central.ledger.ledger import Ledger
from gateway.contract.messages import Status
from gateway.edge.journal.view import view
from tests.support.mosquitto import Mosquitto
from tests.support.town import Program, Town, converged, town
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mosquitto, pytest.mark.slow]

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", "20261123"))


def status(made: Town) -> Status | None:
    """The edge's retained status, as the broker has it; None when there is none yet."""
    found: queue.Queue[bytes | bytearray] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_message = lambda _client, _data, message: found.put(message.payload)
    client.username_pw_set("billing")
    client.connect("127.0.0.1", made.broker.port)
    client.subscribe("kesco/v2/edge-1/status", 1)
    client.loop_start()
    try:
        return Status.model_validate(json.loads(found.get(timeout=2))["data"])
    except queue.Empty:
        return None
    finally:
        client.disconnect()
        client.loop_stop()


def test_sigkill_of_edge_central_and_broker_loses_doubles_and_misattributes_nothing(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    hours = timedelta(hours=40)
    # An edge that is kept from its first read until the simulated time has run out still reads the whole span.
    with town(tmp_path, meters=16, seed=5, speed=3600, behind=hours, backfill_days=5) as made:
        made.central.start()
        made.edge.start()
        wait_until(lambda: made.files.has_ledger, "central opens its ledger")
        lose_store_at = KILLS // 2
        for kill in range(KILLS):
            time.sleep(dice.uniform(0.3, 2.5))
            victims: list[Program | Mosquitto] = [made.edge, made.central, made.broker]
            victim = dice.choice(victims)
            if kill == lose_store_at:
                victim = made.broker
            victim.kill()
            if kill == lose_store_at:
                made.lose_broker_store()
            time.sleep(dice.uniform(0.0, 0.5))
            victim.start()
        until = (datetime.now(UTC) - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
        remaining = made.started + timedelta(seconds=40 * 3600 / 3600) - datetime.now(UTC)
        time.sleep(max(remaining.total_seconds(), 0))
        made.edge.kill()
        made.edge.start()  # everything that is due is read at once after a start
        since = until - timedelta(days=3)
        result = converged(made, since, until)
        assert result.clean
        assert result.recorded > 500
        print(f"kill test: {KILLS} kills, {result}")
        journal = view(made.folder / "edge" / "edge" / "journal.db")
        ledger = Ledger(made.files.ledger, read_only=True)
        wait_until(
            lambda: ledger.journals.state(journal.journal).contiguous >= journal.last_seq,
            "the ledger holds every entry of the journal",
        )
        ledger.close()


def test_central_away_for_36_hours_fills_the_journal_raises_the_alarm_and_loses_nothing(
    tmp_path: Path,
) -> None:
    bound = "[journal]\nmax_bytes = 1_048_576\n"
    hours = timedelta(hours=84)  # simulated time still runs fast when central comes back after 36 h of it
    with town(tmp_path, meters=26, seed=6, speed=3600, behind=hours, backfill_days=12, journal=bound) as made:
        made.edge.start()
        pid = made.edge.pid

        def alarmed() -> bool:
            now = status(made)
            return now is not None and any(alarm.code == "journal_full" for alarm in now.alarms)

        wait_until(alarmed, "the full journal raises its alarm")
        away = made.started + timedelta(seconds=36) - datetime.now(UTC)
        time.sleep(max(away.total_seconds(), 0))
        assert made.edge.pid == pid, "the same process"
        assert made.edge.running, made.edge.tail()
        acknowledged = view(made.folder / "edge" / "edge" / "journal.db").last_seq
        assert acknowledged > 0
        until = (made.started - hours + timedelta(hours=34)).replace(minute=0, second=0, microsecond=0)
        made.central.start()
        result = converged(made, until - timedelta(days=3), until)
        assert result.clean
        assert made.edge.pid == pid
        assert made.edge.running
        wait_until(lambda: not alarmed(), "the alarm goes when there is room")
