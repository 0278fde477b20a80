"""Words under fire: kills, a lost broker store, three stores restored from copies, strangers' logins; and billing.

Once in simulated time, 3,600 times as fast, and once with clock faults, in the time of the meters.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.contract.envelope import wrap
from gateway.contract.messages import Ack, DirectoryRequest
from mapping.changes import Name
from mapping.directory import NumberKind
from mapping.store import DirectoryStore
from tests.support.text_billing import BASE, TextBilling
from tests.support.text_consumer import checksum_of
from tests.support.town import CALM, NEWCOMER, Town, converged, town
from tests.support.waiting import wait_until
from tests.support.wrong_clocks import held, live_of, read_live, set_clock, wrong_clock

pytestmark = [pytest.mark.mosquitto, pytest.mark.slow]

STEPS = int(os.environ.get("STEPS", "18"))
SEED = int(os.environ.get("SEED", "20261130"))
STRANGER = "edge-9"
JOURNAL = '[journal]\nack_consumers = ["central", "billing"]\n'


class Stranger:
    """A login of another gateway, and one of billing that says more than it may."""

    def __init__(self, made: Town, billing: TextBilling, dice: random.Random) -> None:
        self._made = made
        self._billing = billing
        self._dice = dice
        self.sent = 0

    def speak(self) -> None:
        """Say everything that a login can say against edge-1: in its own branch, and where it is not allowed."""
        now = datetime.now(UTC)
        said: list[tuple[str, str, bytes]] = []
        if self._billing.taken:
            topic, message = self._dice.choice(self._billing.taken)
            payload, journal = json.dumps(message).encode(), message["data"]["journal"]
            forged = self._forged(json.loads(payload))
            said.append((STRANGER, topic.replace("/edge-1/", f"/{STRANGER}/"), forged))
            said.append((STRANGER, topic, payload))
            said.append((STRANGER, topic, forged))
            for seq in (1, 10**6, 2**63 - 1):
                for consumer in ("central", "billing"):
                    ack = Ack.model_validate({"journal": journal, "seq": seq, "consumer": consumer})
                    octets = wrap(ack, id="forged", source="/central", time=now)
                    said += [(who, f"{BASE}/edge-1/acks/{consumer}", octets) for who in (STRANGER, "billing")]
        wanted = DirectoryRequest.model_validate(
            {"gateway": STRANGER, "have_version": 0, "meters": [m.meter for m in self._made.plan.meters]}
        )
        request = wrap(wanted, id="wants-all", source=f"/gateways/{STRANGER}", time=now)
        said.append((STRANGER, f"{BASE}/{STRANGER}/directory/request", request))
        said.append((STRANGER, f"{BASE}/{STRANGER}/readings/block_load", self._dice.randbytes(300)))
        said.append((STRANGER, f"{BASE}/edge-1/status", b""))
        for who, topic, payload in said:
            self._publish(who, topic, payload)

    def _forged(self, message: dict[str, Any]) -> bytes:
        data = message["data"]
        data["gateway"], data["journal"] = STRANGER, "7f0e2a64-91a2-4e1c-8a57-53c0b7d0a0de"
        for block in data.get("blocks", ()):
            for row in block["captures"]:
                row["value_rev"] = 99
                row["values"] = ["1" if isinstance(value, str) else value for value in row["values"]]
                row["checksum"] = checksum_of(block, row)
        return json.dumps(message).encode()

    def _publish(self, who: str, topic: str, payload: bytes) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"{who}-stranger", protocol=paho.MQTTv5)
        client.username_pw_set(who)
        with contextlib.suppress(OSError):  # the broker may be down
            client.connect("127.0.0.1", self._made.broker.port)
            client.loop_start()
            done = client.publish(topic, payload, 1)
            with contextlib.suppress(RuntimeError, ValueError):
                done.wait_for_publish(5)
            self.sent += 1
        client.disconnect()
        client.loop_stop()


def copied(path: Path, to: Path) -> None:
    """Copy a SQLite file as a backup of the machine would: with its log, nothing beside it."""
    for side in ("", "-wal"):
        source = path.with_name(path.name + side)
        to.with_name(to.name + side).unlink(missing_ok=True)
        path_to = to.with_name(to.name + side)
        if source.exists():
            shutil.copy(source, path_to)


def restored(copy: Path, path: Path) -> None:
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    copied(copy, path)


def renamed(path: Path, number: str) -> None:
    with DirectoryStore(path) as store:
        name = Name("acc-newcomer", NumberKind.ACCOUNT, number)
        store.apply([name], by="test", source="test", at=datetime.now(UTC))


def billing_faults(made: Town, billing: TextBilling, since: datetime, until: datetime) -> Counter[str]:
    """Compare billing's ledger with the meters' own memories and the town's truth."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in billing.ledger()["captures"]:
        meter, profile, _ = one["capture_id"].split("/", 2)
        found.setdefault((meter, profile, one["at"]), []).append(one)
    faults: Counter[str] = Counter()
    for row in made.recorded(since, until):
        if row.profile == "events":
            continue
        key = (row.meter, row.profile, row.at.isoformat().replace("+00:00", "Z"))
        captures = found.get(key, [])
        faults["recorded"] += 1
        if len(captures) != 1:
            faults["doubled" if captures else "lost"] += 1
            continue
        [capture] = captures
        numbers = frozenset(one["account_number"] for one in capture["accounts"] if "account_number" in one)
        if numbers != made.truth(row.meter, row.start, row.at):
            faults["misattributed"] += 1
        if not set(row.values.values()) <= {value for value in capture["values"] if isinstance(value, str)}:
            faults["altered"] += 1
    return faults


def begin(made: Town, billing: TextBilling) -> None:
    """Start everybody, and copy the three stores while there is little in them."""
    billing.start()
    made.central.start()
    made.edge.start()
    copies = copies_of(made)
    copies.mkdir()
    # A meter that nobody had before the copy is whoever's that delivers it first after a restore.
    wait_until(lambda: claimed(made) == len(made.plan.meters), "every meter is the edge's", CALM)
    made.central.stop()
    copied(Path(made.files.ledger), copies / "ledger.db")
    copied(Path(made.files.directory), copies / "directory.db")
    # What happens after the copy is undone by restoring it: this number must not stay anywhere.
    renamed(Path(made.files.directory), "9000000002")
    made.central.start()
    made.edge.stop()
    copied(journal_of(made), copies / "journal.db")
    made.edge.start()


def claimed(made: Town) -> int:
    """Return how many meters the edge has."""
    try:
        ledger = Ledger(made.files.ledger, read_only=True)
    except LedgerError:  # central is making it
        return 0
    try:
        return len(ledger.allocations.current("edge-1"))
    finally:
        ledger.close()


def copies_of(made: Town) -> Path:
    return made.folder / "copies"


def journal_of(made: Town) -> Path:
    return made.folder / "edge" / "edge" / "journal.db"


def blows(
    made: Town, billing: TextBilling, stranger: Stranger, dice: random.Random
) -> list[Callable[[], None]]:
    """Return STEPS blows in the order of the dice: each store is restored once and the broker's lost once."""

    def restore_central(path: Path) -> None:
        made.central.kill()
        restored(copies_of(made) / path.name, path)
        made.central.start()

    def restore_edge() -> None:
        made.edge.kill()
        restored(copies_of(made) / "journal.db", journal_of(made))
        made.edge.start()

    def lose_store() -> None:
        made.broker.kill()
        made.lose_broker_store()
        made.broker.start()

    def away() -> None:
        billing.stop()
        time.sleep(dice.uniform(0.5, 2))
        billing.start()

    def killed(victim: Any) -> None:
        victim.kill()
        time.sleep(dice.uniform(0.0, 0.5))
        victim.start()

    once: list[Callable[[], None]] = [
        lambda: restore_central(Path(made.files.ledger)),
        lambda: restore_central(Path(made.files.directory)),
        restore_edge,
        lose_store,
    ]
    often: list[Callable[[], None]] = [
        lambda: killed(made.edge),
        lambda: killed(made.central),
        lambda: killed(made.broker),
        stranger.speak,
        stranger.speak,
        away,
    ]
    steps = [*once, *(dice.choice(often) for _ in range(STEPS - len(once)))]
    dice.shuffle(steps)
    return steps


def clock_faults(made: Town, dice: random.Random) -> list[Callable[[], None]]:
    """Return faults of the edge's clock: wrong at its start, set forward and set back while it runs, put right."""

    def booted(offset: str) -> None:
        made.edge.kill()
        set_clock(made, offset)
        made.edge.start()

    return [
        lambda: booted("-25m"),
        lambda: booted(dice.choice(["+3d", "-3d", "+47m"])),
        lambda: set_clock(made, dice.choice(["+2h", "+3d"])),
        lambda: set_clock(made, dice.choice(["-25m", "-3d"])),
        lambda: set_clock(made, "+0"),
    ]


def after_all(made: Town, billing: TextBilling, since: datetime, until: datetime) -> str:
    """Wait until central and billing are right about everything; return the figures."""
    result = converged(made, since, until)
    faults: Counter[str] = Counter()

    def agrees() -> bool:
        nonlocal faults
        faults = billing_faults(made, billing, since, until)
        return set(faults) == {"recorded"}

    wait_until(agrees, lambda: f"{faults}\n{made.edge.tail()}\n{made.central.tail()}", CALM)
    assert result.recorded > 500
    return f"central {result}, billing {dict(faults)}"


def test_no_word_and_no_old_copy_loses_doubles_alters_or_moves_a_reading(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    hours = timedelta(hours=60)
    with town(
        tmp_path, meters=12, seed=7, speed=3600, behind=hours, backfill_days=5, journal=JOURNAL
    ) as made:
        billing = TextBilling(made.broker.port)
        stranger = Stranger(made, billing, dice)
        begin(made, billing)
        for step in blows(made, billing, stranger, dice):
            time.sleep(dice.uniform(0.5, 2.5))
            step()
        stranger.speak()
        renamed(Path(made.files.directory), NEWCOMER)
        until = (datetime.now(UTC) - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
        remaining = made.started + timedelta(seconds=60 * 3600 / 3600) - datetime.now(UTC)
        time.sleep(max(remaining.total_seconds(), 0))
        made.edge.kill()
        made.edge.start()
        try:
            figures = after_all(made, billing, until - timedelta(days=3), until)
        finally:
            billing.stop()
    assert stranger.sent > 0
    print(f"words: {STEPS} steps, {stranger.sent} words of strangers, {figures}")


@pytest.mark.faketime
def test_no_wrong_clock_beside_all_that_misdates_a_reading_or_leaves_it_in_doubt(tmp_path: Path) -> None:
    """In real time: a second of the fake clock is a second of the meters. What is read is what they remember, and live.

    Nobody but the meters tells the edge what time it is.
    """
    dice = random.Random(SEED)
    day = timedelta(days=1)
    with town(
        tmp_path,
        meters=12,
        seed=7,
        speed=1,
        behind=timedelta(0),
        backfill_days=5,
        journal=JOURNAL,
        moved=day,
    ) as made:
        wrong_clock(made, "-25m")
        # Read at each start: a gateway that does not know the time takes the meters' whole memory again each time.
        read_live(made, blocks=600)
        billing = TextBilling(made.broker.port)
        stranger = Stranger(made, billing, dice)
        began = datetime.now(UTC)
        begin(made, billing)
        steps = [*blows(made, billing, stranger, dice), *clock_faults(made, dice)]
        dice.shuffle(steps)
        for step in steps:
            time.sleep(dice.uniform(0.5, 3))
            step()
        stranger.speak()
        renamed(Path(made.files.directory), NEWCOMER)
        until = began - timedelta(minutes=31)
        try:
            figures = after_all(made, billing, until - 2 * day, until)
            made.edge.stop()  # what it reads last is in doubt for a moment
            ended = datetime.now(UTC)
            wait_until(
                lambda: not doubted(made, billing),
                lambda: f"{doubted(made, billing)}\n{made.edge.tail()}\n{made.central.tail()}",
                CALM,
            )
            live = live_of(held(made)[0])
        finally:
            billing.stop()
    slack = timedelta(minutes=2)
    assert [one.capture_id for one in live if not began - slack <= one.at <= ended + slack] == []
    assert stranger.sent > 0
    clocks = {(one.received_at - began).total_seconds() // 1200 for one in live}
    assert len(clocks) >= 2, "the gateway received them by clocks that were set"
    print(
        f"clocks: {len(steps)} steps, {stranger.sent} words of strangers, {figures}, {len(live)} live, 0 in doubt"
    )


def doubted(made: Town, billing: TextBilling) -> list[str]:
    """Return the captures that stand under no account for their time, at central and at billing.

    Of what billing alone still has, since ledger and journal were both restored from before, central must have said
    that nobody will ever know.
    """
    captures, _ = held(made)
    known = {one.capture_id for one in captures}
    waiting = [one.capture_id for one in captures if one.reason == "untrusted_time"]
    at_billing = {
        one["capture_id"] for one in billing.ledger()["captures"] if one.get("reason") == "untrusted_time"
    }
    waits = (at_billing & known) | set(billing.in_doubt())
    return waiting + [f"billing: {capture_id}" for capture_id in sorted(waits)]
