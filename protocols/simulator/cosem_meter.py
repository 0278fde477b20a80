"""Every object of a simulated Indian single-phase prepaid meter, built from one household."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from protocols.dlms.companion import Column, EventLog, PrepaymentItem, companion
from protocols.dlms.model import OTHER_REASON, TYPE_UNMATCHED, AccessDenied
from protocols.dlms.objects.object_list import (
    READ_ONLY,
    READ_WRITE,
    ObjectEntry,
    build_object_list,
)
from protocols.dlms.types import (
    Data,
    Tag,
    boolean,
    double_long,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    unsigned,
)
from protocols.reading import Obis, ProfileName, Quantity
from protocols.simulator import cosem_rows
from protocols.simulator.cosem_objects import (
    Rows,
    Served,
    constant,
    data_object,
    profile,
    register,
    scaler_profile,
)
from protocols.simulator.cosem_rows import Raw, instant, stamp
from protocols.simulator.household import Household

CLOCK_OBIS = Obis(0, 0, 1, 0, 0)
RELAY_OBIS = Obis(0, 0, 96, 3, 10)
LIMITER_OBIS = Obis(0, 0, 17, 0, 0)
STORED = timedelta(days=35)
_EVENT_CAPACITY = 200
_CAPACITY = {ProfileName.BLOCK_LOAD: 35 * 48, ProfileName.DAILY: 35, ProfileName.BILLING: 12}
_MAX_DRIFT_S = 50 * 366 * 86_400
_SECOND = timedelta(seconds=1)
_DISCONNECTED, _CONNECTED = 0, 1
_RELAY_BY_ORDER_ONLY = 4  # control_mode: remote disconnect and reconnect, nothing at the meter (Blue Book)


class NowSource(Protocol):
    """Anything that tells the present."""

    def now(self) -> datetime:
        """Give the present instant in UTC."""


class MeterObjects:
    """Builds the objects and holds what writing changed: load limit, prepayment fields, writes so far."""

    def __init__(
        self,
        household: Household,
        clock: NowSource,
        *,
        older_prepayment: bool,
        numbered_events: bool,
        firmware: str,
        year: int,
    ) -> None:
        self._home = household
        self._clock = clock
        self._firmware = firmware
        self._year = year
        self._limit_w = cosem_rows.LOAD_LIMIT_W
        self._written: dict[Obis, Data] = {}
        self._writes = 0
        self.objects: dict[Obis, Served] = {}
        self._add_profiles(numbered_events)
        self._add_registers()
        self._add_prepayment(older_prepayment)
        self.objects[CLOCK_OBIS] = self._clock_object()
        self.objects[RELAY_OBIS] = self._relay_object()
        self.objects[LIMITER_OBIS] = self._limiter()

    def wrote(self) -> None:
        """Count a successful write: the programming count shows it."""
        self._writes += 1

    def _now(self) -> datetime:
        return self._clock.now()

    def _registers(self) -> dict[str, Raw]:
        return {
            **cosem_rows.registers(self._home.state(self._now()), programmed=self._writes),
            "0-0:17.0.0*255#3": (self._limit_w, 0),
        }

    def _nameplate(self) -> dict[str, Raw]:
        maker, serial = self._home.manufacturer, self._home.serial
        return {
            "0-0:96.1.0*255": serial.encode(),
            "0-0:96.1.2*255": f"{maker}{serial}".encode(),
            "0-0:96.1.1*255": maker.encode(),
            "1-0:0.2.0*255": self._firmware.encode(),
            "0-0:94.91.9*255": (6, 0),
            "0-0:94.91.11*255": b"D1",
            "0-0:94.91.12*255": b"5-30A",
            "0-0:96.1.4*255": (self._year, 0),
        }

    def _add_profiles(self, numbered_events: bool) -> None:
        known = companion()
        for name, info in known.profiles.items():
            capacity = _CAPACITY.get(name, 1)
            self.objects[info.obis] = profile(
                info.columns, self._rows_of(name), period=info.capture_period, capacity=capacity
            )
            if info.scaler_profile is not None:
                self.objects[info.scaler_profile] = scaler_profile(info.columns)
        details: Sequence[Column] = ()
        for log in known.event_logs:
            details = max(details, log.columns, key=len)
            number = Column(class_id=1, quantity=Quantity(log.sequence), tag=Tag.DOUBLE_LONG_UNSIGNED)
            columns = (*log.columns, number) if numbered_events else log.columns
            self.objects[log.obis] = profile(
                columns, self._event_rows_of(log), period=0, capacity=_EVENT_CAPACITY
            )
            self.objects[log.code] = data_object(partial(self._last_code, log))
        self.objects[known.event_scaler_profile] = scaler_profile(details)

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

    def _event_rows_of(self, log: EventLog) -> Rows:
        return lambda since, until: [
            cosem_rows.event(event)
            for event in self._home.event_rows(*self._span(since, until))
            if event.log == log.index
        ]

    def _last_code(self, log: EventLog) -> Data:
        events = self._home.event_rows(*self._span(None, None))
        code = next((event.code for event in reversed(events) if event.log == log.index), 0)
        return long_unsigned(code)

    def _span(self, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
        """Bound a wish to what the meter still stores; `since` becomes exclusive."""
        now = self._now()
        oldest = max(self._home.history_from, now - STORED)
        low = oldest if since is None else max(oldest, since - _SECOND)
        return low, now if until is None else min(now, until)

    def _add_registers(self) -> None:
        profiles = companion().profiles
        for name, values in (
            (ProfileName.INSTANTANEOUS, self._registers),
            (ProfileName.NAMEPLATE, self._nameplate),
        ):
            groups: dict[Obis, list[Column]] = {}
            for column in profiles[name].columns:
                groups.setdefault(column.quantity.obis, []).append(column)
            for obis, columns in groups.items():
                self.objects[obis] = register(columns, values)
        for obis, seconds in ((Obis(1, 0, 0, 8, 0), 1800), (Obis(1, 0, 0, 8, 4), 1800)):
            self.objects[obis] = data_object(partial(long_unsigned, seconds))
        self.objects[Obis(1, 0, 0, 8, 5)] = data_object(lambda: double_long_unsigned(86_400))

    def _clock_object(self) -> Served:
        def time() -> Data:
            return octets(stamp(self._meter_time()))

        return Served(
            8,
            {
                2: lambda _selection: time(),
                3: constant(Data(Tag.LONG, 330)),
                4: constant(unsigned(0)),
                7: constant(integer(0)),
                8: constant(boolean(False)),
                9: constant(enum(1)),
            },
            {2: self._set_clock},
        )

    def _meter_time(self) -> datetime:
        now = self._now()
        return now + timedelta(seconds=self._home.state(now).clock_drift_s)

    def _set_clock(self, value: Data) -> None:
        wanted = instant(value.octets or b"")
        if value.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME) or wanted is None:
            raise AccessDenied(TYPE_UNMATCHED)
        now = self._now()
        drift = (wanted - now) // _SECOND if wanted >= now else -((now - wanted) // _SECOND)
        if abs(drift) > _MAX_DRIFT_S:
            raise AccessDenied(OTHER_REASON)
        self._home.set_clock(drift=drift, at=now)

    def _relay_object(self) -> Served:
        def closed() -> bool:
            return self._home.state(self._now()).relay_closed

        def move(to: bool) -> None:
            self._home.switch_relay(closed=to, at=self._now())

        return Served(
            70,
            {
                2: lambda _selection: boolean(closed()),
                3: lambda _selection: enum(_CONNECTED if closed() else _DISCONNECTED),
                4: constant(enum(_RELAY_BY_ORDER_ONLY)),
            },
            {},
            {1: lambda _parameter: move(False), 2: lambda _parameter: move(True)},
        )

    def _limiter(self) -> Served:
        def write(value: Data) -> None:
            watts = value.integer
            if value.tag is not Tag.DOUBLE_LONG_UNSIGNED or watts is None:
                raise AccessDenied(TYPE_UNMATCHED)
            self._limit_w = watts

        threshold = {n: lambda _selection: double_long_unsigned(self._limit_w) for n in (3, 4)}
        return Served(71, threshold, {4: write})

    def _add_prepayment(self, older: bool) -> None:
        for item in companion().prepayment:
            obis = item.older if older else item.obis
            self.objects[obis] = data_object(
                partial(self._prepayment, item, obis), partial(self._write_prepayment, item, obis)
            )

    def _prepayment(self, item: PrepaymentItem, obis: Obis) -> Data:
        if written := self._written.get(obis):
            return written
        state = self._home.state(self._now())
        match item.obis.e:
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
        else:
            self._written[obis] = value


def object_list(objects: Mapping[Obis, Served], *, may_write: bool) -> Data:
    """Give attribute 2 of the association object: class, version, name and rights of each object."""
    return build_object_list(_listed(obis, served, may_write) for obis, served in sorted(objects.items()))


def _listed(obis: Obis, served: Served, may_write: bool) -> ObjectEntry:
    writable = served.write if may_write else ()
    return ObjectEntry(
        class_id=served.class_id,
        version=1 if served.class_id in (7, 15) else 0,
        obis=obis,
        attributes={n: READ_WRITE if n in writable else READ_ONLY for n in (1, *sorted(served.read))},
        methods={n: int(may_write) for n in sorted(served.methods)},
    )
