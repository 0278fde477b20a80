"""Composition: builds the roles that a configuration names, starts and stops them in order.

A role's module is imported when the configuration names the role: an edge has no use for the web's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway.config.file import Config
from gateway.notify import keep_watchdog, notify
from gateway.roles.timekeeping import keep_time
from gateway.watch import Watch
from protocols.session import Clock
from protocols.unused import unused_frames

if TYPE_CHECKING:
    from gateway.central.telling.messages import Provider
    from gateway.roles.central import CentralRole
    from gateway.roles.edge import EdgeRole
    from gateway.roles.portal import PortalRole
    from gateway.roles.telling import TellingRole

log = structlog.get_logger("gateway.roles")


@dataclass(slots=True)
class Running:
    """The roles of one process; a role that the configuration does not name is None."""

    edge: EdgeRole | None = None
    central: CentralRole | None = None
    portal: PortalRole | None = None
    telling: TellingRole | None = None

    def statistics(self) -> list[tuple[str, object]]:
        """Return the frozen statistics of every part, by the part's name in the metrics."""
        parts: list[tuple[str, object]] = []
        if (edge := self.edge) is not None:
            parts += [
                ("journal", edge.journal.statistics()),
                ("mqtt", edge.sink.statistics()),
                ("status", edge.sink.reporter.statistics()),
                ("poller", edge.poller.statistics()),
                ("field", edge.field.statistics()),
            ]
            if edge.judged_clock is not None:
                parts.append(("clock", edge.judged_clock.statistics()))
            if edge.push is not None:
                parts += [
                    ("push", edge.push.listener.statistics()),
                    ("push", edge.push.listener.refusals),
                    ("push", edge.push.intake_statistics()),
                    ("push_unused", edge.push.listener.unused()),
                ]
            for name, line in edge.lines.items():
                parts.append((f"line_{_metric(name)}", line.statistics()))
                parts.append((f"line_{_metric(name)}_unused", unused_frames(line)))
            if edge.follower is not None:
                parts.append(("influx", edge.follower.statistics()))
        if (central := self.central) is not None:
            parts.append(("central", central.central.statistics()))
            parts.append(("ledger", central.ledger.counts()))
            if self.telling is not None and self.telling.sender is not None:
                parts.append(("sms", self.telling.sender.statistics()))
        if (portal := self.portal) is not None:
            parts.append(("fleet", portal.views.statistics()))
        return parts


@asynccontextmanager
async def running(
    config: Config, *, provider: Provider | None = None, poll: bool = True, file: Path | None = None
) -> AsyncIterator[Running]:
    """Run the configured roles while the block runs; a role that fails ends the block with its error.

    `provider` carries messages in place of what [sms] names. `poll=False` starts an edge's deliveries
    without its poller (one-shot commands poll themselves). `file` is where the configuration was read: an edge
    reads it anew when it is asked to.
    """
    parts = Running()
    clock = config.clock()
    async with AsyncExitStack() as stack:
        # Central makes the files that the portal reads, and takes what the edge delivers: it is first to
        # start and last to stop.
        if "central" in config.gateway.roles:
            from gateway.roles.central import central_role

            parts.central = await stack.enter_async_context(central_role(config, clock))
        if not {"central", "portal"}.isdisjoint(config.gateway.roles):
            from gateway.roles.telling import telling_role

            parts.telling = await stack.enter_async_context(telling_role(config, provider))
        if "portal" in config.gateway.roles and parts.telling is not None:
            from gateway.roles.portal import portal_role

            parts.portal = await stack.enter_async_context(
                portal_role(config, clock, parts.telling.contacts, parts.telling.codes, parts.telling.reports)
            )
            log.info("portal_started", url=parts.portal.url)
        if "edge" in config.gateway.roles:
            from gateway.roles.edge import edge_role

            parts.edge = await stack.enter_async_context(edge_role(config, clock, file))
        if config.metrics is not None:
            from gateway.metrics import StatisticsCollector, serve_metrics

            collector = StatisticsCollector(parts.statistics)
            stack.callback(serve_metrics(collector, config.metrics.host, config.metrics.port))
        async with _tasks(parts, clock, poll=poll):
            # Everything that can fail at the start is open now. STOPPING comes before the tasks are cancelled:
            # the last deliveries may take a while, in which systemd waits and the watchdog is still fed.
            notify("READY=1")
            yield parts
            notify("STOPPING=1")


@asynccontextmanager
async def _tasks(parts: Running, clock: Clock, *, poll: bool) -> AsyncIterator[None]:
    """Run the roles' tasks; when one fails, the block is cancelled and the failure raised (as a group)."""
    async with asyncio.TaskGroup() as group:
        watch = Watch(parts.edge.watched if parts.edge is not None else tuple)
        tasks = [group.create_task(keep_watchdog(watch)), group.create_task(keep_time(clock))]
        if parts.central is not None:
            tasks.append(group.create_task(parts.central.run()))
            if parts.telling is not None:
                tasks.append(group.create_task(parts.telling.run()))
        if parts.edge is not None:
            tasks.append(group.create_task(_edge(parts.edge, poll=poll)))
        yield
        for task in tasks:
            task.cancel()


async def _edge(edge: EdgeRole, *, poll: bool) -> None:
    if poll:
        await edge.run()
        return
    async with asyncio.TaskGroup() as group:
        edge.deliver(group)


def _metric(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
