"""Brokers that keep no retained message, or give none to a late subscriber, hear the status again and again."""

from __future__ import annotations

import pytest

from gateway.edge.journal.journal import Journal
from gateway.edge.sinks import status_report
from gateway.edge.sinks.mqtt import MqttSink
from gateway.mqtt.connection import MqttSettings
from tests.support.check_sink import running
from tests.support.edge.mqtt_sink import status_of
from tests.support.mqtt_broker import Manners, picky
from tests.support.waiting import until


async def test_the_status_comes_again_for_who_came_late(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_report.STATUS_EVERY <= 30.0, "RabbitMQ gives retained messages to no wildcard"
    monkeypatch.setattr(status_report, "STATUS_EVERY", 0.01)
    monkeypatch.setattr(status_report, "STATUS_LOOK", 0.01)
    async with picky(Manners(retains=False)) as broker:
        settings = MqttSettings(port=broker.port, client_id="edge-1", root="kanpur")
        sink = MqttSink(settings, "edge-1", status=lambda: status_of(journal))
        async with running(sink, journal):
            await until(lambda: [t for t, _ in broker.published].count("kanpur/v2/edge-1/status") > 2)
        assert broker.levels == [5, 5], "once with a retained will, which was refused, and once without"
        assert sink.statistics().version == "5"
