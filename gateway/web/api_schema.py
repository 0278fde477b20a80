"""What the API says of itself: each operation with its answers, and the OpenAPI document made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF: Final = "#/components/schemas/"
_TEXT: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_NUMBER: Final = {"type": ["integer", "null"]}

_CHANGE_SET: Final = {
    "type": "object",
    "description": "A change set and what became of it.",
    "properties": {
        "id": _TEXT,
        "state": {"type": "string", "enum": ["asked", "waiting", "applied", "rejected"]},
        "changes": {"type": "integer", "description": "How many changes it has."},
        "asked_by": _TEXT,
        "asked_at": {"type": "string", "format": "date-time"},
        "reference": _MAYBE,
        "fingerprint": {"type": "string", "description": "Of what was shown when it was asked for."},
        "shown_on_version": _NUMBER,
        "directory_version": _NUMBER,
        "decided_by": _MAYBE,
        "decided_at": _MAYBE,
        "note": _MAYBE,
        "content": {"type": "array", "description": "The changes; of one change set only."},
        "preview": {"$ref": f"{_REF}Preview"},
        "refused": {"type": "array", "description": "Why it cannot be applied any more, while it waits."},
    },
}
_WHO: Final = {
    "type": "object",
    "description": "The holder, or the reason why there is none.",
    "properties": {
        "account_id": _TEXT,
        "usage_point": _TEXT,
        "multiplier": _TEXT,
        "payment_mode": _TEXT,
        "kwh": {"type": "string", "description": "That leave the old holder, and reach the new, by now."},
        "reason": _TEXT,
    },
}
_PREVIEW: Final = {
    "type": "object",
    "description": "What a change set would do to the present directory.",
    "properties": {
        "directory_version": {"type": "integer"},
        "fingerprint": {"type": "string", "description": "Names exactly these changes on this version."},
        "would_change": {"type": "boolean"},
        "needs_approval": {"type": "boolean"},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "spans": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"meter": _TEXT, "since": _TEXT, "until": _MAYBE, "old": _WHO, "new": _WHO},
            },
        },
        "names": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"account_id": _TEXT, "kind": _TEXT, "old": _MAYBE, "new": _MAYBE},
            },
        },
        "left_out": {"type": "integer", "description": "Spans and names beyond the hundred that are listed."},
        "energy": {
            "type": "object",
            "description": "What all of it moves up to now. `net` is without what other multipliers make.",
            "properties": {
                "unit": _TEXT,
                "moved": _TEXT,
                "net": _TEXT,
                "by_multiplier": _TEXT,
                "unknown_spans": {"type": "integer", "description": "Of which no reading tells."},
            },
        },
    },
}
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457. `type` is stable; `errors` says where: a JSON pointer into the body, code and words.",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"pointer": _TEXT, "code": _TEXT, "detail": _TEXT}},
        },
    },
}
_LIST: Final = {
    "type": "object",
    "properties": {
        "change_sets": {"type": "array", "items": {"$ref": f"{_REF}ChangeSet"}},
        "next_before": {"type": ["string", "null"], "description": "Give it as `before` for those before."},
    },
}
_OWN: Final = {"ChangeSet": _CHANGE_SET, "Preview": _PREVIEW, "Problem": _PROBLEM, "ChangeSetList": _LIST}
_PROBLEMS: Final = {
    401: "Nobody that is known here.",
    403: "Whoever asks may not do this.",
    404: "There is no such change set for whoever asks.",
    409: "Under way, already decided, or a fingerprint of other changes.",
    412: "The directory moved on since it was shown: look again.",
    413: "The body has more than 4 MiB.",
    415: "The body is not `application/json`.",
    422: "The document, or what the directory says against the changes; `errors` has the places.",
    429: "Too often, or too many keys; `Retry-After` says how long to wait.",
    503: "A store cannot be used now; nothing was changed.",
}
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
_OPERATIONS: Final[
    dict[str, tuple[str, str, dict[str, Any], dict[int, tuple[str, str]], tuple[int, ...]]]
] = {
    "ask": (
        "Ask for a change set",
        "All changes are applied, or none. With `dry_run` it is only shown. Large ones wait for a second person.",
        {
            "parameters": [
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "Required unless `dry_run`: the same key again gets the first answer, for 7 days.",
                    "schema": _TEXT,
                }
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"{_REF}ChangeSetRequest"}}},
            },
        },
        {
            200: ("Preview", "What it would do (`dry_run`)."),
            201: ("ChangeSet", "It is applied."),
            202: ("ChangeSet", "It waits for a second person."),
        },
        (401, 403, 409, 412, 413, 415, 422, 429, 503),
    ),
    "list": (
        "List change sets",
        "The newest first. A machine sees its own.",
        {
            "parameters": [
                {"name": "state", "in": "query", "schema": _TEXT},
                {"name": "before", "in": "query", "schema": _TEXT},
                {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 200}},
            ]
        },
        {200: ("ChangeSetList", "One page.")},
        (401, 403, 422, 429, 503),
    ),
    "show": (
        "Show a change set",
        "With its changes; while it waits also what it would do now, and the fingerprint to approve it by.",
        {"parameters": [_ID]},
        {200: ("ChangeSet", "The change set.")},
        (401, 403, 404, 422, 429, 503),
    ),
    "decide": (
        "Approve or reject a change set",
        "By somebody else than who asked for it, logged in by name, with the role approver.",
        {
            "parameters": [_ID],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"{_REF}Decision"}}},
            },
        },
        {200: ("ChangeSet", "It is applied, or rejected.")},
        (401, 403, 404, 409, 412, 415, 422, 429, 503),
    ),
}
_OPERATIONS["undo"] = (
    "Undo an applied change set",
    "By a later one, which states again what nobody has changed since. Refused where others built upon it.",
    {
        "parameters": [_ID, *_OPERATIONS["ask"][2]["parameters"]],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"{_REF}Undoing"}}},
        },
    },
    *_OPERATIONS["ask"][3:],
)
_AT: Final = {
    "ask": ("/directory/change-sets", "post"),
    "list": ("/directory/change-sets", "get"),
    "show": ("/directory/change-sets/{id}", "get"),
    "decide": ("/directory/change-sets/{id}/approval", "post"),
    "undo": ("/directory/change-sets/{id}/undo", "post"),
}


def openapi_document(path: str, models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the API under a path, with the schemas of the documents that it reads."""
    _, read = models_json_schema([(model, "validation") for model in models], ref_template=_REF + "{model}")
    paths: dict[str, dict[str, Any]] = {}
    for name, (place, method) in _AT.items():
        paths.setdefault(path + place, {})[method] = _operation(name)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "meter-gateway: changes of the directory",
            "version": "1",
            "description": "Who holds which meter, changed by other systems and by people. See docs/api.md.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted((read.get("$defs", {}) | _OWN).items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
        "security": [{"token": []}, {"certificate": []}],
    }


def _operation(name: str) -> dict[str, Any]:
    summary, description, more, good, bad = _OPERATIONS[name]
    answers = {
        str(status): {
            "description": words,
            "content": {"application/json": {"schema": {"$ref": _REF + schema}}},
        }
        for status, (schema, words) in good.items()
    }
    problems = {
        str(status): {
            "description": _PROBLEMS[status],
            "content": {"application/problem+json": {"schema": {"$ref": f"{_REF}Problem"}}},
        }
        for status in bad
    }
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        **more,
        "responses": answers | problems,
    }
