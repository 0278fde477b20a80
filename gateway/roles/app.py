"""Composition: builds the roles that a configuration names, starts and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from gateway.central.portal.otp import CodeSender, ConsoleSender, Outgoing
from gateway.config.file import Config
from gateway.notify import keep_watchdog, notify
from gateway.observe import StatisticsCollector, serve_metrics
from gateway.roles.central import CentralRole, PortalRole, central_role, portal_role
from gateway.roles.edge import EdgeRole, edge_role
from protocols.clock import SimulatedClock, SystemClock
from protocols.errors import MeterConfigError
from protocols.meters.secrets import FileSecrets
from protocols.session import Clock

log = structlog.get_logger("gateway")


@dataclass(slots=True)
class Running:
    """The roles of one process; a role that the configuration does not name is None."""

    clock: Clock
    edge: EdgeRole | None = None
    central: CentralRole | None = None
    portal: PortalRole | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def statistics(self) -> list[tuple[str, object]]:
        """The frozen statistics of every part, by name."""
        parts: list[tuple[str, object]] = []
        if self.edge is not None:
            parts += [
                ("journal", self.edge.journal.statistics()),
                ("mqtt", self.edge.sink.statistics()),
                ("poller", self.edge.poller.statistics()),
            ]
            if self.edge.push is not None:
                parts += [
                    ("push", self.edge.push.listener.statistics()),
                    ("push", self.edge.push.listener.refusals),
                    ("push", self.edge.push.intake_statistics()),
                ]
            parts += [(f"line_{_metric(n)}", line.statistics()) for n, line in self.edge.lines.items()]
            if self.edge.follower is not None:
                parts.append(("influx", self.edge.follower.statistics()))
        if self.central is not None:
            parts.append(("central", self.central.central.statistics))
            parts.append(("ledger", self.central.ledger.counts()))
        return parts


def clock_of(config: Config) -> Clock:
    """Return the machine's clock, or simulated time where the configuration says so."""
    section = config.simulation
    if section is None:
        return SystemClock()
    return SimulatedClock(start=section.start, anchor=section.anchor, speed=section.speed)


@asynccontextmanager
async def running(
    config: Config, *, sender: CodeSender | None = None, poll: bool = True
) -> AsyncIterator[Running]:
    """Run the configured roles while the block runs; a role that fails ends the block with its error.

    `poll=False` starts an edge's deliveries without its poller (one-shot commands poll themselves).
    """
    parts = Running(clock=clock_of(config))
    roles = config.gateway.roles
    async with AsyncExitStack() as stack:
        if "central" in roles:
            parts.central = await stack.enter_async_context(central_role(config, parts.clock))
        if "portal" in roles:
            to = sender or _sender(config)
            protocols = {m.meter: "DLMS" if m.dlms else "Modbus" for m in config.meters}
            parts.portal = await stack.enter_async_context(
                portal_role(config, parts.clock, to, protocol_of=protocols.get)
            )
            log.info("portal", url=parts.portal.url)
        if "edge" in roles:
            parts.edge = await stack.enter_async_context(edge_role(config, parts.clock))
        if config.metrics is not None:
            collector = StatisticsCollector(parts.statistics)
            stack.callback(serve_metrics(collector, config.metrics.host, config.metrics.port))
        async with _tasks(parts, poll=poll):
            notify("READY=1")
            yield parts
            notify("STOPPING=1")


@asynccontextmanager
async def _tasks(parts: Running, *, poll: bool) -> AsyncIterator[None]:
    """Run the roles' tasks; when one fails, the block is cancelled and the failure raised (as a group)."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep_watchdog())]
        if parts.central is not None:
            tasks.append(group.create_task(parts.central.run()))
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


class _NoSender:
    """Stands where an SMS adapter will: says that a code was asked for, never the code."""

    async def send(self, message: Outgoing) -> None:
        log.error("code_not_sent", kind=message.kind.value, reason="no SMS adapter: see [web] codes")


def _sender(config: Config) -> CodeSender:
    if config.web.codes == "console":
        return ConsoleSender(lambda text: log.warning("one_time_code", text=text))
    return _NoSender()


def missing_secrets(config: Config) -> list[str]:
    """Name the references whose secret is missing or not private, with the reason."""
    known = FileSecrets(config.secrets)
    refs: list[str | None] = [
        config.mqtt.password_ref,
        config.directory.verify_key_ref,
        config.directory.signing_key_ref,
        config.web.operator_token_ref,
        config.web.session_secret_ref,
        config.influx.token_ref if config.influx else None,
    ]
    for meter in config.meters:
        if meter.dlms is not None:
            refs += [
                meter.dlms.password_ref,
                meter.dlms.encryption_key_ref,
                meter.dlms.authentication_key_ref,
            ]
    missing: list[str] = []
    for ref in dict.fromkeys(r for r in refs if r is not None):
        try:
            known.secret(ref)
        except MeterConfigError as error:
            missing.append(str(error))
    return missing


def _metric(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
