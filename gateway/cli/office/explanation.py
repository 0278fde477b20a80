"""The answer of `explain` for people: relations, a row for each delivery, gaps, what stands under no account."""

from __future__ import annotations

from typing import Any

from gateway.central.explain import ExplainedCapture, Explanation, Relation
from gateway.cli.output import print_fields, print_table, text


def print_explanation(answer: Explanation) -> None:
    """Print the answer in the order in which the question is asked: who, since when, from where, how it came."""
    account = answer.account
    head: dict[str, Any] = {answer.kind: answer.what}
    if account is not None:
        head |= {"account number": account.account_number, "legacy number": account.legacy_number}
    if answer.kind != "meter":
        head["meters"] = answer.meters
    print_fields({**head, "directory version": answer.directory_version}, as_json=False)
    print_table(
        [_relation(row) for row in answer.relations], as_json=False, title="relations", empty="no relation"
    )
    print_table(
        [_delivery(one) for one in answer.deliveries], as_json=False, title="deliveries", empty="no reading"
    )
    if answer.open_gaps:
        gaps = [
            {"meter": g.meter, "profile": g.profile, "after": g.after, "until": g.until, "reason": g.reason}
            for g in answer.open_gaps
        ]
        print_table(gaps, as_json=False, title="known gaps")
    if answer.unattributed:
        groups = [
            {
                "meter": u.meter,
                "profile": u.profile,
                "reason": u.reason,
                "count": u.count,
                "last at": u.last_at,
            }
            for u in answer.unattributed
        ]
        print_table(groups, as_json=False, title="under no account")


def _relation(row: Relation) -> dict[str, Any]:
    relation = f"{row.subject} → {row.object}" + (f" ({row.detail})" if row.detail else "")
    return {
        "relation": row.relation,
        "says": relation,
        "from": row.valid_from,
        "to": row.valid_to,
        "source": row.source if row.row is None else f"{row.source} row {row.row}",
        "by": row.by,
        "version": row.directory_version,
        "superseded": None if row.current else row.known_to,
    }


def _delivery(one: ExplainedCapture) -> dict[str, Any]:
    capture = one.capture
    revision = f" rev {capture.value_rev}" if capture.value_rev > 1 else ""
    return {
        "at": capture.at,
        "what": f"{capture.profile}{revision}" + ("" if one.in_force else " (superseded)"),
        "meter": capture.meter,
        "account": _account(one),
        "stamped as": _account_at_edge(one),
        "seq": capture.seq,
        "came": capture.ingested_at,
        "edge told": one.acknowledged,
    }


def _account(one: ExplainedCapture) -> str:
    names = [a.account_number or a.legacy_number or a.account_id for a in one.accounts]
    return text(names) if names else one.capture.reason or "no_account"


def _account_at_edge(one: ExplainedCapture) -> str:
    names = [s.account_number or s.legacy_number or s.account_id for s in one.stamped]
    return (
        f"{text(names) if names else one.capture.reason or 'no_account'} (v{one.capture.directory_version})"
    )
