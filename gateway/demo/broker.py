"""The demonstration's broker: amqtt in our own process, on loopback, on a port that the system chooses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from amqtt.broker import Broker
from amqtt.errors import AMQTTError

from gateway.errors import PeerUnavailable

HOST = "127.0.0.1"


class _Broker(Broker):
    """amqtt's broker, which forgets connections whose session ended before they did: ours ends them, too."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)
        # It ends here in any case, and asyncio would tell of a cancelled one as of a fault.
        with suppress(asyncio.CancelledError):
            try:
                await super().stream_connected(reader, writer, listener_name)
            finally:
                await _close(writer)

    async def shutdown(self) -> None:
        await super().shutdown()
        left = dict(self._connections)
        for task, writer in left.items():
            writer.transport.abort()  # a peer that reads no more would hold a mere close for ever
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def embedded_broker() -> AsyncIterator[int]:
    """Run a broker while the block runs; yields its port. MQTT 3.1.1, no login, loopback only, nothing on disk.

    PeerUnavailable when it does not start.
    """
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    broker = _Broker(
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
