"""The conformance suite that every sink passes: nothing lost, nothing claimed, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol

from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.base import Sink
from protocols.clock import SystemClock
from tests.support.journal_records import ids_of, records
from tests.support.waiting import until


class Peer(Protocol):
    """The far side, for real, as the test sees it."""

    async def stop(self) -> None:
        """Make the peer vanish."""

    async def start(self) -> None:
        """Bring it back, with what it had stored."""

    async def delivered(self) -> Sequence[str]:
        """Give capture ids in the order in which they arrived, repeats included."""


async def wait_delivered(peer: Peer, ids: set[str]) -> list[str]:
    """Wait until the peer has all of `ids`; give everything that arrived."""
    got: list[str] = []

    async def all_delivered() -> bool:
        got[:] = await peer.delivered()
        return ids <= set(got)

    await until(all_delivered, lambda: f"{len(ids - set(got))} of {len(ids)} entries were not delivered")
    return got


@contextlib.asynccontextmanager
async def running(sink: Sink, journal: Journal) -> AsyncIterator[asyncio.Task[None]]:
    """Run a sink for the time of the context, then cancel it."""
    task = asyncio.create_task(sink.run(journal))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def check_sink(factory: Callable[[], Sink], peer: Peer, folder: Path) -> None:
    """Check one sink against its real peer; `factory` makes a new sink with the same name each time."""
    journal = await Journal.open(folder / "check_sink.db", clock=SystemClock())
    try:
        await _check_delivery(factory, peer, journal)
        await _check_peer_down(factory, peer, journal)
        await _check_cancel(factory, peer, journal)
    finally:
        await journal.close()


async def _check_delivery(factory: Callable[[], Sink], peer: Peer, journal: Journal) -> None:
    sink = factory()
    batch = records(700)
    await journal.append(batch)
    async with running(sink, journal):
        got = await wait_delivered(peer, set(ids_of(batch)))
        assert list(dict.fromkeys(got)) == ids_of(batch), "the order of first delivery is the journal's"
        await wait_cursor(journal, sink.name, journal.last_seq)
        assert sink.statistics().connected
        assert sink.statistics().last_error is None


async def _check_peer_down(factory: Callable[[], Sink], peer: Peer, journal: Journal) -> None:
    sink = factory()
    async with running(sink, journal):
        await until(lambda: sink.statistics().connected)
        await peer.stop()
        before = (await journal.cursors())[sink.name]
        lost = records(300, first=700)
        await journal.append(lost)
        await until(lambda: sink.statistics().failures > 0)
        assert (await journal.cursors())[sink.name] == before, "the cursor ran ahead of a dead peer"
        assert sink.statistics().last_error
        await peer.start()
        await wait_delivered(peer, set(ids_of(lost)))
        await wait_cursor(journal, sink.name, journal.last_seq)


async def _check_cancel(factory: Callable[[], Sink], peer: Peer, journal: Journal) -> None:
    more = records(2_000, first=1_000)
    await journal.append(more)
    sink = factory()
    async with running(sink, journal):
        start = journal.last_seq - 2_000
        while (await journal.cursors())[sink.name] <= start:
            await asyncio.sleep(0)
    cursor = (await journal.cursors())[sink.name]
    claimed = set(ids_of(more)[: max(0, cursor - start)])
    await wait_delivered(peer, claimed)
    async with running(factory(), journal):
        await wait_delivered(peer, set(ids_of(more)))


async def wait_cursor(journal: Journal, sink: str, seq: int) -> None:
    """Wait until the sink's cursor reaches `seq`."""
    cursor = 0

    async def reached() -> bool:
        nonlocal cursor
        cursor = (await journal.cursors()).get(sink, 0)
        return cursor >= seq

    await until(reached, lambda: f"cursor {cursor} of {seq}")
