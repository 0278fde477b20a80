"""Changes of who holds a usage point and of what is kept beside it, worked out on a draft."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from mapping.attribution import FOREVER
from mapping.changes import (
    UNSAID,
    CorrectAttributes,
    CorrectHoldings,
    CrossHoldings,
    HoldingSpan,
    MoveIn,
    MoveOut,
    SetAttributes,
    SetPaymentMode,
)
from mapping.directory import Attribute, AttributeKind, Holding, PaymentMode
from mapping.draft_state import (
    DraftState,
    check_names,
    covering,
    is_gapless,
    next_after,
    refuse_overlap,
    stretches,
    upto,
)
from mapping.errors import ChangeRefused

PHASES = ("R", "Y", "B", "RYB", "1", "3")
"""The phase that a connection hangs on; `RYB` all three, `1` and `3` how many, where it is not known which."""
MAX_ATTRIBUTE = 64
"""Characters of an attribute."""
MAX_LOAD = Decimal(100_000)
"""Kilowatts of sanctioned load; more is a mistyped number."""


def move_in(draft: DraftState, change: MoveIn) -> None:
    """Let an account hold a usage point."""
    at = draft.dated(change.valid_from, f"usage point {change.usage_point}")
    rows = draft.holdings(change.usage_point)
    held = covering(rows, at)
    if held is not None:
        if held.account_id == change.account_id and change.payment_mode in (None, held.payment_mode):
            return
        if held.account_id != change.account_id:
            # A new tenant before the old one's final reading: the move-out must come first.
            raise ChangeRefused(
                "HELD",
                f"usage point {change.usage_point} is held then by account {held.account_id}, since "
                f"{held.valid_from:%Y-%m-%d %H:%M} UTC: it must move out first",
            )
    # The same account with another payment mode goes on to the end of its holding; a new one until the next.
    until = held.valid_to if held else next_after(rows, at)
    kept = [r for r in rows if r is not held]
    if held is not None and held.valid_from < at:
        kept.append(draft.ended(held, at))
    new = Holding(
        change.usage_point, change.account_id, change.payment_mode, at, until, draft.change, None, change.row
    )
    check_names(new.usage_point, new.account_id)
    draft.put_holdings(change.usage_point, [*kept, new])


def move_out(draft: DraftState, change: MoveOut) -> None:
    """End a holding."""
    at = draft.dated(change.at, f"usage point {change.usage_point}")
    rows = draft.holdings(change.usage_point)
    row = covering(rows, at)
    if row is None:
        raise ChangeRefused(
            "NOT_HELD", f"usage point {change.usage_point} has no holder then{stretches(rows)}"
        )
    ended = [] if row.valid_from == at else [draft.ended(row, at)]
    draft.put_holdings(change.usage_point, [*(r for r in rows if r is not row), *ended])


def set_payment_mode(draft: DraftState, change: SetPaymentMode) -> None:
    """Say how the holder pays from an instant on."""
    what = f"usage point {change.usage_point}"
    at, end = draft.dated(change.valid_from, what), draft.dated_or_open(change.valid_to, what)
    rows = draft.holdings(change.usage_point)
    row = covering(rows, at)
    until = FOREVER if row is None else (end or upto(row))
    if row is None or not is_gapless(rows, at, until) or at >= until:
        raise ChangeRefused("NOT_HELD", f"{what} is not held throughout that time{stretches(rows)}")
    within = draft.inside(rows, at, until)
    if all(one.payment_mode == change.payment_mode for one in within):
        return
    said = [one._replace(payment_mode=change.payment_mode, row=change.row) for one in within]
    draft.put_holdings(change.usage_point, [*draft.outside(rows, at, until), *said])


def correct(draft: DraftState, change: CorrectHoldings) -> None:
    """State a usage point's history of holders anew."""
    known = draft.base.rows.holdings(change.usage_point)
    what = f"usage point {change.usage_point}"
    new = [
        Holding(
            change.usage_point,
            span.account_id,
            _paying(draft, change.usage_point, span),
            draft.dated(span.valid_from, what, known),
            draft.dated_or_open(span.valid_to, what, known),
            draft.change,
            None,
            change.row,
        )
        for span in change.spans
    ]
    for row in new:
        check_names(row.usage_point, row.account_id)
    refuse_overlap(new)
    draft.put_holdings(change.usage_point, new)


def _paying(draft: DraftState, usage_point: str, span: HoldingSpan) -> PaymentMode | None:
    """Return how a corrected span pays; one that does not say it pays as was recorded for that account there."""
    if span.payment_mode is not UNSAID:
        return span.payment_mode
    own = [row for row in draft.holdings(usage_point) if row.account_id == span.account_id]
    there = covering(own, span.valid_from) or (own[0] if own else None)
    return None if there is None else there.payment_mode


def cross(draft: DraftState, change: CrossHoldings) -> None:
    """Give each usage point, over the time that is said, the holders that the next one had recorded."""
    points = change.usage_points
    if len(points) < 2 or len(set(points)) != len(points):
        raise ChangeRefused("NOT_CROSSED", "name two or more different usage points, each once")
    what = f"crossed usage points {', '.join(points[:3])}"
    at, end = draft.dated(change.valid_from, what), draft.dated_or_open(change.valid_to, what) or FOREVER
    if at >= end:
        raise ChangeRefused("SPAN", f"{what}: the time ends ({end}) before it starts ({at})")
    recorded = {point: draft.inside(draft.holdings(point), at, end) for point in points}
    for point, rows in recorded.items():
        if not rows:
            raise ChangeRefused(
                "NOT_CROSSED",
                f"usage point {point} is held by nobody in that time{stretches(draft.holdings(point))}",
            )
    stays = {point: draft.outside(draft.holdings(point), at, end) for point in points}
    for point, following in zip(points, (*points[1:], points[0]), strict=True):
        moved = [row._replace(usage_point=point, row=change.row) for row in recorded[following]]
        draft.put_holdings(point, [*stays[point], *moved])


def set_attributes(draft: DraftState, change: SetAttributes) -> None:
    """Say what some attributes are from an instant on."""
    check_names(change.usage_point)
    what = f"usage point {change.usage_point}"
    at, end = draft.dated(change.valid_from, what), draft.dated_or_open(change.valid_to, what)
    rows = list(draft.attributes(change.usage_point))
    for kind, given in change.values.items():
        value = None if given is None else attribute_value(kind, given)
        own = [row for row in rows if row.kind is kind]
        held = covering(own, at)
        until = end or (upto(held) if held is not None else next_after(own, at) or FOREVER)
        if at >= until:
            raise ChangeRefused("SPAN", f"{what}: the time ends ({until}) before it starts ({at})")
        if held is not None and held.value == value and upto(held) >= until:
            continue
        said = draft.outside(own, at, until)
        if value is not None:
            closed = None if until == FOREVER else until
            said.append(
                Attribute(change.usage_point, kind, value, at, closed, draft.change, None, change.row)
            )
        rows = [row for row in rows if row.kind is not kind] + said
    draft.put_attributes(change.usage_point, rows)


def correct_attributes(draft: DraftState, change: CorrectAttributes) -> None:
    """State the history of one attribute anew."""
    check_names(change.usage_point)
    known = draft.base.rows.attributes(change.usage_point)
    what, kind = f"usage point {change.usage_point}", change.attribute
    new = [
        Attribute(
            change.usage_point,
            kind,
            attribute_value(kind, span.value),
            draft.dated(span.valid_from, what, known),
            draft.dated_or_open(span.valid_to, what, known),
            draft.change,
            None,
            change.row,
        )
        for span in change.spans
    ]
    refuse_overlap(new)
    others = [row for row in draft.attributes(change.usage_point) if row.kind is not kind]
    draft.put_attributes(change.usage_point, [*others, *new])


def attribute_value(kind: AttributeKind, given: str) -> str:
    """Return an attribute as it is kept; ChangeRefused (ATTRIBUTE) for what it cannot be."""
    text = given.strip()
    match kind:
        case AttributeKind.SANCTIONED_LOAD:
            try:
                load = Decimal(text)
            except InvalidOperation:
                load = Decimal("NaN")
            if not (load.is_finite() and 0 < load <= MAX_LOAD):
                raise ChangeRefused(
                    "ATTRIBUTE", f"{given[:40]!r} is no sanctioned load: write kilowatts, for example 2.5"
                )
            return f"{load.normalize():f}"
        case AttributeKind.PHASE:
            if text.upper() not in PHASES:
                raise ChangeRefused(
                    "ATTRIBUTE", f"{given[:40]!r} is no phase: write one of {', '.join(PHASES)}"
                )
            return text.upper()
        case _:
            if not text or len(text) > MAX_ATTRIBUTE or not text.isprintable():
                raise ChangeRefused(
                    "ATTRIBUTE", f"{given[:40]!r} is no {kind}: 1 to {MAX_ATTRIBUTE} printable characters"
                )
            return text
