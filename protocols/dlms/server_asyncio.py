"""Served meters on real sockets and ptys: the thin asyncio shell of `server_links`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from protocols.dlms.model import CosemModel
from protocols.dlms.server import SendCounter, ServerSettings
from protocols.dlms.server_links import MANAGEMENT, HdlcBus, ServedMeter, WrapperServer
from protocols.errors import MeterProtocolError

READ_OCTETS = 4096
_COUNTER_EPOCH = 1_577_836_800  # 2020-01-01: counters of a restarted process go on above the old ones


async def serve_wrapper(
    model: CosemModel | Mapping[int, CosemModel],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    settings: ServerSettings | None = None,
) -> asyncio.Server:
    """Serve one meter (as logical device 1) or several by wPort on TCP; the caller closes the server."""
    models = model if isinstance(model, Mapping) else {MANAGEMENT: model}
    meters = _served(models)
    limits = settings or ServerSettings()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(WrapperServer(meters, limits), reader, writer)

    return await asyncio.start_server(connected, host, port)


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

    return await asyncio.start_server(connected, host, port)


def _served(models: Mapping[int, CosemModel]) -> dict[int, ServedMeter]:
    start = max(0, int(time.time()) - _COUNTER_EPOCH)
    return {address: ServedMeter(model=m, counter=SendCounter(start)) for address, m in models.items()}


async def _pump(
    core: WrapperServer | HdlcBus, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while data := await reader.read(READ_OCTETS):
            answer = core.receive_data(data)
            if answer:
                writer.write(answer)
                await writer.drain()
    except (MeterProtocolError, OSError):
        pass  # the client broke the framing or went away: the connection ends
    finally:
        writer.close()
