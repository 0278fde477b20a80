"""What a provider's HTTP answer means, by the rules of its settings; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.central.telling.messages import Accepted, Doubtful, NotTaken, Outcome, Refused

AWAY: Final = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 425, 426, 429})
"""Statuses that say nothing of the one message: credentials, money, address or share are wrong for all of them."""
MAX_SAID: Final = 80
"""Characters of an answer that are kept as a reason."""
_LONG_DIGITS: Final = re.compile(r"[0-9]{2,}(?=[0-9]{4})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRules:
    """How an answer is read.

    `where` is the way to a value in a JSON answer (`data.0.status`) that is one of `accepted` or `busy`; without it
    the status alone decides. The provider's id stands at `id_at`, or is the first group of `id_pattern` in the text.
    """

    accepted_status: Collection[int] = (200, 201, 202)
    busy_status: Collection[int] = (429, 503)
    where: str | None = None
    accepted: Collection[str] = ()
    busy: Collection[str] = ()
    id_at: str | None = None
    id_pattern: str | None = None


def outcome_of(rules: AnswerRules, status: int, body: bytes, secrets: Collection[str] = ()) -> Outcome:
    """Return what an answer means; `secrets` are taken out of reasons, and so are long numbers."""
    if status in rules.busy_status:
        return NotTaken(f"the provider is busy (HTTP {status})", away=True)
    if status not in rules.accepted_status:
        return _unwanted(status)
    text = body.decode("utf-8", "replace")
    document = _parsed(text)
    if rules.where is not None:
        said = value_at(document, rules.where)
        if said is None:
            return Doubtful(f"HTTP {status}, but the answer has no `{rules.where}`")
        if said in rules.busy:
            return NotTaken(f"the provider is busy: {_shown(said, secrets)}", away=True)
        if said not in rules.accepted:
            return Refused(f"the provider says {rules.where} = {_shown(said, secrets)}")
    return Accepted(_id(rules, text, document))


def _unwanted(status: int) -> Outcome:
    if status in AWAY or 300 <= status < 400:
        return NotTaken(f"the provider takes nothing (HTTP {status}): look at [sms.http]", away=True)
    if 400 <= status < 500:
        return Refused(f"the provider refuses it (HTTP {status})")
    return Doubtful(f"the provider failed (HTTP {status}): it may have the message")


def _id(rules: AnswerRules, text: str, document: Any) -> str | None:
    if rules.id_at is not None:
        return value_at(document, rules.id_at)
    if rules.id_pattern is not None:
        found = re.search(rules.id_pattern, text)
        return None if found is None or not found.groups() else found[1]
    return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None


def value_at(document: Any, way: str) -> str | None:
    """Return a text, number or truth at a way such as `data.0.id`, as text; None where there is none.

    >>> value_at({"data": [{"id": 17, "ok": True}]}, "data.0.id")
    '17'
    """
    for step in way.split("."):
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list) and step.isascii() and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    if isinstance(document, bool):
        return "true" if document else "false"
    return str(document) if isinstance(document, str | int) else None


def _shown(said: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        said = said.replace(secret, "***")
    plain = "".join(c if c.isprintable() else " " for c in said)[:MAX_SAID]
    return _LONG_DIGITS.sub(lambda found: "X" * len(found[0]), plain)


def items_at(document: Any, way: str | None) -> Iterator[Any]:
    """Yield the objects of a document: those of the list that it is, or holds at a way; else itself."""
    inner = document
    for step in [] if way is None else way.split("."):
        inner = inner.get(step) if isinstance(inner, dict) else None
    listed = inner if isinstance(inner, list) else document
    yield from listed if isinstance(listed, list) else [document]
