"""An event loop in a thread of its own, so that code without `await` can use what needs one.

It works inside a running event loop, too, as a notebook has it: the two loops do not meet.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

from protocols.errors import LocalError

T = TypeVar("T")
R = TypeVar("R")


class SessionThread(Generic[T]):
    """Keeps one asynchronous context open in a thread, and runs coroutines there, one at a time.

    The context is entered and left by one task, as `async with` needs it. `open` enters it, `close` leaves it
    and ends the thread and its loop with all that runs in it. An interrupt (Ctrl-C) of a call cancels what it
    runs and waits for its end, so nothing goes on behind the caller's back.
    """

    def __init__(self, context: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="meter session", daemon=True)
        self._opened: Future[T] = Future()
        self._closing = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None
        self._running: asyncio.Task[Any] | None = None
        self._failure: BaseException | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Say whether `close` was called."""
        return self._closed

    def open(self) -> T:
        """Enter the context and return what it gives; raises what entering raises, with the thread ended."""
        self._thread.start()
        try:
            return self._opened.result()
        except BaseException:
            self.close()
            raise

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in the thread and return its result, or raise its exception; LocalError once closed."""
        if self._closed:
            work.close()
            raise LocalError("the meter was closed")
        outcome: Future[R] = Future()
        self._loop.call_soon_threadsafe(self._start, work, outcome)
        try:
            return outcome.result()
        except BaseException:
            if not outcome.done():  # an interrupt came while we waited
                self._loop.call_soon_threadsafe(self._cancel)
                wait([outcome])
            raise

    def close(self) -> None:
        """Leave the context and end the thread; raises what leaving raises. Idempotent."""
        if self._closed:
            return
        self.abandon()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def abandon(self) -> None:
        """Begin to close and do not wait for the end: for a finalizer, which may run in any thread."""
        self._closed = True
        with suppress(RuntimeError):  # the loop has ended by itself: the context could not be entered
            self._loop.call_soon_threadsafe(self._stop)

    # in the thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._hold())
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits for it
                if self._opened.done():
                    self._failure = error
                else:
                    self._opened.set_exception(error)

    async def _hold(self) -> None:
        self._holder = asyncio.current_task()
        if self._closing.is_set():  # closed before we came to run
            return
        async with self._context() as opened:
            self._opened.set_result(opened)
            await self._closing.wait()

    def _stop(self) -> None:
        self._closing.set()
        if self._holder is not None and not self._opened.done():
            self._holder.cancel()

    def _start(self, work: Coroutine[Any, Any, R], outcome: Future[R]) -> None:
        self._running = task = self._loop.create_task(work)
        task.add_done_callback(lambda done: _hand_over(done, outcome))

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()


def _hand_over(done: asyncio.Task[R], outcome: Future[R]) -> None:
    if done.cancelled():
        outcome.cancel()
        outcome.set_running_or_notify_cancel()
    elif (error := done.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())
