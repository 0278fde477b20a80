"""Brokers that keep no retained message, or give none to a late subscriber, hear the status again and again."""

from __future__ import annotations

import pytest

from gateway.contract.messages import Alarm, Status
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks import status_report
from gateway.edge.sinks.mqtt import MqttSink
from gateway.mqtt.connection import MqttSettings
from tests.support.check_sink import running
from tests.support.edge.mqtt_sink import status_of
from tests.support.mqtt_broker import DENIED, Manners, picky
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


async def test_a_status_that_is_refused_is_not_told_again_for_its_own_refusal(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm of the refusal counts: each one made the next status another, and so for ever, each second."""
    monkeypatch.setattr(status_report, "STATUS_LOOK", 0.01)
    looks = 0

    def status() -> Status:
        nonlocal looks
        looks += 1
        alarm = Alarm(code="message_refused", text="refused", count=sink.refusals.total)
        return status_of(journal).model_copy(update={"alarms": (alarm,)})

    async with picky(Manners(receipt=lambda: bytes((DENIED,)))) as broker:
        settings = MqttSettings(port=broker.port, client_id="edge-1", root="kanpur", version="5")
        sink = MqttSink(settings, "edge-1", status=status)
        async with running(sink, journal):
            await until(lambda: looks > 30)
            assert [topic for topic, _ in broker.published] == ["kanpur/v2/edge-1/status"]
            assert sink.statistics().refused == 1
