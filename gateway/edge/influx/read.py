"""Reading points back and retiring them: where InfluxDB 1, InfluxDB 2 and VictoriaMetrics differ."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from gateway.edge.influx.points import nanoseconds
from gateway.edge.influx.target import InfluxTarget
from gateway.edge.journal.entry import Entry
from gateway.errors import PeerRefusedData, PeerUnavailable
from mapping.instants import instant

SUPERSEDED = "superseded_"
"""VictoriaMetrics only: fields `superseded_1`, `superseded_2`, … each written once with 1. An odd highest number
means that the point was moved away, an even one or none that it stands. One field with a rising value would not do:
of two values of one time the server keeps either."""


class Server(StrEnum):
    """Which dialect reads back and retires."""

    INFLUXDB2 = "influxdb2"
    INFLUXDB1 = "influxdb1"
    VICTORIAMETRICS = "victoriametrics"


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """One point: measurement, tags (`account` among them on small sites), nanoseconds since 1970, numeric fields."""

    measurement: str
    tags: Mapping[str, str]
    at: int
    fields: Mapping[str, float]

    @property
    def account(self) -> str:
        """The account that it stands under; "" where it was written without that tag."""
        return self.tags.get("account", "")

    @property
    def time(self) -> datetime:
        """Its time, to the microsecond."""
        return instant(self.at // 1_000)

    @property
    def stands(self) -> bool:
        """Whether it was not moved away."""
        return self.generation % 2 == 0

    @property
    def generation(self) -> int:
        """How often it was moved away or came back."""
        marks = (name.removeprefix(SUPERSEDED) for name in self.fields if name.startswith(SUPERSEDED))
        return max((int(mark) for mark in marks if mark.isdecimal()), default=0)


class InfluxReader:
    """One server's query side. Blocking: call it in a thread."""

    def __init__(self, target: InfluxTarget, server: Server, measurements: Sequence[str]) -> None:
        self._target = target
        self.server = server
        self._measurements = tuple(measurements)
        self._http = urllib3.PoolManager(timeout=target.timeout, retries=False)

    def close(self) -> None:
        """Release the connections."""
        self._http.clear()

    def points(self, meter: str, after: int, until: int) -> list[StoredPoint]:
        """Return the points of a meter with after < time <= until (ns), retired ones included.

        Raises PeerUnavailable, PeerRefusedData.
        """
        if self.server is Server.VICTORIAMETRICS:
            return list(self._export(meter, after, until))
        return list(self._influxql(meter, after, until))

    def retire(self, meter: str, run: Sequence[StoredPoint]) -> list[StoredPoint]:
        """Retire points of one series that follow each other.

        Gives points to write in their place (VictoriaMetrics cannot delete a span); else they are gone.
        """
        if self.server is Server.VICTORIAMETRICS:
            return [
                StoredPoint(p.measurement, p.tags, p.at, {f"{SUPERSEDED}{p.generation + 1}": 1.0})
                for p in run
            ]
        self._delete(meter, run[0], run[-1].at)
        return []

    def _influxql(self, meter: str, after: int, until: int) -> Iterator[StoredPoint]:
        names = ",".join(_identifier(m) for m in self._measurements)
        where = f"\"meter\" = '{_quoted(meter)}' AND time > {after} AND time <= {until}"
        for series in self.query(f"SELECT * FROM {names} WHERE {where} GROUP BY *"):
            columns = series["columns"]
            for row in series["values"]:
                cells = zip(columns, row, strict=True)
                fields = {c: float(v) for c, v in cells if c != "time" and v is not None}
                # A tag that a point has not is empty in the answer.
                tags = {name: value for name, value in series["tags"].items() if value}
                yield StoredPoint(series["name"], tags, row[0], fields)

    def query(self, influxql: str) -> Iterator[dict[str, Any]]:
        """Yield the series that InfluxDB answers, times in nanoseconds. Raises PeerUnavailable, PeerRefusedData."""
        query = {"db": self._target.bucket, "epoch": "ns", "q": influxql}
        for result in json.loads(self._ask("GET", "/query", query)).get("results", []):
            yield from result.get("series", [])

    def export(self, match: str, **span: str) -> Iterator[dict[str, Any]]:
        """Yield the series that VictoriaMetrics has, times in milliseconds. Raises PeerUnavailable, PeerRefusedData."""
        # Fresh points are readable only after a flush; it costs little beside what follows.
        self._ask("GET", "/internal/force_flush", {})
        for text in self._ask("GET", "/api/v1/export", {"match[]": match, **span}).splitlines():
            yield json.loads(text)

    def _export(self, meter: str, after: int, until: int) -> Iterator[StoredPoint]:
        span = {"start": f"{after / 1e9:.3f}", "end": f"{until / 1e9:.3f}"}
        found: dict[tuple[str, tuple[tuple[str, str], ...], int], dict[str, float]] = defaultdict(dict)
        for series in self.export(f'{{meter="{_quoted(meter)}"}}', **span):
            labels: dict[str, str] = series["metric"]
            name = labels.pop("__name__")
            labels.pop("db", None)
            measurement = next((m for m in self._measurements if name.startswith(m + "_")), None)
            if measurement is None:
                continue
            tags, field = tuple(sorted(labels.items())), name.removeprefix(measurement + "_")
            for value, at in zip(series["values"], series["timestamps"], strict=True):
                found[measurement, tags, at * 1_000_000][field] = value
        for (measurement, tags, at), fields in found.items():
            if after < at <= until:
                yield StoredPoint(measurement, dict(tags), at, fields)

    def _delete(self, meter: str, first: StoredPoint, last: int) -> None:
        if self.server is Server.INFLUXDB1:
            where = (
                f"\"meter\" = '{_quoted(meter)}' AND \"account\" = '{_quoted(first.account)}' "
                f"AND time >= {first.at} AND time <= {last}"
            )
            query = f"DELETE FROM {_identifier(first.measurement)} WHERE {where}"
            self._ask("POST", "/query", {"db": self._target.bucket, "q": query})
            return
        stop = StoredPoint("", {}, last + 1_000, {}).time
        predicate = (
            f'_measurement="{_quoted(first.measurement)}" AND meter="{_quoted(meter)}" '
            f'AND account="{_quoted(first.account)}"'
        )
        span = {"start": first.time.isoformat(), "stop": stop.isoformat(), "predicate": predicate}
        where_to = {"org": self._target.org, "bucket": self._target.bucket}
        self._ask("POST", "/api/v2/delete", where_to, span)

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


def read_back(reader: InfluxReader, entry: Entry) -> bool:
    """Say whether the point of an entry of one capture is there. Raises PeerUnavailable, PeerRefusedData."""
    block = json.loads(entry.body)
    at = nanoseconds(datetime.fromisoformat(block["captures"][0]["at"]))
    found = reader.points(block["meter"], at - 2_000_000, at + 2_000_000)
    return any(p.measurement == entry.profile for p in found)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', "") + '"'


def _quoted(text: str) -> str:
    return text.replace("\\", "").replace("'", "").replace('"', "")
