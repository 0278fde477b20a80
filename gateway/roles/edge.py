"""The edge put together: lines, journal, poller, deliveries, and what it tells of itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway.config.file import Config
from gateway.config.keys import KeysSection
from gateway.contract.messages import Status
from gateway.edge.journal.journal import Journal
from gateway.edge.keys.link import KeysLink, box_key
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.doors import Doors
from gateway.edge.polling.known_meters import KnownMeters
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.push.counters import PushCounters
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.sinks.acknowledgements import Acknowledgements
from gateway.edge.sinks.batching import BatchLimits
from gateway.edge.sinks.carried import CarriedLife
from gateway.edge.sinks.link import EdgeLink
from gateway.edge.sinks.mqtt import MqttSink
from gateway.edge.sinks.part_requests import PartRequests
from gateway.edge.sinks.read_again import ReadAgainOrders
from gateway.edge.sinks.time_requests import TimeRequests
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stored_part import HeldPart, StoredPart
from gateway.roles.admission import (
    admission_limits,
    files_needed,
    route,
    too_few_files,
)
from gateway.roles.backfill import EdgeBackfill
from gateway.roles.carried import EdgeKeeper, taken_over
from gateway.roles.clocks import clock_corrections, setter_of
from gateway.roles.edge_status import EdgeHealth, EdgeStatus
from gateway.roles.field import EdgeLender, field_server
from gateway.roles.journal import journal_limits
from gateway.roles.key_ring import key_ring
from gateway.roles.lines import make_line
from gateway.roles.live_lines import LiveLines
from gateway.roles.mqtt_settings import mqtt_settings, password
from gateway.roles.push import PushRole, pushing_meters
from gateway.roles.reach import edge_counters
from gateway.roles.reload import EdgeReload
from gateway.roles.reread import PolledRereader
from gateway.timekeeping.clock import EvidenceClock
from gateway.timekeeping.host import machine_name
from gateway.watch import Watched
from mapping.snapshot import DirectorySnapshot
from protocols.dlms.client.association_pool import AssociationPool
from protocols.line import Line
from protocols.meters.counters import FileCounters
from protocols.meters.open import open_session
from protocols.meters.secrets import FileSecrets
from protocols.modbus.belief.memories import Memories
from protocols.open_files import raise_file_limit
from protocols.reading import ProfileName
from protocols.session import Clock, SessionContext

if TYPE_CHECKING:
    from gateway.edge.influx.follow import InfluxFollower

log = structlog.get_logger("gateway.roles")


JOURNAL_STUCK = 120.0
"""Seconds that one turn of the journal's thread may take: a slow disk's commit and its housekeeping."""
LINE_STUCK = 900.0
"""Seconds that a line may be in a conversation without an octet going either way."""
SINK_STUCK = 600.0
"""Seconds that a delivery may go without a turn: longer than any of its own waits."""


class EdgeRole:
    """A running edge; made by `edge_role`."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        journal: Journal,
        counters: FileCounters,
        lines: dict[str, Line],
        file: Path | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._secrets = FileSecrets(config.secrets)
        self._counters = counters
        self.keys = key_ring(config, clock)
        context = SessionContext(secrets=self.keys, counters=counters, clock=clock)
        self.journal = journal
        self.lines = lines
        self.associations = AssociationPool()
        self.known = KnownMeters(config.edge_folder / "known.db")
        memories = Memories(self.known)
        self._files_fault = too_few_files(config, raise_file_limit(files_needed(config)))
        self._directory = StampingPart(DirectorySnapshot())
        self.follower: InfluxFollower | None = None
        if config.influx is not None:
            from gateway.roles.influx import influx_follower

            self.follower = influx_follower(config, config.influx, self._secrets)
        self.appender = appender = ReadingAppender(journal, lambda: self._directory, clock)
        pushing = pushing_meters(config, lines) if config.push is not None else []
        layouts = PushLayouts(clock, pushing)
        backfill = timedelta(days=config.schedule.backfill_days)
        self.poller = Poller(
            lines,
            polled_meters(config),
            collector=Collector(
                journal,
                appender,
                clock=clock,
                backfill=backfill,
                known=self.known,
                schedule=schedule(config),
                counted=[ProfileName(name) for name in config.schedule.gapless],
                pushing=[meter.meter for meter in config.meters if meter.push is not None],
            ),
            open_session=partial(open_session, layouts=self.known, pool=self.associations, memories=memories),
            context=context,
            schedule=schedule(config),
            pushing=layouts,
            doors=Doors(admission_limits(config)),
            corrections=clock_corrections(config, clock, self.known),
        )
        live = LiveLines(config, self.poller, lines, self._lines_changed)
        self.reloading = EdgeReload(live, config, file, self.keys, polled_meters)
        lender = EdgeLender(self.poller, self.associations, lines, live.sections, memories)
        calls = {"reload": self.reloading.reload, "backfill": EdgeBackfill(self.poller, clock).backfill}
        self.field = field_server(
            config,
            lender,
            counters=counters,
            now=clock.now,
            calls=calls,
        )
        self.push: PushRole | None = None
        if config.push is not None:
            self.push = PushRole(
                config,
                config.push,
                meters=pushing,
                layouts=layouts,
                lines=lines,
                counters=PushCounters(config.edge_folder / "push.db"),
                appender=appender,
                poller=self.poller,
                context=context,
            )
        self._carried_over = config.edge_folder / "carried-over"
        self._parts = self._part_requests(config)
        self.carried = CarriedLife(
            config.gateway.name,
            root=config.mqtt.root,
            keys=self._verify_keys(config),
            keeper=EdgeKeeper(journal, counters),
            clock=clock,
            on_complete=self._parts.begun,
        )
        if self._is_newcomer:
            self._parts.begin_anew()
        self.link = EdgeLink(
            config.gateway.name,
            root=config.mqtt.root,
            directory=self._parts,
            carried=self.carried,
            keys=self._keys_link(config),
            on_status_request=lambda: self.sink.reporter.want_listing(),
            acknowledgements=Acknowledgements(
                self._verify_keys(config), frozenset(config.journal.ack_consumers)
            ),
            limits=_limits(config),
            time=self._time_requests(config),
            read_again=ReadAgainOrders(
                config.gateway.name,
                root=config.mqtt.root,
                keys=self._verify_keys(config),
                rereader=PolledRereader(journal, self.poller),
                furthest=backfill,
                clock=clock,
            ),
        )
        self.sink = MqttSink(
            mqtt_settings(config.mqtt, f"{config.gateway.name}-edge"),
            config.gateway.name,
            status=self.status,
            health=EdgeHealth(self.poller),
            password=password(config),
            partners=[self.link],
            limits=_limits(config),
        )

    def status(self) -> Status:
        """Tell how this edge is."""
        return EdgeStatus(
            gateway=self._config.gateway.name,
            clock=self._clock,
            journal=self.journal,
            poller=self.poller,
            link=self.link,
            told=self.sink.reporter.statistics,
            refusals=self.sink.refusals,
            follower=self.follower,
            push=self.push,
            field=self.field,
            reload_fault=self.reloading.fault,
            files_fault=self._files_fault,
            doubted_counters=self._counters.doubted,
        ).summary()

    @property
    def directory(self) -> DirectorySnapshot:
        """The part of the directory that stamps now."""
        return self._directory.snapshot

    @property
    def judged_clock(self) -> EvidenceClock | None:
        """The clock with its evidence; None where the configuration declares or simulates the time."""
        return self._clock if isinstance(self._clock, EvidenceClock) else None

    async def load(self) -> None:
        """Take the stored part of the directory, so that stamping does not wait for central."""
        await self.link.load()

    async def run(self) -> None:
        """Poll, listen and deliver until cancelled."""
        if self.push is not None:
            await self.push.start()
        await self.field.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            if self.push is not None:
                group.create_task(self.push.run())
            self.deliver(group)

    def watched(self) -> list[Watched]:
        """Return what systemd's watchdog is fed by: the journal's thread, each line, each delivery."""
        parts = [
            Watched("journal", lambda: self.journal.turns, JOURNAL_STUCK),
            Watched("mqtt", lambda: self.sink.turns, SINK_STUCK),
        ]
        if (follower := self.follower) is not None:
            parts.append(Watched("influx", lambda: follower.busy, SINK_STUCK))
        parts += [Watched(f"line {n}", partial(self.poller.busy, n), LINE_STUCK) for n in self.lines]
        return parts

    def _lines_changed(self, config: Config) -> None:
        self._files_fault = too_few_files(config, raise_file_limit(files_needed(config)))
        self.sink.reporter.want_listing()  # changes do not tell of what is gone

    @property
    def _is_newcomer(self) -> bool:
        """Whether this box takes the place of another, of which central has not told yet."""
        return self._config.gateway.replacement and not self._carried_over.exists()

    async def _poll(self) -> None:
        if self._is_newcomer:
            log.warning("waits_for_central", why="this box replaces another, whose counters central knows")
            await self.carried.complete.wait()
            await asyncio.to_thread(self._carried_over.touch)
        await self.poller.run()

    def deliver(self, group: asyncio.TaskGroup) -> None:
        """Start the deliveries alone."""
        group.create_task(self.sink.run(self.journal))
        if self.follower is not None:
            group.create_task(self.follower.run(self.journal))

    async def _take_directory(self, part: HeldPart) -> None:
        assert part.rows is not None
        text = part.rows.text()
        snapshot = await asyncio.to_thread(DirectorySnapshot.from_json, text)
        if moved := await taken_over(self._directory.epochs, part.epochs, self.journal):
            # Central knows how far they were read: what the gateway before us left is read from there.
            log.info("meters_taken_over", count=len(moved), first=moved[0])
            self._parts.begin_anew()
        self._directory = StampingPart(snapshot, part.generation, part.epochs)
        log.info("directory_applied", version=snapshot.version)
        if self.follower is not None:
            self.follower.directory_changed(snapshot)

    def _verify_keys(self, config: Config) -> tuple[bytes, ...]:
        return tuple(map(self._secrets.secret, config.directory.verify_refs()))

    def _part_requests(self, config: Config) -> PartRequests:
        return PartRequests(
            config.gateway.name,
            root=config.mqtt.root,
            stored=StoredPart(config.edge_folder, config.gateway.name, self._verify_keys(config)),
            apply=self._take_directory,
            clock=self._clock,
        )

    def _keys_link(self, config: Config) -> KeysLink | None:
        """Return who talks with central about meters' keys; nobody where the configuration says nothing of them."""
        keys = self._verify_keys(config)
        if not keys or config.keys == KeysSection():
            return None
        return KeysLink(
            config.gateway.name,
            root=config.mqtt.root,
            keys=keys,
            ring=self.keys,
            private=box_key(config.edge_folder),
            clock=self._clock,
        )

    def _time_requests(self, config: Config) -> TimeRequests | None:
        """Return who asks central for the time; nobody where the clock is not judged, or central cannot be."""
        keys = self._verify_keys(config)
        if not keys or not isinstance(self._clock, EvidenceClock):
            return None
        return TimeRequests(
            config.gateway.name,
            root=config.mqtt.root,
            keys=keys,
            clock=self._clock,
            host=machine_name(),
        )


@asynccontextmanager
async def edge_role(config: Config, clock: Clock, file: Path | None = None) -> AsyncIterator[EdgeRole]:
    """Open journal, counters and lines; close them in order when the block ends.

    `file` is where `config` was read, and is read anew on `reload`.
    """
    folder = config.edge_folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    journal = await Journal.open(
        folder / "journal.db", clock=clock, limits=journal_limits(config), gateway=config.gateway.name
    )
    counters = FileCounters(edge_counters(config))
    lines = {section.name: make_line(section) for section in config.lines}
    role: EdgeRole | None = None
    try:
        role = EdgeRole(config, clock=clock, journal=journal, counters=counters, lines=lines, file=file)
        await role.load()
        try:
            yield role
        finally:
            await role.field.close()
            await role.associations.close()
    finally:
        if role is not None:
            role.known.close()
            if role.push is not None:
                await role.push.close()
            role.keys.close()
        for line in lines.values():
            await line.close()
        await journal.close()
        counters.close()


def polled_meters(config: Config) -> list[PolledMeter]:
    """Return the poller's view of the meters."""
    routes = {line.name: route(line) for line in config.lines}
    return [
        PolledMeter(
            meter=meter.meter,
            line=meter.line,
            spec=config.spec(meter, config.gateway.name),
            profiles=meter.profiles,
            route=routes[meter.line],
            setter=setter_of(config, meter),
        )
        for meter in config.meters
    ]


def schedule(config: Config) -> Schedule:
    """Return the poller's view of the schedule."""
    section = config.schedule
    periods = {name: timedelta(seconds=getattr(section, name.value)) for name in ProfileName}
    return Schedule(periods=periods, spread=timedelta(seconds=section.spread))


def _limits(config: Config) -> BatchLimits:
    return BatchLimits(count=config.mqtt.batch_count, size=config.mqtt.batch_bytes, age=config.mqtt.batch_age)
