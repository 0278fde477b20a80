"""Changes a meter's keys in a process of its own, which kills itself (SIGKILL) at the n-th durable step or message."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from gateway.edge.keys.store import Change, KeyStore
from gateway.roles.keys import ConfiguredMeter, key_work
from gateway.roles.keys_wanted import wanted
from protocols.clock import SystemClock
from tests.support.keys_site import METER, keys_config


class DiskEscrow:
    """Keeps sealed keys as files, as central keeps them on its disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def deposit(self, change: Change) -> None:
        (self._folder / change.key_id).write_bytes(change.sealed)


def dies_at(count: int) -> None:
    """Let the process die after the `count`-th call of what is durable or goes to the meter."""
    left = [count]

    def watch(owner: type, name: str) -> None:
        whole = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            result = whole(*given, **named)
            return after(result) if asyncio.iscoroutine(result) else step(result)

        async def after(result: Any) -> Any:
            return step(await result)

        def step(result: Any) -> Any:
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, counted)

    for owner, name in (
        (KeyStore, "make"),
        (DiskEscrow, "deposit"),
        (KeyStore, "note"),
        (ConfiguredMeter, "send"),
        (ConfiguredMeter, "prove"),
        (KeyStore, "adopt"),
    ):
        watch(owner, name)


async def main(folder: Path, port: int) -> None:
    config = keys_config(folder, folder / "keys", port, {"master_key_ref": "mk"})
    async with key_work(config, SystemClock(), escrow=DiskEscrow(folder / "escrow")) as work:
        await work.rotate(wanted(config, METER, None, "global"))


if __name__ == "__main__":
    dies_at(int(sys.argv[3]))
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
