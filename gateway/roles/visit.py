"""A visit to meters: read over their lines; what they showed is journaled and delivered like any other reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway import __version__
from gateway.config.file import Config
from gateway.config.meters import MeterSection
from gateway.contract.field import field_gateway
from gateway.contract.messages import Status
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.sinks.base import MQTT_SINK
from gateway.edge.sinks.batching import BatchLimits
from gateway.edge.sinks.mqtt import MqttSink
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import Trust, stamp
from gateway.errors import UsageError
from gateway.roles.beside_edge import client_beside_edge
from gateway.roles.did_you_mean import did_you_mean
from gateway.roles.hand_over import dated
from gateway.roles.journal import former_journals
from gateway.roles.key_ring import key_ring
from gateway.roles.mqtt_settings import field_login, mqtt_settings
from gateway.roles.reach import Tell
from gateway.timekeeping.clock import doubt
from mapping.snapshot import DirectorySnapshot
from protocols.errors import IdentityMismatch
from protocols.meters.open import open_session
from protocols.reading import (
    Missing,
    MissingReason,
    Nameplate,
    Number,
    ProfileName,
    Quality,
    Quantity,
    ReadingSet,
    Value,
)
from protocols.session import Clock, SessionContext

SECONDS: Final = 30.0
"""How long a reading may take to its broker, and to central's ledger."""
ENERGY: Final = Quantity.of("1-0:1.8.0*255")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A live reading of a meter on site: `taken` at the instant `at`.

    Of a meter that cannot be read `taken` holds no number but the reason, a `Missing` energy register.
    """

    meter: str
    at: datetime
    taken: ReadingSet


class Visit:
    """One visit: its own small journal under the edge's data folder."""

    def __init__(self, config: Config, clock: Clock, journal: Journal, *, purpose: str, tell: Tell) -> None:
        self._config = config
        self._purpose = purpose
        self._tell = tell
        self._clock = clock
        self._journal = journal

    async def read(self, meter: str) -> tuple[Nameplate, Reading]:
        """Return the nameplate and the present registers, read over the line.

        Raises IdentityMismatch when another meter answers than the job's, UsageError when the configuration
        does not have the meter, and the errors of line and meter.
        """
        section = self._section(meter)
        client = client_beside_edge(self._config, section, "field")
        line = client.way.line(f"{self._purpose} {meter}", meter=meter, tell=self._tell)
        counters = client.open_counters()
        ring = key_ring(self._config, self._clock)
        try:
            context = SessionContext(secrets=ring, counters=counters, clock=self._clock)
            async with open_session(line, client.spec, context) as session:
                plate = await session.identify()
                if plate.meter_id != meter:
                    raise IdentityMismatch(expected=meter, found=plate.meter_id)
                taken = dated([r async for r in session.read(ProfileName.INSTANTANEOUS)][-1])
        finally:
            await line.close()
            counters.close()
            ring.close()
        return plate, Reading(meter=meter, at=taken.at, taken=taken)

    def unread(self, meter: str, reason: MissingReason) -> Reading:
        """Return the reading of a meter that cannot be read: null with a reason, never zero."""
        at = self._clock.now().replace(microsecond=0)
        values = ((ENERGY, Missing(reason)),)
        taken = ReadingSet(
            profile=ProfileName.INSTANTANEOUS,
            at=at,
            values=values,
            received_at=at,
            quality=Quality.KNOWN_MISSING,
        )
        return Reading(meter=meter, at=at, taken=taken)

    def now(self) -> datetime:
        """Return this computer's time."""
        return self._clock.now()

    async def journal(self, reading: Reading, directory: DirectorySnapshot) -> str:
        """Keep a reading, stamped by a directory, in the visit's journal; return its capture id."""
        part = StampingPart(directory)
        disciplined = self._clock.disciplined()
        [block] = stamp([reading.taken], reading.meter, part, lambda _: Trust(disciplined=disciplined))
        await self._journal.append(JournalBatch(blocks=(block,)))
        return block.rows[0].capture_id

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[MqttSink]:
        """Deliver what the journal holds while the block runs."""
        user, word = field_login(self._config)
        settings = mqtt_settings(self._config.mqtt, f"{self._gateway}-edge")
        sink = MqttSink(
            settings.model_copy(update={"username": user}),
            self._gateway,
            status=self._status,
            password=word,
            limits=BatchLimits(age=0.1),  # an engineer waits for it
        )
        running = asyncio.create_task(sink.run(self._journal))
        try:
            yield sink
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def send(self) -> bool:
        """Deliver what the journal holds; say whether the broker has it all within `SECONDS`."""
        async with self.delivering():
            with suppress(TimeoutError):
                async with asyncio.timeout(SECONDS):
                    while self._journal.statistics().backlog(MQTT_SINK):
                        await asyncio.sleep(0.1)
                    return True
        return False

    @property
    def _gateway(self) -> str:
        return field_gateway(self._config.gateway.name)

    def _status(self) -> Status:
        statistics = self._journal.statistics()
        return Status(
            gateway=self._gateway,
            role="visit",
            online=True,
            version=__version__,
            journal=statistics.uuid,
            generation=self._journal.generation,
            former=former_journals(self._journal),
            first_seq=statistics.first_seq,
            last_seq=statistics.last_seq,
            backlog=statistics.backlog(MQTT_SINK),
            at=self._clock.now(),
        )

    def _section(self, meter: str) -> MeterSection:
        found = next((m for m in self._config.meters if m.meter == meter), None)
        if found is None:
            known = {one.meter for one in self._config.meters}
            raise UsageError(
                f"the configuration has no meter `{meter}`.{did_you_mean(meter, known)} "
                "A new meter is added there with its line first"
            )
        return found


def energy_text(value: Value | None) -> str | None:
    """Return an energy register as an engineer writes it down; None where there is none."""
    match value:
        case Number():
            return f"{value.text()} {value.unit}".strip()
        case Missing():
            return f"missing: {value.reason}"
        case _:
            return None


@asynccontextmanager
async def opened_visit(config: Config) -> AsyncIterator[tuple[Clock, Journal]]:
    """Open the visit's journal while the block runs; UsageError while nobody can say that the clock is right."""
    folder: Path = config.gateway.data / "field"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = config.clock()
    if why := doubt(clock):
        raise UsageError(
            f"this computer's clock may be wrong ({why}), and a hand-over is dated by it: start NTP on it, or say"
            ' [time] trust = "host" after comparing it with a clock that you believe'
        )
    limits = JournalLimits(retention=timedelta(days=400))
    name = f"{config.gateway.name}-field"
    journal = await Journal.open(folder / "journal.db", clock=clock, limits=limits, gateway=name)
    try:
        yield clock, journal
    finally:
        await journal.close()
