"""Conformance suites of the narrow waists: every line and every meter session passes the same checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from protocols.errors import LineClosed, LineError, LineTimeout, LineUnavailable, LocalError, NotSupported
from protocols.line import Line
from protocols.reading import (
    PROFILE_KIND,
    MeterClock,
    ProfileKind,
    ProfileName,
    ReadingSet,
    RelayState,
)
from protocols.session import MeterSession
from tests.support.waiting import PATIENCE, passed, waits_run_out


class FarEnd(Protocol):
    """The other end of a line under test; `hang_up` ends the connection and lets the next one in."""

    async def read(self, count: int) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def hang_up(self) -> None: ...


LineFactory = Callable[[], AbstractAsyncContextManager[tuple[Line, FarEnd]]]


async def check_line(factory: LineFactory) -> None:
    """Check everything that `protocols.line` promises, on a fresh line for each promise."""
    for check in (
        _talks,
        _takes_turns_in_order,
        _cancelled_waiter_leaves_the_line_usable,
        _cancelled_talker_leaves_the_line_usable,
        _silence_is_a_timeout,
        _hold_quiet_binds_later_talkers,
        _drain_counts,
        _left_octets_are_not_given_to_the_next,
        _hang_up_reconnects,
        _far_end_hangs_up,
        _turn_is_over,
        _floods_are_bounded,
        _closes_for_good,
    ):
        async with factory() as (line, far):
            try:
                async with asyncio.timeout(PATIENCE):
                    await check(line, far)
            finally:
                await line.close()


async def _gather(line: Line, far: FarEnd, message: bytes) -> bytes:
    async with line.exclusive() as io:
        await io.send(b"?")
        assert await far.read(1) == b"?"
        await far.write(message)
        got = b""
        while len(got) < len(message):
            got += await io.receive(5)
        return got


async def _talks(line: Line, far: FarEnd) -> None:
    assert line.statistics().connects == 0
    assert not line.statistics().open
    every_octet = bytes(range(256))
    assert await _gather(line, far, every_octet) == every_octet
    async with line.exclusive() as io:
        await io.send(every_octet)
        assert await far.read(256) == every_octet
    counted = line.statistics()
    assert (counted.sent, counted.received, counted.connects, counted.open) == (257, 256, 1, True)
    assert counted.busy_seconds > 0


async def _takes_turns_in_order(line: Line, far: FarEnd) -> None:
    order: list[int] = []
    inside = 0

    async def talker(number: int) -> None:
        nonlocal inside
        async with line.exclusive():
            inside += 1
            assert inside == 1
            order.append(number)
            await asyncio.sleep(0.001)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(talker(number))
            await asyncio.sleep(0)
    assert order == list(range(8))
    assert line.statistics().connects == 1


async def _cancelled_waiter_leaves_the_line_usable(line: Line, far: FarEnd) -> None:
    async def wait() -> None:
        async with line.exclusive():
            raise AssertionError("two talkers")

    async with line.exclusive():
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert await _gather(line, far, b"still here") == b"still here"


async def _cancelled_talker_leaves_the_line_usable(line: Line, far: FarEnd) -> None:
    async def talk() -> None:
        async with line.exclusive() as io:
            await io.receive(60)

    talker = asyncio.create_task(talk())
    while not line.statistics().open:
        await asyncio.sleep(0.001)
    talker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talker
    assert await _gather(line, far, b"still here") == b"still here"


async def _silence_is_a_timeout(line: Line, far: FarEnd) -> None:
    async with line.exclusive() as io:
        waited = passed(0.04)
        with waits_run_out() as waits, pytest.raises(LineTimeout):
            await io.receive(0.05)
        assert waited()
        assert sum(waits) < 2
        assert line.statistics().timeouts == 1
    assert await _gather(line, far, b"later") == b"later"


async def _hold_quiet_binds_later_talkers(line: Line, far: FarEnd) -> None:
    async with line.exclusive() as io:
        await io.send(b"1")
        await far.read(1)
        waited = passed(0.25)
        io.hold_quiet(0.25)

    async def late_answer() -> None:
        await asyncio.sleep(0.1)
        await far.write(b"late answer")

    late = asyncio.create_task(late_answer())
    async with line.exclusive() as io:
        await io.send(b"2")
        assert waited()
        assert await far.read(1) == b"2"
        await late
        await far.write(b"right")
        got = b""
        while len(got) < 5:
            got += await io.receive(5)
        assert got == b"right"
    assert line.statistics().drained == len(b"late answer")


async def _drain_counts(line: Line, far: FarEnd) -> None:
    async with line.exclusive() as io:
        await io.send(b"!")
        await far.read(1)
        await far.write(b"noise")
        assert await io.drain(0.1) == 5
        assert await io.drain(0) == 0
        with pytest.raises(LineTimeout):
            await io.receive(0.02)
    assert line.statistics().drained == 5


async def _left_octets_are_not_given_to_the_next(line: Line, far: FarEnd) -> None:
    async with line.exclusive() as io:
        await io.send(b"!")
        await far.read(1)
    await far.write(b"left over")
    while line.statistics().received < 9:
        await asyncio.sleep(0.001)
    assert await _gather(line, far, b"mine") == b"mine"


async def _hang_up_reconnects(line: Line, far: FarEnd) -> None:
    assert await _gather(line, far, b"one") == b"one"
    async with line.exclusive() as io:
        await io.hang_up()
        assert not line.statistics().open
        with pytest.raises(LineClosed):
            await io.send(b"x")
        with pytest.raises(LineClosed):
            await io.receive(1)
    assert await _gather(line, far, b"two") == b"two"
    assert line.statistics().connects == 2


async def _far_end_hangs_up(line: Line, far: FarEnd) -> None:
    assert await _gather(line, far, b"one") == b"one"
    async with line.exclusive() as io:
        waiting = asyncio.create_task(io.receive(10))
        await asyncio.sleep(0.01)
        await far.hang_up()
        with pytest.raises(LineClosed):
            await waiting
        with pytest.raises(LineClosed):
            await io.send(b"x")
    assert await _gather(line, far, b"two") == b"two"


async def _turn_is_over(line: Line, far: FarEnd) -> None:
    async with line.exclusive() as io:
        pass
    for misuse in (io.send(b"x"), io.receive(0.1), io.drain(0.1), io.hang_up()):
        with pytest.raises(LocalError):
            await misuse
    with pytest.raises(LocalError):
        io.hold_quiet(1)


async def _floods_are_bounded(line: Line, far: FarEnd) -> None:
    async with line.exclusive() as io:
        await io.send(b"!")
        await far.read(1)
        flood = asyncio.create_task(far.write(bytes(1_000_000)))
        await asyncio.sleep(0.2)
        assert line.statistics().received <= 512 * 1024
        got = 0
        while got < 1_000_000:
            got += len(await io.receive(5))
        await flood
    assert await _gather(line, far, b"calm") == b"calm"


async def _closes_for_good(line: Line, far: FarEnd) -> None:
    async def use() -> None:
        async with line.exclusive() as io:
            await io.receive(30)

    talker, waiter = asyncio.create_task(use()), asyncio.create_task(use())
    while not line.statistics().open:
        await asyncio.sleep(0.001)
    await line.close()
    await line.close()
    with pytest.raises(LineClosed):
        await talker
    with pytest.raises(LineUnavailable):
        await waiter
    assert not line.statistics().open


@dataclass(frozen=True, kw_only=True)
class SessionUnderTest:
    """One meter behind a line: `open` begins a session, the rest says what it must show.

    `stored` names the profiles with history, `sparse` those of them that may have no row in three days.
    `now` is the session clock's present.
    """

    line: Line
    open: Callable[[], AbstractAsyncContextManager[MeterSession]]
    meter: str
    now: Callable[[], datetime]
    supported: frozenset[ProfileName]
    stored: frozenset[ProfileName] = frozenset()
    sparse: frozenset[ProfileName] = frozenset()
    has_clock: bool = False
    may_switch: bool = False


SessionFactory = Callable[[], AbstractAsyncContextManager[SessionUnderTest]]


async def check_meter_session(factory: SessionFactory) -> None:
    """Check everything that `protocols.session.MeterSession` promises, on a fresh meter for each promise."""
    for check in (
        _identifies,
        _reads_snapshots,
        _reads_stored_rows,
        _says_not_supported,
        _tells_the_time,
        _shows_the_relay,
        _cancel_leaves_the_session_line_usable,
    ):
        async with factory() as under_test:
            try:
                async with asyncio.timeout(PATIENCE):
                    await check(under_test)
            finally:
                await under_test.line.close()


async def _rows(
    session: MeterSession, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
) -> list[ReadingSet]:
    return [row async for row in session.read(profile, since, until)]


async def _identifies(sut: SessionUnderTest) -> None:
    async with sut.open() as session:
        nameplate = await session.identify()
        assert nameplate.meter_id == sut.meter
        assert (await session.identify()) == nameplate


async def _reads_snapshots(sut: SessionUnderTest) -> None:
    async with sut.open() as session:
        for profile in sut.supported - sut.stored:
            before = sut.now() - timedelta(seconds=2)
            (row,) = await _rows(session, profile)
            assert row.profile is profile
            assert row.start is None
            assert row.values
            assert len({q for q, _ in row.values}) == len(row.values), "one value for each quantity"
            assert before <= row.received_at <= sut.now()
            assert row.at.tzinfo is UTC


async def _reads_stored_rows(sut: SessionUnderTest) -> None:
    async with sut.open() as session:
        for profile in sut.stored:
            until = sut.now()
            since = until - timedelta(days=3)
            rows = await _rows(session, profile, since, until)
            assert rows or profile in sut.sparse, f"{profile} has rows in three days"
            stamps = [row.at for row in rows]
            assert stamps == sorted(stamps)
            assert all(since < at <= until for at in stamps)
            interval = PROFILE_KIND[profile] is ProfileKind.INTERVAL
            assert all((row.start is not None) == interval for row in rows)
            middle = rows[len(rows) // 2].at if rows else until
            assert await _instants(session, profile, middle, until) == [at for at in stamps if at > middle]
            assert await _instants(session, profile, since, middle) == [at for at in stamps if at <= middle]
            assert await _instants(session, profile, until + timedelta(days=1), None) == []


async def _instants(
    session: MeterSession, profile: ProfileName, since: datetime | None, until: datetime | None
) -> list[datetime]:
    return [row.at for row in await _rows(session, profile, since, until)]


async def _says_not_supported(sut: SessionUnderTest) -> None:
    async with sut.open() as session:
        for profile in set(ProfileName) - sut.supported:
            with pytest.raises(NotSupported):
                await _rows(session, profile)
        assert (await session.identify()).meter_id == sut.meter


async def _tells_the_time(sut: SessionUnderTest) -> None:
    async with sut.open() as session:
        if not sut.has_clock:
            with pytest.raises(NotSupported):
                await session.clock()
            with pytest.raises(NotSupported):
                await session.set_clock(sut.now())
            return
        shown = await session.clock()
        assert isinstance(shown, MeterClock)
        assert abs(shown.drift) < 86400


async def _shows_the_relay(sut: SessionUnderTest) -> None:
    async with sut.open() as session:
        seen = await session.relay()
        assert isinstance(seen, RelayState)
        if not sut.may_switch:
            with pytest.raises(NotSupported):
                await session.switch_relay(RelayState.OPEN)
            assert await session.relay() is seen
            return
        for wanted in (RelayState.OPEN, RelayState.CLOSED):
            await session.switch_relay(wanted)
            assert await session.relay() is wanted


async def _cancel_leaves_the_session_line_usable(sut: SessionUnderTest) -> None:
    async def talk() -> None:
        async with sut.open() as session:
            while True:
                for profile in sut.supported:
                    await _rows(session, profile)

    for attempt in range(6):
        talker = asyncio.create_task(talk())
        await asyncio.sleep(0.003 * attempt)
        talker.cancel()
        with suppress(asyncio.CancelledError, LineError):
            await talker
        async with sut.open() as session:
            assert (await session.identify()).meter_id == sut.meter
