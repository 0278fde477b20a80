"""Systemd's watchdog is fed by journal thread, lines and deliveries together: one that is stuck lets it lapse."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from gateway.config.file import load
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.notify import keep_watchdog
from gateway.roles.central_files import make_directory_keys
from gateway.roles.edge import EdgeRole, edge_role
from gateway.watch import Watch, Watched
from protocols.clock import SystemClock
from tests.support.journal_records import record
from tests.support.mqtt_broker import Manners, picky
from tests.support.waiting import until

LATER = 100_000.0
"""Seconds after which whatever has not moved is stuck."""


def test_a_part_is_stuck_when_it_is_busy_and_does_not_move() -> None:
    mark: list[object] = [1]
    watch = Watch(lambda: [Watched("line a", lambda: mark[0], 10.0)])
    assert watch.stuck(0.0) == []
    assert watch.stuck(10.0) == []
    assert watch.stuck(10.1) == ["line a"]
    mark[0] = 2
    assert watch.stuck(11.0) == []
    mark[0] = None
    assert watch.stuck(50.0) == watch.stuck(LATER) == [], "who has nothing to do is not stuck"


async def test_a_stuck_part_lets_the_watchdog_lapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    moving, looks = [True], [0]

    def mark() -> object:
        looks[0] += 1
        return looks[0] if moving[0] else "still"

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        task = asyncio.create_task(keep_watchdog(Watch(lambda: [Watched("sink", mark, -1.0)])))
        heard: list[bytes] = []

        def listen() -> int:
            try:
                while True:
                    heard.append(ear.recv(100))
            except BlockingIOError:
                return len(heard)

        await until(lambda: listen() > 3)
        moving[0] = False
        now = looks[0]
        await until(lambda: looks[0] > now + 2)
        fed = listen()
        now = looks[0]
        await until(lambda: looks[0] > now + 5)
        assert listen() == fed, "nobody feeds it any more"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert set(heard) == {b"WATCHDOG=1"}


def config(folder: Path, port: int, line: int) -> Path:
    make_directory_keys(folder / "keys")
    path = folder / "edge.toml"
    path.write_text(
        f'[gateway]\nname = "edge-1"\ndata = "{folder}/data"\nsecrets = "{folder}/keys"\n'
        f'[time]\ntrust = "host"\n[mqtt]\nport = {port}\nversion = "5"\n'
        f'[directory]\nverify_key_ref = "directory-verify"\n'
        f'[[lines]]\nname = "a"\nkind = "tcp"\nhost = "127.0.0.1"\nport = {line}\n'
        '[[meters]]\nmeter = "ABB:1"\nline = "a"\nprofiles = ["instantaneous"]\n'
        '[meters.modbus]\nunit = 1\nmodel = "abb-b23"\nframing = "tcp"\n',
        encoding="utf-8",
    )
    return path


async def stuck(edge: EdgeRole, name: str) -> None:
    """See that this part alone is found stuck, long after all others have moved."""
    watch = Watch(lambda: [one for one in edge.watched() if one.name == name])
    assert watch.stuck(0.0) == []
    assert watch.stuck(LATER) == [name]


async def moving(edge: EdgeRole, name: str) -> None:
    """See that a part moves."""
    [part] = [one for one in edge.watched() if one.name == name]
    mark = part.mark()
    await until(lambda: part.mark() is None or part.mark() != mark)


async def test_a_journal_thread_that_hangs_is_stuck(journal: Journal, tmp_path: Path) -> None:
    async with edge_role(load(config(tmp_path, 1, 1)), SystemClock()) as edge:
        await moving(edge, "journal")
        blocked, release = threading.Event(), threading.Event()

        def hang(_: object) -> None:
            blocked.set()
            release.wait()

        call = asyncio.create_task(edge.journal._writer.call(hang))
        await asyncio.to_thread(blocked.wait)
        await stuck(edge, "journal")
        release.set()
        await call


async def test_a_line_whose_conversation_stands_is_stuck(tmp_path: Path) -> None:
    async with edge_role(load(config(tmp_path, 1, 1)), SystemClock()) as edge:
        reached, release = asyncio.Event(), asyncio.Event()

        async def attempt(*_: object) -> None:
            reached.set()
            await release.wait()

        state = edge.poller._lines["a"]
        state.meters["ABB:1"].attempt = attempt  # type: ignore[method-assign,assignment]
        assert edge.poller.busy("a") is None
        poll = asyncio.create_task(edge.poller.poll_meter("ABB:1"))
        await reached.wait()
        await stuck(edge, "line a")
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        assert edge.poller.busy("a") is None


async def test_a_delivery_that_hangs_is_stuck_and_one_that_waits_for_a_broker_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with picky(Manners()) as broker:
        async with edge_role(load(config(tmp_path, broker.port, 1)), SystemClock()) as edge:
            task = asyncio.create_task(edge.sink.run(edge.journal))
            await until(lambda: edge.sink.statistics().connected)
            await edge.journal.append(JournalBatch(blocks=(record(1),)))
            await moving(edge, "mqtt")
            await until(lambda: edge.sink.statistics().delivered == 1)

            async def hang(*_: object) -> None:
                await asyncio.Event().wait()

            monkeypatch.setattr(edge.journal, "ack", hang)
            await edge.journal.append(JournalBatch(blocks=(record(2),)))
            await until(lambda: len(broker.published) > 0)
            before = -1
            while before != edge.sink.turns:  # until it has come to the acknowledgement that never returns
                before = edge.sink.turns
                await asyncio.sleep(0.2)
            await stuck(edge, "mqtt")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
