"""Opens associations as a meter's settings say: framing, secrets, and invocation counters that it accepts."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.key_pairs import key_pairs
from protocols.dlms.client.line_lease import LineLease
from protocols.dlms.client.list_size import ListSize
from protocols.dlms.companion import companion
from protocols.dlms.core import refusal_hints
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection, State
from protocols.dlms.framing.gateway import MAX_ADDRESS, Behind, GatewayLink
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.framing.link import ClientLink
from protocols.dlms.framing.wrapper import WrapperClientLink, WrapperSocket
from protocols.dlms.security import suites
from protocols.dlms.security.suites import Keys
from protocols.errors import (
    AssociationRefused,
    CounterNotBelieved,
    InvocationCounterRefused,
    LineClosed,
    LineError,
    LocalError,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
    NotSupported,
    ProtocolError,
    SecurityFailure,
)
from protocols.line import LineIO, OnPush
from protocols.reading import Obis
from protocols.session import Auth, CounterStore, DlmsSettings, SecretSource
from protocols.unused import UnusedCounter

T = TypeVar("T")

PUBLIC_CLIENT = 16
GBT_WINDOW = 7
"""Blocks of a general block transfer that are taken in a row; on HDLC one, since a meter there must be asked."""
COUNTER_RESERVE = 0x1000
"""Counters below the end of the range at which we refuse: the keys must be changed by then."""


class AssociationOpener:
    """Associates with one meter, as often as it is asked to.

    Where counters are needed, our own is tried once a meter has proved that it holds the key; before that, and
    after a failure, the meter's own is read through the public client first. After a refusal, or where the
    meter did not even answer ours, it is read (again): the association is tried once more when the counter
    explains it, and only then, since a wrong password that is tried again may lock us out. A meter that does
    not show its counter is met with ours alone. `on_push` is given what the meter sends unasked meanwhile,
    `on_dedicated` the dedicated keys of each association (or None).

    What the meter shows, or names in a refusal, proves nothing: it is believed as far as the counter store does.
    Beyond that ours is tried, and where it is refused somebody must look.
    """

    def __init__(
        self,
        settings: DlmsSettings,
        association: AssociationSettings,
        counters: CounterStore,
        on_push: OnPush | None = None,
        on_dedicated: Callable[[Keys | None], None] | None = None,
        lists: ListSize | None = None,
    ) -> None:
        self._settings = settings
        self._association = association
        self._counters = counters
        self._on_push = on_push
        self._lists = lists or ListSize(settings.max_list)
        self._on_dedicated = on_dedicated
        self._counter_object = counter_object(settings)
        keys = association.keys
        self._key = None if keys is None else counter_key(keys, association.system_title)
        self._uses_counter = association.ciphered or association.auth is Auth.HLS_GMAC
        self._least_counter = 0
        self._shown_counter: int | None = None
        self._used_counter = -1
        self._doubted: int | None = None
        self._unlinked = False  # the last association failed before its link was connected
        self._line_dirty = False  # an association was cut short: its answer may still come

    async def open(self, lease: LineLease, after: ProtocolError | None = None) -> Exchange:
        """Associate with the meter on the line that `lease` holds, anew `after` what ended the association before.

        Returns an exchange that takes requests. Raises LineError, MeterSilent, AssociationRefused,
        SecurityFailure, InvocationCounterRefused, MeterRefused, MeterProtocolError, MeterConfigError; then
        nothing of ours stands in the meter.
        """
        ours_first = self._key is not None and self._proves_key and self._counters.proven(self._key)
        if isinstance(after, SecurityFailure) and after.by_meter:  # somebody else used our counter meanwhile
            told = after.meter_counter if isinstance(after, InvocationCounterRefused) else None
            self._raise_counter_above(told)
            ours_first = ours_first and told is not None and self._doubted is None
        if self._uses_counter and not ours_first:
            # a counter that the meter has seen may cost a try that counts towards its lock-out
            self._raise_counter_above(await self._undisturbed(lease, self._read_counter))
        try:
            return await self._undisturbed(lease, self._associate)
        except (AssociationRefused, SecurityFailure, MeterSilent, MeterProtocolError, LineClosed) as error:
            if ours_first and self._key is not None:
                self._counters.failed(self._key)
            if isinstance(error, MeterProtocolError):
                raise
            # some meters do not answer a counter that they have seen, or hang up
            unanswered = isinstance(error, MeterSilent | LineClosed)
            if unanswered and (not ours_first or self._unlinked):
                raise
            behind = self._uses_counter and await self._counter_was_behind(lease, error)
            if self._doubted is not None:
                raise CounterNotBelieved(told=self._doubted, own=self._used_counter) from error
            if not behind:
                raise self._with_counter_object(error) from error
        try:
            return await self._undisturbed(lease, self._associate)
        except InvocationCounterRefused as error:
            raise self._with_counter_object(error) from error

    async def _undisturbed(self, lease: LineLease, step: Callable[[LineLease], Awaitable[T]]) -> T:
        """Run a step that opens an association; once more over a new connection where the far end closed the used one.

        Some meters close TCP with each association (RLRE, DISC), also between two of our own. Nothing of the step
        was heard then: not an octet came.
        """
        received = lease.line.statistics().received
        try:
            return await step(lease)
        except LineClosed:
            if not lease.used or lease.line.statistics().received != received:
                raise
            await lease.renew()
            return await step(lease)
        finally:
            lease.note_use()

    # invocation counters

    def _next_counter(self) -> int:
        if self._key is None:
            return 0
        self._used_counter = self._counters.next(self._key, at_least=self._least_counter)
        return self._used_counter

    def _raise_counter_above(self, last: int | None) -> None:
        """Use counters above the meter's last where it is believed; SecurityFailure when few are left."""
        if last is None or self._key is None:
            return
        self._doubted = None if self._counters.believes(self._key, last) else last
        if self._doubted is not None:
            return
        if last + 1 > suites.MAX_COUNTER - COUNTER_RESERVE:
            raise SecurityFailure(
                "the meter's invocation counter is nearly used up: its keys must be changed"
            )
        self._least_counter = max(self._least_counter, last + 1)

    async def _counter_was_behind(self, lease: LineLease, error: ProtocolError) -> bool:
        """Read the counter again; say whether it explains the refusal, so that a higher one is worth a try.

        Others may have used our keys since it was read: a hand-held unit, an earlier gateway's late request.
        """
        used = self._used_counter
        # some meters name their counter in the exception-response, others only refuse
        last = error.meter_counter if isinstance(error, InvocationCounterRefused) else None
        if self._line_dirty:
            await lease.renew()
        with suppress(
            AssociationRefused, SecurityFailure, MeterRefused, MeterSilent, MeterProtocolError, LineError
        ):
            shown = await self._undisturbed(lease, self._read_counter)
            last = shown if last is None else max(last, shown or 0)
        if last is None:
            return False
        self._raise_counter_above(last)
        if self._doubted is not None:
            return False
        # a meter that took our counter and refused for another reason shows just that counter
        return last >= used if isinstance(error, InvocationCounterRefused) else last > used

    def _with_counter_object(self, error: ProtocolError) -> ProtocolError:
        """Add the meter's counter, and where it is read, to the error that goes out."""
        if not isinstance(error, InvocationCounterRefused):
            return error
        known = self._counter_object or companion_counter(self._settings)
        return InvocationCounterRefused(
            meter_counter=self._shown_counter if error.meter_counter is None else error.meter_counter,
            own_counter=error.own_counter,
            where=f"{dotted(known)} through client {PUBLIC_CLIENT}" if known else None,
        )

    async def _read_counter(self, lease: LineLease) -> int | None:
        """Read the meter's counter through the public client; None where it does not show it."""
        if self._counter_object is None:
            return None
        settings = AssociationSettings(
            release=self._settings.release, short_names=self._settings.reference == "sn"
        )
        connection = ClientConnection(
            link_of(self._settings, PUBLIC_CLIENT, lease.unused), settings, lambda: 0
        )
        exchange = self._exchange(lease.io, connection)
        shown: int | None = None
        try:
            await exchange.associate()
            shown = (await exchange.get(Target(1, self._counter_object))).integer
            if shown is None or shown < 0:
                raise MeterProtocolError(
                    f"the meter's invocation counter ({self._counter_object}) is no number"
                )
        except (AssociationRefused, MeterRefused, NotSupported):
            pass  # a meter without public client, or that hides its counter: ours alone must do
        except MeterSilent as error:
            raise refusal_hints.silent_public(
                error, linking(connection), self._settings, PUBLIC_CLIENT
            ) from error
        finally:
            await exchange.close()
        if not exchange.clean:  # the public client's late answer must not be taken for one to our AARQ
            await lease.renew()
        self._shown_counter = shown
        return shown

    # associations

    @property
    def _proves_key(self) -> bool:
        """Whether an association that stands means that the meter holds the key: its answer had a tag."""
        association = self._association
        return association.auth is Auth.HLS_GMAC or (association.ciphered and not association.accept_plain)

    async def _associate(self, lease: LineLease) -> Exchange:
        client = self._settings.client
        connection = ClientConnection(
            link_of(self._settings, client, lease.unused), self._association, self._next_counter
        )
        exchange = self._exchange(lease.io, connection)
        try:
            await exchange.associate()
        except BaseException as error:  # a cancelled task too leaves the line as it found it
            self._unlinked = unlinked = linking(connection)
            await exchange.close()
            self._line_dirty = not exchange.clean
            if isinstance(error, MeterSilent | MeterRefused):
                raise refusal_hints.explained(error, unlinked, self._settings, client) from error
            raise
        if self._key is not None and self._proves_key:
            self._counters.confirm(self._key, self._used_counter)
        if self._on_dedicated is not None:
            self._on_dedicated(connection.dedicated_keys)
        return exchange

    def _exchange(self, io: LineIO, connection: ClientConnection) -> Exchange:
        return Exchange(
            io,
            connection,
            timeout=self._settings.timeout,
            bus=self._settings.framing == "hdlc",
            lists=self._lists,
            on_push=self._on_push,
        )


def association_settings(
    settings: DlmsSettings, secrets: SecretSource, at: datetime | None = None
) -> AssociationSettings:
    """Fetch the secrets that the settings name; MeterConfigError when one is missing or does not fit the suite.

    Certificates must hold at `at` (None: now); SecurityFailure when one does not.
    """

    def fetch(ref: str | None) -> bytes | None:
        return None if ref is None else secrets.secret(ref)

    encryption, authentication = (
        fetch(settings.encryption_key_ref),
        fetch(settings.authentication_key_ref),
    )
    keys = None
    if encryption is not None and authentication is not None:
        keys = Keys(encryption=encryption, authentication=authentication, suite=settings.suite)
    own, peer, trust = key_pairs(settings, secrets, datetime.now(UTC) if at is None else at)
    return AssociationSettings(
        auth=settings.auth,
        ciphered=settings.ciphered,
        protection=settings.protection,
        dedicated_key=settings.dedicated_key,
        general=settings.general,
        accept_plain=settings.accept_plain,
        secret=fetch(settings.password_ref),
        keys=keys,
        own=own,
        peer=peer,
        trust=trust,
        master=fetch(settings.master_key_ref),
        key_info=settings.key_info,
        signed=settings.signed,
        short_names=settings.reference == "sn",
        system_title=settings.system_title,
        max_pdu=settings.max_pdu,
        gbt_window=1 if settings.framing == "hdlc" else GBT_WINDOW,
        hls_object=_object(settings.hls_object, "hls_object"),
        release=settings.release,
    )


def counter_key(keys: Keys, system_title: bytes) -> str:
    """Name the counter that belongs to a key and a title: a nonce must not repeat under either.

    The name is a digest, so that the same key used for two meters shares one counter and shows nothing.
    """
    return "dlms/" + hashlib.sha256(b"counter" + keys.encryption + system_title).hexdigest()[:32]


def counter_object(settings: DlmsSettings) -> Obis | None:
    """Return the object that shows the counter of the settings' client, None when it is not to be asked."""
    if settings.client == PUBLIC_CLIENT or settings.counter_object == "":
        return None
    if settings.counter_object is not None:
        return _object(settings.counter_object, "counter_object")
    return companion_counter(settings)


def companion_counter(settings: DlmsSettings) -> Obis | None:
    """Return the companion's counter object for the settings' client, None where it knows no such client."""
    known = companion(settings.companion).associations.get(settings.client)
    return None if known is None else known.counter


def link_of(settings: DlmsSettings, client: int, unused: UnusedCounter | None = None) -> ClientLink:
    """Make the framing towards the settings' meter for one client address, behind a gateway where they say so."""
    link = _framing_of(settings, client, unused)
    if settings.gateway_address is None:
        if settings.gateway_network is not None:
            raise MeterConfigError("gateway_network needs gateway_address")
        return link
    return GatewayLink(link, behind(settings.gateway_network or 0, settings.gateway_address))


def behind(network: int, address: str) -> Behind:
    """Read the address of a meter behind a gateway; MeterConfigError for one that cannot be."""
    try:
        octets = bytes.fromhex(address[4:]) if address.startswith("hex:") else address.encode("ascii")
        return Behind(network, octets)
    except (ValueError, LocalError) as error:
        raise MeterConfigError(
            f"gateway_address = {address!r}: text of 1 to {MAX_ADDRESS} characters, or hex: and hex digits"
        ) from error


def _framing_of(settings: DlmsSettings, client: int, unused: UnusedCounter | None) -> ClientLink:
    """Make the framing towards the settings' meter for one client address; `unused` counts what it passes over."""
    match settings.framing:
        case "wrapper-udp":
            return WrapperSocket(datagrams=True, unused=unused).link(client=client, server=settings.server)
        case "hdlc":
            return HdlcClientLink(
                client=client,
                server=settings.server,
                physical=settings.physical,
                max_info=settings.max_info,
                window=settings.window,
                address_octets=settings.address_octets,
                unused=unused,
            )
    return WrapperClientLink(client=client, server=settings.server, socket=WrapperSocket(unused=unused))


def linking(connection: ClientConnection) -> bool:
    """Say whether the link is not connected yet."""
    return connection.state is State.LINKING


def dotted(obis: Obis) -> str:
    """Write an OBIS code as engineers say it: `0.0.43.1.3.255`."""
    return f"{obis.a}.{obis.b}.{obis.c}.{obis.d}.{obis.e}.{obis.f}"


def _object(given: str, setting: str) -> Obis:
    try:
        return Obis.parse(given)
    except ValueError as error:
        raise MeterConfigError(f"{setting} = {given!r} is no OBIS code, such as 0-0:43.1.3*255") from error
