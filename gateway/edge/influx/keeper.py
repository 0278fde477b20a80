"""Keeps the series `holding` of an edge's meters as its part of the directory says; the points of readings stay."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from gateway.edge.influx.holding import (
    HOLDING,
    MILLISECOND,
    Sample,
    Statement,
    overwritten,
    restated,
    steps_of,
)
from gateway.edge.influx.points import tag_text
from gateway.edge.influx.read import InfluxReader, Server
from gateway.edge.influx.sink import MAX_POINTS, InfluxWriter
from mapping.snapshot import DirectorySnapshot


class HoldingKeeper:
    """Writes who held each meter from when, and corrects it with the directory. Blocking: call it in a thread."""

    file: str | None = None
    at_once = 50
    after_sink = False

    def __init__(self, writer: InfluxWriter, reader: InfluxReader) -> None:
        self._writer = writer
        self._reader = reader

    def close(self) -> None:
        """Release the connections."""
        self._writer.close()
        self._reader.close()

    def correct(self, meters: Sequence[str], snapshot: DirectorySnapshot, now: datetime) -> int:
        """Let the series of these meters say what `snapshot` says; return how many points were written.

        What is after `now` is left for its time. Raises PeerUnavailable, PeerRefusedLogin or PeerRefusedData; a
        repeat goes on.
        """
        if self._reader.server is Server.VICTORIAMETRICS:
            lines = self._samples(meters, snapshot, now)
        else:
            lines = self._steps(meters, snapshot, now)
        for start in range(0, len(lines), MAX_POINTS):
            self._writer.write(lines[start : start + MAX_POINTS])
        return len(lines)

    def _steps(self, meters: Sequence[str], snapshot: DirectorySnapshot, now: datetime) -> list[str]:
        any_of = " OR ".join(f"\"meter\" = '{_in_influxql(meter)}'" for meter in meters)
        held: dict[str, dict[int, str]] = defaultdict(dict)
        for series in self._reader.query(
            f'SELECT "account" FROM "{HOLDING}" WHERE {any_of} GROUP BY "meter"'
        ):
            held[series["tags"]["meter"]].update(series["values"])
        return [
            f'{HOLDING},meter={tag_text(meter)} account="{account}" {at}'
            for meter in meters
            for at, account in overwritten(steps_of(snapshot, meter), held[meter], now)
        ]

    def _samples(self, meters: Sequence[str], snapshot: DirectorySnapshot, now: datetime) -> list[str]:
        any_of = "|".join(re.escape(meter) for meter in meters)
        match = f'{{__name__=~"{HOLDING}_(held|gone)",meter=~"{_in_metricsql(any_of)}"}}'
        held: dict[str, dict[int, Statement]] = defaultdict(dict)
        for series in self._reader.export(match):
            labels = series["metric"]
            span = int(labels["span"])
            statement = held[labels["meter"]].setdefault(span, Statement(labels["account"], span))
            is_gone = labels["__name__"] == f"{HOLDING}_gone"
            for value, at in zip(series["values"], series["timestamps"], strict=True):
                times = statement.gone if is_gone else statement.ones if value else statement.zeros
                times.add(at * MILLISECOND)
        return [
            _line(meter, sample)
            for meter in meters
            for sample in restated(steps_of(snapshot, meter), held[meter].values(), now)
        ]


def _line(meter: str, sample: Sample) -> str:
    tags = f"account={sample.account},meter={tag_text(meter)},span={sample.span}"
    return f"{HOLDING},{tags} {sample.field}={sample.value} {sample.at}"


def _in_influxql(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _in_metricsql(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
