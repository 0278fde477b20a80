"""The edge's journal as the configuration wants it, and what its bounds should be for the configured meters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gateway.config.file import Config
from gateway.config.influx import InfluxSection
from gateway.contract.messages import FormerJournal
from gateway.edge.journal.captures import CAPTURE_OCTETS
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import FullPolicy, JournalLimits
from gateway.edge.polling.collect import PRESENT_MEMORY, STORED
from gateway.edge.polling.profile_reading import OVERLAP
from gateway.edge.sinks.base import MQTT_SINK
from protocols.reading import ProfileName

ENTRY_OCTETS = 500
"""Octets of a capture where no journal is there to be measured: a set of 8 values alone in its block is 390."""
ENTRY_ROW = 40
"""Octets of an entry beside its body."""
STORED_PER_DAY = {
    ProfileName.BLOCK_LOAD: 48.0,
    ProfileName.DAILY: 1.0,
    ProfileName.BILLING: 1 / 30,
    ProfileName.EVENTS: 2.0,
}
"""Rows that a meter stores in a day (IS 15959: a block each 30 minutes), however often it is asked."""


def journal_limits(config: Config) -> JournalLimits:
    """Return the journal's view of its section."""
    section = config.journal
    sinks = [MQTT_SINK]
    if config.influx is not None:
        from gateway.edge.influx.sink import SINK as INFLUX

        sinks.append(INFLUX)
    return JournalLimits(
        max_bytes=section.max_bytes,
        max_capture_bytes=section.max_capture_bytes,
        retention=timedelta(days=section.retention_days),
        policy=FullPolicy(section.policy),
        consumers=section.ack_consumers if section.billing_acks else (),
        sinks=tuple(sinks),
        memory=capture_memory(config),
        reserve=True,
    )


def former_journals(journal: Journal) -> tuple[FormerJournal, ...]:
    """Return where former runs and uuids of the journal ended, as the status tells it."""
    return tuple(
        FormerJournal(journal=end.journal, generation=end.generation, last_seq=end.last_seq)
        for end in journal.former
    )


def capture_memory(config: Config) -> dict[str, timedelta]:
    """Return, by profile, how far below now and its watermark a read may go; the longest under ""."""
    backfill = timedelta(days=config.schedule.backfill_days)
    memory = {profile.value: PRESENT_MEMORY for profile in ProfileName}
    memory |= {profile.value: backfill + OVERLAP[profile] + timedelta(days=1) for profile in STORED}
    return memory | {"": max(memory.values())}


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalNeeds:
    """What the configured meters need: captures a day, octets of the retention floor and of the capture list."""

    captures_per_day: int
    floor_bytes: int
    list_bytes: int
    influx_lag: int | None = None

    def warnings(self, config: Config) -> list[str]:
        """Return what is configured too small."""
        section, found = config.journal, list[str]()
        if section.max_bytes < self.floor_bytes:
            found.append(
                f"[journal] max_bytes = {section.max_bytes} holds about"
                f" {section.max_bytes * section.retention_days // self.floor_bytes} of the"
                f" {section.retention_days} days of retention_days: {self.floor_bytes} would hold all of them"
            )
        if section.max_capture_bytes < self.list_bytes:
            found.append(
                f"[journal] max_capture_bytes = {section.max_capture_bytes} is less than the list of captures"
                f" needs for the meters' memory: {self.list_bytes}"
            )
        lag = self.influx_lag
        if config.influx is not None and lag is not None and lag < config.influx.max_lag:
            found.append(
                f"[influx] max_lag = {config.influx.max_lag} entries are more than half of [journal] max_bytes:"
                f" while InfluxDB is away {lag} are kept for it, and older ones are never written there"
            )
        return found


def journal_needs(config: Config, entry_octets: int = ENTRY_OCTETS) -> JournalNeeds:
    """Return what the journal needs: captures per meter and day by schedule x octets per entry x days."""
    memory = capture_memory(config)
    per_day = dict.fromkeys(ProfileName, 0.0)
    for meter in config.meters:
        for profile in meter.profiles:
            per_day[profile] += captures_per_day(config, profile)
    total = sum(per_day.values())
    listed = sum(count * (memory[profile.value] / timedelta(days=1)) for profile, count in per_day.items())
    return JournalNeeds(
        captures_per_day=round(total),
        floor_bytes=round(total * entry_octets * config.journal.retention_days),
        list_bytes=round(listed * CAPTURE_OCTETS),
        influx_lag=None if config.influx is None else influx_lag(config, config.influx, entry_octets),
    )


def influx_lag(config: Config, section: InfluxSection, entry_octets: int = ENTRY_OCTETS) -> int:
    """Return how many entries are kept for an InfluxDB that is away: never more than half of the journal."""
    return min(section.max_lag, config.journal.max_bytes // 2 // entry_octets)


def captures_per_day(config: Config, profile: ProfileName) -> float:
    """Return the captures of one meter in a day: what it stores, or how often it is read."""
    stored = STORED_PER_DAY.get(profile)
    return stored if stored is not None else 86_400 / int(getattr(config.schedule, profile.value))
