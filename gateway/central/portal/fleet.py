"""Every meter that somebody answers for, judged by the database: faults in groups, and pages of meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Text, TextClause, bindparam, text

from gateway.central.ledger.database import Database
from gateway.central.ledger.meter_states import WELL
from gateway.central.portal.view_models import ContactState, IssueKind, MeterChoice, Severity
from mapping.instants import instant, micros

FORGET_AFTER: Final = timedelta(days=7)
"""A meter that no directory and no gateway names leaves the list when it was not heard for so long."""
LOOKED_AT: Final = 2_000
"""Meters looked at to name some of each fault; of a fault with more of them only the first is named."""
BEHIND_CENTRAL, BEHIND_GATEWAY, BEHIND_LINE = "central", "gateway", "line"

Fault = tuple[IssueKind, Severity]
_FAULTS: Final[dict[int, Fault]] = {
    1: (IssueKind.METER_REMOVED, Severity.NOTICE),
    2: (IssueKind.IDENTITY_MISMATCH, Severity.CRITICAL),
    3: (IssueKind.METER_CLOCK, Severity.WARNING),
    4: (IssueKind.READINGS_SUSPECT, Severity.WARNING),
    5: (IssueKind.DEAD_METER, Severity.CRITICAL),
    6: (IssueKind.DEAD_METER, Severity.WARNING),
    7: (IssueKind.NEVER_READ, Severity.WARNING),
    8: (IssueKind.METER_REFUSES, Severity.WARNING),
}
"""By the numbers that `_JUDGED` gives them; 0 is a meter of no list, NULL one with which nothing is wrong."""
_SILENCE: Final = "(5, 6, 7)"
"""Faults of a meter that a silent gateway or a line that is down explains."""
_SUSPECTS: Final = "(heard_at < :cut OR heard_at IS NULL OR unwell = 1 OR role_until <= :now)"
"""Rows with which anything may be wrong, found by the indexes; all others are on the list, heard and well."""
_LISTED: Final = (
    "(told = 1 OR (role IS NOT NULL AND (role_until IS NULL OR role_until > :now))"
    " OR (role IS NULL AND role_until IS NULL AND heard_at >= :forget))"
)
# What its edge says now counts at once (a warning); being silent for long is critical. `mark` has a bit for what is no
# stock, on the list, to be heard, and heard. Judged once a row: else each condition were judged for each of its uses.
_JUDGED: Final = f"""
WITH judged AS MATERIALIZED (
 SELECT {{columns}},
  CASE
   WHEN listed = 0 THEN 0
   WHEN removed = 1 THEN 1
   WHEN fresh * unwell = 1 AND code = 'identity_mismatch' THEN 2
   WHEN fresh * unwell = 1 AND code = 'meter_clock' THEN 3
   WHEN fresh * unwell = 1 AND code = 'readings_suspect' THEN 4
   WHEN heard_at < :cut THEN 5
   WHEN fresh * unwell = 1 AND code IN ('meter_silent', 'line_error', 'line_unavailable', 'line_closed',
    'line_timeout', 'timeout_error') THEN CASE WHEN heard_at IS NULL THEN 7 ELSE 6 END
   WHEN fresh * unwell = 1 THEN 8
   WHEN heard_at IS NULL AND stock = 0 THEN 7
  END AS fault,
  (1 - stock) + 2 * listed + 4 * listed * (1 - stock) * (1 - removed)
   + CASE WHEN heard_at >= :cut THEN 8 * listed * (1 - stock) * (1 - removed) ELSE 0 END AS mark
 FROM (
  SELECT meter, gateway, line, code, unwell, detail, told_since, heard_at, role,
   CASE WHEN told = 1 AND gateway IN :online THEN 1 ELSE 0 END AS fresh,
   CASE WHEN role_until <= :now THEN 1 ELSE 0 END AS removed,
   CASE WHEN role = 'stock' THEN 1 ELSE 0 END AS stock,
   CASE WHEN {_LISTED} THEN 1 ELSE 0 END AS listed
  FROM meter_states WHERE {{where}}
 ) AS base
)"""
_BEHIND: Final = f"""CASE
  WHEN fault IS NULL OR fault NOT IN {_SILENCE} THEN ''
  WHEN gateway IN :dark THEN '{BEHIND_GATEWAY}'
  WHEN gateway IN :online AND EXISTS (
   SELECT 1 FROM line_health AS of WHERE of.gateway = judged.gateway AND of.line = judged.line AND of.state = 'down'
  ) THEN '{BEHIND_LINE}'
  ELSE '' END"""
_BEHIND_DEAF: Final = f"CASE WHEN fault IN {_SILENCE} THEN '{BEHIND_CENTRAL}' ELSE '' END"
# A meter on IP has a line of its own: there the line is no cause, only another name of the meter.
_GROUPS: Final = f"""{
    _JUDGED.format(columns="meter, gateway, line, coalesce(heard_at, told_since) AS since", where=_SUSPECTS)
},
 explained AS (SELECT fault, gateway, line, since, meter, mark, {{behind}} AS behind FROM judged),
 places AS (
  SELECT fault, gateway, line, behind, count(*) AS touched, min(since) AS since, min(meter) AS meter,
   sum(mark & 1) AS no_stock, sum(mark >> 1 & 1) AS listed, sum(mark >> 2 & 1) AS expected,
   sum(mark >> 3 & 1) AS heard
  FROM explained GROUP BY fault, gateway, line, behind
 )
 SELECT fault, gateway, behind,
  CASE WHEN touched > 1 OR behind = '{BEHIND_LINE}' THEN line ELSE '' END AS own_line,
  CASE WHEN touched > 1 OR behind = '{BEHIND_LINE}' THEN 0 ELSE 1 END AS alone,
  min(line) AS line, sum(touched) AS touched, min(since) AS since, min(meter) AS meter,
  sum(no_stock) AS no_stock, sum(listed) AS listed, sum(expected) AS expected, sum(heard) AS heard
 FROM places GROUP BY 1, 2, 3, 4, 5"""
_SAID: Final = "meter, gateway, line, detail, CASE WHEN fresh = 1 THEN code ELSE 'ok' END AS code"
_DETAILS: Final = " SELECT fault, gateway, line, meter, code, detail FROM judged "
_FOUND: Final = " AND (lower(meter) LIKE :find ESCAPE '/' OR lower(gateway) LIKE :find ESCAPE '/')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """By what meters are judged: `online` gateways, `dark` ones that are not, whether central hears any, and the time.

    `online` gateways' words count; `deaf`: central hears none.
    """

    online: frozenset[str]
    dark: frozenset[str]
    deaf: bool
    now: datetime
    silent_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFact:
    """One meter of a page: who reads it, when it was heard, and its role in the directory."""

    meter: str
    gateway: str
    heard_at: datetime | None
    state: ContactState
    role: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultGroup:
    """Meters of one gateway with one fault, of one line where several of it have it.

    `alone`: none of them shares its line with another. `behind` is what explains it: central, the gateway, the line,
    or nothing. `first` is the first of them by name.
    """

    fault: Fault
    gateway: str
    line: str
    alone: bool
    behind: str
    touched: int
    since: datetime | None
    first: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCounts:
    """How many meters there are on the list, how many of them should be heard, and how many are."""

    meters: int
    expected: int
    heard: int
    unwell: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Some meters of a fault group, and what their gateway says: the code that most of them have, and its words."""

    meters: tuple[str, ...]
    code: str
    detail: str


class Fleet:
    """Reads the rows of `meter_states` by an index: only what may not be well is gone through."""

    def __init__(self, database: Database, outlook: Outlook) -> None:
        self._database = database
        self._deaf = outlook.deaf
        self._cut = outlook.now - outlook.silent_after
        self._by: Mapping[str, object] = {
            "now": micros(outlook.now),
            "cut": micros(self._cut),
            "forget": micros(outlook.now - FORGET_AFTER),
            "online": sorted(outlook.online),
            "dark": sorted(outlook.dark),
        }

    def _rows(self, query: str, **more: object) -> Sequence[Any]:
        values = {**self._by, **more}
        with self._database.reading("judging meters") as connection:
            return connection.execute(
                _statement(query), {n: v for n, v in values.items() if f":{n}" in query}
            ).all()

    def faults(self) -> tuple[list[FaultGroup], FleetCounts]:
        """Return the faults in groups, and how many meters there are."""
        rows = self._rows(_GROUPS.format(behind=_BEHIND_DEAF if self._deaf else _BEHIND))
        stock = {
            row[0]: row[1] for row in self._rows("SELECT role, count(*) FROM meter_states GROUP BY role")
        }
        groups = [
            FaultGroup(
                fault=_FAULTS[row.fault],
                gateway=row.gateway,
                line=row.line if row.own_line or row.touched == 1 else "",
                alone=bool(row.alone),
                behind=row.behind,
                touched=int(row.touched),
                since=None if row.since is None else instant(int(row.since)),
                first=row.meter,
            )
            for row in rows
            if row.fault
        ]
        total = sum(stock.values())
        well = total - stock.get("stock", 0) - sum(int(row.no_stock) for row in rows)
        return groups, FleetCounts(
            meters=total - sum(int(row.touched) - int(row.listed) for row in rows),
            expected=well + sum(int(row.expected) for row in rows),
            heard=well + sum(int(row.heard) for row in rows),
            unwell=sum(group.touched for group in groups),
        )

    def named(self, groups: Sequence[FaultGroup], number: int) -> dict[FaultGroup, Named]:
        """Return up to `number` meters of each group by name, and what is said of them; LOOKED_AT bounds the work."""
        small, budget = list[FaultGroup](), LOOKED_AT
        for group in sorted(groups, key=lambda one: one.touched):
            budget -= group.touched
            if budget < 0:
                break
            small.append(group)
        found: dict[FaultGroup, list[Any]] = {}
        for alone in (False, True):
            its = {
                (*one.fault, one.gateway, "" if alone else one.line): one
                for one in small
                if one.alone == alone
            }
            for row in self._details_of(list(its.values()), alone=alone):
                group_of = its.get((*_FAULTS[row.fault], row.gateway, "" if alone else row.line))
                if group_of is not None:
                    found.setdefault(group_of, []).append(row)
        left = [group for group in groups if group not in found]
        firsts = _JUDGED.format(columns=_SAID, where="meter IN :meters") + _DETAILS
        by_name = {row.meter: row for row in self._rows(firsts, meters=[group.first for group in left])}
        found |= {group: [by_name[group.first]] for group in left if group.first in by_name}
        return {group: _named(some, number) for group, some in found.items()}

    def _details_of(self, groups: Sequence[FaultGroup], *, alone: bool) -> Sequence[Any]:
        if not groups:
            return []
        where, more = (
            f"gateway IN :gateways AND {_SUSPECTS}",
            {"gateways": sorted({one.gateway for one in groups})},
        )
        if not alone:
            where, more = (
                f"line IN :lines AND {where}",
                {**more, "lines": sorted({one.line for one in groups})},
            )
        judged = _JUDGED.format(columns=_SAID, where=where)
        return self._rows(f"{judged}{_DETAILS} WHERE fault > 0 ORDER BY meter LIMIT {2 * LOOKED_AT}", **more)

    def faulty(self, codes: Sequence[str]) -> set[str]:
        """Return the meters of which an online gateway says one of these codes."""
        query = "SELECT meter FROM meter_states WHERE unwell = 1 AND told = 1 AND gateway IN :online AND code IN :codes"
        return {row[0] for row in self._rows(query, codes=list(codes))}

    def page(self, choice: MeterChoice, size: int, counts: FleetCounts) -> tuple[list[MeterFact], int, int]:
        """Return the meters of a page, the page's number, and how many are chosen in all.

        Behind the last page comes the last one.
        """
        source = f"FROM meter_states WHERE {_LISTED}"
        before, total = "", counts.meters
        if choice.unwell:
            before, source = (
                _JUDGED.format(columns="meter, gateway, heard_at, role", where=_SUSPECTS),
                "FROM judged WHERE fault > 0",
            )
            total = counts.unwell
        more: dict[str, object] = {}
        if wanted := choice.find.strip().casefold():
            for character in "/%_":
                wanted = wanted.replace(character, f"/{character}")
            more, source = {"find": f"%{wanted}%"}, source + _FOUND
            total = self._rows(f"{before} SELECT count(*) {source}", **more)[0][0]
        page = min(max(choice.page, 1), max(1, -(-total // size)))
        query = f"{before} SELECT meter, gateway, heard_at, role {source} ORDER BY meter LIMIT :size OFFSET :offset"
        rows = self._rows(query, size=size, offset=(page - 1) * size, **more)
        return [self._fact(row) for row in rows], page, total

    def _fact(self, row: Any) -> MeterFact:
        heard_at = None if row.heard_at is None else instant(row.heard_at)
        state = ContactState.NEVER
        if heard_at is not None:
            state = ContactState.SILENT if heard_at < self._cut else ContactState.HEARD
        return MeterFact(meter=row.meter, gateway=row.gateway, heard_at=heard_at, state=state, role=row.role)


@lru_cache(maxsize=32)
def _statement(query: str) -> TextClause:
    lists = [
        name for name in ("online", "dark", "gateways", "lines", "meters", "codes") if f":{name}" in query
    ]
    return text(query).bindparams(*(bindparam(name, type_=Text(), expanding=True) for name in lists))


def _named(rows: Sequence[Any], number: int) -> Named:
    codes = [row.code for row in rows]
    code = max(dict.fromkeys(codes), key=codes.count)
    told = next(row for row in rows if row.code == code)
    return Named(
        meters=tuple(row.meter for row in rows[:number]),
        code="" if code in WELL else code,
        detail=told.detail or "",
    )
