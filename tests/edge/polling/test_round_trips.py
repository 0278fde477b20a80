"""What a half-hourly poll costs on the line: round trips, counted with every fault script of the simulator.

A round trip is a message of ours: SNRM, AARQ, each request, each next block, RR between segments, RLRQ, DISC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.acse import Aare
from protocols.dlms.apdu.conformance import BUILT, Conformance
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.links import ServedAssociation
from protocols.simulator.faults.script import FaultScript, shipped
from tests.support.edge.half_hour import WARM, a_day, gmac, polled

pytestmark = pytest.mark.virtual_time

NEWS, NOTHING = 12, 5
"""Round trips at most with a new block, new events in two logs, and new values; and with nothing new."""


@dataclass(frozen=True, slots=True)
class More:
    """More round trips than the goal, and why; `error` is what such a meter's poll always ends in."""

    why: str
    news: int = NEWS
    nothing: int = NOTHING
    error: str | None = None


SMALL_ANSWERS = "each block of an answer is a round trip, and the meter's are small"
NO_SELECTION = "the meter gives its whole buffer, block by block, whatever is asked"
MISREAD = "the rows of another make: the poll fails where it should"
EXCEPTIONS = {
    "blocks-small": More(SMALL_ANSWERS, 70, 70),
    "blocks-from-zero": More(SMALL_ANSWERS, 20, 12),
    "reboot-in-mid-block": More(SMALL_ANSWERS, 18, 10),
    "selection-refused": More(NO_SELECTION, 20, 14),
    "selection-ignored": More(NO_SELECTION, 20, 14),
    "one-entry": More("each row is an answer of its own", 30, 25),
    "rows-missing": More("the first row wanted is asked for once more", 12, 6),
    "columns-changed": More("the first event after a firmware update: its log's columns are read", 20, 5),
    "deviation-odd": More("a clock that is not trusted moves no watermark: all is read again", 130, 110),
    "deviation-zero": More("the same, until `local_deviation` says what it means", 130, 110),
    "busy-stuck": More(MISREAD, error="meter_busy"),
    "lengths-hostile-array": More(MISREAD, nothing=6, error="end_of_octets"),
    "lengths-hostile-octets": More(MISREAD, nothing=6, error="end_of_octets"),
    "plain-data": More(MISREAD, nothing=6, error="security_failure"),
    "plain-exception": More(MISREAD, nothing=6, error="meter_refused"),
    "plain-service-error": More(MISREAD, nothing=6, error="meter_refused"),
    "refused-bare": More("no association", error="association_refused"),
    "refused-bad": More("no association", error="association_refused"),
    "refused-plain-error": More("no association", error="association_refused"),
    "silent-object": More("a time-out, a new association, a time-out", nothing=9, error="meter_silent"),
}
HDLC_ONLY = {
    "frames-small",
    "frames-of-7e",
    "llc-twice",
    "one-client-at-a-time",
    "not-ready-once",
    "not-ready-stuck",
}

HDLC_ANY = More("")
HDLC = {
    "frames-small": More("frames of 32 octets: RR after each seven", 20, 14),
    "not-ready-stuck": More("asked again and again, until patience ends", 40, 40, error="meter_silent"),
}


DLMS = {name for name in shipped() if not name.startswith("modbus-")}


@pytest.mark.parametrize("script", sorted(DLMS - HDLC_ONLY))
async def test_a_half_hourly_poll_takes_few_round_trips_whatever_the_meter_does(script: str) -> None:
    more = EXCEPTIONS.get(script, More(""))
    async with polled(script) as p:
        for _ in range(WARM):
            await p.poll()
            p.pass_time()
        p.happens(3, 4)
        report, news = await p.poll()
        assert report.error_code == more.error, report.error
        again, nothing = await p.poll()
        assert again.error_code == more.error
        assert (news.trips <= more.news, nothing.trips <= more.nothing) == (True, True), (news, nothing)


@pytest.mark.parametrize(
    ("framing", "name", "trips"), [("wrapper", "hls2", 8), ("wrapper", "gmac", 8), ("hdlc", "hls2", 12)]
)
async def test_what_a_half_hour_takes_with_the_default_schedule(framing: str, name: str, trips: int) -> None:
    """Two polls: 68 round trips and 6,480 octets on the wrapper before layouts, lists and marks were used."""
    changes = gmac() if name == "gmac" else {}
    async with polled(FaultScript(), framing, **changes) as p:
        costs = await a_day(p, 8)
    assert sorted(cost.trips for cost in costs)[-2] <= trips, costs
    assert sum(cost.octets for cost in costs) / len(costs) <= 3_500


class Holds:
    """A conversation of a meter that lets go of an association at RLRQ alone, and else refuses the next."""

    held = False

    def __init__(self, inner: ServedAssociation) -> None:
        self.inner = inner

    def handle(self, octets: bytes) -> list[bytes]:
        match octets[0]:
            case 0x60 if Holds.held:
                Holds.held = False  # its own time is over before the next poll
                return [acse.encode_aare(Aare(result=acse.REJECTED, diagnostic=acse.DIAGNOSTIC_FAILURE))]
            case 0x60:
                Holds.held = True
            case 0x62:
                Holds.held = False
        return self.inner.handle(octets)


async def test_a_meter_that_wants_rlrq_gets_it_after_its_first_refusal() -> None:
    async with polled(FaultScript(), "hdlc") as p:
        meter = p.site.meter
        true = meter.associate

        def associate(client: int, settings: ServerSettings) -> ServedAssociation:
            inner = true(client, settings)
            return Holds(inner) if client == p.site.settings.client else inner

        object.__setattr__(meter, "associate", associate)
        outcomes = []
        for _ in range(5):
            report, _ = await p.poll()
            outcomes.append(report.error_code)
            p.pass_time()
        assert outcomes == [None, "association_refused", None, None, None]
        p.forget()
        report, _ = await p.poll()
        assert report.ok, "also after a restart"


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_no_half_hourly_poll_of_two_days_takes_more_than_the_goal_nor_one_after_a_restart(
    framing: str,
) -> None:
    """Nameplate, layouts and every event log are looked at in these days, whatever has no news."""
    async with polled(FaultScript(), framing) as p:
        costs = []
        for number in range(WARM + 96):
            report, cost = await p.poll()
            assert report.ok, report.error
            costs.append(cost.trips)
            p.pass_time()
            if number % 30 == 20:
                p.forget()
        assert max(costs[WARM:]) <= NEWS, costs
        usual = sorted(costs)[len(costs) // 2]
        assert usual <= NOTHING, costs


async def test_a_meter_without_lists_takes_one_for_each_attribute() -> None:
    without = BUILT & ~(Conformance.MULTIPLE_REFERENCES | Conformance.ACCESS)
    async with polled(FaultScript(), granted=without) as p:
        costs = []
        for _ in range(WARM + 3):
            report, cost = await p.poll()
            assert report.ok, report.error
            p.pass_time()
            costs.append(cost.trips)
    assert costs[-1] <= 30, "a stated exception"


@pytest.mark.parametrize("script", sorted(HDLC_ONLY))
async def test_what_only_hdlc_knows_takes_few_round_trips_too(script: str) -> None:
    more = HDLC.get(script, HDLC_ANY)
    async with polled(script, "hdlc") as p:
        for _ in range(WARM):
            await p.poll()
            p.pass_time()
        p.happens(3)
        report, news = await p.poll()
        assert report.error_code == more.error, report.error
        p.pass_time(timedelta(minutes=1))  # a line on which something went wrong is quiet for a moment
        _, nothing = await p.poll()
        assert (news.trips <= more.news, nothing.trips <= more.nothing) == (True, True), (news, nothing)
