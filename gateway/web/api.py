"""The API under /v1: change sets of the directory for other systems, described by its own OpenAPI document."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar

import structlog
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gateway.central.office.actors import Actor, Proof
from gateway.central.office.answers import MAX_KEY, Answers, Kept
from gateway.central.office.change_documents import ChangeSetRequest, Document, Fingerprint
from gateway.central.office.change_errors import ChangesRefused
from gateway.central.office.change_records import ChangeSetRecord, ChangeSetState
from gateway.central.office.change_sets import ChangeSetDesk, change_set_id
from gateway.errors import GatewayError
from gateway.web.api_access import Door
from gateway.web.api_schema import openapi_document
from gateway.web.problems import Problem, answer, problem_of, unreadable
from mapping.errors import MappingError

PATH: Final = "/v1"
MAX_PAGE: Final = 200
_CHANGE_SETS: Final = "/directory/change-sets"
_KEY: Final = re.compile(r'"(?P<quoted>[ !#-\[\]-~]{1,200})"|(?P<bare>[!#-~]{1,200})', re.ASCII)
ModelT = TypeVar("ModelT", bound=BaseModel)
T = TypeVar("T")
log = structlog.get_logger("gateway.web")


class Decision(Document):
    """What a second person decides: `approve` needs the fingerprint that was looked at."""

    decision: Literal["approve", "reject"]
    fingerprint: Fingerprint | None = None
    note: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class Undoing(Document):
    """Undo a change set; with `dry_run` it is only shown what that would do."""

    dry_run: Annotated[bool, Field(strict=True)] = False


class Api:
    """The handlers; all that blocks runs in a thread."""

    def __init__(self, desk: ChangeSetDesk, answers: Answers, door: Door) -> None:
        self._desk = desk
        self._answers = answers
        self._door = door

    async def ask(self, request: Request) -> Response:
        """Take a change set: shown, applied, or kept for a second person."""
        actor = await self._actor(request)
        asked = _read(ChangeSetRequest, await _body(request))
        if asked.dry_run:
            seen = await _blocking(self._desk.preview, actor, asked)
            return answer(200, seen.document())
        key = _key(request)
        digest = hashlib.sha256(asked.model_dump_json(exclude_unset=True).encode()).hexdigest()
        return await self._answered(actor, key, digest, lambda: asked, request.scope["path"])

    async def undo(self, request: Request) -> Response:
        """Undo an applied change set by a later one: what nobody changed since is stated again as it was."""
        actor, id_ = await self._actor(request), str(request.path_params["id"])
        wanted = _read(Undoing, await _body(request))
        if wanted.dry_run:
            seen = await _blocking(lambda: self._desk.preview(actor, self._desk.undoing(actor, id_)))
            return answer(200, seen.document())
        digest = hashlib.sha256(f"undo {id_}".encode()).hexdigest()
        return await self._answered(
            actor,
            _key(request),
            digest,
            lambda: self._desk.undoing(actor, id_),
            request.scope["path"],
        )

    async def _answered(
        self, actor: Actor, key: str, digest: str, asked: Callable[[], ChangeSetRequest], path: str
    ) -> Response:
        kept, again = await _blocking(self._once, actor, key, digest, asked, path)
        headers = {"Idempotency-Replayed": "true"} if again else {}
        if kept.status < 400:
            headers["Location"] = f"{PATH}{_CHANGE_SETS}/{kept.body['id']}"
        return answer(kept.status, kept.body, headers)

    def _once(
        self, actor: Actor, key: str, digest: str, asked: Callable[[], ChangeSetRequest], path: str
    ) -> tuple[Kept, bool]:
        """Return the answer to a request of a key, and whether it was given before."""
        if (held := self._answers.begin(actor.name, key, digest, self._door.clock.now())) is not None:
            return held, True
        kept = None
        try:
            try:
                record = self._desk.submit(actor, asked(), change_set_id(actor.name, key))
                kept = Kept(202 if record.state is ChangeSetState.WAITING else 201, document(record))
            except (GatewayError, MappingError) as error:
                problem = problem_of(error)
                if problem.status >= 500:
                    raise
                kept = Kept(problem.status, problem.document(path))
        finally:
            # What failed on our side is not the answer for ever: the same key may be sent again.
            if kept is None:
                self._answers.drop(actor.name, key)
            else:
                self._answers.end(actor.name, key, kept)
        return kept, False

    async def list(self, request: Request) -> Response:
        """List change sets, the newest first."""
        actor = await self._actor(request)
        asked = request.query_params
        limit, state = asked.get("limit", "50"), asked.get("state")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_PAGE):
            raise Problem(
                422, "query", "The query is not as described", f"limit: a number from 1 to {MAX_PAGE}"
            )
        if state is not None and state not in set(ChangeSetState):
            raise Problem(
                422, "query", "The query is not as described", f"state: one of {', '.join(ChangeSetState)}"
            )
        wanted = None if state is None else ChangeSetState(state)
        found = await _blocking(
            lambda: self._desk.page(actor, state=wanted, before=asked.get("before"), limit=int(limit))
        )
        following = found[-1].id if len(found) == int(limit) else None
        return answer(200, {"change_sets": [document(one) for one in found], "next_before": following})

    async def show(self, request: Request) -> Response:
        """Show one change set with its changes, and what it would do while it waits."""
        actor, id_ = await self._actor(request), str(request.path_params["id"])
        return answer(200, await _blocking(self._shown, actor, id_))

    def _shown(self, actor: Actor, id_: str) -> dict[str, Any]:
        record = self._desk.get(actor, id_)
        if actor.proof is Proof.SESSION:
            self._desk.note_view(actor, record)
        shown = document(record) | {"content": json.loads(record.changes)}
        try:
            seen = self._desk.shown(record)
        except ChangesRefused as refused:  # the directory was changed against it while it waited
            return shown | {"refused": problem_of(refused).errors}
        return shown if seen is None else shown | {"preview": seen.document()}

    async def decide(self, request: Request) -> Response:
        """Approve or reject a waiting change set."""
        actor, id_ = await self._actor(request), str(request.path_params["id"])
        decision = _read(Decision, await _body(request))
        if decision.decision == "reject":
            return answer(200, document(await _blocking(self._desk.reject, actor, id_, decision.note)))
        if decision.fingerprint is None:
            raise Problem(
                422,
                "document",
                "The document is not as described",
                "an approval names the fingerprint that was seen",
            )
        return answer(200, document(await _blocking(self._desk.approve, actor, id_, decision.fingerprint)))

    async def _actor(self, request: Request) -> Actor:
        return await _blocking(self._door.actor, request)


def document(record: ChangeSetRecord) -> dict[str, Any]:
    """Return a change set as JSON, without its changes."""
    return {
        "id": record.id,
        "state": record.state.value,
        "changes": record.count,
        "asked_by": record.actor,
        "asked_at": record.asked_at.isoformat(),
        "reference": record.source or None,
        "fingerprint": record.fingerprint,
        "shown_on_version": record.base,
        "directory_version": record.version,
        "decided_by": record.decided_by,
        "decided_at": None if record.decided_at is None else record.decided_at.isoformat(),
        "note": record.note,
    }


def create_api(desk: ChangeSetDesk, answers: Answers, door: Door) -> FastAPI:
    """Return the application that is mounted at /v1."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    api = Api(desk, answers, door)
    one = _CHANGE_SETS + "/{id}"
    app.add_api_route(_CHANGE_SETS, api.ask, methods=["POST"], include_in_schema=False)
    app.add_api_route(_CHANGE_SETS, api.list, methods=["GET"], include_in_schema=False)
    app.add_api_route(one, api.show, methods=["GET"], include_in_schema=False)
    app.add_api_route(one + "/undo", api.undo, methods=["POST"], include_in_schema=False)
    app.add_api_route(one + "/approval", api.decide, methods=["POST"], include_in_schema=False)

    @app.get("/openapi.json", include_in_schema=False)
    async def described() -> Response:
        return answer(200, api_document())

    @app.exception_handler(Problem)
    async def refused(request: Request, problem: Problem) -> Response:
        return answer(problem.status, problem.document(request.scope["path"]), problem.headers)

    @app.exception_handler(GatewayError)
    @app.exception_handler(MappingError)
    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError | MappingError)
        problem = problem_of(error)
        if problem.status >= 500:
            log.error("api_failed", path=request.scope["path"], error=str(error))
        return answer(problem.status, problem.document(request.scope["path"]), problem.headers)

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.scope['path'][:200]}: see {PATH}/openapi.json"
        problem = Problem(error.status_code, "no-such-thing", str(error.detail), detail)
        return answer(problem.status, problem.document(request.scope["path"]), error.headers)

    return app


@cache
def api_document() -> Mapping[str, Any]:
    """Return the OpenAPI document; docs/api.openapi.json is this."""
    return openapi_document(PATH, [ChangeSetRequest, Decision, Undoing])


async def _blocking(call: Callable[..., T], *given: Any) -> T:
    return await asyncio.to_thread(call, *given)


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(
            415, "media-type", "Not a media type that is read here", "send the body as application/json"
        )
    try:
        return await request.body()
    except ClientDisconnect:
        raise Problem(413, "too-large", "The body is too large", "send fewer changes at once") from None


def _read(model: type[ModelT], body: bytes) -> ModelT:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise unreadable(error) from None


def _key(request: Request) -> str:
    """Return the Idempotency-Key: a quoted string (RFC 9651), and bare as many write it."""
    found = _KEY.fullmatch(request.headers.get("idempotency-key", "").strip())
    if found is None:
        raise Problem(
            400,
            "no-key",
            "No Idempotency-Key",
            'a change is asked for under a key of its own, so that it is done once: `Idempotency-Key: "8e03978e"`'
            f" (1 to {MAX_KEY} visible ASCII signs)",
        )
    return found["quoted"] or found["bare"]
