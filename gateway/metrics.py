"""Metrics: Prometheus text from the statistics of the program's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.errors import ConfigError


class StatisticsCollector(Collector):
    """Turns the frozen statistics of long-lived parts into gauges `meter_gateway_PART_FIELD`."""

    def __init__(self, parts: Callable[[], Iterable[tuple[str, object]]]) -> None:
        self._parts = parts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield one gauge for each numeric field of each part."""
        for part, statistics in self._parts():
            if not is_dataclass(statistics):
                continue
            for field in fields(statistics):
                value = getattr(statistics, field.name)
                if isinstance(value, (int, float)):
                    name = f"meter_gateway_{part}_{field.name}"
                    gauge = GaugeMetricFamily(name, f"{field.name} of {part}")
                    gauge.add_metric([], float(value))
                    yield gauge


def serve_metrics(collector: StatisticsCollector, host: str, port: int) -> Callable[[], None]:
    """Serve the collector over HTTP in a thread; gives a function that ends it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigError(f"metrics cannot listen on {host}:{port}: {error}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
