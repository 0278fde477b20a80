"""What a directory says about the rows of a re-key file: asked in batches, by its public questions only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from mapping.account import is_canonical_meter
from mapping.directory import NumberKind
from mapping.rekey_rows import MAX_SEEN, Row, plain
from mapping.row_verdicts import Verdict
from mapping.snapshot import DirectorySnapshot

BATCH = 5_000
"""Rows that are asked about and written together."""
_TEN = re.compile(r"[0-9]{10}")
_MAKE_AND_SERIAL = re.compile(r"([A-Z]+)([0-9].*)")


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield rows in lists of at most `BATCH`."""
    taken = iter(rows)
    while batch := list(islice(taken, BATCH)):
        yield batch


def asked(
    snapshot: DirectorySnapshot,
    rows: Sequence[Row],
    places: Mapping[str, int],
    *,
    meters: bool,
    mobile_of: Callable[[str], str | None] | None,
) -> list[Row]:
    """Return the rows with what the directory says: account, its number today, who has the new number, its meters.

    `meters` asks for these where the row itself names none; `mobile_of` gives an account's registered mobile, which
    is no account number.
    """
    _expect(snapshot, rows, meters=meters)
    owners = {
        row.new: snapshot.account_by_number(NumberKind.ACCOUNT, row.new) for row in rows if row.new != ""
    }
    accounts = {
        row.old: snapshot.account_by_number(NumberKind.LEGACY, row.old) for row in rows if row.old != ""
    }
    filled = (
        _filled(snapshot, row, accounts.get(row.old), owners.get(row.new), meters=meters) for row in rows
    )
    if mobile_of is not None:
        filled = (_no_mobile(row, mobile_of) for row in filled)
    return [
        row if row.verdict is None and row.account is not None else misplaced(snapshot, row, places)
        for row in filled
    ]


def asked_again(snapshot: DirectorySnapshot, rows: Sequence[Row]) -> list[Row]:
    """Return rows of a plan with what the directory says of them now; they are equal where it says what it said."""
    _expect(snapshot, rows, meters=False)
    return [
        row._replace(
            account=(account := snapshot.account_by_number(NumberKind.LEGACY, row.old)),
            today=None if account is None else snapshot.name(account, NumberKind.ACCOUNT),
            owner=snapshot.account_by_number(NumberKind.ACCOUNT, row.new),
        )
        for row in rows
    ]


def _expect(snapshot: DirectorySnapshot, rows: Sequence[Row], *, meters: bool) -> None:
    """Let what is asked about each row be fetched together."""
    kept = snapshot.rows
    legacy = [row.old for row in rows if row.old]
    kept.expect(
        numbers=[
            *((NumberKind.LEGACY, number) for number in legacy),
            *((NumberKind.ACCOUNT, row.new) for row in rows if row.new),
        ]
    )
    accounts = [owner for number in legacy if (owner := kept.owner(NumberKind.LEGACY, number))]
    kept.expect(accounts=accounts)
    if meters or any(row.meter for row in rows):
        kept.expect(usage_points=[point for one in accounts for point in kept.usage_points_of(one)])


def misplaced(snapshot: DirectorySnapshot, row: Row, places: Mapping[str, int]) -> Row:
    """Tell a refused row, or one with an unknown number, whose cells stand in another order than the heading says."""
    cells: list[str] = [cell.strip() for cell in json.loads(row.cells)]
    if len(cells) <= max(places.values()):
        return row
    legacy, number = places["legacy_number"], places["account_number"]
    known = [
        at
        for at, cell in enumerate(cells)
        if at != legacy and cell and snapshot.account_by_number(NumberKind.LEGACY, cell.upper()) is not None
    ]
    known = known if row.account is None else []
    ours = {at for column, at in places.items() if at not in (legacy, number)}
    numbers = [at for at, cell in enumerate(cells) if at not in (legacy, number) and _TEN.fullmatch(cell)]
    if row.new or (cells[number] and any(c.isdigit() for c in cells[number]) and not ours & set(numbers)):
        numbers = []
    if not known and not numbers:
        return row
    spot, where = ("legacy_number", legacy) if known else ("account_number", number)
    return row._replace(
        verdict=Verdict.REJECTED.value,
        code="OTHER_COLUMN",
        spot=spot,
        seen=cells[where][:MAX_SEEN],
        other="",
        position=None,
        candidates=cells[(known or numbers)[0]][:MAX_SEEN],
    )


def _no_mobile(row: Row, mobile_of: Callable[[str], str | None]) -> Row:
    if row.verdict is not None or row.account is None or row.new < "6" or mobile_of(row.account) != row.new:
        return row
    return row._replace(
        verdict=Verdict.REJECTED.value, code="MOBILE", spot="account_number", seen=row.new, other=""
    )


def _filled(
    snapshot: DirectorySnapshot, row: Row, account: str | None, owner: str | None, *, meters: bool
) -> Row:
    if account is None:
        if row.old and row.verdict is None:
            return _stranger(snapshot, row, owner)
        return row
    today = snapshot.name(account, NumberKind.ACCOUNT)
    former = today is not None and today != row.new and row.new != "" and _had(snapshot, account, row.new)
    fitted = " ".join(fitted_at(snapshot, account)) if row.meter or meters else ""
    return row._replace(account=account, today=today, owner=owner, former=int(former), fitted=fitted)


def _stranger(snapshot: DirectorySnapshot, row: Row, owner: str | None) -> Row:
    """Offer, for an unknown legacy number, that of the account which has the meter of the row."""
    found = holder_of(snapshot, row.meter) if row.meter else None
    legacy = None if found is None else snapshot.name(found, NumberKind.LEGACY)
    swapped = snapshot.account_by_number(NumberKind.ACCOUNT, row.old) is not None
    return row._replace(owner=owner, candidates=legacy or "", other="swapped" if swapped else "")


def _had(snapshot: DirectorySnapshot, account: str, number: str) -> bool:
    return any(
        naming.kind is NumberKind.ACCOUNT and naming.number == number for naming in snapshot.namings(account)
    )


def fitted_at(snapshot: DirectorySnapshot, account: str) -> list[str]:
    """Return each meter that the account's usage points have or had, as `plain` writes it, and its bare serial."""
    found: dict[str, None] = {}
    for point in snapshot.usage_points_of(account):
        for meter in snapshot.meters_at(point):
            found[plain(meter)] = None
            found[plain(meter.partition(":")[2])] = None
    return list(found)


def holder_of(snapshot: DirectorySnapshot, meter: str) -> str | None:
    """Return the account that had a meter last, which is given as `plain` writes it; None where none is known."""
    match = _MAKE_AND_SERIAL.fullmatch(meter)
    name = f"{match[1]}:{match[2]}" if match else ""
    if not is_canonical_meter(name):
        return None
    timeline = snapshot.timeline(name)
    return timeline[-1].account_id if timeline else None
