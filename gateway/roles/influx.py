"""InfluxDB or VictoriaMetrics, put together for an edge: imported where the configuration has [influx]."""

from __future__ import annotations

from functools import partial

from gateway.config.file import Config, InfluxSection
from gateway.edge.influx.follow import InfluxFollower
from gateway.edge.influx.move import InfluxMover
from gateway.edge.influx.read import InfluxReader, Server, read_back
from gateway.edge.influx.sink import InfluxSink, InfluxWriter
from gateway.edge.influx.target import InfluxTarget
from gateway.roles.journal import influx_lag
from protocols.reading import ProfileName
from protocols.session import SecretSource


def influx_follower(config: Config, section: InfluxSection, secrets: SecretSource) -> InfluxFollower:
    """Return what carries the journal into the server of [influx] and moves points to their account there."""
    token = secrets.secret(section.token_ref).decode() if section.token_ref else ""
    target = InfluxTarget(url=section.url, org=section.org, bucket=section.bucket, token=token)
    server = Server(section.server)
    reader = InfluxReader(target, server, [profile.value for profile in ProfileName])
    # VictoriaMetrics drops a line that it cannot read and says nothing: what was written is read back.
    silent = server is Server.VICTORIAMETRICS
    verify = partial(read_back, reader) if silent else None
    sink = InfluxSink(target, config.gateway.name, verify, max_lag=influx_lag(config, section))
    meters = [meter.meter for meter in config.meters]
    return InfluxFollower(sink, InfluxMover(InfluxWriter(target), reader), meters, config.edge_folder)
