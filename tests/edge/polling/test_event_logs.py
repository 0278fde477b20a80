"""Event logs are read when they may have news: whatever happens to a meter, every event comes into the journal."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.edge.polling.event_logs import READ_AFTER, READ_WITHIN, EventLogs
from gateway.errors import JournalError
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data, double_long_unsigned
from protocols.event_marks import EventMarks, EventNews, LogMark
from protocols.known import Known
from protocols.reading import Obis, ProfileName
from protocols.simulator.faults.script import FaultScript
from tests.support.dlms.trap_site import NOW
from tests.support.edge.half_hour import METER, polled
from tests.support.virtual_time import VirtualTimeLoop

LOG = Obis(0, 0, 99, 98, 3)
EVENTS = (ProfileName.EVENTS,)


def one(**mark: Any) -> EventMarks:
    return EventMarks(logs={LOG: LogMark(**mark)})


def test_a_log_is_quiet_only_where_its_own_mark_must_have_told() -> None:
    for mark in (one(entries=4, capacity=200), one(sequence=9), one(entries=200, capacity=200, sequence=9)):
        assert mark.quiet_since(mark) == {LOG}
        assert mark.quiet_since(None) == frozenset()
    for says_nothing in (
        one(entries=200, capacity=200),
        one(entries=4),
        one(),
        one(entries=201, capacity=200),
    ):
        assert says_nothing.quiet_since(says_nothing) == frozenset()
    assert one(entries=5, capacity=200).quiet_since(one(entries=4, capacity=200)) == frozenset()
    assert (
        one(entries=200, capacity=200, sequence=10).quiet_since(one(entries=200, capacity=200, sequence=9))
        == frozenset()
    ), "a full log shows by its numbers"
    assert one(sequence=9).quiet_since(one(entries=4, capacity=200)) == frozenset(), "another kind of word"
    assert one(absent=True).quiet_since(one(absent=True)) == {LOG}


def test_a_status_word_that_no_log_explains_lets_every_log_be_read() -> None:
    quiet = {LOG: LogMark(entries=4, capacity=200)}
    before = EventMarks(logs=quiet, words={"esw": "0010", "tampers": 3})
    assert EventMarks(logs=quiet, words={"esw": "0000", "tampers": 3}).quiet_since(before) == {LOG}
    alarms: list[dict[str, int | str]] = [
        {"esw": "0011", "tampers": 3},
        {"esw": "0010", "tampers": 4},
        {"esw": 1, "tampers": 3},
    ]
    for words in alarms:
        assert EventMarks(logs=quiet, words=words).quiet_since(before) == frozenset(), words
    other = Obis(0, 0, 99, 98, 1)
    both = {**quiet, other: LogMark(entries=1, capacity=200)}
    explained = EventMarks(
        logs={**quiet, other: LogMark(entries=2, capacity=200)}, words={"esw": "0011", "tampers": 3}
    )
    assert explained.quiet_since(EventMarks(logs=both, words=before.words)) == {LOG}


def test_each_log_is_read_daily_one_at_a_visit_and_a_meter_that_lied_is_not_believed_again() -> None:
    other = Obis(0, 0, 99, 98, 1)
    kept: Known = {}
    mark = LogMark(entries=4, capacity=200)
    marks = EventMarks(logs={LOG: mark, other: mark})
    logs = EventLogs(kept)
    assert logs.seen(METER, "j", NOW) is None
    assert not logs.took(METER, "j", EventNews(marks=marks), NOW, new=9)
    assert EventLogs(kept).seen(METER, "j", NOW + READ_AFTER - timedelta(seconds=1)) == marks, (
        "after a restart"
    )
    assert EventLogs(kept).seen(METER, "another", NOW) is None, "what another journal had counts for nothing"
    turn = NOW + READ_AFTER
    seen = logs.seen(METER, "j", turn)
    assert seen is not None
    assert list(seen.logs) == [other], "one at a visit"
    assert seen.quiet_since(seen) == {other}
    quiet = EventNews(marks=marks, quiet=frozenset({other}))
    assert logs.complete(METER, "j", quiet, turn) == NOW
    assert not logs.took(METER, "j", quiet, turn, new=0)
    seen = logs.seen(METER, "j", turn)
    assert seen is not None
    assert list(seen.logs) == [LOG], "then the next"
    late = logs.seen(METER, "j", turn + READ_WITHIN)
    assert late == EventMarks(words={}), "all that waited too long at once"
    back = logs.seen(METER, "j", NOW - timedelta(hours=1))
    assert back == EventMarks(words={}), "our clock was set back"
    assert logs.took(METER, "j", EventNews(marks=marks, quiet=frozenset({LOG})), turn, new=1)
    assert EventLogs(kept).seen(METER, "j", turn) is None


def test_a_log_read_when_nobody_knew_the_time_is_read_again_and_moves_no_watermark() -> None:
    logs, marks = EventLogs({}), one(entries=4, capacity=200)
    logs.took(METER, "j", EventNews(marks=marks), None, new=9)
    assert logs.seen(METER, "j", NOW) == EventMarks(words={})
    assert logs.complete(METER, "j", EventNews(marks=marks, quiet=frozenset({LOG})), NOW) is None
    assert logs.complete(METER, "j", EventNews(marks=marks), NOW) == NOW


def test_a_bit_that_went_and_came_again_is_news() -> None:
    logs, quiet = EventLogs({}), {LOG: LogMark(entries=4, capacity=200)}
    on, off = (EventMarks(logs=quiet, words={"esw": bits}) for bits in ("0001", "0000"))
    logs.took(METER, "j", EventNews(marks=on), NOW, new=0)
    logs.stood(METER, "j", EventNews(marks=off, quiet=frozenset({LOG})), NOW)
    assert on.quiet_since(logs.seen(METER, "j", NOW)) == frozenset()


def test_a_log_that_is_read_in_its_turn_explains_no_alarm() -> None:
    mark, other = LogMark(entries=4, capacity=200), Obis(0, 0, 99, 98, 1)
    before = EventMarks(logs={LOG: mark}, words={"tampers": 3})
    now = EventMarks(logs={LOG: mark, other: mark}, words={"tampers": 4})
    assert now.quiet_since(before) == frozenset()


# against the simulator


@dataclass
class Words:
    """What the meter says instead of the truth: numbers that stand still, by object."""

    frozen: dict[str, Data] = field(default_factory=dict)
    still: bool = False
    asked: list[str] = field(default_factory=list)

    def watch(self, model: Any) -> None:
        true = model.get

        def get(client: int, target: Target) -> Data:
            if target.class_id == 7 and (target.obis.c, target.obis.d, target.index) == (99, 98, 2):
                self.asked.append(str(target.obis))
            found: Data = true(client, target)
            told = (target.obis.c == 99 and target.index == 7) or (
                target.obis.d == 91 and target.obis.e in (0, 18)
            )
            if not (self.still and told):
                return found
            return self.frozen.setdefault(str(target), found)

        model.get = get


happenings = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from([1, 3, 4])),
        st.tuples(st.just("time"), st.integers(1, 40)),
        st.sampled_from([("poll", 0), ("fault", 0), ("full journal", 0), ("restart", 0), ("clock back", 0)]),
    ),
    min_size=4,
    max_size=24,
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(story=happenings)
def test_no_event_is_lost_whatever_happens(story: list[tuple[str, int]]) -> None:
    """The model: what the household logged and the meter still holds. After a poll that ends well all of it is here."""

    async def run() -> None:
        async with polled(FaultScript()) as p:
            for what, number in story:
                match what:
                    case "event":
                        p.happens(number)
                        p.pass_time(timedelta(seconds=61))
                    case "time":
                        p.pass_time(number * timedelta(minutes=30))
                    case "fault":
                        await p.site.line.hang_up()  # type: ignore[attr-defined]
                        p.site.counters.failures.update(p.site.counters.confirmed)
                    case "full journal":
                        p.journal.refuse = JournalError("full")
                        with suppress(JournalError):
                            await p.poll(EVENTS)
                        p.journal.refuse = None
                    case "restart":
                        p.forget()
                    case "clock back":
                        p.site.household.set_clock(drift=-40, at=p.site.clock.now())
                    case _:
                        await p.all_events_are_here()
            await p.all_events_are_here()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


@pytest.mark.virtual_time
async def test_only_logs_with_news_are_read_and_all_of_them_daily() -> None:
    async with polled(FaultScript()) as p:
        words = Words()
        words.watch(p.site.meter.household)
        await p.poll(EVENTS)
        assert len(set(words.asked)) == 7
        for happened in ((), (3,), (), (1, 4), ()):
            p.pass_time()
            p.happens(*happened)
            words.asked.clear()
            await p.poll(EVENTS)
            assert set(words.asked) == {f"0-0:99.98.{log}*255" for log in happened}
        p.pass_time(timedelta(hours=23))
        words.asked.clear()
        await p.poll(EVENTS)
        assert len(set(words.asked)) == 7, "all that waited too long"


@pytest.mark.virtual_time
async def test_half_hourly_visits_read_each_log_within_a_day_one_at_a_time() -> None:
    async with polled(FaultScript()) as p:
        words = Words()
        words.watch(p.site.meter.household)
        last: dict[str, datetime] = {}
        for visit in range(100):
            words.asked.clear()
            report, _ = await p.poll(EVENTS)
            now = p.site.clock.now()
            last |= dict.fromkeys(words.asked, now)
            if visit and not report.captures[ProfileName.EVENTS]:
                assert len(set(words.asked)) <= 1, visit
            assert now - min(last.values()) < timedelta(days=1)
            mark = await p.journal.watermark(METER, ProfileName.EVENTS)
            assert mark is not None
            assert mark <= now
            assert now - mark < timedelta(days=1), "so that no range becomes longer"
            p.pass_time()


@pytest.mark.virtual_time
async def test_events_behind_words_that_stand_still_come_within_a_day_and_then_at_once() -> None:
    async with polled(FaultScript()) as p:
        words = Words()
        words.watch(p.site.meter.household)
        await p.poll(EVENTS)
        words.still = True
        late = []
        for hour in range(30):
            p.pass_time(timedelta(hours=1))
            p.happens(3)
            await p.poll(EVENTS)
            late.append(p.missing_events())
            assert late[-1] <= 24, hour
        assert late[-1] == 0
        for _ in range(5):
            p.pass_time()
            p.happens(1)
            await p.poll(EVENTS)
            assert p.missing_events() == 0, "its words are not believed again"


@pytest.mark.virtual_time
async def test_a_full_log_without_numbers_is_read_at_every_poll() -> None:
    async with polled(FaultScript()) as p:
        words = Words()
        words.watch(p.site.meter.household)
        true = p.site.meter.household.get

        def full(client: int, target: Target) -> Data:
            if target.obis.c == 99 and target.obis.d == 98 and target.index == 7:
                return double_long_unsigned(200)
            found: Data = true(client, target)
            return found

        p.site.meter.household.get = full  # type: ignore[method-assign]
        for _ in range(4):
            words.asked.clear()
            p.happens(4)
            await p.poll(EVENTS)
            assert len(set(words.asked)) == 7
            assert p.missing_events() == 0
            p.pass_time()
