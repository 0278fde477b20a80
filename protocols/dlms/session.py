"""`MeterSession` for DLMS meters: associate, check who answers, read profiles, clock and relay."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from protocols.dlms import objects, security
from protocols.dlms.association import AssociationSettings, ReleaseMode
from protocols.dlms.companion import DEFAULT, companion
from protocols.dlms.connection import ClientConnection
from protocols.dlms.exchange import Exchange
from protocols.dlms.hdlc_link import HdlcClientLink
from protocols.dlms.layout_cache import LayoutCache, Layouts
from protocols.dlms.link import ClientLink
from protocols.dlms.profiles import CLOCK, Layout
from protocols.dlms.push_layout import push_layouts
from protocols.dlms.reader import ProfileReader, ReaderStatistics
from protocols.dlms.security import Keys
from protocols.dlms.values import text_of
from protocols.dlms.wrapper import WrapperClientLink, WrapperSocket
from protocols.errors import (
    IdentityMismatch,
    LocalError,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    NotSupported,
    ProtocolError,
    SecurityFailure,
)
from protocols.line import Line, LineIO, TakesPushes
from protocols.reading import MeterClock, Nameplate, Obis, ProfileName, ReadingSet, RelayState
from protocols.session import Auth, Clock, CounterStore, DlmsSettings, MeterSpec, SecretSource

OnPush = Callable[[bytes], None]

PUBLIC_CLIENT = 16
SERIAL = Obis(0, 0, 96, 1, 0)
MANUFACTURER = Obis(0, 0, 96, 1, 1)
FIRMWARE = Obis(1, 0, 0, 2, 0)
MODEL = Obis(0, 0, 94, 91, 9)
YEAR = Obis(0, 0, 96, 1, 4)
GBT_WINDOW = 7
"""Blocks of a general block transfer that are taken in a row; on HDLC one, since a meter there must be asked."""
COUNTER_RESERVE = 0x1000
"""Counters below the end of the range at which we refuse: the keys must be changed by then."""


class DlmsSession:
    """An open conversation with one DLMS meter; made by `open_dlms`."""

    def __init__(
        self,
        exchange: Exchange,
        spec: MeterSpec,
        clock: Clock,
        *,
        system_title: bytes,
        cache: Layouts | None = None,
    ) -> None:
        self._exchange = exchange
        self._spec = spec
        self._clock = clock
        self._zone = zone_of(spec)
        self._title = system_title
        self._cache = cache
        self._companion = companion(spec.dlms.companion if spec.dlms else DEFAULT)
        self._nameplate: Nameplate | None = None
        self._reader: ProfileReader | None = None

    def statistics(self) -> ReaderStatistics:
        """Count what was unusual about the meter's profiles so far."""
        return self._reader.statistics() if self._reader else ReaderStatistics()

    @property
    def exchange(self) -> Exchange:
        """The association underneath, for tools that read objects of any kind."""
        return self._exchange

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
            self._nameplate = await self._read_nameplate()
        expected = self._spec.meter
        found = self._nameplate.meter_id
        if expected is not None and expected != found:
            raise IdentityMismatch(expected=expected, found=found)
        return self._nameplate

    async def _read_nameplate(self) -> Nameplate:
        serial = text_of(await self._exchange.get(1, SERIAL))
        if not serial:
            raise MeterProtocolError("the meter's serial (0.0.96.1.0) is empty")
        year = await self._text(YEAR)
        names = [n for n in (flag_letters(self._title), letters(await self._text(MANUFACTURER))) if n]
        expected = (self._spec.meter or "").partition(":")[0]
        return Nameplate(
            manufacturer=expected if expected in names else next(iter(names), ""),
            serial=serial,
            firmware=await self._text(FIRMWARE),
            model=await self._text(MODEL),
            year=int(year) if year.isdecimal() and year.isascii() else None,
        )

    async def _text(self, obis: Obis) -> str:
        """Read an identity object; "" when the meter lacks it or refuses it to this client."""
        try:
            return text_of(await self._exchange.get(1, obis))
        except (NotSupported, MeterRefused):
            return ""

    async def read(
        self, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[ReadingSet]:
        """Read a profile, oldest first; stored ones give every row with since < at <= until.

        Raises NotSupported when the meter has no such profile, and what `Exchange.get` raises.
        """
        reader = await self._profiles()
        async for reading in reader.read(profile, since, until):
            yield reading

    async def _profiles(self) -> ProfileReader:
        if self._reader is None:
            layouts: LayoutCache | None = None
            if self._cache is not None:
                plate = await self.identify()
                layouts = LayoutCache(self._cache, plate.manufacturer, plate.firmware, plate.serial)
            client = self._spec.dlms.client if self._spec.dlms else 0
            self._reader = ProfileReader(
                self._exchange, self._zone, self._clock, layouts, self._companion, client=client
            )
        return self._reader

    async def push_layouts(self) -> dict[Obis, Layout]:
        """Tell how the meter's pushes are to be read, by push setup (see `push_layout`)."""
        return await push_layouts(self._exchange, await self._profiles())

    async def clock(self) -> MeterClock:
        """Read the meter's clock beside ours; MeterProtocolError when it shows no time."""
        stamp = await self._meter_clock.read(self._zone)
        if stamp.at is None:
            raise MeterProtocolError(f"the meter's clock shows no time ({stamp.wall})")
        return MeterClock(
            meter=stamp.at, gateway=self._clock.now(), deviation=stamp.deviation, status=stamp.status
        )

    async def set_clock(self, at: datetime) -> None:
        """Set the clock, with the deviation that the meter itself uses (Indian meters differ in sign)."""
        await self._meter_clock.adjust(at, self._zone)

    @property
    def _meter_clock(self) -> objects.Clock:
        return objects.Clock(CLOCK, self._exchange)

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
        return objects.DisconnectControl(await self.load_switch(), self._exchange)

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
    *,
    secrets: SecretSource,
    counters: CounterStore,
    clock: Clock,
    cache: Layouts | None = None,
) -> AsyncIterator[DlmsSession]:
    """Hold the line, associate, check the identity, and give the session; the line is left usable.

    `cache` keeps profile layouts by (manufacturer, firmware, profile) between sessions. Raises LineError,
    MeterSilent, AssociationRefused, SecurityFailure, IdentityMismatch, MeterConfigError. Cancelling ends the
    conversation: TCP is hung up when an answer was outstanding.
    """
    settings = spec.dlms
    if settings is None:
        raise MeterConfigError("the meter has no DLMS settings")
    association = association_settings(settings, secrets)
    companion(settings.companion)
    zone_of(spec)
    try:
        async with line.exclusive() as io:
            on_push = line.take_push if isinstance(line, TakesPushes) else None
            next_counter = await _counter_source(io, settings, association, counters, on_push)
            exchange = _exchange(io, settings, settings.client, association, next_counter, on_push)
            try:
                title = (await exchange.associate()).system_title
                session = DlmsSession(exchange, spec, clock, system_title=title, cache=cache)
                if spec.meter is not None:
                    await session.identify()
                yield session
            finally:
                await exchange.close()
    except ProtocolError as error:
        error.with_context(meter=spec.meter, line=line.name)
        raise


def association_settings(settings: DlmsSettings, secrets: SecretSource) -> AssociationSettings:
    """Fetch the secrets that the settings name; MeterConfigError when one is missing."""

    def fetch(ref: str | None) -> bytes | None:
        return None if ref is None else secrets.secret(ref)

    encryption, authentication = (
        fetch(settings.encryption_key_ref),
        fetch(settings.authentication_key_ref),
    )
    keys = None
    if encryption is not None and authentication is not None:
        keys = Keys(encryption=encryption, authentication=authentication)
    return AssociationSettings(
        auth=settings.auth,
        ciphered=settings.ciphered,
        protection=settings.protection,
        dedicated_key=settings.dedicated_key,
        general=settings.general,
        accept_plain=settings.accept_plain,
        secret=fetch(settings.password_ref),
        keys=keys,
        system_title=settings.system_title,
        max_pdu=settings.max_pdu,
        gbt_window=1 if settings.framing == "hdlc" else GBT_WINDOW,
        hls_object=Obis.parse(settings.hls_object),
        release=ReleaseMode.PLAIN if settings.release else ReleaseMode.NONE,
    )


def counter_key(keys: Keys, system_title: bytes) -> str:
    """Name the counter that belongs to a key and a title: a nonce must not repeat under either.

    The name is a digest, so that the same key used for two meters shares one counter and shows nothing.
    """
    return "dlms/" + hashlib.sha256(b"counter" + keys.encryption + system_title).hexdigest()[:32]


async def _counter_source(
    io: LineIO,
    settings: DlmsSettings,
    association: AssociationSettings,
    counters: CounterStore,
    on_push: OnPush | None = None,
) -> Callable[[], int]:
    """Read the meter's counter through the public client, then give counters above it and above our own."""
    keys = association.keys
    if keys is None or not (association.ciphered or association.auth is Auth.HLS_GMAC):
        return lambda: 0
    floor = await _meter_counter(io, settings, on_push) + 1
    if floor > security.MAX_COUNTER - COUNTER_RESERVE:
        raise SecurityFailure("the meter's invocation counter is nearly used up: its keys must be changed")
    key = counter_key(keys, association.system_title)
    return lambda: counters.next(key, at_least=floor)


async def _meter_counter(io: LineIO, settings: DlmsSettings, on_push: OnPush | None) -> int:
    known = companion(settings.companion).associations.get(settings.client)
    if known is None or settings.client == PUBLIC_CLIENT:
        return 0
    exchange = _exchange(io, settings, PUBLIC_CLIENT, AssociationSettings(), lambda: 0, on_push)
    try:
        await exchange.associate()
        value = (await exchange.get(1, known.counter)).integer
    finally:
        await exchange.close()
    if value is None or value < 0:
        raise MeterProtocolError(f"the meter's invocation counter ({known.counter}) is no number")
    return value


def _exchange(
    io: LineIO,
    settings: DlmsSettings,
    client: int,
    association: AssociationSettings,
    next_counter: Callable[[], int],
    on_push: OnPush | None,
) -> Exchange:
    connection = ClientConnection(_link(settings, client), association, next_counter)
    return Exchange(
        io,
        connection,
        timeout=settings.timeout,
        bus=settings.framing == "hdlc",
        max_list=settings.max_list,
        on_push=on_push,
    )


def _link(settings: DlmsSettings, client: int) -> ClientLink:
    match settings.framing:
        case "wrapper":
            return WrapperClientLink(client=client, server=settings.server)
        case "wrapper-udp":
            return WrapperSocket(datagrams=True).link(client=client, server=settings.server)
        case "hdlc":
            return HdlcClientLink(
                client=client,
                server=settings.server,
                physical=settings.physical,
                max_info=settings.max_info,
                window=settings.window,
                address_octets=settings.address_octets,
            )
    raise MeterConfigError(f"DLMS framing {settings.framing!r}: wrapper, wrapper-udp or hdlc")


def zone_of(spec: MeterSpec) -> ZoneInfo:
    """Find the meter's zone; MeterConfigError when there is none of that name."""
    try:
        return ZoneInfo(spec.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise MeterConfigError(f"unknown time zone {spec.zone!r}") from error


def flag_letters(system_title: bytes) -> str:
    """Give the three FLAG letters that a system title begins with, or "" when it does not."""
    head = system_title[:3]
    return letters(head.decode("ascii")) if head.isalpha() and head.isascii() else ""


def letters(name: str) -> str:
    """Give the first three letters of a maker's name in upper case (`GENUS POWER` is `GEN`)."""
    return "".join(c for c in name.upper() if c.isascii() and c.isalpha())[:3]
