"""Captures whose time is not trusted, what speaks of it, and the verdicts that settle them.

A verdict changes the columns by which a capture is found and attributed (`at`, `start`, `reason`); its body stays as
it came, and so does its id. A later verdict starts from the times as they were stamped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from gateway.central.ledger.capture_rows import settle
from gateway.central.ledger.database import Database, in_chunks, put
from gateway.central.ledger.lost import LOST
from gateway.central.ledger.placed import placed_by_id
from gateway.central.ledger.records import EdgeClock
from gateway.central.ledger.rows import CaptureRow
from gateway.central.ledger.schema import (
    doubted,
    edge_clocks,
    machine_runs,
    verdicts,
)
from gateway.central.ledger.unattributed import moved
from gateway.central.ledger.use import mark_captures
from gateway.central.ledger.verdict_numbers import begin_life, newest
from gateway.central.times.judging import DoubtedCapture
from gateway.contract.messages import TimeVerdict
from gateway.contract.verdicts import UNTRUSTED_TIME, last_of, shifted
from mapping.instants import MICROSECOND, instant, micros

MICRO: Final = 1_000_000
AHEAD: Final = timedelta(minutes=5)
_AHEAD: Final = AHEAD // MICROSECOND
"""A capture dated further ahead of central's clock is held: nobody has recorded it yet."""
CLOCK_DIFFERS: Final = timedelta(seconds=60)
"""Two clocks that are nearer than this are one: messages take a while."""
SAME_RUN: Final = timedelta(seconds=10)
"""Within this two tellings of when a run of a machine began are one."""
MAX_RUNS: Final = 200
"""Runs remembered of one gateway's machine: a year of a restart every other day."""

Row = Mapping[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtedGroup:
    """Captures of a meter in a journal that wait: how many, the newest number, how many of them for their time."""

    meter: str
    journal: str
    gateway: str
    waiting: int
    last_seq: int
    ahead: int


class Times:
    """What is doubted, and what was said of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def run_began(self, gateway: str, boot: str, began: datetime, told_at: datetime) -> bool:
        """Note when a run of a gateway's machine began, in true time; False where that was known."""
        c = machine_runs.c
        with self._database.writing("noting the run of a machine") as connection:
            known = connection.execute(select(c.began).where(c.gateway == gateway, c.boot == boot)).scalar()
            if known is not None and abs(known - began) <= SAME_RUN:
                return False
            if known is None:
                _forget_oldest_run(connection, gateway)
            else:  # what was settled by the former telling is judged again
                of = doubted.c
                connection.execute(
                    update(doubted).where(of.gateway == gateway, of.boot == boot).values(verdict=None)
                )
            put(
                connection,
                machine_runs,
                {"gateway": gateway, "boot": boot},
                {"began": began, "told_at": told_at},
            )
            return True

    def runs(self, gateway: str) -> dict[str, datetime]:
        """Return when the known runs of a gateway's machine began."""
        c = machine_runs.c
        with self._database.reading("reading the runs of a machine") as connection:
            rows = connection.execute(select(c.boot, c.began).where(c.gateway == gateway)).all()
        return {row.boot: row.began for row in rows}

    def clock_told(self, clock: EdgeClock) -> None:
        """Note that a gateway's clock differs from central's, or differs no more (less than CLOCK_DIFFERS)."""
        c = edge_clocks.c
        with self._database.writing("comparing clocks") as connection:
            if abs(clock.ahead) < CLOCK_DIFFERS:
                connection.execute(delete(edge_clocks).where(c.gateway == clock.gateway))
                return
            values = {
                "ahead": clock.ahead // timedelta(microseconds=1),
                "trusted": int(clock.trusted),
                "central_trusted": int(clock.central_trusted),
                "at": clock.at,
            }
            put(connection, edge_clocks, {"gateway": clock.gateway}, values)

    def clocks(self) -> list[EdgeClock]:
        """Return the gateways whose clocks differ from central's, by name."""
        with self._database.reading("listing clocks") as connection:
            rows = connection.execute(select(edge_clocks).order_by(edge_clocks.c.gateway)).all()
        return [
            EdgeClock(
                gateway=row.gateway,
                ahead=timedelta(microseconds=row.ahead),
                trusted=bool(row.trusted),
                central_trusted=bool(row.central_trusted),
                at=row.at,
            )
            for row in rows
        ]

    def groups(self) -> list[DoubtedGroup]:
        """Return what waits for a verdict, or for its time to come, by meter and journal."""
        c = doubted.c
        query = (
            select(
                c.meter,
                c.journal,
                func.min(c.gateway).label("gateway"),
                func.count().label("waiting"),
                func.max(c.seq).label("last_seq"),
                func.sum(c.ahead).label("ahead"),
            )
            .where(or_(c.verdict.is_(None), and_(c.ahead == 1, c.shift.is_(None))))
            .group_by(c.meter, c.journal)
        )
        with self._database.reading("listing doubted captures") as connection:
            return [DoubtedGroup(**row) for row in connection.execute(query).mappings()]

    def ahead(self) -> dict[str, int]:
        """Return by meter how many captures are held because they are dated in the future."""
        c = doubted.c
        query = select(c.meter, func.count()).where(c.ahead == 1, c.shift.is_(None)).group_by(c.meter)
        with self._database.reading("listing captures of the future") as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def doubted(self, meter: str, journal: str) -> list[DoubtedCapture]:
        """Return the doubted captures of a meter in a journal with what speaks of them, by number."""
        query = (
            select(doubted)
            .where(doubted.c.meter == meter, doubted.c.journal == journal)
            .order_by(doubted.c.seq)
        )
        with self._database.reading("reading doubted captures") as connection:
            return [_capture(row) for row in connection.execute(query).mappings()]

    def give(self, said: Sequence[TimeVerdict]) -> list[TimeVerdict]:
        """Keep verdicts under the next versions, and settle what they cover; return them as they are kept."""
        with self._database.writing("keeping verdicts") as connection:
            return [_keep(connection, one) for one in said]

    def renew(self, counter: int) -> int:
        """Say anew all that stands where the ledger began another generation, of this counter; return how many.

        Consumers keep the highest number, and may have been told higher ones that the ledger's copy knows nothing of.
        """
        with self._database.writing("renewing verdicts") as connection:
            if not begin_life(connection, counter):
                return 0
            held = connection.execute(select(verdicts).order_by(verdicts.c.version)).mappings().all()
            connection.execute(delete(verdicts))
            return len([_keep(connection, _verdict(row)) for row in held])

    def of(self, meter: str, limit: int) -> list[TimeVerdict]:
        """Return the verdicts on a meter's times, the newest `limit` of them, in their order."""
        c = verdicts.c
        query = select(verdicts).where(c.meter == meter).order_by(c.version.desc()).limit(limit)
        with self._database.reading("reading a meter's verdicts") as connection:
            return [_verdict(row) for row in connection.execute(query).mappings()][::-1]

    def since(self, version: int, limit: int) -> list[TimeVerdict]:
        """Return the verdicts after a version, in their order, at most `limit`."""
        query = select(verdicts).where(verdicts.c.version > version).order_by(verdicts.c.version).limit(limit)
        with self._database.reading("reading verdicts") as connection:
            return [_verdict(row) for row in connection.execute(query).mappings()]

    def span(self, verdict: TimeVerdict) -> tuple[datetime, datetime] | None:
        """Return the instants of the captures that a verdict covers, as they stand; None where it covers none."""
        query = select(doubted.c.capture_id).where(
            doubted.c.meter == verdict.meter,
            doubted.c.journal == verdict.journal,
            doubted.c.seq.between(verdict.first_seq, verdict.last_seq),
        )
        with self._database.reading("reading a span") as connection:
            covered = placed_by_id(connection, list(connection.execute(query).scalars())).values()
        if not covered:
            return None
        return instant(min(one.begin for one in covered)), instant(max(one.at for one in covered))


def hold(connection: Connection, new: Iterable[CaptureRow], changed: Mapping[str, CaptureRow]) -> set[str]:
    """Enter fresh capture rows that are doubted, and settle those that a verdict covers; `changed` come anew.

    Doubted is what its edge did not trust, and what is dated ahead of central's own clock. Return the ids of these:
    they may stand otherwise now than they came.
    """
    for ids in in_chunks(list(changed)):
        connection.execute(delete(doubted).where(doubted.c.capture_id.in_(ids)))
    rows = [
        _doubted_row(row)
        for row in (*new, *changed.values())
        if row.reason == UNTRUSTED_TIME or row.at - row.ingested_at > _AHEAD
    ]
    if not rows:
        return set()
    connection.execute(insert(doubted), rows)
    ahead = [row["capture_id"] for row in rows if row["ahead"]]
    _doubt(connection, ahead)
    known = _known(connection, {(row["meter"], row["journal"]) for row in rows})
    said = [
        (row, verdict)
        for row in rows
        if (verdict := last_of(known.get((row["meter"], row["journal"]), ()), row["seq"], row["profile"]))
    ]
    _settle(connection, said)
    return {row["capture_id"] for row in rows}


def _doubted_row(row: CaptureRow) -> dict[str, Any]:
    body = json.loads(row.body)
    said = body.get("clock") if row.layout is None else json.loads(row.clock or "{}")
    said = said or {}
    boot, _, steady = str(said.get("steady") or "").partition("/")
    stamp = (body.get("meter_time") or {}) if row.layout is None else body
    return {
        **{
            name: getattr(row, name)
            for name in ("capture_id", "meter", "profile", "gateway", "journal", "seq")
        },
        "at": instant(row.at),
        "start": None if row.start is None else instant(row.start),
        "received_at": instant(row.received_at),
        "boot": boot or None,
        "steady": _micros(steady),
        **{name: _micros(said.get(name)) for name in ("drift", "held", "former")},
        "flagged": int(stamp.get("trusted") is False),
        "ahead": int(row.reason != UNTRUSTED_TIME),
        "verdict": None,
        "shift": None,
    }


def _micros(seconds: object) -> int | None:
    return None if seconds in (None, "") else int(Decimal(str(seconds)) * MICRO)


def _known(connection: Connection, streams: set[tuple[str, str]]) -> dict[tuple[str, str], list[TimeVerdict]]:
    found: dict[tuple[str, str], list[TimeVerdict]] = {}
    for meters in in_chunks(sorted({meter for meter, _ in streams})):
        # What was given up and came after all is judged by what it brings.
        spoken = select(verdicts).where(verdicts.c.meter.in_(meters), verdicts.c.evidence != LOST)
        for row in connection.execute(spoken).mappings():
            found.setdefault((row["meter"], row["journal"]), []).append(_verdict(row))
    return found


def _keep(connection: Connection, one: TimeVerdict) -> TimeVerdict:
    """Keep a verdict under the next number, and settle what it covers."""
    number = newest(connection) + 1
    verdict = one.model_copy(update={"version": number, "verdict_id": f"time/{number}/{one.meter}"})
    connection.execute(insert(verdicts).values(**_verdict_row(verdict)))
    if verdict.evidence == LOST:
        return verdict  # what comes of it after all is judged by what it brings
    covered = select(doubted).where(
        doubted.c.meter == verdict.meter,
        doubted.c.journal == verdict.journal,
        doubted.c.seq.between(verdict.first_seq, verdict.last_seq),
    )
    rows = [
        row
        for row in connection.execute(covered).mappings().all()
        if verdict.profile in (None, row["profile"])
    ]
    ids = [row["capture_id"] for row in rows]
    before = placed_by_id(connection, ids)
    _settle(connection, [(row, verdict) for row in rows])
    after = placed_by_id(connection, ids)
    moved(connection, before.values(), after.values())
    mark_captures(connection, (*before.values(), *after.values()))
    return verdict


def _settle(connection: Connection, said: Sequence[tuple[Row, TimeVerdict]]) -> None:
    """Let the columns of captures say what verdicts say of them."""
    told: list[tuple[str, int | None, str | None]] = []
    for row, verdict in said:
        believed = verdict.trust == "trusted"
        connection.execute(
            update(doubted)
            .where(doubted.c.capture_id == row["capture_id"])
            .values(verdict=verdict.version, shift=_micros(verdict.shift or 0) if believed else None)
        )
        if believed:
            at = shifted(row["at"], None if row["ahead"] else verdict.shift)
            told.append((row["capture_id"], micros(at), None))
        else:
            told.append((row["capture_id"], None, UNTRUSTED_TIME))
    settle(connection, told)


def _doubt(connection: Connection, capture_ids: Sequence[str]) -> None:
    """Put captures under no account for their time, dated as they were stamped."""
    settle(connection, [(capture_id, None, UNTRUSTED_TIME) for capture_id in capture_ids])


def _forget_oldest_run(connection: Connection, gateway: str) -> None:
    c = machine_runs.c
    boots = connection.execute(
        select(c.boot).where(c.gateway == gateway).order_by(c.told_at.desc()).offset(MAX_RUNS - 1)
    ).scalars()
    for boot in list(boots):
        connection.execute(delete(machine_runs).where(c.gateway == gateway, c.boot == boot))


def _capture(row: Row) -> DoubtedCapture:
    def seconds(name: str) -> float | None:
        return None if row[name] is None else row[name] / MICRO

    return DoubtedCapture(
        **{name: row[name] for name in ("capture_id", "meter", "profile", "journal", "seq")},
        **{name: row[name] for name in ("at", "start", "received_at", "boot")},
        steady=seconds("steady"),
        drift=seconds("drift"),
        held=seconds("held"),
        former=seconds("former"),
        flagged=bool(row["flagged"]),
        ahead=bool(row["ahead"]),
        judged=row["verdict"] is not None,
        shift=None if row["shift"] is None else timedelta(microseconds=row["shift"]),
    )


def _verdict_row(verdict: TimeVerdict) -> dict[str, Any]:
    names = (
        "version",
        "verdict_id",
        "meter",
        "journal",
        "first_seq",
        "last_seq",
        "profile",
        "trust",
        "evidence",
    )
    return {
        **{name: getattr(verdict, name) for name in names},
        "at": verdict.at,
        "shift": _micros(verdict.shift),
    }


def _verdict(row: Row) -> TimeVerdict:
    shift = None if row["shift"] is None else seconds_text(timedelta(microseconds=row["shift"]))
    return TimeVerdict.model_validate({**row, "shift": shift})


def seconds_text(span: timedelta) -> str:
    """Return a span in seconds as exact text."""
    return format((Decimal(span // MICROSECOND) / MICRO).normalize(), "f")
