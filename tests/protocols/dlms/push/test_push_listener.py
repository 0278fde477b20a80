"""The push listener on real sockets: thousands of connections, hostile ones, floods, meters that dial in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest

from protocols.dlms.apdu.notification import confirmation
from protocols.dlms.framing import wrapper
from protocols.dlms.push.dial_in import DialInConnection, DialInLine
from protocols.dlms.push.limits import PushLimits
from protocols.dlms.push.listener import PushListener
from protocols.dlms.push.receiver import Notification, PushReceiver
from protocols.errors import LineClosed, LineTimeout, LineUnavailable
from tests.support.dlms.pushes import ALERT, METER, Memory, Ring, ciphered, ui
from tests.support.files import file_limit
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

HOST = "127.0.0.1"
MANY = 2_000
STRANGER = ALERT.replace(b"GEN1234", b"XXX1234")


@asynccontextmanager
async def listening(
    limits: PushLimits | None = None, **options: Any
) -> AsyncIterator[tuple[PushListener, list[Notification]]]:
    """Listen on ports of the system's choice; what is taken goes into the list."""
    listener = PushListener(PushReceiver(Ring(METER), Memory()), limits=limits, **options)
    await listener.start(HOST, 0, 0)
    taken: list[Notification] = []

    async def take() -> None:
        while True:
            for found in await listener.batch():
                taken.append(found)
                if found.answer is not None:
                    found.answer(confirmation(found.confirms or 0))

    task = asyncio.create_task(take())
    try:
        yield listener, taken
    finally:
        task.cancel()
        await listener.close()


async def send(port: int, data: bytes, *, close: bool = True) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.write(data)
    if close:
        writer.close()
    return writer


def sent(counter: int) -> bytes:
    return wrapper.encode(1, 64, ciphered(ALERT, counter))


@pytest.fixture
def many_files() -> Iterator[None]:
    with file_limit(2 * MANY + 500):
        yield


async def test_two_thousand_connections_at_once_each_push_and_stay(many_files: None) -> None:
    async with listening(PushLimits(connections=MANY)) as (listener, taken):
        writers = []
        for start in range(0, MANY, 200):
            writers += await asyncio.gather(
                *(send(listener.tcp_port, b"", close=False) for _ in range(start, start + 200))
            )
        await until(lambda: listener.statistics().connections == MANY)
        for number, writer in enumerate(writers, 1):
            writer.write(sent(number))
        await until(lambda: len(taken) == MANY)
        over = await send(listener.tcp_port, sent(MANY + 1), close=False)
        await until(lambda: listener.statistics().over_limit == 1)
        counts = listener.statistics()
        assert (counts.connections, counts.peak) == (MANY, MANY)
        for writer in [*writers, over]:
            writer.close()
        await until(lambda: listener.statistics().connections == 0)
        assert [n.counter for n in taken] == list(range(1, MANY + 1))


async def test_udp_and_every_framing_arrive() -> None:
    async with listening() as (listener, taken):

        def has(count: int) -> bool:
            return len(taken) == count

        loop = asyncio.get_running_loop()
        udp, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(HOST, listener.udp_port)
        )
        for number, datagram in enumerate((sent(1), ciphered(ALERT, 2), ui(ciphered(ALERT, 3))), 1):
            udp.sendto(datagram)
            await until(partial(has, number))
        udp.sendto(b"\x00\x01garbage")
        await until(lambda: listener.statistics().broken_datagrams == 1)
        udp.close()
        await send(listener.tcp_port, ui(ciphered(ALERT, 4)))
        await until(lambda: len(taken) == 4)
        await send(listener.tcp_port, ciphered(ALERT, 5))
        await until(lambda: len(taken) == 5)


async def test_slow_silent_and_idle_senders_are_hung_up() -> None:
    limits = PushLimits(first=0.3, idle=0.3)
    async with listening(limits) as (listener, taken):
        silent = await send(listener.tcp_port, b"", close=False)
        slow = await send(listener.tcp_port, sent(1)[:4], close=False)
        for octet in sent(1)[4:20]:
            slow.write(bytes((octet,)))
            await asyncio.sleep(0.01)
        pushing = await send(listener.tcp_port, sent(1), close=False)
        await until(lambda: len(taken) == 1)
        await until(lambda: listener.statistics().connections == 0)
        counts = listener.statistics()
        assert (counts.no_push_in_time, counts.idle_closed) == (2, 1)
        for writer in (silent, slow, pushing):
            writer.close()


async def test_garbage_and_oversized_announcements_end_the_connection() -> None:
    async with listening(PushLimits(octets=1_000)) as (listener, taken):

        def broken(count: int) -> bool:
            return listener.statistics().broken_framing == count

        too_long = bytes.fromhex("0001000100407FFF") * 600
        garbage = (b"GET / HTTP/1.1\r\n\r\n", too_long, b"\x7e\xff\xff" * 1_400, b"\x0f" * 2_000)
        for number, data in enumerate(garbage, 1):
            writer = await send(listener.tcp_port, data, close=False)
            await until(partial(broken, number))
            writer.close()
        assert listener.statistics().connections == 0
        await send(listener.tcp_port, sent(1))
        await until(lambda: len(taken) == 1)


async def test_a_flood_of_strangers_is_counted_and_does_not_keep_a_known_meter_out() -> None:
    async with listening() as (listener, taken):
        flood = b"".join(wrapper.encode(1, 64, STRANGER) for _ in range(5_000))
        writer = await send(listener.tcp_port, flood, close=False)
        await send(listener.tcp_port, sent(1))
        await until(lambda: len(taken) == 1)
        await until(lambda: listener.refusals.unknown_sender == 5_000)
        assert listener.refusals.unknown == {"XXX1234": 5_000}
        assert listener.statistics().queued == 0
        writer.close()


async def test_only_named_networks_are_let_in() -> None:
    async with listening(networks=[ip_network("10.0.0.0/8")]) as (listener, taken):
        writer = await send(listener.tcp_port, sent(1), close=False)
        await until(lambda: listener.statistics().foreign_network == 1)
        listener.datagram_received(sent(1), "fe80::1%eth0")
        listener.datagram_received(sent(1), "")
        assert listener.statistics().foreign_network == 3
        listener.datagram_received(sent(1), "::ffff:10.1.2.3")
        assert listener.statistics().datagrams == 1
        await until(lambda: len(taken) == 1)
        writer.close()


async def test_a_full_queue_makes_tcp_wait_and_drops_datagrams_by_name() -> None:
    listener = PushListener(PushReceiver(Ring(METER), Memory()), limits=PushLimits(queue=10))
    await listener.start(HOST, 0, 0)
    try:
        writer = await send(listener.tcp_port, b"".join(sent(n) for n in range(1, 101)), close=False)
        await until(lambda: listener.statistics().queued == 10)
        listener.datagram_received(sent(500), HOST)
        assert listener.statistics().queue_full == 1
        numbers: list[int | None] = []
        while len(numbers) < 100:
            numbers += [n.counter for n in await listener.batch(7)]
        assert numbers == list(range(1, 101))
        listener.datagram_received(sent(500), HOST)  # what was dropped was not judged: it may come again
        assert [n.counter for n in await listener.batch()] == [500]
        writer.close()
    finally:
        await listener.close()


async def test_a_port_that_is_taken_is_said_so() -> None:
    async with listening() as (listener, _):
        other = PushListener(PushReceiver(Ring(), Memory()))
        with pytest.raises(LineUnavailable):
            await other.start(HOST, None, listener.udp_port)


# meters that dial in


async def test_a_push_names_the_line_a_new_connection_replaces_the_old_and_idle_pushes_arrive() -> None:
    line = DialInLine("cell")
    with pytest.raises(LineUnavailable, match="dialled in"):
        async with line.exclusive():
            pass
    async with listening(lines={"GEN:1234": line}, peer_of=lambda _n: METER) as (listener, taken):
        first = await send(listener.tcp_port, sent(1), close=False)
        await until(lambda: line.connected)
        first.write(sent(2)[:30])
        await asyncio.sleep(0.02)
        first.write(sent(2)[30:])
        await until(lambda: len(taken) == 2)
        async with line.exclusive() as io:
            await io.send(b"ping")
            first.write(b"pong")
            assert await io.receive(2) == b"pong"
            second = await send(listener.tcp_port, sent(3), close=False)
            await until(lambda: line.statistics().connects == 2)
            with pytest.raises(LineClosed):
                await io.send(b"ping")
        async with line.exclusive() as io:
            second.write(b"!")
            assert await io.receive(2) == b"!"
            with pytest.raises(LineTimeout):
                await io.receive(0.01)
        assert listener.statistics().dialled_in == 1
        second.write(b"noise" * 1_000)
        await until(lambda: not line.connected)
        assert line.broken == 1
        assert listener.statistics().connections == 0
        assert [n.counter for n in taken] == [1, 2, 3]
        first.close()
        second.close()
    await line.close()


async def test_a_source_address_names_the_line_at_once() -> None:
    line = DialInLine("cell")
    async with listening(lines={"GEN:1234": line}, addresses={HOST: "GEN:1234"}) as (listener, taken):
        writer = await send(listener.tcp_port, b"", close=False)
        await until(lambda: line.connected)
        writer.close()
        await until(lambda: not line.connected)
        assert listener.statistics().dialled_in == 0
        await send(listener.tcp_port, ciphered(ALERT, 1))  # bare: complete when the sender ends
        await until(lambda: len(taken) == 1)


async def test_a_silent_caller_is_asked_and_a_stranger_is_sent_away() -> None:
    line = DialInLine("cell")
    answers = iter(["GEN:1234", None])

    async def ask(_line: DialInLine) -> str | None:
        return next(answers)

    async with listening(
        PushLimits(ask_after=0.05, first=5),
        lines={"GEN:1234": line},
        peer_of=lambda name: METER if name == METER.name else None,
        ask=ask,
    ) as (listener, _):
        known = await send(listener.tcp_port, b"", close=False)
        await until(lambda: line.connected)
        stranger = await send(listener.tcp_port, b"", close=False)
        await until(lambda: listener.statistics().unknown_callers == 1)
        assert listener.statistics().asked == 2
        assert line.connected
        known.close()
        stranger.close()


async def test_a_talker_on_a_replaced_connection_leaves_the_new_one_alone() -> None:
    line = DialInLine("gsm")
    incoming: list[DialInConnection] = []

    def accept() -> DialInConnection:
        incoming.append(DialInConnection())
        return incoming[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(2)]
    while len(incoming) < 2 or any(one.transport is None for one in incoming):
        await asyncio.sleep(0)
    old, new = incoming
    line.adopt(old)
    async with line.exclusive() as io:
        line.adopt(new)
        await io.hang_up()
        assert (old.usable, new.usable, line.connected) == (False, True, True)
    async with line.exclusive() as io:
        await io.send(b"?")
    await line.close()
    for writer in writers:
        writer.close()
    server.close()
