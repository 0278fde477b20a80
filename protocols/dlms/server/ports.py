"""Served meters on real sockets and ptys: the thin asyncio shell of `links`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, cast

from protocols.conversations import Conversations
from protocols.dlms.server.connection import SendCounter, ServerSettings
from protocols.dlms.server.links import MANAGEMENT, HdlcBus, ServedMeter, WrapperServer
from protocols.dlms.server.model import CosemModel
from protocols.errors import MeterProtocolError

READ_OCTETS = 4096
MAX_UDP_PEERS = 256
"""UDP peers with associations; the one that was silent longest is forgotten for a new one."""
FRAME_SILENCE = 0.2
"""Seconds without an octet after which a frame that is not complete stays so (HDLC only)."""
_COUNTER_EPOCH = 1_577_836_800  # 2020-01-01: counters of a restarted process go on above the old ones


async def serve_wrapper(
    model: CosemModel | Mapping[int, CosemModel],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    settings: ServerSettings | None = None,
) -> asyncio.Server:
    """Serve one meter (as logical device 1), or several by wPort, in the wrapper on a TCP port.

    Each connection has associations of its own. Port 0 takes a free one: `server.sockets[0].getsockname()[1]`.
    The caller closes the server. Raises OSError when the port is taken.

    Example: `server = await serve_wrapper(HouseholdModel(home, clock, policies), port=4059)`
    """
    meters = _served(_models(model))
    limits = settings or ServerSettings()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(WrapperServer(meters, limits), reader, writer)

    return await asyncio.start_server(Conversations(connected), host, port)


async def serve_wrapper_udp(
    model: CosemModel | Mapping[int, CosemModel],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    settings: ServerSettings | None = None,
) -> UdpServer:
    """Serve one meter (as logical device 1) or several by wPort on UDP; the caller closes the server."""
    server = UdpServer(_served(_models(model)), settings or ServerSettings())
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: server, local_addr=(host, port))
    return server


class UdpServer(asyncio.DatagramProtocol):
    """Meters behind one UDP port; each peer has associations of its own. Wrong datagrams are counted."""

    def __init__(self, meters: Mapping[int, ServedMeter], settings: ServerSettings) -> None:
        self._meters = meters
        self._settings = settings
        self._peers: dict[tuple[Any, ...], WrapperServer] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self.bad_datagrams = 0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        core = self._peers.pop(addr, None) or WrapperServer(self._meters, self._settings)
        self._peers[addr] = core  # the newest stand last
        if len(self._peers) > MAX_UDP_PEERS:
            del self._peers[next(iter(self._peers))]
        try:
            answers = core.receive_datagram(data)
        except MeterProtocolError:
            self.bad_datagrams += 1
            return
        assert self._transport is not None
        for answer in answers:
            self._transport.sendto(answer, addr)

    def close(self) -> None:
        """Stop serving."""
        if self._transport is not None:
            self._transport.close()


async def serve_hdlc(
    models: Mapping[int, CosemModel],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    settings: ServerSettings | None = None,
) -> None:
    """Serve meters by physical address on one stream until it ends; cancel to stop."""
    await _pump(HdlcBus(_served(models), settings or ServerSettings()), reader, writer)


async def serve_hdlc_tcp(
    models: Mapping[int, CosemModel],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    settings: ServerSettings | None = None,
) -> asyncio.Server:
    """Serve an HDLC bus that some modules tunnel through a TCP port."""
    meters = _served(models)
    limits = settings or ServerSettings()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(HdlcBus(meters, limits), reader, writer)

    return await asyncio.start_server(Conversations(connected), host, port)


def _models(model: CosemModel | Mapping[int, CosemModel]) -> Mapping[int, CosemModel]:
    return model if isinstance(model, Mapping) else {MANAGEMENT: model}


def _served(models: Mapping[int, CosemModel]) -> dict[int, ServedMeter]:
    start = max(0, int(time.time()) - _COUNTER_EPOCH)
    return {address: ServedMeter(model=m, counter=SendCounter(start)) for address, m in models.items()}


async def _pump(
    core: WrapperServer | HdlcBus, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    loop = asyncio.get_running_loop()
    last = loop.time()
    try:
        while data := await reader.read(READ_OCTETS):
            if loop.time() - last > FRAME_SILENCE:
                core.quiet()
            last = loop.time()
            answer = core.receive_data(data)
            if answer:
                writer.write(answer)
                await writer.drain()
    except (MeterProtocolError, OSError):
        pass  # the client broke the framing or went away: the connection ends
    finally:
        writer.close()
