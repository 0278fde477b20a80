"""What sessions share on their way to meters, and how many files they need, from the configuration."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from gateway.config.file import Config
from gateway.config.meters import LineSection
from gateway.edge.polling.admission import AdmissionLimits, Route

OTHER_FILES = 200
"""Descriptors for all that is no line: journal, broker, web, logs, libraries."""


def admission_limits(config: Config) -> AdmissionLimits:
    """Return the bounds of sessions at once."""
    section = config.admission
    return AdmissionLimits(
        sessions=section.sessions,
        per_segment=section.per_segment,
        per_host=section.per_host,
        pace=section.sessions_per_second,
    )


def route(line: LineSection) -> Route | None:
    """Return what a line's sessions share with those of other lines; None for a bus."""
    if line.kind == "serial":
        return None
    if line.host is None:  # the meter dials in: only the edge itself is shared
        return Route(line.segment or "")
    return Route(line.segment or _network(line.host), line.host)


def _network(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False))


def files_needed(config: Config) -> int:
    """Return how many descriptors this edge may hold at once: each line open, every pusher connected."""
    pushing = 0 if config.push is None else config.push.connections
    return len(config.lines) + pushing + OTHER_FILES


def too_few_files(config: Config, allowed: int) -> str | None:
    """Return why an edge of this configuration may run out of descriptors, None when it may not."""
    needed = files_needed(config)
    if needed <= allowed:
        return None
    return (
        f"{len(config.lines)} lines and what else is open may need {needed} files, and the system allows"
        f" {allowed}: set LimitNOFILE={needed} or more in the unit (`ulimit -Hn` in a shell)"
    )
