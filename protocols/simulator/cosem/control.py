"""What orders go to in a simulated Indian meter: clock, relay, limiter, money, calendars, schedules, scripts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from protocols.clock import NowSource
from protocols.dlms.companion import PrepaymentItem, companion
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    boolean,
    double_long,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.server.model import OTHER_REASON, TYPE_UNMATCHED, AccessDenied
from protocols.reading import Obis
from protocols.simulator.cosem.image import IMAGE_SCHEDULE
from protocols.simulator.cosem.meter import Build, MeterObjects
from protocols.simulator.cosem.objects import Memory, Served, constant, data_object, live
from protocols.simulator.cosem.rows import LOAD_LIMIT_W, instant, stamp
from protocols.simulator.household.daybook import ZONE_STARTS
from protocols.simulator.household.events import OTHER_LOG, TRANSACTION_LOG
from protocols.simulator.household.household import Household

CLOCK_OBIS = Obis(0, 0, 1, 0, 0)
RELAY_OBIS = Obis(0, 0, 96, 3, 10)
LIMITER_OBIS = Obis(0, 0, 17, 0, 0)
CALENDAR_OBIS = Obis(0, 0, 13, 0, 0)
SPECIAL_DAYS_OBIS = Obis(0, 0, 11, 0, 0)
RESET_SCRIPTS = Obis(0, 0, 10, 0, 1)
BILLING_SCHEDULE, PUSH_SCHEDULE = Obis(0, 0, 15, 0, 0), Obis(0, 0, 15, 0, 4)
PUSH_SCRIPTS = Obis(0, 0, 10, 0, 108)
MESSAGES = (Obis(0, 0, 96, 13, 0), Obis(0, 0, 96, 13, 1))
HDLC_SETUP = Obis(0, 0, 22, 0, 0)
MAX_SPECIAL_DAYS = 64
_EVENTS = {BILLING_SCHEDULE: 154, CALENDAR_OBIS: 155, HDLC_SETUP: 156, LIMITER_OBIS: 158, IMAGE_SCHEDULE: 169}
_LIMIT_ON, _LIMIT_OFF, _METERING_MODE, _POSTPAID, _PREPAID = 159, 160, 167, 211, 212
_MAX_DRIFT_S = 50 * 366 * 86_400
_SECOND = timedelta(seconds=1)
_DISCONNECTED, _CONNECTED = 0, 1
_LIMIT_ENABLED = 4
"""control_mode of class 70: Indian meters write 4 for load limit on and 0 for off."""
_MONTHLY = bytes.fromhex("FFFFFF01FF")
_MIDNIGHT = bytes(4)
_EVERY_DAY = bytes.fromhex("FFFFFFFFFF")


class ControlObjects:
    """Builds these objects; `objects` has them by name."""

    def __init__(
        self, household: Household, clock: NowSource, build: Build, memory: Memory, meter: MeterObjects
    ) -> None:
        self._home = household
        self._clock = clock
        self._memory = memory
        self._meter = meter
        self.objects: dict[Obis, Served] = {CLOCK_OBIS: self._clock_object()}
        if build.kind.relay:
            self.objects[RELAY_OBIS] = self._relay_object()
            self.objects[LIMITER_OBIS] = self._limiter()
        self._add_prepayment(build.older_prepayment)
        self._add_schedules()
        if build.physical is not None:
            self.objects[HDLC_SETUP] = self._hdlc_setup(build.physical)
        for obis in MESSAGES:
            self.objects[obis] = self._kept(1, obis, {2: octets(b"")}, writable=(2,))

    def _now(self) -> datetime:
        return self._clock.now()

    def _note(self, code: int, *_: object, log: int = TRANSACTION_LOG) -> None:
        self._home.log_event(log, code, self._now())

    def _kept(
        self,
        class_id: int,
        obis: Obis,
        first: dict[int, Data],
        *,
        writable: tuple[int, ...] = (),
        then: Callable[[Data], None] | None = None,
    ) -> Served:
        """Serve an object whose attributes are what was written into them."""
        memory = self._memory
        return Served(
            class_id,
            {n: memory.reader(obis, n, value) for n, value in first.items()},
            {n: memory.writer(obis, n, first[n], then) for n in writable},
        )

    # clock

    def _clock_object(self) -> Served:
        return Served(
            8,
            {
                2: live(lambda: octets(stamp(self._meter_time()))),
                3: constant(Data(Tag.LONG, 330)),
                4: constant(unsigned(0)),
                5: constant(octets(b"\xff" * 12)),
                6: constant(octets(b"\xff" * 12)),
                7: constant(integer(0)),
                8: constant(boolean(False)),
                9: constant(enum(1)),
            },
            {2: self._set_clock},
            {
                1: partial(self._round_clock, 900),
                2: partial(self._round_clock, 1800),
                3: partial(self._round_clock, 60),
                6: self._shift_clock,
            },
        )

    def _meter_time(self) -> datetime:
        now = self._now()
        return now + timedelta(seconds=self._home.state(now).clock_drift_s)

    def _set_clock(self, value: Data) -> None:
        wanted = instant(value.octets or b"")
        if value.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME) or wanted is None:
            raise AccessDenied(TYPE_UNMATCHED)
        self._move_clock(wanted)

    def _move_clock(self, wanted: datetime) -> None:
        now = self._now()
        drift = (wanted - now) // _SECOND if wanted >= now else -((now - wanted) // _SECOND)
        if abs(drift) > _MAX_DRIFT_S:
            raise AccessDenied(OTHER_REASON)
        self._home.set_clock(drift=drift, at=now)

    def _round_clock(self, seconds: int, _parameter: Data | None) -> None:
        """Set the clock to the nearest multiple (adjust_to_quarter, …_measuring_period, …_minute)."""
        shown = self._meter_time()
        over = timedelta(seconds=int(shown.timestamp()) % seconds, microseconds=shown.microsecond)
        up = over * 2 >= timedelta(seconds=seconds)
        self._move_clock(shown - over + timedelta(seconds=seconds if up else 0))

    def _shift_clock(self, parameter: Data | None) -> None:
        seconds = None if parameter is None else parameter.integer
        if seconds is None or not -900 <= seconds <= 900:
            raise AccessDenied(TYPE_UNMATCHED)
        self._move_clock(self._meter_time() + timedelta(seconds=seconds))

    # relay and limit

    def _relay_object(self) -> Served:
        mode = enum(_LIMIT_ENABLED)

        def closed() -> bool:
            return self._home.state(self._now()).relay_closed

        def move(to: bool, _parameter: Data | None) -> None:
            self._home.switch_relay(closed=to, at=self._now())

        return Served(
            70,
            {
                2: live(lambda: boolean(closed())),
                3: live(lambda: enum(_CONNECTED if closed() else _DISCONNECTED)),
                4: self._memory.reader(RELAY_OBIS, 4, mode),
            },
            {4: self._memory.writer(RELAY_OBIS, 4, mode, self._limit_switched)},
            {1: partial(move, False), 2: partial(move, True)},
        )

    def _limit_switched(self, mode: Data) -> None:
        self._note(_LIMIT_ON if mode.integer == _LIMIT_ENABLED else _LIMIT_OFF)

    def _limiter(self) -> Served:
        first = double_long_unsigned(LOAD_LIMIT_W)
        monitored = structure(long_unsigned(3), octets(Obis(1, 0, 1, 7, 0).to_bytes()), integer(2))
        limit = self._memory.reader(LIMITER_OBIS, 4, first)
        wrote = partial(self._note, _EVENTS[LIMITER_OBIS])
        return Served(
            71,
            {
                2: constant(monitored),
                3: limit,
                4: limit,
                6: self._memory.reader(LIMITER_OBIS, 6, double_long_unsigned(60)),
                7: self._memory.reader(LIMITER_OBIS, 7, double_long_unsigned(60)),
            },
            {
                4: self._memory.writer(LIMITER_OBIS, 4, first, wrote),
                6: self._memory.writer(LIMITER_OBIS, 6, double_long_unsigned(60)),
                7: self._memory.writer(LIMITER_OBIS, 7, double_long_unsigned(60)),
            },
        )

    # money

    def _add_prepayment(self, older: bool) -> None:
        for item in companion().prepayment:
            obis = item.older if older else item.obis
            self.objects[obis] = data_object(
                partial(self._prepayment, obis), partial(self._write_prepayment, item, obis)
            )

    def _prepayment(self, obis: Obis) -> Data:
        if written := self._memory.get(obis, 2):
            return written
        state = self._home.state(self._now())
        match obis.e:
            case 19:
                return unsigned(0)
            case 20:
                return unsigned(state.payment_mode)
            case 21:
                return double_long(state.last_recharge_paise)
            case 22:
                return octets(stamp(state.last_recharge_at))
            case 23:
                return double_long(state.total_recharged_paise)
            case 24:
                return double_long(state.balance_paise)
            case _:
                return octets(stamp(state.balance_at))

    def _write_prepayment(self, item: PrepaymentItem, obis: Obis, value: Data) -> None:
        whole = value.integer
        right = item.kind != "time" or len(value.octets or b"") == 12
        if value.tag is not item.tag or not right or (item.kind == "mode" and whole not in (0, 1)):
            raise AccessDenied(TYPE_UNMATCHED)
        if item.obis.e == 24 and whole is not None:
            self._home.set_balance(whole, self._now())
            return
        if item.obis.e == 19:
            self._note(_METERING_MODE)
        elif item.obis.e == 20:
            self._note(_PREPAID if whole else _POSTPAID, log=OTHER_LOG)
        self._memory.put(obis, 2, value)

    # calendars, schedules, scripts

    def _add_schedules(self) -> None:
        self.objects[CALENDAR_OBIS] = self._calendar()
        self.objects[SPECIAL_DAYS_OBIS] = self._special_days()
        self.objects[RESET_SCRIPTS] = Served(
            9,
            {2: constant(array(_script(1, 2, 7, Obis(1, 0, 98, 1, 0), 2)))},
            {},
            {1: self._reset_demand},
        )
        for obis, script, time, date in (
            (BILLING_SCHEDULE, RESET_SCRIPTS, _MIDNIGHT, _MONTHLY),
            (IMAGE_SCHEDULE, Obis(0, 0, 10, 0, 107), _MIDNIGHT, _EVERY_DAY),
            (PUSH_SCHEDULE, PUSH_SCRIPTS, bytes.fromhex("FF0000FF"), _EVERY_DAY),
        ):
            first = {
                2: structure(octets(script.to_bytes()), long_unsigned(1)),
                3: enum(1),
                4: array(structure(octets(time), octets(date))),
            }
            then = partial(self._note, _EVENTS[obis]) if obis in _EVENTS else None
            self.objects[obis] = self._kept(22, obis, first, writable=(4,), then=then)

    def _reset_demand(self, parameter: Data | None) -> None:
        if parameter is None or parameter.integer != 1:
            raise AccessDenied(TYPE_UNMATCHED)
        self._meter.reset_demand()

    def _calendar(self) -> Served:
        season = array(
            structure(octets(b"\x01"), octets(bytes.fromhex("FFFF0101FF000000FF800000")), octets(b"\x01"))
        )
        week = array(structure(octets(b"\x01"), *(unsigned(1) for _ in range(7))))
        zones = [
            structure(
                octets(bytes((hour, 0, 0, 0))), octets(Obis(0, 0, 10, 0, 100).to_bytes()), long_unsigned(n)
            )
            for n, hour in enumerate(ZONE_STARTS, 1)
        ]
        first = {
            2: octets(b"Default"),
            3: season,
            4: week,
            5: array(structure(unsigned(1), array(*zones))),
        }
        passive = {n + 4: value for n, value in first.items()}
        served = self._kept(
            20,
            CALENDAR_OBIS,
            {**first, **passive, 10: octets(b"\xff" * 12)},
            writable=(6, 7, 8, 9, 10),
        )

        def activate(_parameter: Data | None) -> None:
            for number in first:
                self._memory.put(CALENDAR_OBIS, number, served.read[number + 4](None))
            self._note(_EVENTS[CALENDAR_OBIS])

        return Served(20, served.read, served.write, {1: activate})

    def _special_days(self) -> Served:
        served = self._kept(11, SPECIAL_DAYS_OBIS, {2: array()}, writable=(2,))

        def days() -> list[Data]:
            return list(served.read[2](None).items)

        def index(entry: Data) -> int | None:
            return entry.items[0].integer if entry.items else None

        def insert(entry: Data | None) -> None:
            if entry is None or len(entry.items) != 3 or index(entry) is None:
                raise AccessDenied(TYPE_UNMATCHED)
            kept = [d for d in days() if index(d) != index(entry)]
            if len(kept) >= MAX_SPECIAL_DAYS:
                raise AccessDenied(OTHER_REASON)
            self._memory.put(SPECIAL_DAYS_OBIS, 2, array(*kept, entry))

        def delete(number: Data | None) -> None:
            kept = [d for d in days() if number is None or index(d) != number.integer]
            self._memory.put(SPECIAL_DAYS_OBIS, 2, array(*kept))

        return Served(11, served.read, served.write, {1: insert, 2: delete})

    def _hdlc_setup(self, physical: int) -> Served:
        first = {
            2: enum(5),
            3: unsigned(1),
            4: unsigned(1),
            5: long_unsigned(128),
            6: long_unsigned(128),
            7: long_unsigned(30),
            8: long_unsigned(120),
            9: long_unsigned(physical),
        }
        return self._kept(23, HDLC_SETUP, first, writable=(9,), then=partial(self._note, _EVENTS[HDLC_SETUP]))


def _script(number: int, service: int, class_id: int, obis: Obis, index: int) -> Data:
    """Make one script of one action (Blue Book 4.5.2): service 2 runs a method."""
    action = structure(
        enum(service), long_unsigned(class_id), octets(obis.to_bytes()), integer(index), integer(0)
    )
    return structure(long_unsigned(number), array(action))
