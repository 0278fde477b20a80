"""A simulated meter with a fault script, polled by the edge's own poller in virtual time; every message is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from gateway.edge.polling.collect import Collector
from gateway.edge.polling.health import MeterReport
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.push.layouts import PushLayouts
from protocols.dlms.apdu.conformance import BUILT, Conformance
from protocols.dlms.client.association_pool import AssociationPool
from protocols.dlms.profile.layouts import EVENT_LOG_STEP
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.model import AssociationPolicy
from protocols.meters.open import open_session
from protocols.reading import ProfileName
from protocols.session import Auth, DlmsSettings, MeterSpec, SessionContext
from protocols.simulator.faults.script import FaultScript
from tests.support.dlms.trap_site import SECRETS, TrapSite, site
from tests.support.edge.memory_journal import MemoryJournal
from tests.support.fakes import Secrets

METER = "GEN:10000001"
HALF_HOUR = timedelta(minutes=30)
PRESENT = (ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT)
WARM = 3
"""Polls after which everything is known that a meter shows once."""
INFO, WINDOW = 1024, 7
"""HDLC information field and window that client and meter agree on."""
POLLED = (
    ProfileName.INSTANTANEOUS,
    ProfileName.BLOCK_LOAD,
    ProfileName.PREPAYMENT,
    ProfileName.EVENTS,
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one poll took on the line."""

    trips: int
    octets: int


@dataclass
class PolledSite:
    """The meter, and the poller before it."""

    site: TrapSite
    poller: Poller
    journal: MemoryJournal
    make_poller: Callable[[], Poller]

    async def poll(self, profiles: Sequence[ProfileName] = POLLED) -> tuple[MeterReport, Cost]:
        """Poll once; return its report and what it took."""
        before = self.site.line.statistics()
        report = await self.poller.poll_meter(METER, profiles)
        after = self.site.line.statistics()
        octets = after.sent + after.received - before.sent - before.received
        return report, Cost(after.sends - before.sends, octets)

    def pass_time(self, by: timedelta = HALF_HOUR) -> None:
        """Let the meter's and the gateway's time pass."""
        self.site.clock.advance(by)

    def happens(self, *logs: int) -> None:
        """Let an event come into each of these logs, a minute ago."""
        at = self.site.clock.now() - timedelta(minutes=1)
        for log in logs:
            self.site.household.log_event(log, {1: 51, 3: 152, 4: 201}[log], at)

    def missing_events(self) -> int:
        """Count the events that the meter holds and the journal does not."""
        now = self.site.clock.now()
        home = self.site.household
        held = {(row.at, row.log) for row in home.event_rows(home.history_from, now)}
        here = {
            (at, occurrence // EVENT_LOG_STEP)
            for _, profile, at, occurrence in self.journal.rows
            if profile == ProfileName.EVENTS
        }
        return len(held - here)

    async def all_events_are_here(self) -> None:
        """Poll the event logs, and assert that nothing of them is missing after."""
        report, _ = await self.poll((ProfileName.EVENTS,))
        assert report.ok, report.error
        assert self.missing_events() == 0

    def forget(self) -> None:
        """Let the gateway begin anew: what is not durable is gone."""
        self.poller = self.make_poller()


def gmac() -> dict[str, Any]:
    """Return the settings, and the policy of the meter, that prove both sides by HLS-GMAC."""
    policy = AssociationPolicy(
        auth=Auth.HLS_GMAC,
        ciphered=True,
        encryption_key=SECRETS["ek"],
        authentication_key=SECRETS["ak"],
        may_write=True,
    )
    return {"extra": {48: policy}, "auth": Auth.HLS_GMAC, "password_ref": None}


async def a_day(p: PolledSite, half_hours: int = 48) -> list[Cost]:
    """Let a meter be polled as the default schedule does; return what each half hour takes once all is known.

    Each has a poll at its beginning and one of the present values in its middle.
    """
    costs = []
    for number in range(WARM + half_hours):
        whole, half = [await _timed(p, profiles) for profiles in (POLLED, PRESENT)]
        if number >= WARM:
            costs.append(Cost(whole.trips + half.trips, whole.octets + half.octets))
    return costs


async def _timed(p: PolledSite, profiles: Sequence[ProfileName]) -> Cost:
    report, cost = await p.poll(profiles)
    assert report.ok, report.error
    p.pass_time(HALF_HOUR / 2)
    return cost


@asynccontextmanager
async def polled(
    script: str | FaultScript,
    framing: str = "wrapper",
    *,
    extra: Mapping[int, AssociationPolicy] | None = None,
    granted: Conformance = BUILT,
    pool: AssociationPool | None = None,
    **changes: Any,
) -> AsyncIterator[PolledSite]:
    """Serve a meter with a script, and make a poller for it; `changes` are of its DLMS settings.

    The meter grants the services of `granted`; associations stay open in `pool`, if one is given.
    """
    limits = ServerSettings(max_info=INFO, window=WINDOW, conformance=granted)
    async with site(script, framing, extra=extra, limits=limits) as meter:
        if framing == "hdlc":
            changes = {"max_info": INFO, "window": WINDOW, **changes}
        values = {n: getattr(meter.settings, n) for n in meter.settings.__dataclass_fields__}
        spec = MeterSpec(meter=METER, dlms=DlmsSettings(**(values | changes)))
        journal: Any = MemoryJournal()

        def make_poller() -> Poller:
            return Poller(
                {"trap": meter.line},
                [PolledMeter(meter=METER, line="trap", spec=spec, profiles=tuple(ProfileName))],
                collector=Collector(journal, journal, clock=meter.clock, known=meter.layouts),
                open_session=partial(open_session, layouts=meter.layouts, pool=pool),
                context=SessionContext(secrets=Secrets(SECRETS), counters=meter.counters, clock=meter.clock),
                schedule=Schedule(),
                pushing=PushLayouts(meter.clock),
            )

        yield PolledSite(meter, make_poller(), journal, make_poller)
