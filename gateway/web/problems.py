"""Errors of the API as documents (RFC 9457, `application/problem+json`): what is wrong, where, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError
from starlette.responses import JSONResponse

from gateway.central.office.answers import KeyReused, TooManyKeys, UnderWay
from gateway.central.office.change_errors import (
    AlreadyDecided,
    ChangesRefused,
    MovedOn,
    NoSuchChangeSet,
    OtherChanges,
)
from gateway.errors import AccessDenied, GatewayError
from mapping.errors import MappingError
from mapping.kinds import KINDS

MEDIA_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 20
MAX_DETAIL: Final = 500
_TYPE: Final = "urn:meter-gateway:problem:"


@dataclass(eq=False)
class Problem(Exception):
    """One refusal: HTTP status, short name (the end of `type`), title, detail for people, and where it is wrong."""

    status: int
    name: str
    title: str
    detail: str
    errors: Sequence[Mapping[str, Any]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, instance: str) -> dict[str, Any]:
        """Return it as JSON; `instance` is the path that was asked."""
        held = {
            "type": _TYPE + self.name,
            "title": self.title,
            "status": self.status,
            "detail": self.detail[:MAX_DETAIL],
            "instance": instance,
        }
        return held | ({"errors": [dict(one) for one in self.errors]} if self.errors else {})


def answer(
    status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a document as an answer: a problem's media type for a problem."""
    media = MEDIA_TYPE if status >= 400 else "application/json"
    return JSONResponse(dict(document), status_code=status, headers=dict(headers or {}), media_type=media)


def waits(left: timedelta) -> dict[str, str]:
    """Return the header that says how long to wait."""
    return {"Retry-After": str(max(1, math.ceil(left.total_seconds())))}


def unreadable(error: ValidationError) -> Problem:
    """Return what is wrong with a document: 400 where it is no JSON, 422 with the place of each mistake."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found and found[0]["type"] == "json_invalid":
        return Problem(400, "no-json", "The body is no JSON", found[0]["msg"])
    deeper = [one for one in found if not (one["loc"] == ("changes",) and one["type"] == "too_short")]
    errors = [
        {
            "pointer": _pointer(one["loc"]),
            "code": one["type"],
            "detail": str(one["msg"]).removeprefix("Value error, "),
        }
        for one in (deeper or found)[:MAX_ERRORS]
    ]
    return Problem(
        422,
        "document",
        "The document is not as described",
        f"{len(deeper or found)} mistakes; the first at {errors[0]['pointer'] or '/'}: {errors[0]['detail']}",
        errors=errors,
    )


def _pointer(place: Sequence[int | str]) -> str:
    """Return a JSON pointer (RFC 6901); the name of a kind, by which pydantic goes, is no member."""
    kept = [p for i, p in enumerate(place) if not (i == 2 and p in KINDS and isinstance(place[1], int))]
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in kept)


def problem_of(error: GatewayError | MappingError) -> Problem:
    """Return an error of ours as a problem; one that is our fault tells nothing of its inside."""
    match error:
        case ChangesRefused():
            errors = [
                {
                    "pointer": "/changes" if fault.place is None else f"/changes/{fault.place}",
                    "code": fault.code,
                    "detail": fault.message,
                }
                for fault in error.faults
            ]
            return Problem(
                422, "changes-refused", "The directory contradicts the changes", str(error), errors=errors
            )
        case MovedOn():
            return Problem(412, "directory-moved-on", "The directory moved on", str(error))
        case OtherChanges():
            return Problem(409, "other-changes", "The fingerprint is of other changes", str(error))
        case AlreadyDecided():
            return Problem(409, "already-decided", "The change set waits no more", str(error))
        case NoSuchChangeSet():
            return Problem(404, "no-change-set", "There is no such change set", str(error))
        case KeyReused():
            return Problem(422, "key-reused", "The Idempotency-Key was used before", str(error))
        case UnderWay():
            again = waits(timedelta(seconds=1))
            return Problem(409, "under-way", "The request is under way", str(error), headers=again)
        case TooManyKeys():
            headers = waits(error.left)
            return Problem(429, "too-many-keys", "Too many Idempotency-Keys", str(error), headers=headers)
        case AccessDenied():
            return Problem(403, "not-allowed", "That is not allowed", str(error))
        case _:
            return Problem(
                503,
                "away",
                "Central cannot do it now",
                "a store cannot be used; the log of this machine says why. Nothing was changed: ask again later",
                headers=waits(timedelta(seconds=10)),
            )
