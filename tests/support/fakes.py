"""Secrets, invocation counters and clocks in memory: what a session is given beside its line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from protocols.errors import MeterConfigError
from protocols.meters.counters import highest_believed
from protocols.simulator.neighbourhood.files import secret_files
from protocols.simulator.neighbourhood.plan import Plan


class Secrets:
    """Secrets by reference, in `values`; an unknown reference is a MeterConfigError."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self.values = dict(values)

    def secret(self, ref: str) -> bytes:
        try:
            return self.values[ref]
        except KeyError as error:
            raise MeterConfigError(f"no secret {ref}") from error


class NoSecrets:
    """For a session that must ask for no secret."""

    def secret(self, ref: str) -> bytes:
        raise AssertionError(ref)


def plan_secrets(plan: Plan) -> Secrets:
    """Return the secrets of a simulated neighbourhood, as its files hold them."""
    files = {ref: content for meter in plan.meters for ref, content in secret_files(meter).items()}
    return Secrets(
        {
            ref: bytes.fromhex(content[4:].decode()) if content.startswith(b"hex:") else content
            for ref, content in files.items()
        }
    )


class Counters:
    """Invocation counters; `last` is the newest of each key, `given` all of them in order."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.given: list[int] = []
        self.confirmed: dict[str, int] = {}
        self.failures: set[str] = set()

    def next(self, key: str, at_least: int = 0) -> int:
        self.last[key] = max(self.last.get(key, 0) + 1, at_least)
        self.given.append(self.last[key])
        return self.last[key]

    def believes(self, key: str, told: int) -> bool:
        return told <= highest_believed(self.confirmed.get(key, 0))

    def confirm(self, key: str, counter: int) -> None:
        self.confirmed[key] = max(self.confirmed.get(key, 0), counter)
        self.failures.discard(key)

    def proven(self, key: str) -> bool:
        return self.confirmed.get(key, 0) > 0 and key not in self.failures

    def failed(self, key: str) -> None:
        self.failures.add(key)


class NoCounters:
    """For a session that must not cipher."""

    def next(self, key: str, at_least: int = 0) -> int:
        raise AssertionError(f"nothing is ciphered, but a counter of {key} was asked for")

    def believes(self, key: str, told: int) -> bool:
        raise AssertionError(f"nothing is ciphered, but {told} was told of {key}")

    def confirm(self, key: str, counter: int) -> None:
        raise AssertionError(f"nothing is ciphered, but {counter} was used of {key}")

    def proven(self, key: str) -> bool:
        raise AssertionError(f"nothing is ciphered, but {key} was asked about")

    def failed(self, key: str) -> None:
        raise AssertionError(f"nothing is ciphered, but {key} failed")


class HandClock:
    """A clock that the test moves by setting `at`; sleeping on it is an error. `good` is whether it is trusted."""

    def __init__(self, at: datetime, *, good: bool = True) -> None:
        self.at = at
        self.good = good

    def now(self) -> datetime:
        return self.at

    def disciplined(self) -> bool:
        return self.good

    async def sleep_until(self, at: datetime) -> None:
        raise AssertionError(f"nobody waits here, but somebody sleeps until {at}")


class JumpClock(HandClock):
    """A clock that sleeping moves: a day of polling takes a moment."""

    async def sleep_until(self, at: datetime) -> None:
        self.at = max(self.at, at)
        await asyncio.sleep(0)


class ManualClock:
    """A clock that stands still until `advance` moves it and wakes those who sleep on it."""

    def __init__(self, at: datetime) -> None:
        self._at = at
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        """Return the set instant."""
        return self._at

    def disciplined(self) -> bool:
        """A test's clock is trusted."""
        return True

    def advance(self, by: timedelta) -> None:
        """Move forward and wake sleepers."""
        self._at += by
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def sleep_until(self, at: datetime) -> None:
        """Wait until `advance` reaches `at`."""
        while self._at < at:
            await self._moved.wait()
