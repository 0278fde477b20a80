"""Central's answers about keys: receipts of what edges escrow, and the keys of an edge's meters to its trusted box."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from gateway.central.keys.fair_queue import FairQueue
from gateway.central.keys.giving import Gift, gift
from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.store import KnownBox, SealedStore
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import wrap_signed
from gateway.contract.envelope import TYPE_OF, event_type, parse
from gateway.contract.messages import (
    KeysEscrowed,
    KeysGiven,
    KeysMissing,
    KeysProven,
    KeysReceipt,
    KeysRequest,
    Message,
)
from gateway.contract.sealing import digest, key_name, needs_passphrase, public_of, recipients, sealed_octets
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import ConfigError, ContractError, GatewayError, JournalError
from gateway.mqtt.client import MqttMessage
from gateway.mqtt.connection import MqttConnection
from protocols.session import Clock

SOURCE = "/central"
MAX_ESCROWED = 4_096
"""Octets of one change's sealed keys: a change has some hundred."""
TOLD_EACH = 1_000
"""Of how many dropped messages of one gateway the log tells once, beside the first."""
log = structlog.get_logger("gateway.central.keys")

Work = Callable[[Callable[[], Any]], Awaitable[Any]]


class Acknowledging(Protocol):
    """The connection as the desk uses it."""

    def ack(self, message: MqttMessage) -> None:
        """Acknowledge a message to the broker."""

    async def offer(self, topic: str, payload: bytes) -> bool:
        """Publish; False when the broker does not take it."""


class KeyDesk:
    """Answers about keys. The store's file is made with the first message.

    `copy` is where its second copy stands. `key` signs as for the directory; `store_secret` opens what is sealed to
    central, None where it may open nothing: then receipts are given, and no keys. `escrow` names the escrow key that
    all must be sealed to, where it is known.
    """

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        *,
        root: str,
        key: bytes,
        clock: Clock,
        copy: Path | None = None,
        store_secret: bytes | None = None,
        escrow: bytes | None = None,
    ) -> None:
        self._path = path
        self._copy = copy
        self._ledger = ledger
        self._topics = Topics(root)
        self._key = key
        self._clock = clock
        self._store_secret = store_secret
        self._escrow = None if escrow is None else key_name(escrow)
        self._store: SealedStore | None = None
        self._waiting: FairQueue[tuple[str, MqttMessage]] = FairQueue()

    def filters(self) -> list[str]:
        """Return what central subscribes to for the desk."""
        return [self._topics.filter(kind) for kind in (TopicKind.KEYS_ESCROW, TopicKind.KEYS_REQUEST)]

    def begin(self) -> None:
        """Forget what waits: it came over another connection, and its sender asks again."""
        self._waiting = FairQueue()

    def takes(self, message: MqttMessage, connection: MqttConnection | Acknowledging) -> bool:
        """Put a message of the desk's topics with those that wait; False for any other.

        Of a gateway that sends more than can wait, the newest go: their sender gets no answer, and asks again.
        """
        try:
            name = self._topics.parse(message.topic)
        except ContractError:
            return False
        if name.kind not in (TopicKind.KEYS_ESCROW, TopicKind.KEYS_REQUEST):
            return False
        gone = self._waiting.put(name.gateway or "", (name.gateway or "", message))
        if gone is not None:
            gateway, dropped = gone
            connection.ack(dropped)
            count = self._waiting.dropped[gateway]
            if count == 1 or count % TOLD_EACH == 0:
                log.warning("keys_flood", gateway=gateway, dropped=count)
        return True

    async def serve(self, connection: MqttConnection | Acknowledging, work: Work) -> None:
        """Answer until the connection ends (PeerError). `work` runs what asks the ledger."""
        while True:
            _, message = await self._waiting.get()
            try:
                answers = await self.answers(message.topic, message.payload, work)
            except GatewayError as error:
                log.error("keys_message_refused", topic=message.topic, error=str(error))
                answers = []
            connection.ack(message)
            for topic, payload in answers:
                await connection.offer(topic, payload)

    async def answers(self, topic: str, payload: bytes, work: Work) -> list[tuple[str, bytes]]:
        """Return the answers to one message, after all that they say is on the disk.

        ContractError for octets that are none of ours, or speak for another gateway than the topic's.
        """
        name = self._topics.parse(topic)
        kind = event_type(payload)
        if name.kind is TopicKind.KEYS_REQUEST:
            request = parse(payload, KeysRequest).data
            self._check_sender(name.gateway, request.gateway)
            return await self._requested(request, work)
        if kind == TYPE_OF[KeysProven]:
            proven = parse(payload, KeysProven).data
            self._check_sender(name.gateway, proven.gateway)
            await asyncio.to_thread(self._proven, proven)
            return []
        escrowed = parse(payload, KeysEscrowed).data
        self._check_sender(name.gateway, escrowed.gateway)
        return [await self._escrowed(escrowed, work)]

    def _check_sender(self, topic: str | None, gateway: str) -> None:
        if topic != gateway:
            raise ContractError(f"$.data.gateway: {gateway!r} on the topic of {topic!r}")

    def store(self) -> SealedStore:
        """Return the file, which is made when it is not there."""
        if self._store is None:
            self._store = SealedStore(self._path, self._copy)
            try:
                settled = self._store.settle()
            except (
                JournalError
            ) as error:  # keys are given all the same; none are taken, which says so each time
                log.error("second_copy_unusable", error=str(error))
            else:
                if settled.filled or settled.damaged:
                    log.warning("keys_settled", filled=settled.filled, damaged_lines=settled.damaged)
        return self._store

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    # escrow

    async def _escrowed(self, one: KeysEscrowed, work: Work) -> tuple[str, bytes]:
        sealed = sealed_octets(one.sealed)
        refused = await self._refusal(one, sealed, work)
        if refused is None:
            try:
                await asyncio.to_thread(self._keep, one, sealed)
            except (ContractError, JournalError) as error:
                refused = str(error)[:500]
        now = self._clock.now()
        receipt = KeysReceipt(
            gateway=one.gateway,
            meter=one.meter,
            key_id=one.key_id,
            sealed_digest=digest(sealed),
            nonce=one.nonce,
            refused=refused,
            issued_at=now,
        )
        if refused is not None:
            log.warning("keys_not_kept", gateway=one.gateway, meter=one.meter, why=refused)
        topic = self._topics.keys_receipts(one.gateway)
        return topic, self._signed(receipt, f"keys/{one.key_id}/{one.nonce}", now)

    async def _refusal(self, one: KeysEscrowed, sealed: bytes, work: Work) -> str | None:
        if len(sealed) > MAX_ESCROWED:
            return f"{len(sealed)} octets are more than one change has ({MAX_ESCROWED})"
        try:
            names = recipients(sealed)
        except ContractError as error:
            return str(error)
        if self._escrow is not None and self._escrow not in names:
            return f"not sealed to the escrow key {self._escrow}, but to {', '.join(sorted(names))}"
        now = self._clock.now()
        history = await work(partial(self._ledger.allocations.history, one.meter))
        reads = history[-1].gateway if history and history[-1].until is None else None
        if reads == one.gateway or any(
            then.gateway == one.gateway and then.since <= one.made_at and (then.until or now) > one.made_at
            for then in history
        ):
            return None  # what it made while it read the meter is wanted whenever it comes
        return f"{one.meter} is read by {reads or 'no gateway'} (`allocation show`), not by {one.gateway}"

    def _keep(self, one: KeysEscrowed, sealed: bytes) -> None:
        kept = SealedKeys(
            key_id=one.key_id,
            gateway=one.gateway,
            meter=one.meter,
            slots=one.slots,
            sealed=sealed,
            made_at=one.made_at,
        )
        if self.store().keep([kept], self._clock.now()):
            log.info("keys_kept", gateway=one.gateway, meter=one.meter, key_id=one.key_id)

    def _proven(self, one: KeysProven) -> None:
        known = self.store().prove(one.gateway, one.meter, one.key_id, one.sealed_digest, self._clock.now())
        if not known:
            raise ContractError(f"$.data.key_id: {one.gateway} escrowed no such keys of {one.meter}")

    # what an edge is given

    async def _requested(self, one: KeysRequest, work: Work) -> list[tuple[str, bytes]]:
        now = self._clock.now()
        missing = await asyncio.to_thread(self.store().missing, one.kept)
        answers: list[tuple[str, bytes]] = []
        if missing:
            log.warning("keys_missing", gateway=one.gateway, count=len(missing))
            wanted = KeysMissing(gateway=one.gateway, key_ids=tuple(missing), nonce=one.nonce, issued_at=now)
            name = f"keys/{one.gateway}/{one.nonce}/missing"
            answers.append((self._topics.keys_receipts(one.gateway), self._signed(wanted, name, now)))
        box = await asyncio.to_thread(
            self.store().asked, one.gateway, one.box_key, key_name(one.box_key.encode()), now
        )
        if box.trusted != box.name:
            log.warning("box_not_trusted", gateway=one.gateway, box=box.name)
            return answers
        # What it is told to drop could be the only copy that there is: that waits until it has brought all.
        found = await self.gift(one.gateway, box, work, drop=not missing)
        if found is None or found.digest == one.have:
            return answers
        return answers + self.messages(one.gateway, box, found, one.nonce, now)

    async def gift(self, gateway: str, box: KnownBox, work: Work, *, drop: bool = True) -> Gift | None:
        """Return the keys of a gateway's meters, sealed to its box; None where central may open none.

        `drop`: whether it tells which meters' keys the box is to drop, since another gateway reads them.
        """
        if self._store_secret is None:
            return None
        mine, others = await work(partial(self._meters, gateway))
        gone = others if drop else set()
        return await asyncio.to_thread(self._gift, gateway, box, mine, gone, self._store_secret)

    def _meters(self, gateway: str) -> tuple[list[str], set[str]]:
        """Return the meters that a gateway reads, and those of its keys that another reads now."""
        mine = [one.meter for one in self._ledger.allocations.current(gateway)]
        had = self.store().meters_of(gateway) - set(mine)
        others = {
            meter
            for meter in had
            if (history := self._ledger.allocations.history(meter)) and history[-1].until is None
        }
        return mine, others

    def _gift(
        self, gateway: str, box: KnownBox, mine: Sequence[str], others: set[str], secret: bytes
    ) -> Gift:
        store = self.store()
        found = gift(gateway, box, store.of_meters(mine), dropped=others, store_secret=secret)
        store.note_given(gateway, found.meters)
        if found.closed:
            log.warning("keys_closed", gateway=gateway, count=found.closed)
        return found

    def messages(
        self, gateway: str, box: KnownBox, found: Gift, nonce: str, now: datetime
    ) -> list[tuple[str, bytes]]:
        """Return the signed messages that give keys to a box."""
        return [
            (
                self._topics.keys(gateway),
                self._signed(
                    KeysGiven(
                        gateway=gateway,
                        box=box.name,
                        part=number,
                        parts=len(found.parts),
                        digest=found.digest,
                        dropped=found.dropped if number == 1 else (),
                        sealed=base64.b64encode(part).decode(),
                        nonce=nonce,
                        issued_at=now,
                    ),
                    f"keys/{gateway}/{nonce}/{number}",
                    now,
                ),
            )
            for number, part in enumerate(found.parts, start=1)
        ]

    def _signed(self, message: Message, name: str, now: datetime) -> bytes:
        return wrap_signed(message, key=self._key, id=f"central/{name}", source=SOURCE, time=now)


def usable_store_secret(private: bytes) -> bytes:
    """Return central's store key when it can be used; ConfigError otherwise."""
    if needs_passphrase(private):
        raise ConfigError("central's store key has a passphrase, which nobody could type: make it without")
    public_of(private)
    return private
