"""Raw questions to simulated meters, from a client that is not ours."""

from __future__ import annotations

import asyncio

AARQ_NONE = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")


async def ask_tcp(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(512), 5)
    finally:
        writer.close()
