"""As whom a program beside a running edge meets a meter: with title and counters of its own, or with the edge's.

Two programs with one key and one system title would repeat each other's invocation counters, which breaks the
cipher, and each would make the other's next request stale: one store gives the counters of a title.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.config.dlms import NO_TITLE
from gateway.config.file import Config
from gateway.config.meters import MeterSection
from gateway.edge.field.client import EdgeCounters
from gateway.errors import UsageError
from gateway.roles.reach import Way, edge_counters, way_to
from protocols.meters.counters import CountersOnDemand, in_use
from protocols.session import MeterSpec

OpenCounters = CountersOnDemand | EdgeCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientBesideEdge:
    """How one program meets one meter; `counters` is the file of its invocation counters.

    Where `ask_edge` is set that file is the running edge's, which is asked for them at this socket.
    """

    spec: MeterSpec
    counters: Path
    way: Way
    ask_edge: Path | None = None

    def open_counters(self) -> OpenCounters:
        """Return the counters; close them at the end."""
        return CountersOnDemand(self.counters) if self.ask_edge is None else EdgeCounters(self.ask_edge)


def client_beside_edge(config: Config, meter: MeterSection, program: str) -> ClientBesideEdge:
    """Return as whom `program` (`cli`, `field` …) meets a meter of the configuration.

    It has a client title of its own, `GATEWAY/PROGRAM`, and counters under it. Where the configuration gives the
    meter a title, all programs share that, and so the edge's counters, which a running edge gives over its socket.
    UsageError says why the meter cannot be met while the edge runs.
    """
    way = way_to(config, next(line for line in config.lines if line.name == meter.line))
    counters = counters_of(config, meter, program)
    shared = counters == edge_counters(config) and in_use(counters)
    if shared and way.socket is None:
        raise UsageError(
            f"[meters.dlms] of {meter.meter} gives a `system_title`, so that this command would use up the"
            " invocation counters of the edge, which runs: take it out, and each program has a title of its"
            " own, or stop the edge first"
        )
    return ClientBesideEdge(
        spec=config.spec(meter, f"{config.gateway.name}/{program}"),
        counters=counters,
        way=way,
        ask_edge=way.socket if shared else None,
    )


def counters_of(config: Config, meter: MeterSection, program: str) -> Path:
    """Return the file of a program's invocation counters with a meter: the edge's, where both have one title."""
    shared = meter.dlms is not None and meter.dlms.system_title != NO_TITLE
    return edge_counters(config) if shared else config.gateway.data / f"counters-{program}.json"
