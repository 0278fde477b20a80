"""MQTT as edge and central use it: connect (5, else 3.1.1), send with receipts, receive, known errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from pydantic import BaseModel, ConfigDict, Field

from gateway.contract.envelope import CONTENT_TYPE
from gateway.errors import ConfigError, PeerRefusedData, PeerRefusedLogin, PeerUnavailable
from gateway.mqtt.client import MqttMessage, ReceiptClient, make_properties, reason_number, retrieve

__all__ = ["MqttConnection", "MqttMessage", "MqttSettings", "TlsSettings", "Will", "connect"]

WINDOW = 20
"""Most messages in flight: the receive maximum of Mosquitto; more is slower on every broker measured."""
HEADER_ROOM = 1024
"""Room for what surrounds a payload in a PUBLISH packet (topic, properties), in octets."""
MAX_INCOMING = 1000
"""Most received messages that wait to be taken; with manual acknowledgement the broker holds back sooner."""

_QUIET = logging.getLogger("gateway.mqtt.client")
_QUIET.setLevel(logging.CRITICAL)

PROBE = 3.0
"""Longest wait, in seconds, for an answer to MQTT 5 before 3.1.1 is tried: amqtt, for one, stays silent."""

_BAD_PROTOCOL = frozenset({1, 132})
_BAD_LOGIN = frozenset({4, 5, 134, 135, 138, 140})


MqttVersion = Literal["5", "3.1.1"]
T = TypeVar("T")
_version_of_broker: dict[tuple[str, int], MqttVersion] = {}


class TlsSettings(BaseModel):
    """TLS to the broker; without `ca_file` the system's authorities are trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class MqttSettings(BaseModel):
    """Where the broker is and who we are there. The password is given apart, as octets, when connecting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    username: str | None = None
    password_ref: str | None = None
    tls: TlsSettings | None = None
    client_id: str = Field(min_length=1, max_length=128)
    root: str = "meters"
    # A broker that hangs is noticed after two of these: within a minute.
    keepalive: int = Field(default=20, ge=5, le=3600)
    version: Literal["auto", "5", "3.1.1"] = "auto"
    session_expiry: int = Field(default=0, ge=0)
    timeout: float = Field(default=10.0, gt=0)
    window: int = Field(default=WINDOW, ge=1, le=1000)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when we vanish."""

    topic: str
    payload: bytes


class MqttConnection:
    """An open connection; made by `connect`. Every error is a PeerError."""

    def __init__(self, client: ReceiptClient, settings: MqttSettings, version: MqttVersion) -> None:
        self._client = client
        self._settings = settings
        self.version: MqttVersion = version
        self.window = min(settings.window, client.receive_maximum)
        self.maximum_packet = client.maximum_packet
        self._plain = make_properties(PacketTypes.PUBLISH, ContentType=CONTENT_TYPE, PayloadFormatIndicator=1)
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
        """Send at QoS 1; the future is the broker's receipt (PUBACK).

        It fails with PeerUnavailable (connection lost, send again), PeerRefusedData (never accepted: larger
        than the broker's packets, for one) or PeerRefusedLogin (not allowed on this topic). The caller keeps
        at most `window` in flight. Raises PeerRefusedData for a topic that cannot be sent on.
        """
        if self.maximum_packet is not None and len(payload) + HEADER_ROOM > self.maximum_packet:
            # Sent all the same, it would end the connection (MQTT 5, 3.1.2.11.4), and so for ever.
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(PeerRefusedData(f"larger than the broker's {self.maximum_packet} octets"))
            return refused
        properties = None
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
            return self._client.send(topic, payload, retain, properties)
        except ValueError as error:
            raise PeerRefusedData(f"cannot be sent on {topic}: {error}") from error

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry: int | None = None
    ) -> None:
        """Send and wait for the receipt; PeerUnavailable when none comes in time."""
        receipt = self.send(topic, payload, retain=retain, expiry=expiry)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await receipt
        except TimeoutError:
            raise PeerUnavailable(f"no receipt for {topic} in {self._settings.timeout:g} s") from None

    async def subscribe(self, *filters: str) -> None:
        """Subscribe at QoS 1; PeerRefusedLogin when the broker does not allow it."""
        with _translated(self._settings):
            granted = await _cancellable(self._client.subscribe([(f, 1) for f in filters]))
        for wanted, code in zip(filters, granted, strict=False):
            if reason_number(code) >= 128:
                raise PeerRefusedLogin(
                    f"broker does not allow {self._settings.username or self._settings.client_id!r} to "
                    f"subscribe to {wanted}: check its access rules"
                )

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions."""
        with _translated(self._settings):
            await _cancellable(self._client.unsubscribe(list(filters)))

    async def messages(self) -> AsyncIterator[MqttMessage]:
        """Yield received messages until the connection ends, which raises PeerUnavailable."""
        with _translated(self._settings):
            async for message in self._client.messages:
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
) -> AsyncIterator[MqttConnection]:
    """Connect to the broker for the time of an `async with` block.

    Tries MQTT 5 first and 3.1.1 when the broker refuses that version. With `manual_ack` a received message
    is acknowledged only by `MqttConnection.ack`, and the broker sends at most 20 before that. Whatever ends
    the attempt or the block, cancellation too, no socket and no task stays behind.

    Raises PeerUnavailable, PeerRefusedLogin; ConfigError for unreadable TLS files.

    >>> async with connect(MqttSettings(client_id="reader")) as connection:  # doctest: +SKIP
    ...     await connection.publish("meters/v2/note", b"{}")
    """
    client, version = await _open(settings, password, will, manual_ack)
    try:
        yield MqttConnection(client, settings, version)
    finally:
        try:
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                await _cancellable(client.__aexit__(None, None, None))
        finally:  # a goodbye that fails or is cancelled leaves the socket open
            client.abandon()
            client.fail_receipts(PeerUnavailable("the connection to the broker was closed"))


async def _open(
    settings: MqttSettings, password: bytes | None, will: Will | None, manual_ack: bool
) -> tuple[ReceiptClient, MqttVersion]:
    """Connect with the first version that the broker speaks; one that took 3.1.1 is not asked for 5 again."""
    where = (settings.host, settings.port)
    versions: tuple[MqttVersion, ...] = ("5", "3.1.1")
    if settings.version != "auto":
        versions = (settings.version,)
    elif _version_of_broker.get(where) == "3.1.1":
        versions = ("3.1.1",)
    for version in versions:
        client = _make_client(settings, version, password, will, manual_ack)
        last = version == versions[-1]
        if not last:
            client.timeout = min(PROBE, settings.timeout)
        try:
            with _translated(settings):
                await _enter(client)
        except _OtherVersion as error:
            if last:
                raise PeerUnavailable(str(error)) from error
            continue
        client.timeout = settings.timeout
        _version_of_broker[where] = version
        return client, version
    raise AssertionError("unreachable")


def _make_client(
    settings: MqttSettings,
    version: MqttVersion,
    password: bytes | None,
    will: Will | None,
    manual_ack: bool,
) -> ReceiptClient:
    five = version == "5"
    properties = None
    if five:
        properties = make_properties(
            PacketTypes.CONNECT, SessionExpiryInterval=settings.session_expiry, ReceiveMaximum=WINDOW
        )
    return ReceiptClient(
        settings.host,
        settings.port,
        username=settings.username,
        password=password,
        logger=_QUIET,
        identifier=settings.client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
        clean_session=None if five else settings.session_expiry == 0,
        clean_start=settings.session_expiry == 0 if five else paho.MQTT_CLEAN_START_FIRST_ONLY,
        properties=properties,
        keepalive=settings.keepalive,
        timeout=settings.timeout,
        max_inflight_messages=settings.window,
        max_queued_incoming_messages=MAX_INCOMING,
        tls_context=_tls(settings.tls) if settings.tls else None,
        will=aiomqtt.Will(will.topic, will.payload, 1, True) if will else None,
        manual_ack=manual_ack,
    )


async def _cancellable(work: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine of aiomqtt so that a cancellation of ours is never lost in it.

    Its `asyncio.wait_for`, in Python 3.11, swallows one that comes together with the answer it waits for: a
    program that is told to end while the broker answers would go on for ever.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(retrieve)
        raise


class _OtherVersion(PeerUnavailable):
    """The broker does not speak the version that we tried."""


async def _enter(client: ReceiptClient) -> None:
    try:
        await _cancellable(client.__aenter__())
    except BaseException as error:
        mute = type(error) is aiomqtt.MqttError and client.attached
        client.abandon()
        if mute:  # amqtt and old brokers drop what they do not understand instead of refusing it
            raise _OtherVersion("the broker takes the connection but does not answer") from error
        raise


@contextlib.contextmanager
def _translated(settings: MqttSettings) -> Iterator[None]:
    where = f"broker {settings.host}:{settings.port}"
    try:
        yield
    except aiomqtt.MqttCodeError as error:
        code = reason_number(error.rc)
        if isinstance(error, aiomqtt.exceptions.MqttConnectError) and code in _BAD_LOGIN:
            who = settings.username or settings.client_id
            raise PeerRefusedLogin(
                f"broker refused the login of {who!r}: check username and password_ref"
            ) from error
        if code in _BAD_PROTOCOL or "closed before answering" in str(error.args):
            raise _OtherVersion(f"{where}: {error}") from error
        raise PeerUnavailable(f"{where}: {error}") from error
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        raise PeerUnavailable(f"{where}: {error}") from error


class _TlsSocket(ssl.SSLSocket):
    """Paho forgets the socket of a handshake that fails: it would stay open until it is collected."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls(settings: TlsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the TLS files for the broker cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TlsSocket
    return context
