"""Sealed keys to central over the broker, and central's signed receipts of them."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from gateway.contract.central_word import parse_signed
from gateway.contract.envelope import wrap
from gateway.contract.messages import KeysEscrowed, KeysProven, KeysReceipt
from gateway.contract.messages.texts import gateway_source
from gateway.contract.sealing import digest
from gateway.contract.topics import Topics
from gateway.edge.keys.store import Change, KeyStore
from gateway.errors import ContractError, PeerRefusedData, PeerUnavailable
from gateway.mqtt.connection import MqttConnection
from protocols.session import Clock

PATIENCE = 30.0
"""Seconds in which central must have proved that it has sealed keys."""
log = structlog.get_logger("gateway.edge.keys")


class NotAwaited(ContractError):
    """A receipt that another command waits for, or none does any more."""


class Receipts:
    """Questions and answers of one edge: which keys wait for a receipt, and whether one that comes is it; sans-IO.

    `keys` are central's public keys. A receipt counts for the nonce of its question alone: one of before a restore of
    central's store says nothing about what that store holds now.
    """

    def __init__(self, gateway: str, keys: Sequence[bytes], clock: Clock) -> None:
        self._gateway = gateway
        self._keys = tuple(keys)
        self._clock = clock
        self._waiting: dict[str, tuple[str, str, str]] = {}

    def question(self, change: Change) -> tuple[str, bytes]:
        """Return a fresh nonce, and the message that asks for a receipt of a change under it."""
        nonce = secrets.token_hex(16)
        self._waiting[nonce] = (change.meter, change.key_id, digest(change.sealed))
        message = KeysEscrowed(
            gateway=self._gateway,
            meter=change.meter,
            key_id=change.key_id,
            slots=change.slots,
            sealed=base64.b64encode(change.sealed).decode(),
            nonce=nonce,
            made_at=change.made_at,
        )
        return nonce, self._wrapped(message, f"{change.key_id}/{nonce}")

    def proven(self, key_id: str, meter: str, name: str) -> bytes:
        """Return the message that tells which keys are proved."""
        message = KeysProven(
            gateway=self._gateway,
            meter=meter,
            key_id=key_id,
            sealed_digest=name,
            at=self._clock.now(),
        )
        return self._wrapped(message, f"{key_id}/proven")

    def take(self, payload: bytes) -> KeysReceipt:
        """Return a receipt that answers a question which waits; ContractError for any other octets."""
        receipt, _ = parse_signed(payload, KeysReceipt, self._keys)
        if receipt.gateway != self._gateway:
            raise ContractError(f"$.gateway: a receipt for {receipt.gateway!r}, not for us")
        asked = self._waiting.get(receipt.nonce)
        if asked is None:
            raise NotAwaited("$.nonce: no receipt is waited for under it")
        if asked != (receipt.meter, receipt.key_id, receipt.sealed_digest):
            raise ContractError("$: the receipt is of other keys than were asked about")
        del self._waiting[receipt.nonce]
        return receipt

    def forget(self, nonce: str) -> None:
        """Wait no longer for an answer."""
        self._waiting.pop(nonce, None)

    def _wrapped(self, message: KeysEscrowed | KeysProven, name: str) -> bytes:
        source = gateway_source(self._gateway)
        return wrap(message, id=f"{self._gateway}/keys/{name}", source=source, time=self._clock.now())


class MqttEscrow:
    """Implements `rotate.Escrow` on a connection of its own; made by `mqtt_escrow`."""

    def __init__(
        self, connection: MqttConnection, receipts: Receipts, topics: Topics, gateway: str, patience: float
    ) -> None:
        self._connection = connection
        self._receipts = receipts
        self._topics = topics
        self._gateway = gateway
        self._patience = patience
        self._answers: dict[str, asyncio.Future[KeysReceipt]] = {}

    async def deposit(self, change: Change) -> None:
        """Return when central's signed receipt has come.

        PeerUnavailable when none comes in time, PeerRefusedData when central says why it does not take them.
        """
        nonce, message = self._receipts.question(change)
        answer: asyncio.Future[KeysReceipt] = asyncio.get_running_loop().create_future()
        self._answers[nonce] = answer
        try:
            await self._connection.publish(self._topics.keys_escrow(self._gateway), message)
            async with asyncio.timeout(self._patience):
                receipt = await answer
        except TimeoutError as error:
            raise PeerUnavailable(
                f"central gave no receipt of the new keys in {self._patience:g} s, so the meter was not given them:"
                " is central running, and connected to this broker?"
            ) from error
        finally:
            self._answers.pop(nonce, None)
            self._receipts.forget(nonce)
        if receipt.refused is not None:
            raise PeerRefusedData(f"central does not take the keys of {change.meter}: {receipt.refused}")

    async def tell_proved(self, store: KeyStore) -> None:
        """Tell central which changes are proved, those that it was not told of; PeerError when it cannot be told."""
        for key_id, meter, name in await asyncio.to_thread(store.untold):
            message = self._receipts.proven(key_id, meter, name)
            await self._connection.publish(self._topics.keys_escrow(self._gateway), message)
            await asyncio.to_thread(store.told, key_id)

    async def listen(self) -> None:
        """Take receipts until the connection ends, which raises PeerUnavailable."""
        async for message in self._connection.messages():
            try:
                receipt = self._receipts.take(message.payload)
            except NotAwaited as error:  # two commands at once hear each other's
                log.debug("receipt_not_awaited", error=str(error))
                continue
            except ContractError as error:
                log.warning("receipt_refused", error=str(error))
                continue
            answer = self._answers.get(receipt.nonce)
            if answer is not None and not answer.done():
                answer.set_result(receipt)


@asynccontextmanager
async def mqtt_escrow(
    connection: MqttConnection,
    *,
    gateway: str,
    root: str,
    keys: Sequence[bytes],
    clock: Clock,
    patience: float = PATIENCE,
) -> AsyncIterator[MqttEscrow]:
    """Hear receipts for the block. `keys` are central's public keys."""
    topics = Topics(root)
    escrow = MqttEscrow(connection, Receipts(gateway, keys, clock), topics, gateway, patience)
    await connection.subscribe(topics.keys_receipts(gateway))
    listening = asyncio.create_task(escrow.listen())
    try:
        yield escrow
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError, PeerUnavailable):
            await listening
