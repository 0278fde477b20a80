"""What an edge tells of itself, gathered from its parts: the summary with its alarms, and the health of each meter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.contract.central_word import CENTRAL
from gateway.contract.messages import Alarm, LineStatus, MeterStatus, Status
from gateway.edge.field.server import FieldServer
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.changes import Change, Subject
from gateway.edge.polling.poller import Poller
from gateway.edge.sinks.base import MQTT_SINK as MQTT
from gateway.edge.sinks.link import EdgeLink
from gateway.edge.sinks.status_report import Row, StatusStatistics, cut
from gateway.mqtt.refusals import Refusals
from gateway.roles.journal import former_journals
from gateway.roles.push import PushRole
from gateway.roles.timekeeping import clock_status
from protocols.session import Clock

if TYPE_CHECKING:
    from gateway.edge.influx.follow import InfluxFollower

BACKLOG_ALARM = 10_000
"""Entries waiting for the broker above which the status carries an alarm."""


@dataclass(frozen=True, kw_only=True)
class EdgeStatus:
    """The summary of an edge, from its parts. Asked every few seconds: it looks at no meter."""

    gateway: str
    clock: Clock
    journal: Journal
    poller: Poller
    link: EdgeLink
    told: Callable[[], StatusStatistics]
    follower: InfluxFollower | None
    push: PushRole | None
    refusals: Refusals
    field: FieldServer
    reload_fault: str | None = None
    files_fault: str | None = None
    doubted_counters: Callable[[], int] = lambda: 0

    def summary(self) -> Status:
        """Tell how the edge is."""
        now = self.clock.now()
        journal = self.journal.statistics()
        changes = self.poller.changes
        return Status(
            gateway=self.gateway,
            online=True,
            version=__version__,
            journal=journal.uuid,
            generation=self.journal.generation,
            former=former_journals(self.journal),
            first_seq=journal.first_seq,
            last_seq=journal.last_seq,
            meters=changes.counts(Subject.METER),
            lines=changes.counts(Subject.LINE),
            backlog=journal.backlog(MQTT),
            directory_version=self.link.directory_version,
            acknowledged=self.journal.ack_proof(CENTRAL),
            clock=clock_status(self.clock),
            alarms=tuple(self._alarms()),
            at=now,
        )

    def _alarms(self) -> Iterator[Alarm]:
        """Yield what somebody should look at, the worst first: what does not fit is left out from the end."""
        journal = self.journal.statistics()
        if journal.full_reason is not None:
            yield Alarm(code="journal_full", text=journal.full_reason, since=journal.full_since)
        if self.poller.paused is not None:
            yield Alarm(code="reading_paused", text=self.poller.paused, since=self.poller.paused_since)
        yield from (Alarm(code=a.code, text=a.text, since=a.since) for a in journal.alarms)
        link = self.link.statistics()
        if link.ack_fault is not None:
            yield Alarm(code="ack_refused", text=link.ack_fault, count=link.acks_refused)
        if (twin := self.link.twin_fault) is not None:
            yield Alarm(code="twin", text=twin)
        if journal.captures_refused:
            text = "captures came again where the journal's list was forgotten, and were refused"
            yield Alarm(code="captures_refused", text=text, count=journal.captures_refused)
        if (waiting := journal.backlog(MQTT)) > BACKLOG_ALARM:
            yield Alarm(code="backlog", text=f"{waiting} entries wait for the broker")
        if (seq := self.link.lost_on_the_way(journal.billing_acked)) is not None:
            text = f"entry {seq} is asked for again and again though the broker takes it: look at its access rules"
            yield Alarm(code="lost_on_the_way", text=text)
        if (refusal := self.refusals.fault) is not None:
            yield Alarm(code="message_refused", text=refusal, count=self.refusals.total)
        if doubted := self.doubted_counters():
            text = "showed an invocation counter far above ours, which is not believed: see `counters show`"
            yield Alarm(code="counter_not_believed", text=f"meters {text}", count=doubted)
        for code, text, count in self.poller.clocks.alarms():
            yield Alarm(code=code, text=text, count=count)
        if self.reload_fault is not None:
            yield Alarm(code="reload_refused", text=self.reload_fault)
        if self.files_fault is not None:
            yield Alarm(code="too_few_files", text=self.files_fault)
        if dead := sum(journal.dead_letters.values()):
            yield Alarm(code="dead_letters", text="a peer refused entries for good", count=dead)
        told = self.told()
        if told.fault is not None:
            yield Alarm(
                code="status_refused", text=f"the status was not taken: {told.fault}", count=told.refused
            )
        if self.follower is not None:
            influx = self.follower.statistics()
            if influx.last_error:
                yield Alarm(code="influx", text=influx.last_error)
            if influx.skipped:
                text = f"InfluxDB was away for too long: it lacks entries, {influx.skipped_span} the last of them"
                yield Alarm(code="influx_skipped", text=text, count=influx.skipped)
        if self.push is not None and (refused := self.push.refused()):
            reasons = ", ".join(f"{reason} {count}" for reason, count in refused.items())
            text = "; ".join(filter(None, (reasons, self.push.shut_out())))
            yield Alarm(code="push_refused", text=text, count=sum(refused.values()))
        for turn in self.field.long_turns():
            text = f"line {turn.line} is lent to {turn.by} for `{turn.purpose}`: its meters wait"
            yield Alarm(code="field_work", text=text)
        if not self.link.directory_version:
            text = "no part of the directory has come from central yet"
            yield Alarm(code="no_directory", text=text)


class EdgeHealth:
    """The poller's meters and lines as rows of the contract, made only for those that are asked for."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    @property
    def number(self) -> int:
        """The number of the newest change."""
        return self._poller.changes.number

    def since(self, number: int) -> list[tuple[int, Row]]:
        """Return what changed after `number`, in the order of changes."""
        return list(self._rows(self._poller.changes.since(number)))

    def all(self) -> Iterator[tuple[int, Row]]:
        """Yield every meter and line."""
        return self._rows(self._poller.changes.all())

    def _rows(self, changes: Iterable[Change]) -> Iterator[tuple[int, Row]]:
        for change in changes:
            yield change.number, self._line(change) if change.subject is Subject.LINE else self._meter(change)

    def _line(self, change: Change) -> LineStatus:
        line = self._poller.line(change.name)
        told = {"name": line.line, "state": change.health, "detail": cut(line.error), "since": line.since}
        return LineStatus.model_validate(told)

    def _meter(self, change: Change) -> MeterStatus:
        meter = self._poller.meter(change.name)
        return MeterStatus(
            meter=meter.meter,
            line=meter.line,
            health=change.health,
            since=meter.since,
            last_reading_at=meter.last_success,
            detail=cut(meter.error),
        )
