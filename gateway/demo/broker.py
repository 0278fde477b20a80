"""The demonstration's broker: amqtt in our own process, on loopback, on a port that the system chooses."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amqtt.broker import Broker
from amqtt.errors import AMQTTError

from gateway.errors import PeerUnavailable

HOST = "127.0.0.1"


@asynccontextmanager
async def embedded_broker() -> AsyncIterator[int]:
    """Run a broker while the block runs; yields its port. MQTT 3.1.1, no login, loopback only, nothing on disk.

    PeerUnavailable when it does not start.
    """
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:0"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    try:
        await broker.start()
    except (AMQTTError, OSError) as error:
        raise PeerUnavailable(f"the embedded broker did not start: {error}") from error
    try:
        yield _port(broker)
    finally:
        await broker.shutdown()


def _port(broker: Broker) -> int:
    (server,) = broker._servers.values()  # noqa: SLF001 (amqtt tells its port nowhere else)
    return int(next(iter(server.instance.sockets)).getsockname()[1])
