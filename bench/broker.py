"""The broker with our settings and a consumer that is away: messages of 100 kB until its bound; one JSON line.

`messages_per_s` counts receipts until the consumer's queue is full (goal: at least 500), `longest_pause_s` is the
longest time without one (the store is being saved), `kept` what the consumer finds when it comes back. The broker is
deploy/mosquitto.conf with listener, paths and users replaced, as in every test. `--slow` sends ten messages at a time
so that the store is saved while it fills.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gateway.contract.topics import TopicKind, Topics
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from tests.support.mosquitto import Mosquitto
from tests.support.paths import DEPLOY

SIZE = 100_000
TOPICS = Topics("kesco")


def settings(broker: Mosquitto, user: str, session_expiry: int = 0) -> MqttSettings:
    return MqttSettings(
        port=broker.port,
        client_id=user,
        username=user,
        root="kesco",
        session_expiry=session_expiry,
        timeout=60.0,
    )


def queue_bound() -> int:
    """Octets that the broker keeps for a client that is away."""
    lines = (DEPLOY / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("max_queued_bytes ")))


async def filled(connection: MqttConnection, count: int, pause: float) -> tuple[float, float]:
    """Publish; return the seconds that it took, pauses of ours left out, and the longest wait for a receipt."""
    topic, body = TOPICS.readings("edge-1", "block_load"), bytes(SIZE)
    took, longest, waiting = 0.0, 0.0, []
    for number in range(count):
        begun = time.perf_counter()
        waiting.append(connection.send(topic, body))
        if len(waiting) >= connection.window or number == count - 1:
            await asyncio.gather(*waiting)
            waiting.clear()
        lap = time.perf_counter() - begun
        took, longest = took + lap, max(longest, lap)
        if pause and number % 10 == 9:
            await asyncio.sleep(pause)
    return took, longest


async def measure(folder: Path, slow: bool) -> dict[str, float]:
    """Fill the queue of an absent consumer, then let it come back."""
    count = int(queue_bound() / SIZE * 1.02)
    with Mosquitto(folder) as broker:
        absent = settings(broker, "billing", session_expiry=3_600)
        async with connect(absent) as consumer:
            await consumer.subscribe(TOPICS.filter(TopicKind.READINGS))
        async with connect(settings(broker, "edge-1")) as edge:
            took, longest = await filled(edge, count, 0.08 if slow else 0.0)
        kept = 0
        async with connect(absent, manual_ack=True) as consumer:
            messages = consumer.messages()
            while True:
                try:
                    consumer.ack(await asyncio.wait_for(anext(messages), 5))
                except TimeoutError:
                    break
                kept += 1
    return {
        "messages": count,
        "messages_per_s": round(count / took),
        "longest_pause_s": round(longest, 2),
        "kept": kept,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slow", action="store_true", help="fill the queue over more than a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        print(json.dumps(asyncio.run(measure(Path(name), arguments.slow))))
