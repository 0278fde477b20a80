"""Staff pages: the login, and change sets that wait for a second person."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from gateway.central.office.actors import Actor, Right, roles_text
from gateway.central.office.change_errors import (
    AlreadyDecided,
    ChangesRefused,
    Fault,
    MovedOn,
    NoSuchChangeSet,
    OtherChanges,
)
from gateway.central.office.change_preview import Preview
from gateway.central.office.change_records import ChangeSetRecord, ChangeSetState
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.held_sets import HELD
from gateway.central.office.staff import LoginRefused
from gateway.errors import AccessDenied
from gateway.web.pages import Pages
from gateway.web.staff_door import StaffDoor, first_page

MAX_LISTED: Final = 50
MAX_SHOWN: Final = 100
"""Changes on the page; the API has all of them."""


def staff_routes(pages: Pages, door: StaffDoor, desk: ChangeSetDesk) -> APIRouter:
    """Make the routes under /staff."""
    routes = APIRouter()

    def form(request: Request, *, status: int = 200, wrong: bool = False) -> Response:
        return pages.render(request, "staff_login.html", status=status, wrong=wrong)

    def shown(request: Request, who: Actor, template: str, *, status: int = 200, **more: Any) -> Response:
        held = {"staff": who.name, "staff_form": door.form_token(request)}
        return pages.render(request, template, wide=True, status=status, **held, **more)

    def is_ours(request: Request, given: str) -> bool:
        """Say whether a form of this session was posted from these pages."""
        wanted = door.form_token(request)
        return pages.comes_from_here(request) and hmac.compare_digest(given.encode(), wanted.encode())

    @routes.get("/staff/login")
    async def enter(request: Request) -> Response:
        who = await door.who(request)
        return RedirectResponse(first_page(who), status_code=303) if who is not None else form(request)

    @routes.post("/staff/login")
    async def login(
        request: Request,
        name: Annotated[str, Form()] = "",
        password: Annotated[str, Form()] = "",
        code: Annotated[str, Form()] = "",
        form_token: Annotated[str, Form(alias="form")] = "",
    ) -> Response:
        if not pages.form_is_ours(request, form_token):
            return pages.message(request, "form", status=403)
        try:
            token = await door.login(request, name, password, code)
        except LoginRefused as refused:
            return (
                pages.wait(request, refused.left) if refused.left else form(request, status=403, wrong=True)
            )
        # Where to go is known only with the new cookie: that page sends staff on to what they may see.
        response = RedirectResponse("/staff/login", status_code=303)
        door.keep(request, response, token)
        return response

    @routes.post("/staff/logout")
    async def logout(request: Request, form_token: Annotated[str, Form(alias="form")] = "") -> Response:
        if not is_ours(request, form_token):
            return pages.message(request, "form", status=403)
        response = RedirectResponse("/staff/login", status_code=303)
        await door.logout(request, response)
        return response

    @routes.get("/staff")
    async def waiting(request: Request) -> Response:
        who = await door.who(request)
        if who is None:
            return RedirectResponse("/staff/login", status_code=303)
        waits, past = [], []
        if who.may(Right.SEE):
            found = await asyncio.to_thread(desk.page, who, limit=MAX_LISTED)
            waits = await asyncio.to_thread(desk.page, who, state=ChangeSetState.WAITING, limit=MAX_LISTED)
            past = [one for one in found if one.state is not ChangeSetState.WAITING]
        return shown(
            request,
            who,
            "staff.html",
            roles=[pages.words(request)(f"staff.role.{role}") for role in roles_text(who.roles).split(",")],
            waits=waits,
            past=past,
            may_see_fleet=who.may(Right.FLEET),
            when=_when(pages, request),
        )

    @routes.get("/staff/change-sets/{id}")
    async def look(request: Request, id: str) -> Response:
        who = await door.who(request)
        if who is None:
            return RedirectResponse("/staff/login", status_code=303)
        return await one(request, who, id)

    async def one(
        request: Request,
        who: Actor,
        id: str,
        *,
        status: int = 200,
        said: str | None = None,
    ) -> Response:
        try:
            record = await asyncio.to_thread(desk.get, who, id)
        except (NoSuchChangeSet, AccessDenied):
            return pages.message(request, "missing", status=404)
        await asyncio.to_thread(desk.note_view, who, record)
        seen: Preview | None = None
        refused: tuple[Fault, ...] = ()
        try:
            seen = await asyncio.to_thread(desk.shown, record)
        except ChangesRefused as error:
            refused = error.faults
        forms = json.loads(record.changes)
        return shown(
            request,
            who,
            "staff_change_set.html",
            status=status,
            record=record,
            seen=seen,
            refused=refused,
            forms=[_words(form) for form in forms[:MAX_SHOWN]],
            left_out=len(forms) - MAX_SHOWN,
            may_approve=seen is not None and who.may(Right.APPROVE) and record.actor != who.name,
            may_reject=_may_reject(who, record),
            said=said,
            when=_when(pages, request),
        )

    @routes.post("/staff/change-sets/{id}")
    async def decide(
        request: Request,
        id: str,
        decision: Annotated[str, Form()] = "",
        fingerprint: Annotated[str, Form()] = "",
        form_token: Annotated[str, Form(alias="form")] = "",
    ) -> Response:
        who = await door.who(request)
        if who is None or not is_ours(request, form_token) or decision not in ("approve", "reject"):
            return pages.message(request, "form", status=403)
        try:
            if decision == "approve":
                await asyncio.to_thread(desk.approve, who, id, fingerprint[:60])
            else:
                await asyncio.to_thread(desk.reject, who, id, None)
        except NoSuchChangeSet:
            return pages.message(request, "missing", status=404)
        except AccessDenied:
            return await one(request, who, id, status=403, said="denied")
        except (MovedOn, OtherChanges, ChangesRefused):
            return await one(request, who, id, status=409, said="moved_on")
        except AlreadyDecided:
            return await one(request, who, id, status=409, said="decided")
        # One that a command left is gone from where it waited; any other is kept with what became of it.
        return RedirectResponse(
            "/staff" if id.startswith(HELD) else f"/staff/change-sets/{id}", status_code=303
        )

    return routes


def _may_reject(who: Actor, record: ChangeSetRecord) -> bool:
    mine = record.actor == who.name
    return record.state is ChangeSetState.WAITING and (mine or who.may(Right.APPROVE))


def _when(pages: Pages, request: Request) -> Any:
    words, now = pages.words(request), pages.clock.now()
    return lambda at: "–" if at is None else words.when(at, now)


def _words(form: dict[str, Any]) -> dict[str, Any]:
    """Return a form as its kind and what it says, for a row of a table."""
    says = ", ".join(f"{name}: {value}" for name, value in form.items() if name != "kind")
    return {"kind": form["kind"], "says": says}
