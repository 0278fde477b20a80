"""Meters' clocks are put right by the edge itself, a little at a time, on both protocols; what is larger is told."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.edge.polling.clock_rule import ClockRule
from gateway.edge.polling.schedule import PolledMeter
from protocols.line import Line
from protocols.reading import ProfileName, RemarkWord
from tests.support.edge.own_clock import PERIOD, LoggingMeter, OwnClock, dlms_meter, modbus_spec, put_logger
from tests.support.edge.polled_meters import Polled, polled
from tests.support.journal_records import captures_of
from tests.support.modbus.far_side import far_endpoint
from tests.support.modbus.raw_meters import RawMeters
from tests.support.virtual_time import VirtualClock

pytestmark = pytest.mark.virtual_time

BEGIN = datetime(2026, 11, 23, 6, 37, tzinfo=UTC)
RULE = ClockRule(least=10, most=120, step=60, margin=120)
BLOCK = ProfileName.BLOCK_LOAD


class Site:
    """A DLMS meter on a line of its own, and Modbus meters on another."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.clock = VirtualClock(BEGIN)
        self.lines: dict[str, Line] = {}
        self.meters: list[PolledMeter] = []

    async def modbus(self, *drifts: float, takes: bool = True) -> list[LoggingMeter]:
        models = put_logger(self._folder)
        meters = [
            LoggingMeter(n, f"AB00000{n}", OwnClock(self.clock, drift), takes=takes)
            for n, drift in enumerate(drifts, 1)
        ]
        self.lines["modbus"] = await self._stack.enter_async_context(far_endpoint(RawMeters(meters, "tcp")))
        for one in meters:
            spec = modbus_spec(one, models)
            self.meters.append(
                PolledMeter(meter=f"WHO:{one.serial}", line="modbus", spec=spec, profiles=(BLOCK,))
            )
        return meters

    async def poll(self, rule: ClockRule | None = RULE) -> Polled:
        return await self._stack.enter_async_context(
            polled(self._folder, self.clock, self.lines, self.meters, rule=rule)
        )


async def events(p: Polled) -> list[tuple[str, str, str | None, str | None]]:
    """Return meter, word, before and after of the events of clocks."""
    found = []
    for entry in await p.entries():
        for one in captures_of(entry):
            values = {value.name: value.text or value.value for value in one.values}
            word = values.get("gateway_event")
            if word in (RemarkWord.CLOCK_CORRECTED, RemarkWord.CLOCK_NOT_CORRECTED):
                before, after = values.get("gateway_event_before"), values.get("gateway_event_found")
                found.append((one.meter, str(word), before, after))
    return found


async def test_small_drifts_go_by_steps_once_a_day_and_large_ones_wait_for_an_order(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        site = Site(stack, tmp_path)
        fast, slow, fine, far = await site.modbus(95, -45, 6, 300)
        p = await site.poll()
        await p.run_until(BEGIN + timedelta(hours=3))
        drifts = [one.clock.drift for one in (fast, slow, fine, far)]
        assert drifts == pytest.approx([35, 0, 6, 300], abs=1.5)
        assert [len(one.sets) for one in (fast, slow, fine, far)] == [1, 1, 0, 0]
        assert {code: count for code, _, count in p.poller.clocks.alarms()} == {"clock_drift": 1}
        await p.run_until(BEGIN + timedelta(hours=28))
        assert max(abs(one.clock.drift) for one in (fast, slow)) < 2
        told = sorted(
            (meter, word, int(before or 0), int(after or 0)) for meter, word, before, after in await events(p)
        )
        assert [one[:2] for one in told] == [
            ("WHO:AB000001", "clock_corrected"),
            ("WHO:AB000001", "clock_corrected"),
            ("WHO:AB000002", "clock_corrected"),
        ]
        # Clocks show whole seconds.
        steps = [step for _, _, *step in told]
        assert steps == [pytest.approx(one, abs=1.5) for one in ([35, 0], [95, 35], [-45, 0])]
        for one in (fast, slow):
            # None twice, none left out.
            assert one.closed == [one.closed[0] + n * PERIOD for n in range(len(one.closed))]
        outcomes = [outcome for meter, *_, outcome in p.told if meter == "WHO:AB000002"]
        assert outcomes == ["begun", "done"]
        statistics = p.poller.statistics()
        assert (statistics.clocks_off, statistics.clocks_corrected, statistics.clocks_not_corrected) == (
            1,
            3,
            0,
        )


async def test_a_dlms_meter_is_corrected_as_it_writes_its_time_itself(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        site = Site(stack, tmp_path)
        meter = await stack.enter_async_context(dlms_meter("10000001", site.clock, BEGIN - timedelta(days=2)))
        meter.home.set_clock_drift(-47)
        site.lines["dlms"] = meter.line
        site.meters.append(PolledMeter(meter="GEN:10000001", line="dlms", spec=meter.spec, profiles=(BLOCK,)))
        p = await site.poll()
        await p.run_until(BEGIN + timedelta(hours=3))
        assert abs(meter.home.state(site.clock.now()).clock_drift_s) <= 1
        assert [(word, before) for _, word, before, _ in await events(p)] == [("clock_corrected", "-47")]


async def test_without_the_section_no_clock_is_moved_and_a_large_drift_is_told(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        site = Site(stack, tmp_path)
        near, far = await site.modbus(40, 70)
        p = await site.poll(None)
        await p.run_until(BEGIN + timedelta(hours=3))
        assert near.sets == far.sets == []
        assert [text for _, text, _ in p.poller.clocks.alarms()] == [
            "clocks of meters are off: WHO:AB000002 +70 s"
        ]


async def test_a_meter_that_does_not_take_it_is_told_and_left_alone(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        site = Site(stack, tmp_path)
        (meter,) = await site.modbus(40, takes=False)
        p = await site.poll()
        await p.run_until(BEGIN + timedelta(hours=26))
        assert [word for _, word, *_ in await events(p)] == ["clock_not_corrected"]
        assert [code for code, *_ in p.poller.clocks.alarms()] == ["clock_not_corrected"]
        assert p.poller.meter("WHO:AB000001").state == "ok"
        # Somebody sets it: nothing is wrong any more.
        meter.set_clock(site.clock.now())
        await p.run_until(BEGIN + timedelta(hours=28))
        assert list(p.poller.clocks.alarms()) == []


async def test_a_host_that_is_not_shown_to_be_right_corrects_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        site = Site(stack, tmp_path)
        (meter,) = await site.modbus(40)
        site.clock.disciplined = lambda: False  # type: ignore[method-assign]
        p = await site.poll()
        await p.run_until(BEGIN + timedelta(hours=3))
        assert meter.sets == []
        assert p.told == []
