"""Changes of where meters are fitted, worked out on a draft: install, remove, replace, multiplier, corrections."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from mapping.attribution import FOREVER
from mapping.changes import (
    CorrectInstallations,
    CrossMeters,
    Install,
    InstallationSpan,
    Remove,
    Replace,
    SetMultiplier,
)
from mapping.directory import Installation, Role
from mapping.draft_state import (
    DraftState,
    check_installation,
    check_multiplier,
    covering,
    is_gapless,
    next_after,
    refuse_overlap,
    stretches,
    upto,
)
from mapping.errors import ChangeRefused


def install(draft: DraftState, change: Install, until: datetime | None = None) -> None:
    """Fit a meter, `until` an instant where that is known."""
    at = draft.dated(change.valid_from, f"meter {change.meter}")
    kept: list[Installation] = []
    stock: Installation | None = None
    for row in draft.installations(change.meter):
        if row.valid_from > at:
            # Paper that comes late, for a time before what is known: it holds until then and no longer.
            until = min(until or FOREVER, row.valid_from)
        elif at < upto(row):
            if (row.usage_point, row.role) == (change.usage_point, change.role):
                if change.multiplier is None or row.multiplier == change.multiplier:
                    return  # the same paper once more
                raise ChangeRefused(
                    "MULTIPLIER_DIFFERS",
                    f"meter {row.meter} is fitted at {row.usage_point} with multiplier {row.multiplier}, not "
                    f"{change.multiplier}: declare another multiplier from its date on",
                )
            if row.role is Role.CONSUMER:
                # Without the paper of its removal nobody knows until when its readings are the old account's.
                raise ChangeRefused(
                    "METER_IN_USE",
                    f"meter {row.meter} is fitted at {row.usage_point} since {row.valid_from:%Y-%m-%d %H:%M} UTC: "
                    "remove it there first (from when it was taken away)",
                )
            # From stock to a house: the stay in stock ends here, and nothing need say so.
            stock = row
            if row.valid_to is not None:
                until = min(until or FOREVER, row.valid_to)
            if row.valid_from < at:
                kept.append(draft.ended(row, at))
            continue
        kept.append(row)
    multiplier = change.multiplier
    if multiplier is None:
        own = stock.multiplier if stock is not None else Decimal(1)
        multiplier = _declared(draft, change.usage_point, change.role, at, own)
    _fit(draft, change.meter, change.usage_point, change.role, multiplier, at, until, kept, change.row)


def _fit(
    draft: DraftState,
    meter: str,
    usage_point: str,
    role: Role,
    multiplier: Decimal,
    at: datetime,
    until: datetime | None,
    kept: list[Installation],
    line: int | None,
) -> None:
    new = Installation(meter, usage_point, role, multiplier, at, until, draft.change, None, line)
    check_installation(new)
    if new.role is Role.CONSUMER:
        refuse_occupied(draft, new)
    draft.put_installations(meter, [*kept, new])


def remove(draft: DraftState, change: Remove) -> None:
    """Take a meter away; at the instant at which it was fitted, a row of no length stays."""
    at = draft.dated(change.at, f"meter {change.meter}")
    rows = draft.installations(change.meter)
    row = covering(rows, at)
    if row is None:
        raise ChangeRefused(
            "METER_NOT_FITTED", f"meter {change.meter} is not fitted anywhere then{stretches(rows)}"
        )
    draft.put_installations(change.meter, [*(r for r in rows if r is not row), draft.ended(row, at)])


def replace(draft: DraftState, change: Replace) -> None:
    """Put one meter in the place of another, whose multiplier holds on unless another is said."""
    at = draft.dated(change.at, f"meter {change.old}")
    if change.old == change.new:
        raise ChangeRefused("SAME_METER", f"meter {change.old} cannot replace itself")
    rows = draft.installations(change.old)
    row = covering(rows, at)
    if row is None:
        raise ChangeRefused(
            "METER_NOT_FITTED", f"meter {change.old} is not fitted anywhere then{stretches(rows)}"
        )
    if change.usage_point not in (None, row.usage_point):
        raise ChangeRefused(
            "OTHER_USAGE_POINT",
            f"meter {change.old} is fitted at {row.usage_point} then, not at {change.usage_point}: is this the right "
            "house?",
        )
    multiplier = row.multiplier if change.multiplier is None else change.multiplier
    before = draft.touched_installations.get(change.old)
    draft.put_installations(change.old, [*(r for r in rows if r is not row), draft.ended(row, at)])
    try:
        # Where the old meter is known to have gone at an instant, the new one stood in its stead until then.
        fitted = Install(change.new, row.usage_point, row.role, at, multiplier, change.row)
        install(draft, fitted, row.valid_to)
    except ChangeRefused:
        if before is None:
            del draft.touched_installations[change.old]
        else:
            draft.touched_installations[change.old] = before
        raise


def set_multiplier(draft: DraftState, change: SetMultiplier) -> None:
    """Declare a multiplier from an instant on."""
    check_multiplier(change.multiplier)
    what = f"meter {change.meter}"
    at, end = draft.dated(change.valid_from, what), draft.dated_or_open(change.valid_to, what)
    rows = draft.installations(change.meter)
    row = covering(rows, at)
    until = FOREVER if row is None else (end or upto(row))
    if row is None or not is_gapless(rows, at, until) or at >= until:
        raise ChangeRefused("METER_NOT_FITTED", f"{what} is not fitted throughout that time{stretches(rows)}")
    within = draft.inside(rows, at, until)
    if all(one.multiplier == change.multiplier for one in within):
        return
    declared = [one._replace(multiplier=change.multiplier, row=change.row) for one in within]
    draft.put_installations(change.meter, [*draft.outside(rows, at, until), *declared])


def correct(draft: DraftState, change: CorrectInstallations) -> None:
    """State a meter's history anew."""
    known = draft.base.rows.installations(change.meter)
    what = f"meter {change.meter}"
    new = []
    for span in change.spans:
        start = draft.dated(span.valid_from, what, known)
        multiplier = span.multiplier
        if multiplier is None:
            multiplier = _declared_for(draft, change.meter, span, start)
        end = draft.dated_or_open(span.valid_to, what, known)
        new.append(
            Installation(
                change.meter,
                span.usage_point,
                span.role,
                multiplier,
                start,
                end,
                draft.change,
                None,
                change.row,
            )
        )
    for row in new:
        check_installation(row)
    refuse_overlap(new, points_too=True)
    draft.put_installations(change.meter, new)


def cross(draft: DraftState, change: CrossMeters) -> None:
    """Give each meter, over the time that is said, the place where the next one was recorded."""
    meters = change.meters
    if len(meters) < 2 or len(set(meters)) != len(meters):
        raise ChangeRefused("NOT_CROSSED", "name two or more different meters, each once")
    what = f"crossed meters {', '.join(meters[:3])}"
    at, end = draft.dated(change.valid_from, what), draft.dated_or_open(change.valid_to, what) or FOREVER
    if at >= end:
        raise ChangeRefused("SPAN", f"{what}: the time ends ({end}) before it starts ({at})")
    recorded = {meter: draft.inside(draft.installations(meter), at, end) for meter in meters}
    for meter, rows in recorded.items():
        if not rows:
            raise ChangeRefused(
                "NOT_CROSSED",
                f"meter {meter} is recorded nowhere in that time{stretches(draft.installations(meter))}",
            )
    stays = {meter: draft.outside(draft.installations(meter), at, end) for meter in meters}
    for meter, following in zip(meters, (*meters[1:], meters[0]), strict=True):
        moved = [row._replace(meter=meter, row=change.row) for row in recorded[following]]
        draft.put_installations(meter, [*stays[meter], *moved])


def refuse_occupied(draft: DraftState, new: Installation) -> None:
    """Refuse a second consumer's meter at one usage point and time."""
    point = new.usage_point
    if new.valid_from == new.valid_to:
        return  # what has no length is in nobody's way
    for meter in draft.meters_at(point) - {new.meter}:
        for row in draft.installations(meter):
            if (
                row.usage_point == point
                and row.role is Role.CONSUMER
                and row.valid_from != row.valid_to
                and row.valid_from < upto(new)
                and new.valid_from < upto(row)
            ):
                raise ChangeRefused(
                    "USAGE_POINT_OCCUPIED",
                    f"usage point {point} has the consumer's meter {meter} then: remove it first",
                )


def _declared(draft: DraftState, point: str, role: Role, at: datetime, own: Decimal) -> Decimal:
    """Return the multiplier that was declared for a usage point: that of its last meter, else of the first to come."""
    if role is Role.STOCK:
        return own  # a store has no transformers, and thousands of meters
    there = [
        row
        for meter in draft.meters_at(point)
        for row in draft.installations(meter)
        if row.usage_point == point and row.role is role
    ]
    # Of two that begin together the one that stays longer; by name, so that it is the same one each time.
    last = max((r for r in there if r.valid_from <= at), key=_by_time, default=None)
    nearest = last or min(there, key=_by_time, default=None)
    return own if nearest is None else nearest.multiplier


def _by_time(row: Installation) -> tuple[datetime, datetime, str]:
    return row.valid_from, upto(row), row.meter


def _declared_for(draft: DraftState, meter: str, span: InstallationSpan, start: datetime) -> Decimal:
    """Return the multiplier of a corrected span that says none: the meter's own there, else the usage point's."""
    own = [r for r in draft.installations(meter) if (r.usage_point, r.role) == (span.usage_point, span.role)]
    there = covering(own, start)
    if there is None and own:
        coming = next_after(own, start)
        there = next((r for r in own if r.valid_from == coming), own[-1])
    if there is not None:
        return there.multiplier
    return _declared(draft, span.usage_point, span.role, start, Decimal(1))
