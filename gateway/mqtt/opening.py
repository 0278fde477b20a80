"""Opening the connection to a broker: which of several, in which version of MQTT, and what its refusals mean."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from time import monotonic
from typing import Any, TypeVar

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes

from gateway.errors import PeerError, PeerRefusedLogin, PeerUnavailable
from gateway.mqtt.client import ReceiptClient, make_properties, reason_number, retrieve
from gateway.mqtt.settings import WINDOW, MqttSettings, MqttVersion, Will, tls_context

OLD_FOR = 600.0
"""Seconds for which a broker that did not speak MQTT 5 is asked for 3.1.1 at once; then 5 is tried again."""

_QUIET = logging.getLogger("gateway.mqtt.client")
_QUIET.setLevel(logging.CRITICAL)
_BAD_PROTOCOL = frozenset({1, 132})
_BAD_LOGIN = frozenset({4, 5, 134, 135, 138, 140})
_NO_RETAIN = 154

T = TypeVar("T")
Place = tuple[str, int]
_speaks_5: set[Place] = set()
_old_until: dict[Place, float] = {}
_last_place: dict[tuple[str, tuple[Place, ...]], int] = {}


async def open_client(
    settings: MqttSettings, password: bytes | None, will: Will | None, manual_ack: bool
) -> tuple[ReceiptClient, MqttVersion, Place]:
    """Connect to the next of the brokers that takes us; a client's turn begins behind the one it had last.

    Raises PeerRefusedLogin when every broker that answers refuses the login, else PeerUnavailable.
    """
    places, mine = settings.places, (settings.client_id, settings.places)
    first = _last_place.get(mine, -1) + 1
    failures: list[PeerError] = []
    for turn in range(len(places)):
        number = (first + turn) % len(places)
        _last_place[mine] = number
        host, port = places[number]
        here = settings.model_copy(update={"host": host, "port": port, "brokers": ()})
        try:
            client, version = await _open_here(here, password, will, manual_ack)
        except PeerError as error:
            failures.append(error)
        else:
            return client, version, places[number]
    refusals = [error for error in failures if isinstance(error, PeerRefusedLogin)]
    if len(failures) == 1:
        raise failures[0]
    told = "; ".join(str(error) for error in failures)
    raise (PeerRefusedLogin if len(refusals) == len(failures) else PeerUnavailable)(told) from failures[0]


async def _open_here(
    settings: MqttSettings, password: bytes | None, will: Will | None, manual_ack: bool
) -> tuple[ReceiptClient, MqttVersion]:
    """Connect with the first version that the broker speaks.

    One that says that it does not know MQTT 5, or says nothing at all (amqtt), is asked for 3.1.1, and again for
    a while. Silence of a broker that did speak 5 before is slowness, and no reason to do without its reasons.
    """
    place = (settings.host, settings.port)
    versions: tuple[MqttVersion, ...] = ("5", "3.1.1")
    if settings.version != "auto":
        versions = (settings.version,)
    elif _old_until.get(place, 0.0) > monotonic():
        versions = ("3.1.1",)
    for version in versions:
        try:
            client = await _entered(settings, version, password, will, manual_ack)
        except _OtherVersion as error:
            slow = isinstance(error, _Mute) and place in _speaks_5
            if version == versions[-1] or slow:
                raise PeerUnavailable(str(error)) from error
            continue
        if version == "5":
            _speaks_5.add(place)
        elif len(versions) == 2:
            _speaks_5.discard(place)
            _old_until[place] = monotonic() + OLD_FOR
        return client, version
    raise AssertionError("unreachable")


async def _entered(
    settings: MqttSettings, version: MqttVersion, password: bytes | None, will: Will | None, manual_ack: bool
) -> ReceiptClient:
    """Connect; without a retained will where the broker retains nothing, with a will that is not retained."""
    for retain in (True, False):
        client = _make_client(settings, version, password, will, manual_ack, retain=retain)
        try:
            with translated(settings):
                await _enter(client)
        except _NoRetain:
            if not retain or will is None:
                raise
            continue
        return client
    raise AssertionError("unreachable")


def _make_client(
    settings: MqttSettings,
    version: MqttVersion,
    password: bytes | None,
    will: Will | None,
    manual_ack: bool,
    *,
    retain: bool,
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
        max_queued_incoming_messages=0,
        tls_context=tls_context(settings.tls) if settings.tls else None,
        will=aiomqtt.Will(will.topic, will.payload, 1, retain) if will else None,
        manual_ack=manual_ack,
    )


async def cancellable(work: Coroutine[Any, Any, T]) -> T:
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


class _Mute(_OtherVersion):
    """The broker took the connection and said nothing; it may be slow."""


class _NoRetain(PeerUnavailable):
    """The broker retains nothing, so it does not take a retained will either."""


async def _enter(client: ReceiptClient) -> None:
    try:
        await cancellable(client.__aenter__())
    except BaseException as error:
        mute = type(error) is aiomqtt.MqttError and client.attached
        client.abandon()
        if mute:  # amqtt and old brokers drop what they do not understand instead of refusing it
            raise _Mute("the broker takes the connection but does not answer") from error
        raise


@contextlib.contextmanager
def translated(settings: MqttSettings) -> Iterator[None]:
    """Raise aiomqtt's errors and those of sockets as PeerError."""
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
        if isinstance(error, aiomqtt.exceptions.MqttConnectError) and code == _NO_RETAIN:
            raise _NoRetain(f"{where}: {error}") from error
        if code in _BAD_PROTOCOL or "closed before answering" in str(error.args):
            raise _OtherVersion(f"{where}: {error}") from error
        raise PeerUnavailable(f"{where}: {error}") from error
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        raise PeerUnavailable(f"{where}: {error}") from error
