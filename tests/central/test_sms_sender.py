"""The running sender: hands over what waits, slows down while the provider is away, ends without doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from gateway.central.people.database import PeopleStore
from gateway.central.portal.otp import CodeMessage, SendKind
from gateway.central.telling.codes import QueuedCodes
from gateway.central.telling.messages import Accepted, Handed, NotTaken, Outcome, State
from gateway.central.telling.providers import ConsoleProvider, FileProvider
from gateway.central.telling.queue import SmsQueue
from gateway.central.telling.sender import Sender
from tests.support.central.telling import LIBRARY, MOBILE, NIGHT, NOON, PaperProvider, code, contact, notice
from tests.support.fakes import ManualClock
from tests.support.waiting import until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PeopleStore]:
    made = PeopleStore(tmp_path / "people.db")
    yield made
    made.close()


@pytest.fixture
def queue(store: PeopleStore) -> SmsQueue:
    return SmsQueue(store, LIBRARY)


@asynccontextmanager
async def sending(sender: Sender) -> AsyncIterator[None]:
    task = asyncio.create_task(sender.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()  # a look under way ends before the store


async def test_what_waits_is_handed_over_and_counted(store: PeopleStore, queue: SmsQueue) -> None:
    to, provider = contact(store), PaperProvider()
    queue.put_many([notice(to, f"n{i}") for i in range(5)], now=NOON)
    sender = Sender(queue, provider, ManualClock(NOON))
    async with sending(sender):
        await until(lambda: queue.counts() == {State.ACCEPTED: 5})
        queue.put(notice(to, "later"), now=NOON)
        await until(lambda: queue.counts() == {State.ACCEPTED: 6})
    assert len({message.id for message in provider.got}) == 6
    assert (sender.statistics().handed, sender.statistics().accepted) == (6, 6)


async def test_a_provider_that_comes_back_is_found(store: PeopleStore, queue: SmsQueue) -> None:
    answers: list[Outcome] = [NotTaken("no route", away=True), Accepted("p1")]
    provider = PaperProvider(lambda _: answers.pop(0))
    queue.put(code(contact(store)), now=NOON)
    sender = Sender(queue, provider, ManualClock(NOON))
    with structlog.testing.capture_logs() as logs:
        async with sending(sender):
            await until(lambda: queue.counts() == {State.ACCEPTED: 1})
    assert [(line["event"], line["error"]) for line in logs] == [("sms_not_accepted", "no route")]
    assert MOBILE not in str(logs)
    assert "482913" not in str(logs)
    assert not sender.statistics().away


async def test_what_is_being_handed_over_may_end_when_the_program_stops(
    store: PeopleStore, queue: SmsQueue
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    class Slow(PaperProvider):
        async def hand(self, message: Handed) -> Outcome:
            begun.set()
            await go.wait()
            return await super().hand(message)

    queue.put(notice(contact(store)), now=NOON)
    task = asyncio.create_task(Sender(queue, Slow(), ManualClock(NOON)).run())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert queue.counts() == {State.ACCEPTED: 1}


async def test_a_code_goes_through_the_queue_at_night_and_its_value_is_forgotten(
    store: PeopleStore, queue: SmsQueue
) -> None:
    to, provider, clock = contact(store), PaperProvider(), ManualClock(NIGHT)
    codes = QueuedCodes(queue, clock)
    async with sending(Sender(queue, provider, clock)):
        await codes.send(CodeMessage(kind=SendKind.CODE, contact=to, ending="7890", code="482913"))
        await codes.send(CodeMessage(kind=SendKind.REVERIFY, contact=to, ending=""))
        await until(lambda: queue.counts() == {State.ACCEPTED: 2})
    first, second = sorted(provider.got, key=lambda message: message.rendered.template)
    assert "482913" in first.rendered.text
    assert "old number ending XXXX" in second.rendered.text
    with store.db.reading("looking") as db:
        assert db.exec_driver_sql("SELECT given FROM message").scalars().all() == [None, None]


async def test_the_console_shows_the_mobile_masked(store: PeopleStore) -> None:
    shown: list[str] = []
    rendered = LIBRARY.render(LIBRARY.template("login-code"), {"code": "482913", "ending": "7890"}, "en")
    handed = Handed(id="m1", attempt=1, mobile=MOBILE, rendered=rendered)
    assert await ConsoleProvider(shown.append).hand(handed) == Accepted(None)
    assert shown[0].startswith("to XXXXXX3210: 482913 is your code")


async def test_a_file_has_one_line_for_each_message(tmp_path: Path) -> None:
    rendered = LIBRARY.render(LIBRARY.template("login-code"), {"code": "482913", "ending": "7890"}, "hi")
    provider = FileProvider(tmp_path / "out.jsonl")
    for number in "12":
        handed = Handed(id=number, attempt=1, mobile=MOBILE, rendered=rendered)
        assert await provider.hand(handed) == Accepted(number)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert [line.count("482913") for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [1, 1]
    handed = Handed(id="3", attempt=1, mobile=MOBILE, rendered=rendered)
    assert isinstance(await FileProvider(tmp_path).hand(handed), NotTaken)


@pytest.mark.parametrize("turns", range(5))
async def test_a_stop_is_heard_also_together_with_new_messages(queue: SmsQueue, turns: int) -> None:
    task = asyncio.create_task(Sender(queue, PaperProvider(), ManualClock(NOON)).run())
    await asyncio.sleep(0.2)  # it waits for messages now
    queue.woken()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await until(task.done)
