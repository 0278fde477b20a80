"""Processes of the DLMS bench: a served simulator, our client and gurux-dlms' against it, sessions that idle.

Each is run by `bench/dlms.py` with a role and its arguments, and writes JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from protocols.dlms.apdu.lists import Target

sys.path.insert(0, str(Path(__file__).parent.parent))

from protocols.dlms.client.exchange import Exchange
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.model import AssociationPolicy
from protocols.dlms.server.ports import serve_wrapper
from protocols.lines.tcp import TcpLine
from protocols.reading import Obis
from protocols.session import Auth
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.household.household import Household

EK, AK = bytes(range(16)), bytes(range(0xD0, 0xE0))
CLIENT = 48
ENERGY = Obis(1, 0, 1, 8, 0)
HOST = "127.0.0.1"
TIMEOUT = 20.0
NOW = datetime(2026, 6, 1, tzinfo=UTC)
HISTORY = timedelta(days=35)
WARM_UP = 20
"""Sessions of each client before the first that counts: a new interpreter is slow, and an edge runs for months."""


def say(**values: object) -> None:
    """Return one line to the parent."""
    print(json.dumps(values), flush=True)


def rss() -> int:
    """Resident octets of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def asked() -> bool:
    """Wait for the parent's next line; False when it has gone."""
    return bool(await asyncio.to_thread(sys.stdin.readline))


# the served simulator


class StoppedClock:
    """A clock that stands, so that a register has the same value for everybody."""

    def now(self) -> datetime:
        return NOW


async def serve(count: int) -> None:
    """Serve as many meters, each on a port of its own; tell the memory whenever asked."""
    clock = StoppedClock()
    policy = AssociationPolicy(
        auth=Auth.HLS_GMAC, ciphered=True, encryption_key=EK, authentication_key=AK, may_write=True
    )
    begun = clock.now() - HISTORY

    async def one(number: int) -> asyncio.Server:
        home = Household(number, "GEN", f"{10_000_000 + number}", begun)
        return await serve_wrapper(HouseholdModel(home, clock, {CLIENT: policy}))

    servers = [await one(0)]
    before = rss()
    servers += [await one(number) for number in range(1, count + 1)]
    say(ports=[server.sockets[0].getsockname()[1] for server in servers], before=before)
    while await asked():
        say(rss=rss())


# our client


def exchange(io: Any, counter: Callable[[], int]) -> Exchange:
    settings = AssociationSettings(
        auth=Auth.HLS_GMAC, ciphered=True, keys=Keys(encryption=EK, authentication=AK)
    )
    link = WrapperClientLink(client=CLIENT, server=1)
    return Exchange(io, ClientConnection(link, settings, counter), timeout=TIMEOUT, bus=False)


async def session(port: int, counter: Callable[[], int]) -> int | None:
    """Connect, associate, read one register, release, close."""
    line = TcpLine("bench", HOST, port)
    try:
        async with line.exclusive() as io:
            meter = exchange(io, counter)
            await meter.associate()
            value = (await meter.get(Target(3, ENERGY))).integer
            await meter.close()
    finally:
        await line.close()
    return value


async def ours(port: int, rounds: int, first: int) -> None:
    """Time sessions one by one."""
    counter = itertools.count(first).__next__
    spent = []
    for _ in range(WARM_UP):
        value = await session(port, counter)
    for _ in range(rounds):
        begun = time.process_time()
        await session(port, counter)
        spent.append(time.process_time() - begun)
    say(seconds=spent, value=value)


async def many(ports: list[int], rounds: int, first: int) -> None:
    """Keep sessions with as many meters running side by side; CPU of all."""
    counter = itertools.count(first).__next__
    begun = time.process_time()

    async def lane(port: int) -> None:
        for _ in range(rounds):
            await session(port, counter)

    await asyncio.gather(*(lane(port) for port in ports))
    say(cpu=time.process_time() - begun, sessions=rounds * len(ports))


async def keep(ports: list[int], first: int) -> None:
    """Associate with each meter and stay; tell what that holds."""
    counter = itertools.count(first).__next__
    await session(ports[0], counter)
    before = rss()
    async with contextlib.AsyncExitStack() as stack:
        held = []
        for port in ports:
            line = TcpLine("bench", HOST, port)
            meter = exchange(await stack.enter_async_context(line.exclusive()), counter)
            await meter.associate()
            await meter.get(Target(3, ENERGY))
            held.append(meter)
        say(per_session=(rss() - before) / len(held))
        await asked()
        for meter in held:
            await meter.close()


# gurux-dlms


def gurux(port: int, rounds: int, first: int) -> None:
    """Time the same sessions of gurux-dlms' client."""
    with Path(os.devnull).open("w", encoding="ascii") as sink, contextlib.redirect_stdout(sink):  # it prints
        for number in range(WARM_UP):
            value = gurux_session(port, first + 10 * number)
        spent = []
        for number in range(WARM_UP, WARM_UP + rounds):
            begun = time.process_time()
            gurux_session(port, first + 10 * number)
            spent.append(time.process_time() - begun)
    say(seconds=spent, value=value)


def gurux_session(port: int, counter: int) -> Any:
    """Connect, associate, read one register, release, close."""
    from gurux_dlms import GXByteBuffer, GXReplyData
    from gurux_dlms.enums import Authentication, InterfaceType, Security
    from gurux_dlms.objects.GXDLMSRegister import GXDLMSRegister
    from gurux_dlms.secure import GXDLMSSecureClient

    client = GXDLMSSecureClient(True, CLIENT, 1, Authentication.HIGH_GMAC, None, InterfaceType.WRAPPER)
    cipher = client.ciphering
    cipher.systemTitle = b"GRXPEER1"
    cipher.blockCipherKey, cipher.authenticationKey = EK, AK
    cipher.invocationCounter = counter
    cipher.security = Security.AUTHENTICATION_ENCRYPTION
    with socket.create_connection((HOST, port), timeout=TIMEOUT) as link:

        def ask(packets: Any) -> Any:
            reply = GXReplyData()
            for packet in packets if isinstance(packets, list) else [packets]:
                reply.clear()
                link.sendall(bytes(packet))
                received = GXByteBuffer()
                complete = False
                while not complete:
                    received.set(link.recv(4096))
                    complete = client.getData(received, reply, None)
            return reply

        client.parseAareResponse(ask(client.aarqRequest()).data)
        client.parseApplicationAssociationResponse(ask(client.getApplicationAssociationRequest()).data)
        value = ask(client.read(GXDLMSRegister("1.0.1.8.0.255"), 2)).value
        ask(client.releaseRequest())
    return value


def main(role: str, *arguments: str) -> None:
    numbers = [int(argument) for argument in arguments]
    match role, numbers:
        case "serve", [count]:
            asyncio.run(serve(count))
        case "ours", [port, rounds, first]:
            asyncio.run(ours(port, rounds, first))
        case "many", [rounds, first, *ports]:
            asyncio.run(many(ports, rounds, first))
        case "keep", [first, *ports]:
            asyncio.run(keep(ports, first))
        case "gurux", [port, rounds, first]:
            gurux(port, rounds, first)
        case _:
            raise SystemExit(f"no role {role} with {len(numbers)} numbers")


if __name__ == "__main__":
    main(*sys.argv[1:])
