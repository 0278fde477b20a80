"""Move points between account tags when an attribution changes: copy under the new, then retire the old.

Servers differ: InfluxDB 2 deletes by predicate (v2 API), InfluxDB 1 by InfluxQL DELETE; VictoriaMetrics
cannot delete a span of a series: there the old points get the field `superseded` = 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from gateway.edge.sinks.influx import MAX_POINTS, InfluxTarget, InfluxWriter
from gateway.edge.sinks.influx_points import line, nanoseconds
from gateway.errors import PeerRefusedData, PeerUnavailable


class Server(StrEnum):
    """Which dialect reads back and deletes."""

    INFLUXDB2 = "influxdb2"
    INFLUXDB1 = "influxdb1"
    VICTORIAMETRICS = "victoriametrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Points of `meter` with after <= time <= until go from account tag `old` to `new`."""

    meter: str
    after: datetime
    until: datetime
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class _Stored:
    measurement: str
    tags: dict[str, str]
    at: int
    fields: dict[str, float]


class InfluxMover:
    """Reads back, rewrites and retires points. Blocking: call it in a thread; repeat it freely."""

    def __init__(self, target: InfluxTarget, server: Server, measurements: Iterable[str]) -> None:
        self._target = target
        self._server = server
        self._measurements = tuple(measurements)
        self._http = urllib3.PoolManager(timeout=target.timeout, retries=False)
        self._writer = InfluxWriter(target)

    def close(self) -> None:
        """Release the connections."""
        self._writer.close()
        self._http.clear()

    def move(self, move: Move) -> int:
        """Move every point; gives how many. Raises PeerUnavailable (nothing is lost: do it again)."""
        moved = 0
        stored = self._read(move)
        while batch := list(islice(stored, MAX_POINTS)):
            self._writer.write(
                [line(p.measurement, p.tags | {"account": move.new}, p.fields, p.at) for p in batch]
            )
            if self._server is Server.VICTORIAMETRICS:
                self._writer.write([line(p.measurement, p.tags, {"superseded": 1.0}, p.at) for p in batch])
            moved += len(batch)
        if moved and self._server is not Server.VICTORIAMETRICS:
            self._delete(move)
        return moved

    def _read(self, move: Move) -> Iterator[_Stored]:
        if self._server is Server.VICTORIAMETRICS:
            return self._export(move)
        return self._influxql(move)

    def _influxql(self, move: Move) -> Iterator[_Stored]:
        names = ",".join(_identifier(m) for m in self._measurements)
        answer = self._ask(
            "GET",
            "/query",
            {
                "db": self._target.bucket,
                "epoch": "ns",
                "q": f"SELECT * FROM {names} WHERE {_where(move)} GROUP BY *",
            },
        )
        for result in json.loads(answer).get("results", []):
            for series in result.get("series", []):
                columns = series["columns"]
                for row in series["values"]:
                    fields = {
                        c: float(v)
                        for c, v in zip(columns, row, strict=True)
                        if c != "time" and v is not None
                    }
                    yield _Stored(series["name"], series["tags"], row[0], fields)

    def _export(self, move: Move) -> Iterator[_Stored]:
        match = f'{{meter="{_quoted(move.meter)}",account="{_quoted(move.old)}"}}'
        span = {"start": str(move.after.timestamp()), "end": str(move.until.timestamp())}
        answer = self._ask("GET", "/api/v1/export", {"match[]": match, **span})
        for text in answer.splitlines():
            series = json.loads(text)
            labels: dict[str, str] = series["metric"]
            name = labels.pop("__name__")
            measurement = next((m for m in self._measurements if name.startswith(m + "_")), None)
            labels.pop("db", None)
            if measurement is None or name.endswith("_superseded"):
                continue
            field = name.removeprefix(measurement + "_")
            for value, at in zip(series["values"], series["timestamps"], strict=True):
                yield _Stored(measurement, labels, at * 1_000_000, {field: value})

    def _delete(self, move: Move) -> None:
        if self._server is Server.INFLUXDB1:
            for measurement in self._measurements:
                query = f"DELETE FROM {_identifier(measurement)} WHERE {_where(move)}"
                self._ask("POST", "/query", {"db": self._target.bucket, "q": query})
            return
        self._ask(
            "POST",
            "/api/v2/delete",
            {"org": self._target.org, "bucket": self._target.bucket},
            {
                "start": move.after.isoformat(),
                "stop": move.until.isoformat(),
                "predicate": f'meter="{_quoted(move.meter)}" AND account="{_quoted(move.old)}"',
            },
        )

    def _ask(self, method: str, path: str, query: dict[str, str], body: Any = None) -> str:
        headers = {"Authorization": f"Token {self._target.token}"} if self._target.token else {}
        url = f"{self._target.url.rstrip('/')}{path}?{urlencode(query)}"
        try:
            answer = self._http.request(method, url, headers=headers, json=body)
        except HTTPError as error:
            raise PeerUnavailable(f"InfluxDB at {self._target.url} cannot be reached: {error}") from error
        text = answer.data.decode("utf-8", "replace")
        if answer.status >= 500:
            raise PeerUnavailable(f"InfluxDB answered {answer.status}: {text[:300]}")
        if answer.status >= 400 or '"error"' in text[:200]:
            raise PeerRefusedData(f"InfluxDB answered {answer.status}: {text[:300]}")
        return text


def _where(move: Move) -> str:
    return (
        f"\"meter\" = '{_quoted(move.meter)}' AND \"account\" = '{_quoted(move.old)}' "
        f"AND time >= {nanoseconds(move.after)} AND time <= {nanoseconds(move.until)}"
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', "") + '"'


def _quoted(text: str) -> str:
    return text.replace("\\", "").replace("'", "").replace('"', "")
