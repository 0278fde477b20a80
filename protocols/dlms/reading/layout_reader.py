"""Reads how a meter's profiles are laid out: columns, scales, capture period, order; once, and again on a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.companion import BufferSource, Companion, ObjectRead
from protocols.dlms.data.types import Data
from protocols.dlms.data.values import Scale
from protocols.dlms.profile.layouts import (
    BILLING_DATE,
    REGISTER_CLASSES,
    SORT_LIFO,
    CapturedColumn,
    Layout,
    parse_columns,
    parse_scale,
    parse_scales,
    with_scales,
)
from protocols.dlms.reading.layout_cache import KnownLayout, LayoutCache, fingerprint, layout_name
from protocols.errors import MeterBusy, MeterProtocolError, MeterRefused, NotSupported, ProtocolError
from protocols.reading import Obis, ProfileName, Quantity
from protocols.session import Clock

SORT_FIFO = 1
MAX_PERIOD = 86_400
PRESENT = (ProfileName.INSTANTANEOUS, ProfileName.NAMEPLATE)
BILLED = (ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING)
"""Stored profiles that money hangs on: their columns and scales are looked at whenever they are read."""
PERIODIC = (ProfileName.BLOCK_LOAD, ProfileName.DAILY)
IMPORTED = (1, 9)
"""Group C of imported active and apparent energy, by which most is billed."""
VALUE = 2
SCALER = {3: 3, 4: 3, 5: 4}
"""Attribute that holds scaler and unit, by interface class."""
ENERGY = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Group C of active, reactive and apparent energy, whose scaler profile is checked against the register."""


class LayoutReader:
    """Layouts of one meter, read through an association and kept in `cache`.

    `scale_conflicts` counts columns whose scaler profile contradicts the register's own scaler_unit: the
    register is believed. `reread` counts layouts that did not fit any more.
    """

    def __init__(
        self, exchange: ResumingExchange, clock: Clock, cache: LayoutCache, assumed: Companion
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._cache = cache
        self._companion = assumed
        self._layouts: dict[Obis, KnownLayout] = {}
        self._sources: dict[Obis, BufferSource] = {}
        self._scales: dict[Obis, Mapping[tuple[Obis, int], Scale]] = {}
        self._object_scales: dict[Obis, Scale | None] = {}
        self.unordered: set[Obis] = set()
        self.scale_conflicts = 0
        self.reread = 0

    async def of(self, profile: ProfileName, source: BufferSource) -> Layout:
        """Return the layout of the first place of `source` that the meter has; NotSupported when it has none."""
        missing = NotSupported(f"the meter has no {profile} profile")
        for place in source.places:
            self._sources[place] = source
            known = self._layouts.get(place)
            if known is not None and known.fresh(self._clock.now()):
                return known.layout
            try:
                return await self._read(profile, place)
            except NotSupported as error:
                missing = error
        raise missing

    async def again(self, layout: Layout) -> Layout | None:
        """Read the columns again because rows do not fit.

        Returns the layout as it is now, or None when the columns are what they were: then the rows are bad.
        """
        before = self._layouts.pop(layout.obis, None)
        self._cache.drop_layout(layout_name(layout.profile, layout.obis))
        fresh = await self._read(layout.profile, layout.obis)
        if before is not None and before.fingerprint == self._layouts[layout.obis].fingerprint:
            return None
        self.reread += 1
        return fresh

    def current(self, layout: Layout) -> Layout:
        """Return the layout as it is known now: the columns may have been read again since."""
        known = self._layouts.get(layout.obis)
        return known.layout if known else layout

    def note_period(self, layout: Layout, period: int) -> Layout:
        """Keep a capture period that the meter's rows showed."""
        known = self._layouts[layout.obis]
        fitted = replace(known.layout, period=period)
        self._layouts[layout.obis] = replace(known, layout=fitted)
        return fitted

    async def _read(self, profile: ProfileName, obis: Obis) -> Layout:
        name = layout_name(profile, obis)
        before = self._cache.layout(name)
        try:
            known = await self._columns(profile, obis) if before is None else await self._checked(before)
        except NotSupported:
            self._cache.drop_layout(name)
            raise
        if profile is ProfileName.EVENTS and known.order is None:
            (order,) = await self._numbers(Target(7, obis, 5))
            known = replace(known, order=order)
        # columns and scales may be known for a while, the period of blocks is asked in each session
        known = replace(known, layout=await self._with_settings(known))
        if known != before:
            self._cache.put_layout(name, known)
        self._layouts[obis] = known
        return known.layout

    async def recheck(self, profile: ProfileName, place: Obis, source: BufferSource) -> None:
        """Look whether a layout is what it was, in what was asked ahead for that."""
        self._sources[place] = source
        await self._read(profile, place)

    async def _checked(self, known: KnownLayout) -> KnownLayout:
        """Look at columns and scales again where they are old, or were asked ahead, or are of what is billed."""
        obis, now = known.layout.obis, self._clock.now()
        billed = known.layout.profile in BILLED
        if billed or not known.fresh(now) or self._exchange.holds(Target(7, obis, 3)):
            captured = await self._exchange.get(Target(7, obis, 3))
            if fingerprint(captured) != known.fingerprint:
                return await self._made_of(captured, known.layout.profile, obis)
            known = replace(known, checked_at=now, order=None)
        scalers = self._sources[obis].scaler_profile
        held = scalers is not None and self._exchange.holds(Target(7, scalers))
        held = held and may_have_scales(known.layout.columns)
        if held or not known.scaled(now) or await self._scales_differ(known.layout.columns):
            columns = await self.scaled(known.layout.columns, scalers)
            known = replace(known, layout=replace(known.layout, columns=columns), scaled_at=now)
        return known

    async def _columns(self, profile: ProfileName, obis: Obis) -> KnownLayout:
        return await self._made_of(await self._exchange.get(Target(7, obis, 3)), profile, obis)

    async def _made_of(self, captured: Data, profile: ProfileName, obis: Obis) -> KnownLayout:
        mark, now = fingerprint(captured), self._clock.now()
        columns = await self.scaled(_whole(parse_columns(captured)), self._sources[obis].scaler_profile)
        layout = Layout(profile=profile, obis=obis, columns=columns)
        return KnownLayout(layout=layout, fingerprint=mark, checked_at=now, scaled_at=now)

    async def _with_settings(self, known: KnownLayout) -> Layout:
        layout, obis = known.layout, known.layout.obis
        if layout.profile in PRESENT:  # one row: no period, no order
            return layout
        if known.order is not None:  # events: rows of no period
            return self._ordered(layout, 0, known.order)
        period, order = await self._numbers(Target(7, obis, 4), Target(7, obis, 5))
        if layout.profile is ProfileName.BLOCK_LOAD and not 0 < period <= MAX_PERIOD:
            period = await self._declared_period()
        return self._ordered(layout, period, order)

    def _ordered(self, layout: Layout, period: int, order: int) -> Layout:
        if order not in (
            0,
            SORT_FIFO,
            SORT_LIFO,
        ):  # sorted by some register: entries cannot be halved by time
            self.unordered.add(layout.obis)
        periodic = layout.profile in PERIODIC and 0 < period <= MAX_PERIOD
        return replace(layout, period=period if periodic else 0, newest_first=order == SORT_LIFO)

    async def _declared_period(self) -> int:
        """Read the object that sets the block capture period, where the companion has one; 0 otherwise."""
        control = self._companion.control.get("block_capture_period")
        if control is None:
            return 0
        (period,) = await self._numbers(Target(control.class_id, control.obis, VALUE))
        return period if 0 < period <= MAX_PERIOD else 0

    async def _numbers(self, *targets: Target) -> list[int]:
        """Read integers; 0 for what the meter refuses or does not have. Raises MeterBusy."""
        found = await self._exchange.get_many(targets)
        _raise_busy(found)
        return [(one.integer or 0) if isinstance(one, Data) else 0 for one in found]

    # scales

    async def scaled(
        self, columns: Sequence[CapturedColumn], scalers: Obis | None
    ) -> tuple[CapturedColumn, ...]:
        """Join the scaler profile by OBIS; ask the object itself where it has no entry or is not believed."""
        registers = _registers(columns)
        asked = scalers is not None and may_have_scales(columns)
        scales = dict(await self._profile_scales(scalers)) if scalers is not None and asked else {}
        await self._check(registers, scales)
        missing = [c for c in registers if (c.quantity.obis, VALUE) not in scales]
        for column, scale in zip(missing, await self._own_scales(missing), strict=True):
            if scale is not None:
                scales[column.quantity.obis, VALUE] = scale
        return with_scales(columns, scales)

    async def _check(
        self, registers: Sequence[CapturedColumn], scales: dict[tuple[Obis, int], Scale]
    ) -> None:
        """Compare one energy register's own scaler with the scaler profile's; where they differ, compare all.

        Some makers' scaler profiles are wrong by powers of ten, and then wrong for all energies alike.
        """
        energies = [
            c for c in registers if _is_energy(c.quantity.obis) and (c.quantity.obis, VALUE) in scales
        ]
        for part in (energies[:1], energies[1:]):
            conflicts = 0
            for column, own in zip(part, await self._own_scales(part), strict=True):
                key = column.quantity.obis, VALUE
                if own is not None and own != scales[key]:
                    scales[key] = own
                    conflicts += 1
            self.scale_conflicts += conflicts
            if not conflicts:
                return

    async def _scales_differ(self, columns: Sequence[CapturedColumn]) -> bool:
        """Say whether an energy's own scale is another than before: of those asked ahead, else of the first."""
        known = scale_witnesses(columns)
        asked = [c for c in known if self._exchange.holds(own_scale(c))] or known[:1]
        own = await self._own_scales(asked)
        return any(scale not in (None, c.scale) for c, scale in zip(asked, own, strict=True))

    async def _profile_scales(self, scalers: Obis) -> Mapping[tuple[Obis, int], Scale]:
        if scalers not in self._scales:
            try:
                captured = parse_columns(await self._exchange.get(Target(7, scalers, 3)))
                scales = parse_scales(captured, await self._exchange.get(Target(7, scalers)))
            except (NotSupported, MeterRefused, MeterProtocolError):  # the registers know their own
                scales = {}
            self._scales[scalers] = scales
        return self._scales[scalers]

    async def _own_scales(self, columns: Sequence[CapturedColumn]) -> list[Scale | None]:
        """Read the scaler_unit of registers, each once in a session."""
        wanted = {c.quantity.obis: c for c in columns if c.quantity.obis not in self._object_scales}
        targets = [own_scale(column) for column in wanted.values()]
        found = await self._exchange.get_many(targets)
        _raise_busy(found)  # "no scale" would be kept, and its energies be missing for hours
        for target, one in zip(targets, found, strict=True):
            self._object_scales[target.obis] = parse_scale(one) if isinstance(one, Data) else None
        return [self._object_scales[c.quantity.obis] for c in columns]

    # single objects

    async def of_objects(self, profile: ProfileName, reads: Sequence[ObjectRead]) -> Layout:
        """Return single objects as columns with their scales, kept like a profile's."""
        columns = tuple(CapturedColumn(class_id=r.class_id, quantity=r.quantity) for r in reads)
        name, mark = f"{profile}/objects", ",".join(str(c.quantity) for c in columns)
        known = self._cache.layout(name)
        if known is None or known.fingerprint != mark or not known.fresh(self._clock.now()):
            asked = [r.scale is None and r.class_id in REGISTER_CLASSES and _has_scale(r) for r in reads]
            scaled = [c for c, ask in zip(columns, asked, strict=True) if ask]
            scales = dict(zip(scaled, await self._own_scales(scaled), strict=True))
            columns = tuple(
                replace(c, scale=r.scale or scales.get(c)) for c, r in zip(columns, reads, strict=True)
            )
            layout = Layout(profile=profile, obis=reads[0].places[0], columns=columns)
            now = self._clock.now()
            known = KnownLayout(layout=layout, fingerprint=mark, checked_at=now, scaled_at=now)
            self._cache.put_layout(name, known)
        return known.layout


def _raise_busy(found: Sequence[Data | ProtocolError]) -> None:
    """Raise MeterBusy where one of these was not answered for now."""
    for one in found:
        if isinstance(one, MeterBusy):
            raise one


def _has_scale(read: ObjectRead) -> bool:
    return read.quantity.attribute == VALUE or (read.class_id, read.quantity.attribute) == (5, 3)


def may_have_scales(columns: Sequence[CapturedColumn]) -> bool:
    """Say whether a scaler profile may say something of these columns: of stamps, event codes and numbers it cannot."""
    plain = ((96, 11), (96, 15))
    return not all(c.is_clock or (c.quantity.obis.c, c.quantity.obis.d) in plain for c in columns)


def scale_witnesses(columns: Sequence[CapturedColumn]) -> list[CapturedColumn]:
    """Return the energies whose own scales show whether all are what they were: imported active and apparent."""
    energies = [c for c in _registers(columns) if c.scale and _is_energy(c.quantity.obis)]
    return [c for c in energies if c.quantity.obis.c in IMPORTED and not c.quantity.obis.e] or energies[:1]


def own_scale(register: CapturedColumn) -> Target:
    """Return where a register tells its own scale."""
    return Target(register.class_id, register.quantity.obis, SCALER[register.class_id])


def _registers(columns: Sequence[CapturedColumn]) -> list[CapturedColumn]:
    # some meters capture the billing date as a register, which it is none
    return [
        c
        for c in columns
        if c.class_id in REGISTER_CLASSES
        and c.quantity.attribute == VALUE
        and c.quantity.obis != BILLING_DATE
    ]


def _is_energy(obis: Obis) -> bool:
    return obis.a == 1 and obis.c in ENERGY and obis.d in (8, 29)


def _whole(columns: Sequence[CapturedColumn]) -> tuple[CapturedColumn, ...]:
    """Take an attribute below 1 for the value, as some meters mean it, unless the value is captured too."""
    present = {c.quantity for c in columns}
    return tuple(
        replace(c, quantity=value)
        if c.quantity.attribute < 1 and (value := Quantity(c.quantity.obis)) not in present
        else c
        for c in columns
    )
