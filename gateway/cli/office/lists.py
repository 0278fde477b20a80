"""The command `directory list`: accounts and meters of which something is missing, by route or feeder."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Final

import typer

from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import Right
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.given import opened_ledger
from gateway.cli.options import CsvOption, JsonOption, only_one_form, parse_time
from gateway.cli.output import print_json, print_line, print_table
from mapping.files import escaped
from mapping.lists import Bound, Missing, Place, bound_meters, metered_places, places_without
from mapping.rows import in_batches
from mapping.store import DirectoryStore

PROFILES: Final = ("block_load", "instantaneous", "daily", "billing", "prepayment")
"""Any of these is a reading."""
AT_ONCE: Final = 500


class Lacks(StrEnum):
    """What an account or a meter is without."""

    READING = "reading"
    METER = "meter"
    NUMBER = "number"
    HOLDER = "holder"
    PROOF = "proof"


NOT_PROVEN: Final = "INSTALLED_NOT_PROVEN"
"""A meter that is bound and of which no reading came since: it may never have been fitted (users.md §6 row 47)."""
OVERDUE: Final = timedelta(hours=48)
"""A meter that is not proven for longer must be looked after, or its binding undone."""


def list_missing(
    without: Annotated[Lacks, typer.Option("--without", help="What is missing.")],
    route: Annotated[str | None, typer.Option("--route", help="Of one route only.")] = None,
    feeder: Annotated[str | None, typer.Option("--feeder", help="Of one feeder only.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Of readings: none since then; else none ever.")
    ] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    shown: Annotated[int, typer.Option("--rows-shown", min=0, help="How many to print.")] = 50,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """List accounts without a reading, meter or number, and meters without a holder, or without proof.

    A meter is INSTALLED_NOT_PROVEN while no reading of its time at its place has come; after 48 hours it is overdue.

    Example: meter-gateway directory list --without reading --since 2026-11-23 --route R-12 --csv --data DIR
    """
    only_one_form(as_json=as_json, as_csv=as_csv)
    files, now = find_files(data, config), datetime.now(UTC)
    after = None if since is None else parse_time(since, option="--since")
    with (
        DirectoryStore(files.directory) as store,
        opened_ledger(files) as ledger,
        acting(files, Right.SEE) as actor,
    ):
        actor.note("accounts.listed", f"list:{without}")
        if without is Lacks.READING:
            places = metered_places(store.database, at=now, route=route, feeder=feeder)
            rows = _unread(places, ledger, after)
        elif without is Lacks.PROOF:
            bound = bound_meters(store.database, at=now, route=route, feeder=feeder)
            rows = _unproven(bound, ledger, now)
        else:
            lacking = places_without(
                store.database, Missing(without.value), at=now, route=route, feeder=feeder
            )
            rows = (one._asdict() for one in lacking)
        if as_csv:
            print_csv(rows)
        elif as_json:
            print_json(list(rows))
        else:
            print_table(list(islice(rows, shown)), as_json=False, empty=f"none is without a {without}")
            if left := sum(1 for _ in rows):
                print_line(f"… and {left} more (--rows-shown, --csv, --json)")


def print_csv(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as CSV, one after another; a cell that a spreadsheet would run gets an apostrophe."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row)
        writer.writerow([escaped("" if cell is None else str(cell)) for cell in row.values()])


def _unread(
    places: Iterator[Place], ledger: Ledger | None, after: datetime | None
) -> Iterator[dict[str, Any]]:
    """Yield the places of whose meters there is no reading since `after` (None: ever), with the last there is."""
    for some in in_batches(places, AT_ONCE):
        meters = list(dict.fromkeys(one.meter for one in some if one.meter is not None))
        newest = {} if ledger is None else ledger.captures.latest(meters, PROFILES)
        for one in some:
            readings = newest.get(one.meter or "", {}).values()
            last = max((reading.at for reading in readings), default=None)
            if last is None or (after is not None and last < after):
                yield {**one._asdict(), "last_reading": last}


def _unproven(bound: Iterator[Bound], ledger: Ledger | None, now: datetime) -> Iterator[dict[str, Any]]:
    """Yield the meters of which no reading of their time at their place is there, with what undoes their binding."""
    for some in in_batches(bound, AT_ONCE):
        newest = {} if ledger is None else ledger.captures.latest([one.meter for one in some], PROFILES)
        for one in some:
            readings = newest.get(one.meter, {}).values()
            if any(reading.at >= one.valid_from for reading in readings):
                continue
            age = now - one.valid_from
            yield {
                "state": NOT_PROVEN,
                "meter": one.meter,
                "usage_point": one.usage_point,
                "fitted": one.valid_from,
                "hours": age // timedelta(hours=1),
                "overdue": age > OVERDUE,
                "by": one.by,
                "undo": f"directory undo {one.version}",
                "route": one.route,
                "feeder": one.feeder,
            }
