"""MQTT as edge and central use it: connect (5, else 3.1.1), send with receipts, receive, known errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from time import monotonic

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.contract.envelope import CONTENT_TYPE, MAX_MESSAGE
from gateway.errors import (
    NOT_TAKEN,
    PeerDeniesTopic,
    PeerRefusedData,
    PeerUnavailable,
)
from gateway.mqtt.client import (
    MqttMessage,
    PackedProperties,
    ReceiptClient,
    make_properties,
    reason_number,
)
from gateway.mqtt.opening import cancellable, open_client, translated
from gateway.mqtt.refusals import Refusals
from gateway.mqtt.settings import MqttSettings, MqttVersion, TlsSettings, Will

__all__ = ["MqttConnection", "MqttMessage", "MqttSettings", "TlsSettings", "Will", "connect"]

HEADER_ROOM = 1024
"""Room for what surrounds a payload in a PUBLISH packet (topic, properties), in octets."""

log = structlog.get_logger("gateway.mqtt")

NOT_TAKEN_AGAIN = 60.0
"""Seconds after which a topic that is closed to us is tried again."""
ASK_AGAIN = 60.0
"""Seconds after which a subscription that was not granted is asked for again."""

NOT_AUTHORIZED = 135


def _refused(reason: str) -> asyncio.Future[None]:
    """Return the receipt of a message that is not sent."""
    receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    receipt.set_exception(PeerRefusedData(reason))
    return receipt


class MqttConnection:
    """An open connection; made by `connect`. Every error is a PeerError."""

    def __init__(
        self, client: ReceiptClient, settings: MqttSettings, version: MqttVersion, refusals: Refusals
    ) -> None:
        self._client = client
        self._settings = settings
        self.version: MqttVersion = version
        self.window = min(settings.window, client.receive_maximum)
        self.refusals = refusals
        self.maximum_packet = client.maximum_packet
        self.largest = (
            MAX_MESSAGE
            if self.maximum_packet is None
            else min(MAX_MESSAGE, self.maximum_packet - HEADER_ROOM)
        )
        self.retains = client.retains
        self._plain = PackedProperties(
            make_properties(PacketTypes.PUBLISH, ContentType=CONTENT_TYPE, PayloadFormatIndicator=1)
        )
        client.closed.add_done_callback(self._on_closed)

    def send(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        content_type: str = CONTENT_TYPE,
        expiry: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Send at QoS 1; the future is the broker's receipt (PUBACK). Nothing is raised here.

        It fails with PeerUnavailable (connection lost, send again), PeerRefusedData (never accepted: larger
        than the broker's packets or the contract's messages, or a topic that cannot be) or PeerDeniesTopic.
        The last two are noted in `refusals`; they concern this message alone. The caller keeps at most
        `window` in flight.
        """
        receipt = self._checked(topic, payload, retain, content_type, expiry, response_topic, correlation)
        receipt.add_done_callback(partial(self._note, topic))
        return receipt

    def _checked(
        self,
        topic: str,
        payload: bytes,
        retain: bool,
        content_type: str,
        expiry: int | None,
        response_topic: str | None,
        correlation: bytes | None,
    ) -> asyncio.Future[None]:
        if len(payload) > self.largest:
            # Sent all the same, it would end the connection (MQTT 5, 3.1.2.11.4), and so for ever.
            whose = MAX_MESSAGE if self.largest == MAX_MESSAGE else self.maximum_packet
            who = "the contract" if self.largest == MAX_MESSAGE else "the broker"
            return _refused(f"its {len(payload)} octets are too many: {who} takes {whose} octets")
        properties: Properties | PackedProperties | None = None
        plain = (content_type, expiry, response_topic, correlation) == (CONTENT_TYPE, None, None, None)
        if self.version == "5" and plain:
            properties = self._plain
        elif self.version == "5":
            properties = make_properties(
                PacketTypes.PUBLISH,
                ContentType=content_type,
                PayloadFormatIndicator=1,
                MessageExpiryInterval=expiry,
                ResponseTopic=response_topic,
                CorrelationData=correlation,
            )
        try:
            return self._client.send(topic, payload, retain and self.retains, properties)
        except ValueError as error:
            return _refused(f"cannot be sent: {error}")

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry: int | None = None
    ) -> None:
        """Send and wait for the receipt; errors as of `send`.

        PeerUnavailable when the broker gives no receipt at all, for this message or another, for so long as
        `timeout` says: one that takes a message a second, with twenty before this, is slow and not gone.
        """
        receipt = self.send(topic, payload, retain=retain, expiry=expiry)
        begun = monotonic()
        while not receipt.done():
            silent = monotonic() - max(begun, self.last_receipt)
            if silent >= self._settings.timeout:
                raise PeerUnavailable(f"no receipt for {topic} in {self._settings.timeout:g} s")
            await asyncio.wait((receipt,), timeout=self._settings.timeout - silent)
        receipt.result()

    async def offer(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry: int | None = None
    ) -> bool:
        """Publish; False when the broker does not take this message, which `refusals` then tells.

        For whoever has others to serve: PeerUnavailable alone, the end of the connection, leaves it.
        """
        try:
            await self.publish(topic, payload, retain=retain, expiry=expiry)
        except NOT_TAKEN:
            return False
        return True

    @property
    def broker(self) -> str:
        """Host and port of the broker that we are connected to."""
        return self._settings.where

    @property
    def last_receipt(self) -> float:
        """When the broker last acknowledged anything, as `time.monotonic` counts."""
        return self._client.last_receipt

    def _note(self, topic: str, receipt: asyncio.Future[None]) -> None:
        # Looked at here, a failure that nobody awaits any more is not reported as lost.
        error = None if receipt.cancelled() else receipt.exception()
        if isinstance(error, NOT_TAKEN):
            self.refusals.refused(topic, str(error))
            log.warning("message_not_taken", topic=topic, error=str(error))
        elif error is None and not receipt.cancelled():
            self.refusals.taken(topic)

    async def subscribe(self, *filters: str) -> tuple[str, ...]:
        """Subscribe at QoS 1; return what the broker does not grant, which `refusals` tells as well.

        All others are granted. Raises PeerDeniesTopic when the access rules allow none of them, PeerUnavailable
        when the broker grants none for another reason: a cluster that is not whole yet, for one.
        """
        refused = await self._ask_for(filters)
        if refused and len(refused) == len(filters):
            wanted, code = next(iter(refused.items()))
            kind = PeerDeniesTopic if self._denied(code) else PeerUnavailable
            raise kind(self._subscription_fault(wanted, code))
        return tuple(refused)

    async def _ask_for(self, filters: Sequence[str]) -> dict[str, int]:
        """Return the reasons of those that are not granted; they are noted."""
        with translated(self._settings):
            granted = await cancellable(self._client.subscribe([(f, 1) for f in filters]))
        codes = {f: reason_number(code) for f, code in zip(filters, granted, strict=False)}
        for wanted, code in codes.items():
            if code < 128:
                self.refusals.taken(wanted)
            else:
                self.refusals.refused(wanted, self._subscription_fault(wanted, code))
        return {f: code for f, code in codes.items() if code >= 128}

    async def keep_asking(self, filters: Sequence[str]) -> None:
        """Ask again each minute for subscriptions that were not granted, until all are; then wait for ever.

        PeerUnavailable when the connection ends.
        """
        while filters:
            await asyncio.sleep(ASK_AGAIN)
            filters = tuple(await self._ask_for(filters))
        await asyncio.Event().wait()

    def _denied(self, code: int) -> bool:
        """Whether a SUBACK's code speaks of access rules. MQTT 3.1.1 has one code for all: there nobody knows."""
        return self.version == "5" and code == NOT_AUTHORIZED

    def _subscription_fault(self, wanted: str, code: int) -> str:
        who = self._settings.username or self._settings.client_id
        if self._denied(code):
            return f"broker does not allow {who!r} to subscribe to {wanted}: check its access rules"
        where = "MQTT 3.1.1 does not say why" if self.version != "5" else f"reason {code}"
        return (
            f"broker did not grant {who!r} the subscription to {wanted} ({where}): look whether the cluster is "
            "whole, then at its access rules"
        )

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions."""
        with translated(self._settings):
            await cancellable(self._client.unsubscribe(list(filters)))

    async def messages(self) -> AsyncIterator[MqttMessage]:
        """Yield received messages until the connection ends, which raises PeerUnavailable."""
        with translated(self._settings):
            async for message in self._client.messages:
                self._client.taken()
                yield MqttMessage(
                    topic=str(message.topic),
                    payload=message.payload,
                    retained=message.retain,
                    mid=message.mid,
                    qos=message.qos,
                    response_topic=getattr(message.properties, "ResponseTopic", None),
                    correlation=getattr(message.properties, "CorrelationData", None),
                )

    def ack(self, message: MqttMessage) -> None:
        """Acknowledge a message to the broker (only when connected with `manual_ack`)."""
        self._client.acknowledge(message)

    def _on_closed(self, closed: asyncio.Future[None]) -> None:
        why = None if closed.cancelled() else closed.exception()
        self._client.fail_receipts(PeerUnavailable(f"the connection to the broker ended: {why or 'closed'}"))


@contextlib.asynccontextmanager
async def connect(
    settings: MqttSettings,
    *,
    password: bytes | None = None,
    will: Will | None = None,
    manual_ack: bool = False,
    refusals: Refusals | None = None,
) -> AsyncIterator[MqttConnection]:
    """Connect to the broker, or the next of several, for the time of an `async with` block.

    Tries MQTT 5 first and 3.1.1 when the broker refuses that version. With `manual_ack` a received message
    is acknowledged only by `MqttConnection.ack`, and the broker sends at most 20 before that. Whatever ends
    the attempt or the block, cancellation too, no socket and no task stays behind.

    Raises PeerUnavailable, PeerRefusedLogin; ConfigError for unreadable TLS files.

    >>> async with connect(MqttSettings(client_id="reader")) as connection:  # doctest: +SKIP
    ...     await connection.publish("meters/v2/note", b"{}")
    """
    client, version, (host, port) = await open_client(settings, password, will, manual_ack)
    here = settings.model_copy(update={"host": host, "port": port, "brokers": ()})
    try:
        yield MqttConnection(client, here, version, Refusals() if refusals is None else refusals)
    finally:
        try:
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                await cancellable(client.__aexit__(None, None, None))
        finally:  # a goodbye that fails or is cancelled leaves the socket open
            client.abandon()
            client.fail_receipts(PeerUnavailable("the connection to the broker was closed"))
