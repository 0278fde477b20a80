"""The section [influx]: where points go, and up to which size they carry the account."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.config.checks import Finding
from gateway.config.types import Name, Section

MOST_TAGGED: Final = 10_000
"""Meters on one server up to which points may carry their account.

InfluxDB 1 refuses points beyond 100,000 values of a tag (`max-values-per-tag`); each re-key and each move adds one for
a meter and takes none away, and then all points of the meter move.
"""


class InfluxSection(Section):
    """A v2 write endpoint; `server` says how points are read back and retired when they change account.

    With `account_tag` each point carries the account that it stands under, and moves when that changes: for small
    sites. Without, points carry meter and gateway alone, and the small series `holding` says who held the meter from
    when; `server_meters` is how many meters write to this server from all edges together (by default those of this
    file), and above 10,000 `check` refuses the tag.

    While the server is away the journal keeps at most `max_lag` entries for it, or half of `[journal] max_bytes` where
    that is less: older ones are never written to it, and are counted and told. Reading never stops for it.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    org: str = "kesco"
    bucket: str = "meters"
    token_ref: Name | None = None
    server: Literal["influxdb2", "influxdb1", "victoriametrics"] = "influxdb2"
    max_lag: Annotated[int, Field(ge=1_000)] = 1_000_000
    account_tag: bool = True
    server_meters: Annotated[int, Field(ge=1)] | None = None


def account_tag_problem(section: InfluxSection, meters: int) -> Finding | None:
    """Return why points of so many meters in the file may not carry their account; None where they may."""
    count = section.server_meters or meters
    if not section.account_tag or count <= MOST_TAGGED:
        return None
    return Finding(
        ("influx", "account_tag"),
        f"{count} meters write to one server: above {MOST_TAGGED} points must not carry the account, since a re-key"
        " would move all of them and InfluxDB 1 refuses more than 100,000 values of a tag: set `account_tag = false`"
        " (docs/influx.md says how the series `holding` is read then)",
    )
