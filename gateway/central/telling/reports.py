"""Delivery reports as providers call them in: form, query or JSON, by the names that the settings give."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from gateway.central.telling.answers import items_at, value_at
from gateway.central.telling.messages import Report, State
from gateway.errors import ContractError

MAX_REPORTS: Final = 1000
"""Reports in one call."""
MAX_FIELDS: Final = 200
"""Fields of a call as a form; a provider's has ten or twenty."""
MAX_TEXT: Final = 200
"""Characters of an id or reason."""


class ReportRefused(ContractError):
    """A call holds no delivery report; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRules:
    """Where a report says what: the ways to the provider's id, to our reference, to its status and reason.

    A status in neither list tells of something under way, and is passed over.
    """

    id_at: str | None = None
    reference_at: str | None = None
    status_at: str
    delivered: Collection[str]
    undelivered: Collection[str]
    reason_at: str | None = None
    list_at: str | None = None


def reports_in(rules: ReportRules, body: bytes, content_type: str, query: str) -> list[Report]:
    """Return the final reports of one call; ReportRefused where it is none."""
    found = []
    for number, item in enumerate(_items(rules, body, content_type, query), 1):
        if number > MAX_REPORTS:
            raise ReportRefused(f"more than {MAX_REPORTS} reports in one call")
        if (report := _report(rules, item)) is not None:
            found.append(report)
    return found


def _items(rules: ReportRules, body: bytes, content_type: str, query: str) -> Iterator[Any]:
    kind = content_type.partition(";")[0].strip().lower()
    try:
        text = body.decode("utf-8")
        if kind.endswith("json") or text.lstrip()[:1] in ("{", "["):
            return items_at(json.loads(text, parse_float=str), rules.list_at)
    except (ValueError, RecursionError) as error:
        raise ReportRefused(f"not JSON: {type(error).__name__}") from error
    try:
        form: Mapping[str, str] = dict(parse_qsl(f"{query}&{text}", max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise ReportRefused(f"a form of more than {MAX_FIELDS} fields") from error
    return iter([form])


def _report(rules: ReportRules, item: Any) -> Report | None:
    status = value_at(item, rules.status_at)
    provider_id = None if rules.id_at is None else value_at(item, rules.id_at)
    reference = None if rules.reference_at is None else value_at(item, rules.reference_at)
    if status is None or (provider_id is None and reference is None):
        raise ReportRefused("a report without status, or without id and reference")
    reason = (value_at(item, rules.reason_at) if rules.reason_at else None) or ""
    if status in rules.delivered:
        state = State.DELIVERED
    elif status in rules.undelivered:
        state = State.UNDELIVERED
    else:
        return None
    return Report(
        state=state,
        provider_id=None if provider_id is None else provider_id[:MAX_TEXT],
        message_id=None if reference is None else reference[:MAX_TEXT],
        reason="" if state is State.DELIVERED else f"{status} {reason}".strip()[:MAX_TEXT],
    )
