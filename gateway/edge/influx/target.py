"""Where points go."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxTarget:
    """Where to write: a v2 write endpoint (InfluxDB 2, VictoriaMetrics, or 1.x behind a v2 path)."""

    url: str
    org: str
    bucket: str
    token: str = field(default="", repr=False)
    timeout: float = 10.0
