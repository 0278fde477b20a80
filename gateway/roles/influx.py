"""InfluxDB or VictoriaMetrics, put together for an edge: imported where the configuration has [influx]."""

from __future__ import annotations

from functools import partial

import structlog

from gateway.config.file import Config
from gateway.config.influx import InfluxSection, account_tag_problem
from gateway.edge.influx.follow import InfluxFollower
from gateway.edge.influx.keeper import HoldingKeeper
from gateway.edge.influx.move import InfluxMover
from gateway.edge.influx.read import InfluxReader, Server, read_back
from gateway.edge.influx.sink import InfluxSink, InfluxWriter
from gateway.edge.influx.target import InfluxTarget
from gateway.roles.journal import influx_lag
from protocols.reading import ProfileName
from protocols.session import SecretSource

log = structlog.get_logger("gateway.roles")


def influx_follower(config: Config, section: InfluxSection, secrets: SecretSource) -> InfluxFollower:
    """Return what carries the journal into the server of [influx] and lets it follow who holds which meter."""
    token = secrets.secret(section.token_ref).decode() if section.token_ref else ""
    target = InfluxTarget(url=section.url, org=section.org, bucket=section.bucket, token=token)
    server = Server(section.server)
    reader = InfluxReader(target, server, [profile.value for profile in ProfileName])
    # VictoriaMetrics drops a line that it cannot read and says nothing: what was written is read back.
    silent = server is Server.VICTORIAMETRICS
    verify = partial(read_back, reader) if silent else None
    sink = InfluxSink(
        target,
        config.gateway.name,
        verify,
        max_lag=influx_lag(config, section),
        account_tag=section.account_tag,
    )
    meters = [meter.meter for meter in config.meters]
    if (found := account_tag_problem(section, len(meters))) is not None:
        log.error("influx_account_tag", problem=found.problem)  # `check` refuses it; reading goes on
    kind = InfluxMover if section.account_tag else HoldingKeeper
    return InfluxFollower(sink, kind(InfluxWriter(target), reader), meters, config.edge_folder)
