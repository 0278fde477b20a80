"""Central in a process of its own, to be killed: `python -m tests.support.central.process FOLDER PORT`.

With a third argument STALL it stops for ever between receiving and storing, and creates FOLDER/stalled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.central.intake.batches import HandledMessages, MessageStore, ReceivedMessage
from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.contract.topics import TopicKind, Topics
from gateway.mqtt.connection import MqttSettings
from tests.support.keys import PRIVATE


class StallingStore(MessageStore):
    """Receives readings and never stores them: the moment in which the test kills the process."""

    def __init__(self, ledger: Ledger, topics: Topics, folder: Path) -> None:
        super().__init__(ledger, topics)
        self._folder = folder

    def handle(self, messages: Sequence[ReceivedMessage]) -> HandledMessages:
        if any(Topics("test").parse(m.topic).kind is TopicKind.READINGS for m in messages):
            (self._folder / "stalled").touch()
            time.sleep(3600)
        return super().handle(messages)


def main(folder: Path, port: int, stall: bool) -> None:
    """Run central until killed."""
    settings = MqttSettings(port=port, client_id="central", username="central", root="test")
    ledger = Ledger(folder / "ledger.db")
    central = Central(
        settings=settings,
        ledger=ledger,
        signing_key=PRIVATE,
        options=CentralOptions(ack_interval=0.05, patience=0.3),
    )
    if stall:
        central._messages = StallingStore(ledger, Topics("test"), folder)
    asyncio.run(central.run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3)
