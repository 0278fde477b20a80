"""The command `run`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.options import CONFIG_FILE, ConfigOption
from gateway.config import file as configuration
from gateway.logs import setup_logging
from gateway.memory import settle
from gateway.roles.app import running

if TYPE_CHECKING:
    from gateway.roles.edge import EdgeRole


def run(config: ConfigOption = CONFIG_FILE) -> None:
    """Run the roles that the configuration names, until SIGTERM or Ctrl-C.

    On SIGHUP an edge reads its lines and meters anew, as `reload` lets it.

    Example: meter-gateway run --config /etc/meter-gateway/substation-7.toml
    """
    asyncio.run(_run(config))


async def _run(path: Path) -> None:
    loaded = configuration.load(path)
    setup_logging(loaded.gateway.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A signal sets an event instead of cancelling: what `running` does on its way out is not to be cut short.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(loaded, file=path) as parts, asyncio.TaskGroup() as group:
        reloads: set[asyncio.Task[object]] = set()

        def hang_up(edge: EdgeRole) -> None:
            task = group.create_task(edge.reloading.reload("SIGHUP"))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        if parts.edge is not None:
            loop.add_signal_handler(signal.SIGHUP, hang_up, parts.edge)
        settle()
        await stop.wait()
        loop.remove_signal_handler(signal.SIGHUP)
        for task in reloads:
            task.cancel()
