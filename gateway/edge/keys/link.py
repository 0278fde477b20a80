"""The running edge's talk with central about keys: what central lacks, what was proved, what this box is given."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from pathlib import Path
from time import monotonic

import structlog

from gateway.contract.central_word import parse_signed
from gateway.contract.envelope import TYPE_OF, event_type, wrap
from gateway.contract.key_text import GivenKeys, KeyEntry, given_keys, giving_context
from gateway.contract.messages import KeysGiven, KeysMissing, KeysRequest
from gateway.contract.messages.texts import gateway_source
from gateway.contract.sealing import (
    key_name,
    new_sealing_pair,
    open_sealed,
    public_of,
    public_text,
    sealed_octets,
)
from gateway.contract.topics import Topics
from gateway.edge.keys.change import Stage
from gateway.edge.keys.escrow import Receipts
from gateway.edge.keys.ring import KeyRing
from gateway.edge.keys.store import SLOTS_OF, Change
from gateway.errors import ContractError, JournalError
from gateway.mqtt.connection import MqttConnection
from gateway.mqtt.steady import Steady
from protocols.dlms.acts.keys import KeySlot
from protocols.durable import replace_file
from protocols.session import Clock

ASK_EVERY = 600.0
"""Seconds between questions for keys: a meter may have been allocated to this gateway meanwhile."""
OFFER_EVERY = 0.05
"""Seconds between changes that central lacks and is brought: what comes faster than it keeps them, it drops."""
TELL_EVERY = 15.0
"""Seconds between looks for changes that were proved."""
BOX_KEY = "box-key.pem"
log = structlog.get_logger("gateway.edge.keys")


def box_key(folder: Path) -> bytes:
    """Return this box's private key, made at the first call; JournalError when it cannot be kept."""
    path = folder / BOX_KEY
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, new_sealing_pair()[0])
        if path.stat().st_mode & 0o077:
            raise JournalError(f"others may read this box's key: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"this box's key {path} cannot be used: {error.strerror}") from error


class KeysLink:
    """Asks for the keys of this gateway's meters, and takes them; tells what was proved. Shares the sink's connection.

    `keys` are central's public keys, `private` this box's key.
    """

    def __init__(
        self,
        gateway: str,
        *,
        root: str,
        keys: Sequence[bytes],
        ring: KeyRing,
        private: bytes,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._topics = Topics(root)
        self._keys = tuple(keys)
        self._ring = ring
        self._private = private
        self._public = public_of(private)
        self._clock = clock
        self._receipts = Receipts(gateway, keys, clock)
        self._nonce = ""
        self._parts: dict[str, set[int]] = {}
        self._missing: asyncio.Queue[str] = asyncio.Queue(20_000)

    def topics(self) -> list[str]:
        """Return what the edge subscribes to for this."""
        return [self._topics.keys(self._gateway), self._topics.keys_receipts(self._gateway)]

    # what comes

    async def take(self, payload: bytes) -> None:
        """Take keys that central gives; ContractError says why not."""
        given, _ = parse_signed(payload, KeysGiven, self._keys)
        if given.gateway != self._gateway:
            raise ContractError(f"$.gateway: keys for {given.gateway!r}, not for us")
        if given.nonce != self._nonce:
            raise ContractError("$.nonce: not an answer to the question that waits")
        await asyncio.to_thread(self._open, given)

    def take_file(self, given: KeysGiven) -> None:
        """Take keys out of a bundle that was carried here; errors as `take`."""
        self._open(given)

    def _open(self, given: KeysGiven) -> None:
        if given.box != key_name(self._public):
            raise ContractError(f"$.box: sealed to the box {given.box}; this one is {key_name(self._public)}")
        sealed = sealed_octets(given.sealed)
        context = giving_context(self._gateway, given.digest, given.part, given.parts)
        found = given_keys(open_sealed(sealed, private=self._private, context=context))
        store = self._ring.store(make=True)
        assert store is not None
        parts = self._parts.setdefault(given.digest, set())
        parts.add(given.part)
        whole = len(parts) == given.parts
        at = self._clock.now()
        kept, dropped = store.give(
            _held(found), _changes(found), given.dropped, given.digest if whole else "", at
        )
        if whole:
            del self._parts[given.digest]
        log.info("keys_given", part=given.part, parts=given.parts, kept=kept, dropped=dropped)

    def take_receipt(self, payload: bytes) -> None:
        """Hear what central lacks; receipts are for the command that asked, which listens on its own connection."""
        if event_type(payload) != TYPE_OF[KeysMissing]:
            return
        missing, _ = parse_signed(payload, KeysMissing, self._keys)
        if missing.gateway != self._gateway or missing.nonce != self._nonce:
            raise ContractError("$.nonce: not an answer to our question")
        for key_id in missing.key_ids:
            if not self._missing.full():
                self._missing.put_nowait(key_id)

    # what goes

    def workers(self, connection: MqttConnection) -> tuple[Coroutine[None, None, None], ...]:
        """Return what asks and tells until the connection ends, each of which raises PeerError then."""
        return self._ask(connection), self._tell(connection), self._offer_again(connection)

    async def _ask(self, connection: MqttConnection) -> None:
        while True:
            await connection.offer(self._topics.keys_request(self._gateway), await self.question())
            await asyncio.sleep(ASK_EVERY)

    async def question(self) -> bytes:
        """Return the request for this gateway's keys, with a fresh nonce; the one before is forgotten."""
        self._nonce = secrets.token_hex(16)
        store = self._ring.store()
        have = None if store is None else await asyncio.to_thread(store.given)
        kept = [] if store is None else await asyncio.to_thread(store.remembered)
        request = KeysRequest(
            gateway=self._gateway,
            box_key=public_text(self._public),
            have=have or None,
            kept=tuple(one.key_id for one in kept)[:20_000],
            nonce=self._nonce,
            at=self._clock.now(),
        )
        source, now = gateway_source(self._gateway), self._clock.now()
        return wrap(request, id=f"{self._gateway}/keys/request/{self._nonce}", source=source, time=now)

    async def _tell(self, connection: MqttConnection) -> None:
        """Tell what is proved, and once more when central surely hears us again: for it, a proof is never repeated."""
        steady, unsure = Steady(), list[str]()
        while True:
            store = self._ring.store()
            step = steady.step(monotonic())
            if store is not None and step == 1:
                unsure = await asyncio.to_thread(store.unsure)
                await asyncio.to_thread(store.tell_again, unsure)
            elif store is not None and step is not None:
                await asyncio.to_thread(store.sure, unsure)
                unsure = await asyncio.to_thread(store.unsure)
            for key_id, meter, name in [] if store is None else await asyncio.to_thread(store.untold):
                message = self._receipts.proven(key_id, meter, name)
                if not await connection.offer(self._topics.keys_escrow(self._gateway), message):
                    break
                if store is not None:
                    await asyncio.to_thread(store.told, key_id)
            await asyncio.sleep(TELL_EVERY)

    async def _offer_again(self, connection: MqttConnection) -> None:
        """Bring what central lacks since its store was set back, and what of it is proved."""
        while True:
            key_id = await self._missing.get()
            store = self._ring.store()
            change = None if store is None else await asyncio.to_thread(store.change, key_id)
            if change is None or not change.sealed:
                continue
            nonce, message = self._receipts.question(change)
            self._receipts.forget(nonce)  # the next question tells whether it arrived
            topic = self._topics.keys_escrow(self._gateway)
            if await connection.offer(topic, message) and change.stage is Stage.PROVEN:
                proven = self._receipts.proven(change.key_id, change.meter, change.digest)
                await connection.offer(topic, proven)
            await asyncio.sleep(OFFER_EVERY)


def _held(given: GivenKeys) -> dict[tuple[str, int, KeySlot], bytes]:
    return {(meter, *_place(entry)): entry.key for meter, entries in given.held.items() for entry in entries}


def _place(entry: KeyEntry) -> tuple[int, KeySlot]:
    client, _, slot = entry.slot.partition("/")
    return int(client), KeySlot(slot)


def _changes(given: GivenKeys) -> list[Change]:
    """Return the changes that may have happened, each with the keys that change together, and those that did."""
    texts = {one.key_id: sealed_octets(one.sealed) for one in given.texts}
    unproved = {one.key_id for one in given.maybe}
    found = [
        Change(
            key_id=one.key_id,
            meter=one.meter,
            client=int(one.slots[0].partition("/")[0]),
            what="",
            stage=Stage.PROVEN,
            sealed=texts[one.key_id],
            slots=one.slots,
            made_at=one.made_at,
            keys={},
        )
        for one in given.texts
        if one.key_id not in unproved
    ]
    for one in given.maybe:
        keys = {slot: entry.key for entry in one.keys for _, slot in [_place(entry)]}
        clients = {client for entry in one.keys for client, _ in [_place(entry)]}
        what = next((name for name, slots in SLOTS_OF.items() if keys.keys() <= set(slots)), None)
        if what is None or len(clients) != 1:
            continue  # a newer central may give what this program does not change
        found.append(
            Change(
                key_id=one.key_id,
                meter=one.meter,
                client=clients.pop(),
                what=what,
                stage=Stage.SENT,
                sealed=texts.get(one.key_id, b""),
                slots=tuple(entry.slot for entry in one.keys),
                made_at=one.made_at,
                keys=keys,
                digest=one.sealed_digest,
                given=True,
            )
        )
    return found
