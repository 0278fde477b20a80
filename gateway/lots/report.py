"""What a lot has come to: counts, and a row for each meter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.lots.core import Item, ItemState, Lot
from gateway.lots.store import Word


def summary(lot: Lot, items: Sequence[Item]) -> dict[str, Any]:
    """Return the lot in one line each: state with its reason, counts by state, failures by reason."""
    states = Counter(item.state for item in items)
    reasons = Counter(item.reason for item in items if item.state is ItemState.FAILED)
    return {
        "lot": lot.name,
        "kind": lot.kind,
        "planned": lot.created,
        "by": lot.by,
        "state": f"{lot.state} ({lot.reason})" if lot.reason else str(lot.state),
        "meters": len(items),
        **{str(state): states[state] for state in ItemState if states[state]},
        "failures": ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or None,
    }


def rows(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Return one row for each meter, in the order of the plan."""
    return [
        {
            "meter": item.meter,
            "state": str(item.state),
            "reason": item.reason or None,
            "note": item.note or None,
            "tries": item.tries,
            "began": item.began,
            "ended": item.ended,
            "not_before": item.not_before,
        }
        for item in items
    ]


def document(lot: Lot, items: Sequence[Item], words: Sequence[Word]) -> dict[str, Any]:
    """Return all of it, for --json."""
    return {
        **summary(lot, items),
        "words": [{"at": word.at, "by": word.by or None, "what": word.what} for word in words],
        "items": rows(items),
    }
