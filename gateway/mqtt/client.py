"""aiomqtt's client with what it lacks: receipts with the broker's reason, CONNACK limits, manual acks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import PeerDeniesTopic, PeerError, PeerRefusedData, PeerUnavailable
from gateway.mqtt.receipts import read_receipts_fast

_BAD_DATA = frozenset({144, 149, 153})
_NOT_ALLOWED = 135
MAX_INCOMING = 1000
"""Most received messages that wait to be taken before the socket is left unread."""


_CORK: int | None = getattr(socket, "TCP_CORK", None)


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """A received message; `mid` is for `MqttConnection.ack`."""

    topic: str
    payload: bytes
    retained: bool
    mid: int
    qos: int
    response_topic: str | None = None
    correlation: bytes | None = None


class ReceiptClient(aiomqtt.Client):
    """Adds what aiomqtt lacks: receipts with the broker's reason, limits of the CONNACK, manual acks."""

    def __init__(self, *args: Any, manual_ack: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.receipts: dict[int, asyncio.Future[None]] = {}
        self.receive_maximum = 65535
        self.maximum_packet: int | None = None
        self.retains = True
        self.last_receipt = monotonic()
        self._reading = True
        self._opening = self._abandoned = False
        self._client.manual_ack_set(manual_ack)
        self._client.connect_timeout = self.timeout
        read_receipts_fast(self._client)

    async def __aenter__(self) -> Self:
        self._opening = True
        return await super().__aenter__()

    def send(
        self, topic: str, payload: bytes, retain: bool, properties: Properties | PackedProperties | None
    ) -> asyncio.Future[None]:
        """Send at QoS 1; the caller looks at the receipt, whatever it brings."""
        receipt: asyncio.Future[None] = self._loop.create_future()
        if self._disconnected.done():
            receipt.set_exception(PeerUnavailable("the connection to the broker is closed"))
            return receipt
        packed: Any = properties  # paho asks them for nothing but their octets
        info = self._client.publish(topic, payload, 1, retain, packed)
        if info.rc not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_QUEUE_SIZE):
            receipt.set_exception(PeerUnavailable(f"cannot send: {paho.error_string(info.rc)}"))
        elif info.is_published():
            receipt.set_result(None)
        else:
            self.receipts[info.mid] = receipt
        return receipt

    def acknowledge(self, message: MqttMessage) -> None:
        self._client.ack(message.mid, message.qos)

    @property
    def attached(self) -> bool:
        """Whether there is a socket: the far end was reached."""
        return self._client.socket() is not None

    @property
    def closed(self) -> asyncio.Future[None]:
        return self._disconnected

    def fail_receipts(self, error: PeerError) -> None:
        receipts, self.receipts = self.receipts, {}
        for receipt in receipts.values():
            if not receipt.done():
                receipt.set_exception(error)

    def abandon(self) -> None:
        """Close the socket without a goodbye; idempotent.

        A thread that is opening it cannot be stopped: then the socket is closed when the thread is done.
        """
        self._abandoned = True
        if self._opening:
            return
        with contextlib.suppress(OSError, ValueError):
            self._client._sock_close()  # noqa: SLF001 - paho has no public way without a DISCONNECT
        if self._connected.done() and not self._disconnected.done():
            self._disconnected.set_result(None)

    async def _misc_loop(self) -> None:
        """Look after the keepalive, as aiomqtt does each second: four times in a keepalive is often enough."""
        while self._client.loop_misc() == paho.MQTT_ERR_SUCCESS:
            await asyncio.sleep(self._client.keepalive / 4)

    def _client_connect(self) -> None:
        """Open the socket, in a thread; then close it if nobody waits for it any more.

        A program that is cancelled while it connects would otherwise end with a socket and a task that
        belong to a closed event loop.
        """
        try:
            super()._client_connect()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the thread outlived it
                self._loop.call_soon_threadsafe(self._opened)

    def _opened(self) -> None:
        self._opening = False
        if self._abandoned:
            self.abandon()

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        """Take a message; when too many wait, the socket is not read until some were taken.

        Mosquitto 2.0 sends a deep queue faster than it is acknowledged, whatever receive maximum was agreed.
        aiomqtt would drop what does not fit into its queue: with manual receipts the broker would not send it
        again before the next connection.
        """
        super()._on_message(client, userdata, message)
        if self._reading and self._queue.qsize() >= MAX_INCOMING and (sock := client.socket()) is not None:
            self._reading = False
            self._loop.remove_reader(sock.fileno())

    def taken(self) -> None:
        """Note that a received message was taken: read on when few wait."""
        sock = self._client.socket()
        if self._reading or self._queue.qsize() > MAX_INCOMING // 2 or sock is None:
            return
        self._reading = True
        self._loop.add_reader(sock.fileno(), self._read)
        self._loop.call_soon(self._read)  # TLS may hold octets that no socket tells of

    def _read(self) -> None:
        """Read what has come, as aiomqtt does when the socket tells of it."""
        try:
            while True:
                self._client.loop_read()
                sock = self._client.socket()
                if not self._reading or not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection is broken
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        """Write when the socket takes something; called from a thread while it connects."""
        self._loop.call_soon_threadsafe(self._loop.add_writer, sock.fileno(), self._write, sock)

    def _write(self, sock: Any) -> None:
        """Write all packets that wait, in full segments: each by itself would wake the broker for each."""
        try:
            _cork(sock, 1)
            self._client.loop_write()
            _cork(sock, 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection is broken
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        self.retains = bool(getattr(properties, "RetainAvailable", True))
        self.receive_maximum = getattr(properties, "ReceiveMaximum", self.receive_maximum)
        self.maximum_packet = getattr(properties, "MaximumPacketSize", None)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        if not self._connected.done():
            # The broker hung up instead of answering; aiomqtt would wait for its whole timeout.
            self._connected.set_exception(aiomqtt.MqttCodeError(reason_code, "closed before answering"))
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self,
        client: Any,  # noqa: ARG002
        userdata: Any,  # noqa: ARG002
        mid: int,
        reason_code: Any,
        properties: Any,  # noqa: ARG002
    ) -> None:
        self.last_receipt = monotonic()
        receipt = self.receipts.pop(mid, None)
        if receipt is None or receipt.done():
            return
        code = reason_number(reason_code)
        if code < 128:
            receipt.set_result(None)
        else:
            receipt.set_exception(_refused(code, str(reason_code)))


def _cork(sock: Any, on: int) -> None:
    """Hold back what is written to a socket until it is a full segment, or no longer."""
    if _CORK is not None:
        with contextlib.suppress(OSError):  # closed meanwhile, or no TCP
            sock.setsockopt(socket.IPPROTO_TCP, _CORK, on)


def reason_number(reason: Any) -> int:
    """Return the number of a broker's reason, of either version of MQTT."""
    return int(reason.value if isinstance(reason, ReasonCode) else reason or 0)


def make_properties(packet: int, **fields: object) -> Properties:
    """Make MQTT 5 properties of a packet type from those fields that are not None."""
    make: Any = Properties
    properties: Properties = make(packet)
    for name, value in fields.items():
        if value is not None:
            setattr(properties, name, value)
    return properties


class PackedProperties:
    """Properties that many messages share, as octets made once: paho would make them anew for each message."""

    def __init__(self, properties: Properties) -> None:
        packing: Any = properties.pack
        self._octets: bytes = packing()

    def pack(self) -> bytes:
        """Return the octets, as `Properties.pack` does."""
        return self._octets


def retrieve(done: asyncio.Future[Any]) -> None:
    """Look at the outcome of what nobody awaits any more, so that its failure is not reported as lost."""
    if not done.cancelled():
        done.exception()


def _refused(code: int, text: str) -> PeerError:
    if code in _BAD_DATA:
        return PeerRefusedData(f"broker refused the message: {text}")
    if code == _NOT_ALLOWED:
        return PeerDeniesTopic("broker does not allow us to publish on this topic: check its access rules")
    return PeerUnavailable(f"broker did not take the message: {text}")
