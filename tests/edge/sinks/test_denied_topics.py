"""A topic that the access rules deny stops nothing else; its entries wait, are told, and go when it is allowed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from gateway.contract.messages import ReplayRequest
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks import replays
from gateway.mqtt.connection import connect
from tests.support.check_sink import running, wait_cursor
from tests.support.edge.mqtt_edge import Edge, central_says, settings
from tests.support.edge.mqtt_sink import billing, sink
from tests.support.journal_records import gap_record, record
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

pytestmark = pytest.mark.mosquitto
GAPS = "kanpur/v2/edge-1/gaps"


class Rules:
    """The shipped access rules without some lines, which can be put back while the broker runs."""

    def __init__(self, folder: Path, *denied: str) -> None:
        self.broker = Mosquitto(folder)
        with self.broker:
            self._whole = (folder / "acl").read_text()
        self.path = folder.with_suffix(".acl")
        kept = [line for line in self._whole.splitlines() if not line.endswith(denied)]
        self.path.write_text("\n".join(kept) + "\n")
        self.path.chmod(0o600)
        self.broker = Mosquitto(folder, extra=(f"acl_file {self.path}",))

    def mend(self) -> None:
        self.path.write_text(self._whole)
        process = self.broker._process
        assert process is not None
        process.send_signal(signal.SIGHUP)


def entries(first: int) -> JournalBatch:
    return JournalBatch(blocks=(record(first), record(first + 1)), gaps=(gap_record(first),))


async def test_a_denied_topic_does_not_stop_the_others(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "DENIED_AGAIN", 0.05)
    rules = Rules(tmp_path / "m", "%u/gaps")
    await journal.append(entries(1))
    with rules.broker as broker:
        one = sink(broker)
        async with billing(broker) as consumer, running(one, journal):
            await until(lambda: len(consumer.state.captures) == 2)
            await journal.append(entries(11))
            await until(lambda: len(consumer.state.captures) == 4)
            await until(lambda: one.statistics().refusal is not None)
            assert GAPS in str(one.statistics().refusal)
            assert "access rules" in str(one.statistics().refusal)
            cursor = (await journal.cursors())["mqtt"]
            assert cursor < journal.last_seq, "what was denied is not taken for delivered"
            assert one.statistics().failures == 0
            rules.mend()
            await wait_cursor(journal, "mqtt", journal.last_seq)
            await until(lambda: consumer.state.journals[journal.uuid].contiguous == journal.last_seq)
            await until(lambda: one.statistics().refusal is None)
    assert len(consumer.arrived) == 4, "nothing came twice"


async def test_what_was_delivered_beside_a_denied_topic_is_not_sent_again_by_the_next_connection(
    tmp_path: Path, journal: Journal
) -> None:
    rules = Rules(tmp_path / "m", "%u/gaps")
    await journal.append(entries(1))
    with rules.broker as broker:
        one = sink(broker)
        async with billing(broker) as consumer, running(one, journal):
            await until(lambda: len(consumer.state.captures) == 2)
            await until(lambda: one.statistics().refusal is not None)
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
            await until(lambda: one.statistics().connected)
            await journal.append(entries(11))
            await until(lambda: len(consumer.state.captures) == 4)
    assert len(consumer.arrived) == 4


async def test_with_3_1_1_a_loss_is_noticed_though_the_broker_acknowledges_what_it_drops(
    tmp_path: Path, journal: Journal
) -> None:
    rules = Rules(tmp_path / "m", "%u/gaps")
    await journal.append(entries(1))
    with rules.broker as broker:
        edge = Edge(broker, journal, tmp_path / "edge")
        edge.sink._settings = settings(broker, "edge-1", version="3.1.1")
        async with running(edge.sink, journal), connect(settings(broker, "central")) as central:
            await wait_cursor(journal, "mqtt", journal.last_seq)
            assert edge.sink.statistics().refusal is None, "it took the gap, and nobody gets it"
            wanted = ReplayRequest(journal=journal.uuid, first=3, last=3, consumer="central")
            for times in range(1, 5):
                assert edge.link.lost_on_the_way(0) is None
                await central_says(central, wanted)
                await until(lambda: edge.link.statistics().replayed == times)  # noqa: B023 - waited for at once
            assert edge.link.lost_on_the_way(0) == 3
            assert edge.link.lost_on_the_way(3) is None, "it came another way"


async def test_requests_and_status_that_are_denied_end_no_connection(
    tmp_path: Path, journal: Journal
) -> None:
    denied = {f"kanpur/v2/edge-1/{what}" for what in ("directory/request", "status", "status/changes")}
    rules = Rules(tmp_path / "m", "%u/directory/request", "%u/status", "%u/status/changes")
    with rules.broker as broker:
        edge = Edge(broker, journal, tmp_path / "edge")
        async with running(edge.sink, journal):
            await until(lambda: len(denied & {one.topic for one in edge.sink.refusals.all()}) >= 2)
            await journal.append(entries(1))
            await wait_cursor(journal, "mqtt", journal.last_seq)
        assert edge.sink.statistics().failures == 0
