"""Points that stand under another account than the directory says: written anew, then retired.

Whether a point must move is computed from the point and the directory alone, so a move that was cut short is
simply made again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from gateway.edge.influx.holding import HORIZON
from gateway.edge.influx.points import INTERVAL, UNASSIGNED, UNTRUSTED, line, nanoseconds
from gateway.edge.influx.read import SUPERSEDED, InfluxReader, StoredPoint
from gateway.edge.influx.sink import MAX_POINTS, InfluxWriter
from mapping.directory import AttributionRole
from mapping.snapshot import DirectorySnapshot

WINDOW = timedelta(days=50)
MOVED_FILE = "influx-directory"
"""Beside the journal: the digest of the directory that the points follow."""
_HOLDING = frozenset({AttributionRole.NORMAL, AttributionRole.OPENING})


def account_at(snapshot: DirectorySnapshot, meter: str, at: datetime, interval: float | None) -> str:
    """Return the account tag by the sink's rule, for a snapshot at `at` or an interval of so many seconds."""
    start = at - timedelta(seconds=interval) if interval else None
    accounts = [a for a in snapshot.attributions(meter, start, at).accounts if a.role in _HOLDING]
    number = accounts[0].account_number if len(accounts) == 1 else None
    return number or UNASSIGNED


class InfluxMover:
    """Moves points that carry an account, one meter at a time. Blocking: call it in a thread."""

    file: str | None = MOVED_FILE
    at_once = 1
    after_sink = True

    def __init__(self, writer: InfluxWriter, reader: InfluxReader) -> None:
        self._writer = writer
        self._reader = reader

    def close(self) -> None:
        """Release the connections."""
        self._writer.close()
        self._reader.close()

    def correct(self, meters: Sequence[str], snapshot: DirectorySnapshot, now: datetime) -> int:
        """Move what stands wrong of these meters, as `move` does."""
        return sum(self.move(meter, snapshot, now) for meter in meters)

    def move(self, meter: str, snapshot: DirectorySnapshot, now: datetime) -> int:
        """Put every point of a meter under the account that `snapshot` says; return how many moved.

        Looks at HORIZON before `now` and a day after it. Raises PeerUnavailable, PeerRefusedLogin or
        PeerRefusedData; calling it again goes on.
        """
        moved = 0
        until = now + timedelta(days=1)
        after = now - HORIZON
        # A window at a time: all points of one meter may not fit into one answer of the server.
        while after < until:
            end = min(after + WINDOW, until)
            moved += self._window(meter, snapshot, nanoseconds(after), nanoseconds(end))
            after = end
        return moved

    def _window(self, meter: str, snapshot: DirectorySnapshot, after: int, until: int) -> int:
        points = self._reader.points(meter, after, until)
        others = {(p.measurement, p.account, p.at): p for p in points}
        moved = 0
        for run in _runs(points, snapshot, meter):
            copies = [_copy(p, _account_of(p, snapshot, meter), others) for p in run]
            # The copy first: a crash between leaves a point twice, which the next move finds and retires;
            # the other way round it would be gone.
            self._write(copies)
            self._write(self._reader.retire(meter, run))
            moved += len(run)
        return moved

    def _write(self, points: Sequence[StoredPoint]) -> None:
        for start in range(0, len(points), MAX_POINTS):
            part = points[start : start + MAX_POINTS]
            self._writer.write([line(p.measurement, dict(p.tags), dict(p.fields), p.at) for p in part])


def _runs(
    points: Sequence[StoredPoint], snapshot: DirectorySnapshot, meter: str
) -> Iterator[list[StoredPoint]]:
    """Yield the points to move, as runs that follow each other in their series without one that stays.

    InfluxDB deletes a span of time in a series, so a point that stays must not lie between two that go.
    """
    series: dict[tuple[str, tuple[tuple[str, str], ...]], list[StoredPoint]] = defaultdict(list)
    for point in points:
        if point.stands:
            series[point.measurement, tuple(sorted(point.tags.items()))].append(point)

    def moves(point: StoredPoint) -> bool:
        # An untrusted time or another meter's reading belongs to nobody, whatever the directory says.
        return not point.fields.get(UNTRUSTED) and point.account != _account_of(point, snapshot, meter)

    for members in series.values():
        members.sort(key=lambda p: p.at)
        for wanted, run in groupby(members, key=moves):
            if wanted:
                yield list(run)


def _account_of(point: StoredPoint, snapshot: DirectorySnapshot, meter: str) -> str:
    return account_at(snapshot, meter, point.time, point.fields.get(INTERVAL))


def _copy(point: StoredPoint, account: str, others: dict[tuple[str, str, int], StoredPoint]) -> StoredPoint:
    fields = {name: value for name, value in point.fields.items() if not name.startswith(SUPERSEDED)}
    before = others.get((point.measurement, account, point.at))
    if before is not None and not before.stands:
        # VictoriaMetrics cannot delete: what was moved away from here once is marked as standing again.
        fields[f"{SUPERSEDED}{before.generation + 1}"] = 1.0
    return StoredPoint(point.measurement, {**point.tags, "account": account}, point.at, fields)
