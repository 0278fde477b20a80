"""What a simulated Indian meter measures and stores, as objects: profiles, scaler profiles, registers, events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial

from protocols.clock import NowSource
from protocols.dlms.companion import Category, ColumnInfo, EventLog, ProfileInfo, companion
from protocols.dlms.data.types import Data, Tag, double_long_unsigned, long_unsigned
from protocols.dlms.server.model import OTHER_REASON, TYPE_UNMATCHED, AccessDenied
from protocols.reading import Obis, ProfileName, Quantity
from protocols.simulator.cosem import rows as cosem_rows
from protocols.simulator.cosem.objects import (
    Memory,
    ProfileSource,
    Rows,
    Served,
    data_object,
    profile,
    register,
    scaler_profile,
)
from protocols.simulator.cosem.rows import Raw
from protocols.simulator.household.events import TRANSACTION_LOG
from protocols.simulator.household.household import PERIODS, Household

STORED = timedelta(days=35)
BLOCK_PERIOD, DAILY_PERIOD = Obis(1, 0, 0, 8, 4), Obis(1, 0, 0, 8, 5)
DEMAND_PERIOD = Obis(1, 0, 0, 8, 0)
LIMITER = Obis(0, 0, 17, 0, 0)
_LIMIT = (LIMITER, 4)
_EVENT_CAPACITY = 200
_DAYS, _BILLS = 35, 12
_DEMAND_PERIOD_CHANGED, _BLOCK_PERIOD_CHANGED, _DEMAND_RESET = 152, 153, 166
_SECOND = timedelta(seconds=1)
_RATING = {"D1": b"5-30A", "D2": b"10-60A", "D3": b"-/5A"}
_TYPE = {"D1": 6, "D2": 7, "D3": 8}
_CT_RATIO, _PT_RATIO = 20, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a meter was made.

    `category` is D1 (one phase), D2 (three phases) or D3 (behind transformers, no relay; its registers hold
    primary values). `older_prepayment` puts the money at `.91.` codes, as meters on HDLC do; `numbered_events`
    adds the sequence number to the logs. `physical` is the address on an HDLC bus.
    """

    category: str = "D1"
    older_prepayment: bool = False
    numbered_events: bool = False
    firmware: str = "SIM-1.4.2"
    year: int = 2025
    physical: int | None = None

    @property
    def kind(self) -> Category:
        """What the companion says of the category."""
        return companion().categories[self.category]


class MeterObjects:
    """Builds the objects; what was written is in `memory`. `keep_history` says what a new period leaves.

    `firmware` is the version that runs now.
    """

    def __init__(
        self,
        household: Household,
        clock: NowSource,
        build: Build,
        memory: Memory,
        keep_history: Callable[[], bool],
        firmware: Callable[[], str],
    ) -> None:
        self._home = household
        self._clock = clock
        self._build = build
        self._memory = memory
        self._keep_history = keep_history
        self._firmware = firmware
        self.writes = 0
        self.objects: dict[Obis, Served] = {}
        self._add_events()
        self._add_profiles()
        self._add_registers()
        self._add_periods()

    def reset_demand(self) -> None:
        """Close the billing period, as the script table and the billing profile's capture do."""
        now = self._clock.now()
        self._home.reset_demand(now)
        self._home.log_event(TRANSACTION_LOG, _DEMAND_RESET, now)

    def _capture_bill(self, _parameter: Data | None) -> None:
        self.reset_demand()

    def _registers(self, *, zones: bool = False) -> dict[str, Raw]:
        now = self._clock.now()
        state = self._home.state(now)
        limit = self._memory.get(*_LIMIT)
        watts = cosem_rows.LOAD_LIMIT_W if limit is None else limit.integer or 0
        shown = cosem_rows.registers(
            state, programmed=self.writes, zones=self._home.zones(now) if zones else ()
        )
        return {**shown, "0-0:17.0.0*255#3": (watts, 0)}

    def _nameplate(self) -> dict[str, Raw]:
        maker, serial, build = self._home.manufacturer, self._home.serial, self._build
        return {
            "0-0:96.1.0*255": serial.encode(),
            "0-0:96.1.2*255": f"{maker}{serial}".encode(),
            "0-0:96.1.1*255": maker.encode(),
            "1-0:0.2.0*255": self._firmware().encode(),
            "0-0:94.91.9*255": (_TYPE.get(build.category, 6), 0),
            "0-0:94.91.11*255": build.category.encode(),
            "0-0:94.91.12*255": _RATING.get(build.category, b"5-30A"),
            "0-0:96.1.4*255": (build.year, 0),
            "1-0:0.4.2*255": (_CT_RATIO, 0),
            "1-0:0.4.3*255": (_PT_RATIO, 0),
        }

    # profiles

    def _add_profiles(self) -> None:
        for name, info in self._build.kind.profiles.items():
            self.objects[info.obis] = profile(info.columns, self._buffer(name, info))
            if info.scaler_profile is not None:
                self.objects[info.scaler_profile] = scaler_profile(info.columns)

    def _buffer(self, name: ProfileName, info: ProfileInfo) -> ProfileSource:
        rows = self._rows_of(name)
        match name:
            case ProfileName.BLOCK_LOAD:
                return ProfileSource(
                    rows=rows,
                    period=self._period,
                    capacity=lambda: _DAYS * 86_400 // self._period(),
                    count=lambda: self._home.count_blocks(*self._span(None, None)),
                    set_period=self._set_period,
                )
            case ProfileName.BILLING:
                return ProfileSource(
                    rows=rows, period=lambda: 0, capacity=lambda: _BILLS, methods={2: self._capture_bill}
                )
            case ProfileName.DAILY:
                return ProfileSource(rows=rows, period=lambda: info.capture_period, capacity=lambda: _DAYS)
            case _:
                return ProfileSource(rows=rows, period=lambda: 0, capacity=lambda: 1)

    def _rows_of(self, name: ProfileName) -> Rows:
        home = self._home
        match name:
            case ProfileName.BLOCK_LOAD:
                return lambda a, b: [cosem_rows.block(r) for r in home.block_rows(*self._span(a, b))]
            case ProfileName.DAILY:
                return lambda a, b: [cosem_rows.daily(r) for r in home.daily_rows(*self._span(a, b))]
            case ProfileName.BILLING:
                return lambda a, b: [cosem_rows.billing(r) for r in home.billing_rows(*self._span(a, b))]
            case ProfileName.NAMEPLATE:
                return lambda _a, _b: [self._nameplate()]
            case _:
                return lambda _a, _b: [self._registers()]

    def _span(self, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
        """Return the part of since..until that the meter still stores; `since` becomes exclusive."""
        now = self._clock.now()
        oldest = max(self._home.history_from, now - STORED)
        low = oldest if since is None else max(oldest, since - _SECOND)
        return low, now if until is None else min(now, until)

    # events

    def _add_events(self) -> None:
        for log, columns in _logs(self._build.category, self._build.numbered_events):
            rows, number = self._event_rows_of(log), partial(self._last_number, log)
            self.objects[log.obis] = profile(
                columns,
                ProfileSource(rows=rows, period=lambda: 0, capacity=lambda: _EVENT_CAPACITY, count=number),
            )
            self.objects[log.code] = data_object(partial(self._last_code, log))
            if self._build.numbered_events:
                self.objects[log.sequence] = data_object(partial(_counted, number))
        scalers = companion().event_scaler_profile
        if scalers is not None:
            details = max((log.columns for log in self._build.kind.event_logs), key=len)
            self.objects[scalers] = scaler_profile(details)

    def _event_rows_of(self, log: EventLog) -> Rows:
        return lambda since, until: [
            cosem_rows.event(event)
            for event in self._home.event_rows(*self._span(since, until), log=log.index)
        ]

    def _last_code(self, log: EventLog) -> Data:
        events = self._home.event_codes(*self._span(None, None))
        return long_unsigned(next((code for _, index, code in reversed(events) if index == log.index), 0))

    def _last_number(self, log: EventLog) -> int:
        """Return the number of a log's last event: how many it ever had."""
        return self._home.last_number(log.index, self._clock.now())

    # registers

    def _add_registers(self) -> None:
        """Serve every captured quantity as an object of its own, with its scaler; block registers too."""
        for obis, (columns, name) in _captured_objects(self._build.category).items():
            if obis not in self.objects:
                self.objects[obis] = register(columns, self._values_of(name))

    def _values_of(self, name: ProfileName) -> Callable[[], Mapping[str, Raw]]:
        match name:
            case ProfileName.NAMEPLATE:
                return self._nameplate
            case ProfileName.BLOCK_LOAD:
                return self._last_block
            case ProfileName.BILLING:
                return self._billed
            case _:
                return self._registers

    def _last_block(self) -> Mapping[str, Raw]:
        now = self._clock.now()
        rows = self._home.block_rows(max(self._home.history_from, now - timedelta(days=1)), now)
        if not rows:
            raise AccessDenied(OTHER_REASON)
        return cosem_rows.block(rows[-1])

    def _billed(self) -> Mapping[str, Raw]:
        """Return what only a billing row shows, as of now: tariff zones, average factor, minutes with supply."""
        shown = self._registers(zones=True)
        state = self._home.state(self._clock.now())
        factor = min(1000, state.energy_import_wh * 1000 // max(1, state.apparent_energy_vah))
        return {**shown, "1-0:13.0.0*255": (factor, -3), "0-0:94.91.13*255": (state.power_on_minutes, 0)}

    # periods

    def _period(self) -> int:
        return self._home.period(self._clock.now())

    def _set_period(self, value: Data) -> None:
        seconds = value.integer
        if seconds not in PERIODS or seconds not in self._build.kind.block_periods:
            raise AccessDenied(TYPE_UNMATCHED)
        now = self._clock.now()
        if seconds != self._period():
            self._home.set_period(seconds, now, keep=self._keep_history())
            self._home.log_event(TRANSACTION_LOG, _BLOCK_PERIOD_CHANGED, now)

    def _add_periods(self) -> None:
        first = long_unsigned(1800)
        changed = partial(self._note, _DEMAND_PERIOD_CHANGED)
        self.objects[DEMAND_PERIOD] = Served(
            1,
            {2: self._memory.reader(DEMAND_PERIOD, 2, first)},
            {2: self._memory.writer(DEMAND_PERIOD, 2, first, changed)},
        )
        self.objects[BLOCK_PERIOD] = data_object(lambda: long_unsigned(self._period()), self._set_period)
        self.objects[DAILY_PERIOD] = data_object(lambda: double_long_unsigned(86_400))

    def _note(self, code: int, _value: Data) -> None:
        self._home.log_event(TRANSACTION_LOG, code, self._clock.now())


def _counted(number: Callable[[], int]) -> Data:
    return double_long_unsigned(number())


@lru_cache(maxsize=16)
def _logs(category: str, numbered: bool) -> tuple[tuple[EventLog, tuple[ColumnInfo, ...]], ...]:
    found = []
    for log in companion().categories[category].event_logs:
        number = ColumnInfo(class_id=1, quantity=Quantity(log.sequence), tag=Tag.DOUBLE_LONG_UNSIGNED)
        found.append((log, (*log.columns, number) if numbered else log.columns))
    return tuple(found)


@lru_cache(maxsize=8)
def _captured_objects(category: str) -> dict[Obis, tuple[Sequence[ColumnInfo], ProfileName]]:
    """Return the columns of each captured object, and the profile whose values it shows."""
    profiles = companion().categories[category].profiles
    order = (
        ProfileName.INSTANTANEOUS,
        ProfileName.NAMEPLATE,
        ProfileName.BLOCK_LOAD,
        ProfileName.DAILY,
        ProfileName.BILLING,
    )
    found: dict[Obis, tuple[Sequence[ColumnInfo], ProfileName]] = {}
    for name in (n for n in order if n in profiles):
        groups: dict[Obis, list[ColumnInfo]] = {}
        for column in profiles[name].columns:
            groups.setdefault(column.quantity.obis, []).append(column)
        for obis, columns in groups.items():
            found.setdefault(obis, (tuple(columns), name))
    return found
