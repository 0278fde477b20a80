"""Changing the keys of configured meters: which keys, sealed to whom, and how a meter is asked what it holds."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.config.file import Config
from gateway.contract.key_text import KeyEntry, KeyText, sealing_context
from gateway.contract.sealing import seal
from gateway.edge.keys.change import Stage, Told
from gateway.edge.keys.escrow import MqttEscrow, mqtt_escrow
from gateway.edge.keys.ring import KeyChoice, KeyRing, by_ref, way_name
from gateway.edge.keys.rotate import Escrow, carry_through
from gateway.edge.keys.store import SLOTS_OF, Change, KeyStore, slot_name
from gateway.errors import ConfigError
from gateway.mqtt.connection import connect
from gateway.roles.beside_edge import ClientBesideEdge, OpenCounters, client_beside_edge
from gateway.roles.key_ring import key_ring
from gateway.roles.keys_wanted import Wanted
from gateway.roles.mqtt_settings import mqtt_settings, one_time_id, password
from protocols.dlms.acts import keys as acts
from protocols.dlms.acts.keys import KeySlot
from protocols.dlms.client.key_choices import NOT_THE_KEYS, REFUSALS
from protocols.dlms.session import DlmsSession, open_dlms
from protocols.errors import (
    InvocationCounterRefused,
    LineClosed,
    LineError,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
    NotSupported,
    SecurityFailure,
)
from protocols.line import Line
from protocols.meters.secrets import FileSecrets
from protocols.session import Auth, Clock, CounterStore, DlmsSettings, MeterSpec, SessionContext

KEY_OCTETS = 16
COUNTER_TRIES, COUNTER_PAUSE = 6, 1.5
"""How often an association is tried whose invocation counter another client of the meter went past, seconds apart."""
_PASSWORD = string.ascii_letters + string.digits
_LEAST_PASSWORD = 8


class SealTo:
    """The public keys that new keys are sealed to; ConfigError where the configuration names no escrow key."""

    def __init__(self, config: Config) -> None:
        section, files = config.keys, FileSecrets(config.secrets)
        if section.escrow_key_ref is None:
            raise ConfigError(
                "new keys are sealed to the utility's escrow key before a meter gets them: set [keys] escrow_key_ref"
                " (`keys escrow-new` makes the pair; the private half stays off this box)"
            )
        refs = [section.escrow_key_ref, *([section.store_key_ref] if section.store_key_ref else [])]
        self._public = [files.secret(ref) for ref in refs]
        self._gateway = config.gateway.name

    def change(self, one: Wanted, ring: KeyRing, clock: Clock) -> Change:
        """Make new keys, sealed together with those in force; nothing is kept yet."""
        meter, client, key_id = one.section.meter, one.client, secrets.token_hex(16)
        old = _in_force(one, ring)
        new = {slot: _new_key(one.settings.auth, slot, old.get(slot)) for slot in SLOTS_OF[one.what]}
        at = clock.now()
        entries = [_entry(client, slot, key, new=True) for slot, key in new.items()]
        entries += [_entry(client, slot, key, new=False) for slot, key in old.items()]
        text = KeyText(gateway=self._gateway, meter=meter, key_id=key_id, keys=tuple(entries), made_at=at)
        sealed = seal(
            text.model_dump_json().encode(),
            to=self._public,
            context=sealing_context(meter, key_id),
        )
        return Change(
            key_id=key_id,
            meter=meter,
            client=client,
            what=one.what,
            stage=Stage.MADE,
            sealed=sealed,
            slots=tuple(slot_name(client, slot) for slot in new),
            made_at=at,
            keys=new,
        )


def _in_force(one: Wanted, ring: KeyRing) -> dict[KeySlot, bytes]:
    """Return the keys that the meter has now, all that are known; those that are needed must be."""
    needed = {*SLOTS_OF[one.what]} - {KeySlot.BROADCAST}
    if one.what != "secret":
        needed.add(KeySlot.MASTER)
    found: dict[KeySlot, bytes] = {}
    for slot in KeySlot:
        try:
            found[slot] = ring.key(one.section.meter, one.client, slot, one.ref(slot))
        except MeterConfigError:
            if slot in needed:
                raise
    return found


def _entry(client: int, slot: KeySlot, key: bytes, *, new: bool) -> KeyEntry:
    return KeyEntry(slot=slot_name(client, slot), state="new" if new else "held", octets=key.hex())


def _new_key(auth: Auth, slot: KeySlot, old: bytes | None) -> bytes:
    if slot is not KeySlot.SECRET:
        return secrets.token_bytes(len(old) if old is not None else KEY_OCTETS)  # suite 2 has longer ones
    if auth is Auth.HLS2:
        return secrets.token_bytes(KEY_OCTETS)
    if auth is not Auth.LLS:  # HLS-SHA-256 has 32 octets or more
        return secrets.token_bytes(min(max(len(old or b""), KEY_OCTETS), acts.MAX_HLS_SECRET))
    # Many meters have room for a password of one length only: that of the one before.
    length = min(max(len(old or b""), _LEAST_PASSWORD), acts.MAX_PASSWORD)
    return "".join(secrets.choice(_PASSWORD) for _ in range(length)).encode()


class ConfiguredMeter:
    """Implements `rotate.KeyedMeter` for one meter of the configuration."""

    def __init__(
        self,
        one: Wanted,
        *,
        spec: MeterSpec,
        line: Line,
        ring: KeyRing,
        counters: CounterStore,
        clock: Clock,
    ) -> None:
        self._one = one
        self._spec = spec
        self._line = line
        self._ring = ring
        self._counters = counters
        self._clock = clock
        self._refused: set[str] = set()

    async def settle(self) -> None:
        """Associate with whichever keys the meter takes: the ring then knows which are in force."""
        async with self._open(self._one.settings, self._ring):
            pass

    def provable(self, change: Change) -> bool:
        """A broadcast key is used by nobody who could be asked."""
        return KeySlot.BROADCAST not in change.keys

    async def send(self, change: Change) -> Told:
        """Send the new keys in an association of the client that may, with the keys in force; see `KeyedMeter`."""
        one = self._one
        master = self._key(KeySlot.MASTER) if change.what != "secret" else b""
        async with self._open(one.acting, self._ring) as session:
            store = self._ring.store()
            fresh = None if store is None else store.change(change.key_id)
            if fresh is None or fresh.stage is Stage.PROVEN:
                return Told.UNKNOWN  # the association was had with the new keys already
            return await self._hand_over(session, fresh, master)

    async def _hand_over(self, session: DlmsSession, change: Change, master: bytes) -> Told:
        exchange = session.exchange
        try:
            if change.what == "secret":
                secret = change.keys[KeySlot.SECRET]
                await acts.change_secret(exchange, self._one.places, self._one.settings.auth, secret)
            else:
                await acts.transfer(exchange, self._one.places, master, change.keys)
        except (MeterRefused, NotSupported) as error:
            self._explain(change, f"the meter refuses: {error}")
            self._refused.add(change.key_id)
            return Told.REFUSED
        except (LineError, MeterSilent, MeterProtocolError, SecurityFailure) as error:
            self._explain(change, f"no answer that says: {error}")
            return Told.UNKNOWN
        return Told.ACCEPTED

    def _explain(self, change: Change, text: str) -> None:
        store = self._ring.store()
        if store is not None:
            store.explain(change.key_id, text)

    async def prove(self, change: Change) -> tuple[Told, Iterable[KeySlot]]:
        """Try the new keys, the old ones, and where there are two, one of each; errors of a line are raised."""
        if KeySlot.MASTER in change.keys:
            return await self._prove_master(change)
        silent: MeterSilent | LineClosed | None = None
        tries: list[tuple[Told, Sequence[KeySlot]]] = [
            (Told.NEW_PROVED, tuple(change.keys)),
            (Told.OLD_PROVED, ()),
        ]
        if change.key_id in self._refused:  # then the old ones are the likelier
            tries.reverse()
        if len(change.keys) > 1:
            tries += [(Told.PARTLY, (slot,)) for slot in change.keys]
        refusals = 0
        for told, slots in tries:
            if told is Told.PARTLY and not await self._may_try(change, slots):
                continue
            try:
                async with self._open(self._one.settings, self._with(change, slots)):
                    return told, slots
            except (MeterSilent, LineClosed) as error:
                silent = error
            except NOT_THE_KEYS:
                raise  # of the counters: it says nothing about keys
            except REFUSALS:
                refusals += 1
                if told is Told.NEW_PROVED:
                    await self._note_refused(change)
        if silent is not None and not refusals:
            raise silent
        self._explain(
            change,
            "the meter takes neither the new keys nor the old ones; where it took one of two, it is asked for in an"
            " hour, so that it locks nobody out",
        )
        return Told.NEITHER, ()

    async def _may_try(self, change: Change, slots: Sequence[KeySlot]) -> bool:
        """Say whether one key of two is tried: it is unlikely, and so takes of the few tries that an hour has."""
        store = self._ring.store()
        way = way_name(((change, tuple(slots)),))
        return store is None or await asyncio.to_thread(
            store.may_try, change.meter, change.client, way, self._clock.now()
        )

    async def _note_refused(self, change: Change) -> None:
        """Note that the meter refused the new keys: the running edge tries them less."""
        store = self._ring.store()
        if store is not None:
            way = way_name(((change, tuple(change.keys)),))
            await asyncio.to_thread(store.note_try, change.meter, change.client, way, self._clock.now())

    async def _prove_master(self, change: Change) -> tuple[Told, Iterable[KeySlot]]:
        async with self._open(self._one.acting, self._ring) as session:
            if await acts.is_master(session.exchange, self._one.places, change.keys[KeySlot.MASTER]):
                return Told.NEW_PROVED, (KeySlot.MASTER,)
            if await acts.is_master(session.exchange, self._one.places, self._key(KeySlot.MASTER)):
                return Told.OLD_PROVED, ()
        self._explain(change, "the meter takes neither the new master key nor the old one")
        return Told.NEITHER, ()

    def _key(self, slot: KeySlot) -> bytes:
        one = self._one
        return self._ring.key(one.section.meter, one.client, slot, one.ref(slot))

    def _with(self, change: Change, slots: Sequence[KeySlot]) -> KeyChoice:
        """Return the keys in force, and of a change those in some slots."""
        store = self._ring.store()
        held = {} if store is None else store.held(change.meter, change.client)
        new = {slot: change.keys[slot] for slot in slots}
        return KeyChoice(FileSource(self._ring), by_ref(self._one.settings, {**held, **new}))

    @asynccontextmanager
    async def _open(self, settings: DlmsSettings, source: KeyRing | KeyChoice) -> AsyncIterator[DlmsSession]:
        assert self._spec.dlms is not None
        titled = replace(settings, system_title=self._spec.dlms.system_title, keep_open=0.0)
        context = SessionContext(secrets=source, counters=self._counters, clock=self._clock)
        spec = replace(self._spec, dlms=titled)
        async with AsyncExitStack() as stack:
            for left in reversed(range(COUNTER_TRIES)):
                try:
                    session = await stack.enter_async_context(open_dlms(self._line, spec, context))
                except InvocationCounterRefused:
                    if not left:
                        raise
                    await asyncio.sleep(COUNTER_PAUSE)  # the running edge reads this meter just now
                else:
                    break
            yield session


@dataclass(frozen=True, slots=True)
class FileSource:
    """The files of a ring alone."""

    ring: KeyRing

    def secret(self, ref: str) -> bytes:
        """Return the octets behind `ref`."""
        return self.ring.secret(ref)


class KeyWork:
    """Changes keys of configured meters, one after the other or several at once; made by `key_work`."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        ring: KeyRing,
        store: KeyStore,
        escrow: Escrow,
    ) -> None:
        self._config = config
        self._clock = clock
        self._ring = ring
        self._store = store
        self._counters: dict[Path, OpenCounters] = {}
        self._escrow = escrow
        self._seal = SealTo(config)

    async def rotate(self, one: Wanted) -> Change:
        """Change keys, or go on with a change that is under way; return how far it is.

        Raises UsageError, ConfigError, PeerError (escrow), ProtocolError (line and meter); on the disk it says how to
        go on, and the next call does.
        """
        meter = one.section.meter
        client = client_beside_edge(self._config, one.section, "keys")
        line = client.way.line(f"keys {meter}", meter=meter, changes=True)
        try:
            door = ConfiguredMeter(
                one,
                spec=client.spec,
                line=line,
                ring=self._ring,
                counters=self._counters_of(client),
                clock=self._clock,
            )
            change = self._store.open_change(meter, one.client, one.what)
            if change is None:
                # What is sealed says what the meter holds now: of what central gave, the meter tells first.
                if any(other.given for other in self._store.may_hold(meter, one.client)):
                    await door.settle()
                change = self._store.make(self._seal.change(one, self._ring, self._clock))
            return await carry_through(
                change, store=self._store, escrow=self._escrow, meter=door, now=self._clock.now
            )
        finally:
            await line.close()

    def _counters_of(self, client: ClientBesideEdge) -> CounterStore:
        """Return a client's invocation counters, which are held until the work is over."""
        path = client.ask_edge or client.counters
        if path not in self._counters:
            self._counters[path] = client.open_counters()
        return self._counters[path]

    def close(self) -> None:
        """Let go of the files of counters. Idempotent."""
        for counters in self._counters.values():
            counters.close()


@asynccontextmanager
async def key_work(config: Config, clock: Clock, *, escrow: Escrow | None = None) -> AsyncIterator[KeyWork]:
    """Connect to the broker for the block; at its end central is told what was proved.

    Raises PeerError when there is no broker, ConfigError when central's word could not be verified or no escrow key
    is set.
    """
    SealTo(config)  # before anybody is troubled
    ring = key_ring(config, clock)
    store = ring.store(make=True)
    assert store is not None
    async with AsyncExitStack() as stack:
        stack.callback(ring.close)
        connected: MqttEscrow | None = None
        if escrow is None:
            escrow = connected = await stack.enter_async_context(_connected(config, clock))
            await connected.tell_proved(store)
        work = KeyWork(config, clock=clock, ring=ring, store=store, escrow=escrow)
        stack.callback(work.close)
        try:
            yield work
        finally:
            if connected is not None:
                await connected.tell_proved(store)


@asynccontextmanager
async def _connected(config: Config, clock: Clock) -> AsyncIterator[MqttEscrow]:
    refs = config.directory.verify_refs()
    if not refs:
        raise ConfigError(
            "central's receipts are verified before a meter is given new keys: set [directory] verify_key_ref"
        )
    files = FileSecrets(config.secrets)
    settings = mqtt_settings(config.mqtt, one_time_id(config, "keys"))
    async with (
        connect(settings, password=password(config)) as connection,
        mqtt_escrow(
            connection,
            gateway=config.gateway.name,
            root=config.mqtt.root,
            keys=[files.secret(ref) for ref in refs],
            clock=clock,
        ) as escrow,
    ):
        yield escrow
