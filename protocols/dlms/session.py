"""`MeterSession` for DLMS meters: associate, check who answers, read profiles, clock and relay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

from protocols.clock import Moment
from protocols.dlms import objects
from protocols.dlms.acts.clock import set_clock, shift_clock
from protocols.dlms.acts.judged import Judgement
from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.association_opener import AssociationOpener, association_settings
from protocols.dlms.client.association_pool import AssociationPool
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.key_choices import KeyChoices
from protocols.dlms.client.line_lease import LineLease
from protocols.dlms.client.list_size import ListSize
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.companion import DEFAULT, LogsSource, companion
from protocols.dlms.companion.zones import zone_of
from protocols.dlms.data.types import Data
from protocols.dlms.data.values import text_of
from protocols.dlms.profile.layouts import CLOCK, Layout
from protocols.dlms.push.layout import push_layouts
from protocols.dlms.reading.known_meter import MeterNotes, with_release
from protocols.dlms.reading.layout_cache import LayoutCache, Layouts, known_meter, put_known_meter
from protocols.dlms.reading.nameplate import read_nameplate
from protocols.dlms.reading.reader import ProfileReader, ReaderStatistics
from protocols.dlms.reading.visit_plan import (
    CAPACITY,
    CLOCK_TIME,
    SERIAL,
    Ground,
    mark_targets,
    marks,
    places,
    plan,
)
from protocols.errors import (
    AssociationRefused,
    IdentityMismatch,
    LocalError,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    NotSupported,
    ProtocolError,
)
from protocols.event_marks import EventNews
from protocols.line import Line, TakesDedicatedKeys, TakesPushes
from protocols.reading import MeterClock, Nameplate, Obis, ProfileName, ReadingSet, RelayState
from protocols.session import Clock, MeterSpec, SessionContext, Visit


class DlmsSession:
    """An open conversation with one DLMS meter; made by `open_dlms`, and over when its block ends.

    It implements `protocols.session.MeterSession`: `identify`, `read`, `clock`, `set_clock`, `relay`,
    `switch_relay`; one task uses it at a time. Every method raises the errors of the line (LineError) and of the
    meter (MeterError). A request that a fault cut off is asked again over a new association where that is safe;
    `resumes` counts those. `exchange` reads and writes objects of any kind.
    """

    def __init__(
        self,
        exchange: ResumingExchange,
        spec: MeterSpec,
        clock: Clock,
        *,
        layouts: Layouts | None = None,
        nameplate: Nameplate | None = None,
        notes: MeterNotes | None = None,
    ) -> None:
        self.exchange = exchange
        self._notes = notes or MeterNotes()
        self._spec = spec
        self._clock = clock
        self._zone = zone_of(spec.time_zone(), spec.dlms)
        self._title = exchange.title
        self._layouts = layouts
        self._companion = companion(spec.dlms.companion if spec.dlms else DEFAULT)
        self._nameplate = nameplate
        self._reader: ProfileReader | None = None
        self._event_news: EventNews | None = None
        self._clock_listed: tuple[Moment, float] | None = None
        exchange.check = self._check_same_meter

    @property
    def nameplate(self) -> Nameplate | None:
        """Who the meter is, when that was asked already."""
        return self._nameplate

    @property
    def resumes(self) -> int:
        """How often a new association was opened after a fault."""
        return self.exchange.resumes

    def statistics(self) -> ReaderStatistics:
        """Count what was unusual about the meter's profiles so far."""
        return self._reader.statistics() if self._reader else ReaderStatistics()

    @property
    def system_title(self) -> bytes:
        """The meter's system title; empty when the association gave none."""
        return self._title

    async def identify(self) -> Nameplate:
        """Read who the meter is; IdentityMismatch when the spec names another.

        The manufacturer is the three letters of the system title when the association gave one (it is
        bound to the keys), else the first three letters of 0.0.96.1.1, in upper case. Where the two differ
        (a maker's FLAG letters need not begin its name), the one that the spec names is taken.
        """
        if self._nameplate is None:
            self._nameplate = await read_nameplate(
                self.exchange, self._notes, self._title, self._spec.meter, self._clock.now()
            )
        expected = self._spec.meter
        found = self._nameplate.meter_id
        if expected is not None and expected != found:
            raise IdentityMismatch(expected=expected, found=found)
        return self._nameplate

    @property
    def event_news(self) -> EventNews | None:
        """What the visit found of the event logs; None where it did not look."""
        return self._event_news

    async def begin(self, visit: Visit) -> None:
        """Ask for what a visit needs as far as it goes into lists, and make sure of who answers.

        Raises IdentityMismatch when the spec names another, and what `Exchange.get` does.
        """
        if self._spec.meter is None or self._layouts is None or self.exchange.list_limit == 1:
            if self._spec.meter is not None:
                await self.identify()
            return
        ground = self._ground(visit)
        planned = plan(visit.profiles, ground)
        targets, found = list(planned.targets), dict[Target, Data | ProtocolError]()
        while targets and (most := self.exchange.list_limit) > 1:
            part, targets = targets[:most], targets[most:]
            asked = Moment.of(self._clock)
            found |= await self.exchange.ask_ahead(part)
            self._drop_refused_ranges(part)
            if CLOCK_TIME in part:
                self._clock_listed = asked.until(Moment.of(self._clock))
        if self.exchange.holds(Target(1, SERIAL)):  # in an association that stood, too: it costs nothing here
            self._nameplate = None
        await self.identify()
        self._note_events(visit, ground, found)
        for check in {check.place: check for check in planned.checks}.values():
            with suppress(NotSupported, MeterRefused):  # the profile's own read tells
                await (await self._profiles()).recheck(check)

    def _drop_refused_ranges(self, asked: Sequence[Target]) -> None:
        """Let rows that were refused in a list be asked for alone: that alone tells whether the meter selects."""
        for target in asked:
            if target.selection is not None and self.exchange.drop_refusal(target):
                self.exchange.lists.ranges = False

    def _ground(self, visit: Visit) -> Ground:
        plate, now = self._notes.known.nameplate, self._clock.now()
        assert self._spec.meter is not None
        assert self._layouts is not None
        cache = LayoutCache(self._layouts, self._spec.meter, plate.firmware if plate else "")
        client = self._spec.dlms.client if self._spec.dlms else 0
        listed = (cache.objects(str(client)) or ()) if self._companion.by_object_list else ()
        return Ground(
            companion=self._companion,
            known=self._notes.known,
            layouts=cache.layouts(places(visit.profiles, self._companion, listed)),
            listed=listed,
            now=now,
            zone=self._zone,
            since=visit.since,
        )

    def _note_events(
        self, visit: Visit, ground: Ground, found: Mapping[Target, Data | ProtocolError]
    ) -> None:
        """Take out of the answers how the event logs stand; nothing where they were not asked for."""
        if ProfileName.EVENTS not in visit.profiles:
            return
        with suppress(NotSupported):
            source = self._companion.source(ProfileName.EVENTS, ground.listed)
            if not isinstance(source, LogsSource):
                return
            for target in mark_targets(source.logs, ground):
                answer = found.get(target)
                if isinstance(answer, NotSupported):
                    self._notes.lacks(str(target))
                elif isinstance(answer, Data) and target.index == CAPACITY and answer.integer:
                    self._notes.note_one("capacities", str(target.obis), answer.integer)
            seen = marks(source.logs, found, ground)
            self._event_news = EventNews(marks=seen, quiet=seen.quiet_since(visit.seen))

    async def _check_same_meter(self, exchange: Exchange) -> None:
        """Make sure that the same meter answers in a new association; IdentityMismatch otherwise."""
        known = self._nameplate
        if self._title and exchange.title and exchange.title != self._title:
            raise IdentityMismatch(
                expected=f"title {self._title.hex()}", found=f"title {exchange.title.hex()}"
            )
        if known is None:
            return
        serial = text_of(await exchange.get(Target(1, SERIAL)))
        if serial != known.serial:
            raise IdentityMismatch(expected=known.meter_id, found=f"{known.manufacturer}:{serial}")

    async def read(
        self, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[ReadingSet]:
        """Read a profile, oldest first; stored ones give every row with since < at <= until.

        Raises NotSupported when the meter has no such profile, and what `Exchange.get` raises.
        """
        reader = await self._profiles()
        quiet = () if self._event_news is None else self._event_news.quiet
        async for reading in reader.read(profile, since, until, quiet=quiet):
            yield reading

    async def _profiles(self) -> ProfileReader:
        if self._reader is None:
            cache: LayoutCache | None = None
            if self._layouts is not None:
                plate = await self.identify()
                cache = LayoutCache(self._layouts, plate.meter_id, plate.firmware)
            client = self._spec.dlms.client if self._spec.dlms else 0
            self._reader = ProfileReader(
                self.exchange,
                self._zone,
                self._clock,
                cache,
                self._companion,
                client=client,
                notes=self._notes,
            )
        return self._reader

    async def push_layouts(self) -> dict[Obis, Layout]:
        """Return how the meter's pushes are to be read, by push setup (see `push.layout`)."""
        return await push_layouts(self.exchange, await self._profiles())

    async def clock(self) -> MeterClock:
        """Read the meter's clock beside ours; MeterProtocolError when it shows no time."""
        listed = self._clock_listed if self.exchange.holds(CLOCK_TIME) else None
        self._clock_listed = None
        asked = Moment.of(self._clock)
        stamp = await self._meter_clock.read(self._zone)
        middle, takes = listed or asked.until(Moment.of(self._clock))
        if stamp.at is None:
            raise MeterProtocolError(f"the meter's clock shows no time ({stamp.wall})")
        return MeterClock(
            meter=stamp.at,
            gateway=middle.now,
            deviation=stamp.deviation,
            status=stamp.status,
            takes=takes,
            steady=middle.steady,
        )

    async def set_clock(self, at: datetime) -> None:
        """Set the clock, read it back and judge it (see `judged_clock`)."""
        await self.judged_clock(at)

    async def judged_clock(self, at: datetime) -> Judgement:
        """Set the clock to `at`, read it back, and return the judgement.

        A meter that takes the deviation the other way round is met in its own way. Raises WriteNotKept when it
        shows another time all the same, WriteUnproven when that could not be read.
        """
        started = self._clock.now()
        return await set_clock(self.exchange, lambda: at + (self._clock.now() - started), self._zone)

    async def shift_clock(self, by: timedelta) -> None:
        """Move the clock by a little as the meter itself writes its time (`protocols.session.ShiftsClock`)."""
        await shift_clock(self.exchange, self._clock.now, self._zone, by)

    @property
    def _meter_clock(self) -> objects.Clock:
        return objects.Clock(CLOCK, self.exchange)

    async def load_switch(self) -> Obis:
        """Find the disconnect control (class 70): where the companion says, or in the meter's object list.

        NotSupported when there is none.
        """
        listed = await (await self._profiles()).objects() if self._companion.by_object_list else ()
        found = self._companion.load_switch(listed)
        if found is None:
            raise NotSupported("the meter has no disconnect control")
        return found

    async def _contact(self) -> objects.DisconnectControl:
        return objects.DisconnectControl(await self.load_switch(), self.exchange)

    async def relay(self) -> RelayState:
        """Read the supply contact (class 70 #2 output state, #3 control state); UNKNOWN when they disagree."""
        return await (await self._contact()).read()

    async def switch_relay(self, to: RelayState) -> None:
        """Order the contact to move (class 70 method 1 or 2, parameter integer 0); success is acceptance."""
        match to:
            case RelayState.OPEN:
                await (await self._contact()).remote_disconnect.run(None)
            case RelayState.CLOSED:
                await (await self._contact()).remote_reconnect.run(None)
            case _:
                raise LocalError("a relay is ordered open or closed")


@asynccontextmanager
async def open_dlms(
    line: Line,
    spec: MeterSpec,
    context: SessionContext,
    *,
    layouts: Layouts | None = None,
    pool: AssociationPool | None = None,
    visit: Visit | None = None,
) -> AsyncIterator[DlmsSession]:
    """Hold the line, associate, check the identity, and yield the session; the line is left usable.

    `line` is any `protocols.line.Line`; it is taken for the block and opened when it is not. `spec` says which
    meter (`meter`, or None for any) and how to speak with it (`dlms`); `context` has its secrets, its
    invocation counters and the clock that rows are stamped with. `layouts` keeps what the meter showed of its
    profiles and objects for later sessions with it, `pool` the association where the spec asks for that
    (`keep_open`). `visit` says what is about to be read, so that it is asked for together.

    Raises MeterConfigError (settings, secrets), LineUnavailable and other LineErrors, MeterSilent,
    AssociationRefused, SecurityFailure, IdentityMismatch when another meter answers; afterwards the line is
    free. Cancelling ends the conversation: TCP is hung up when an answer was outstanding.

    Example::

        async with open_dlms(TcpLine("meter", "10.0.0.7", 4059), spec, context) as session:
            async for reading in session.read(ProfileName.BLOCK_LOAD, since, until):
                print(reading.at, reading.value("1-0:1.29.0*255"))
    """
    settings = spec.dlms
    if settings is None:
        raise MeterConfigError("the meter has no DLMS settings")
    on_push = line.take_push if isinstance(line, TakesPushes) else None
    on_dedicated = line.note_dedicated if isinstance(line, TakesDedicatedKeys) else None
    keys = KeyChoices(spec.meter, settings, context.secrets)
    notes = MeterNotes(None if layouts is None or spec.meter is None else known_meter(layouts, spec.meter))
    known = notes.known
    settings = with_release(settings, known, kept=layouts is not None and spec.meter is not None)
    lists = ListSize(settings.max_list, known.lists, known.list_faults, ranges=known.list_ranges)
    openers = [
        AssociationOpener(
            settings,
            association_settings(settings, choice, context.clock.now()),
            context.counters,
            on_push,
            on_dedicated,
            lists,
        )
        for choice in keys.choices
    ]
    spec.time_zone()  # an unknown zone is told before the meter is troubled
    lease = LineLease(line) if pool is None else pool.lease(line)
    try:
        await lease.acquire()
        pooled = None if pool is None else await pool.take(lease, spec)
        opener, association = (
            await keys.open(lease, openers) if pooled is None else (openers[0], pooled.exchange)
        )
        exchange = ResumingExchange(lease, opener, association, reused=pooled is not None)
        plate = None if pooled is None else pooled.nameplate
        session = DlmsSession(exchange, spec, context.clock, layouts=layouts, nameplate=plate, notes=notes)
        try:
            # before anything that is read could be taken for another meter's
            if visit is not None:
                await session.begin(visit)
            elif spec.meter is not None:
                await session.identify()
            yield session
            # only after a block that raised nothing: a broken session must not be met again by the next poll
            if pool is not None and exchange.standing:
                exchange.hand_over(partial(pool.put, lease, spec, nameplate=session.nameplate))
        finally:
            lists = exchange.lists
            notes.note(lists=lists.learned, list_faults=lists.faults, list_ranges=lists.ranges)
            if notes.changed and layouts is not None and spec.meter is not None:
                put_known_meter(layouts, spec.meter, notes.known)
            await exchange.close()
    except ProtocolError as error:
        if isinstance(error, AssociationRefused) and layouts is not None and spec.meter is not None:
            # it may hold the last one, where that ended with the link alone: from now on RLRQ says so
            notes.note(goodbye=True)
            put_known_meter(layouts, spec.meter, notes.known)
        error.with_context(meter=spec.meter, line=line.name)
        raise
    finally:
        await lease.release()
