"""The web application: the operator's overview and the consumer's page, put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, RedirectResponse, Response

from gateway.central.campaign.slips import Slips
from gateway.central.campaign.store import CampaignStore
from gateway.central.office.answers import Answers
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.office import Office
from gateway.central.portal.asking import AskingLimits
from gateway.central.portal.lookup import ContactStore, NumberLookup
from gateway.central.portal.otp import OneTimeCodes
from gateway.central.portal.views import Views
from gateway.web.api import PATH, create_api
from gateway.web.api_access import Door
from gateway.web.consumer import LoginSeen, consumer_routes
from gateway.web.knowing import knowing_routes
from gateway.web.number_doors import number_doors
from gateway.web.operator import operator_routes
from gateway.web.pages import Pages, static_folder
from gateway.web.security import HEADERS, HEALTH, GuardMiddleware, Signer
from gateway.web.site import Site
from gateway.web.staff import staff_routes
from gateway.web.staff_door import StaffDoor
from protocols.session import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOffice:
    """What staff and other systems work on: the office, the desk for change sets, and the API's door."""

    office: Office
    desk: ChangeSetDesk
    door: Door


PATHS = ("/number", "/me", "/me/home", "/me/code", "/staff", "/operator")
"""Pages that are also found with a slash at the end."""
THIS_MACHINE = Site()
log = structlog.get_logger("gateway.web")


def create_app(
    views: Views,
    contacts: ContactStore,
    otp: OneTimeCodes,
    *,
    clock: Clock,
    secret: bytes,
    operator_token: str | None,
    number_token: str | None = None,
    doors: Iterable[APIRouter] = (),
    logins: LoginSeen = lambda _account, _session, _address: None,
    site: Site = THIS_MACHINE,
    limits: AskingLimits | None = None,
    campaign: CampaignStore | None = None,
    back_office: BackOffice | None = None,
) -> FastAPI:
    """Return the application.

    `clock` must be a real one (sessions, codes and limits are lived by people); `views` has its own.
    `secret` signs cookies: at least 16 octets, kept over restarts or sessions end with the process.
    Without `operator_token` the overview answers on this machine only; without `number_token` no provider of SMS or
    calls is answered. `site` says what people type; `campaign` holds slips and campaigns; `back_office` lets staff log
    in, and other systems ask under /v1; `doors` are other machines';
    `logins` keeps whom a session of a consumer could see.
    """
    # Starlette's own redirect to a path without its last slash would repeat the Host header.
    app = FastAPI(
        title="meter-gateway", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    pages = Pages(clock, Signer(secret), views.zone, site)
    app.add_middleware(GZipMiddleware, minimum_size=500)
    app.add_middleware(GuardMiddleware, site=site)
    app.mount("/static", StaticFiles(directory=static_folder()), name="static")
    lookup = NumberLookup(views, contacts, otp, clock, limits or AskingLimits())
    if campaign is not None:
        lookup.slips = Slips(campaign).account_of
    app.include_router(consumer_routes(pages, lookup, logins))
    app.include_router(knowing_routes(pages, lookup))
    app.include_router(number_doors(pages, lookup, number_token))
    staff_door = None
    if back_office is not None:
        staff_door = StaffDoor(pages, back_office.office, back_office.door)
        app.include_router(staff_routes(pages, staff_door, back_office.desk))
    app.include_router(operator_routes(pages, views, operator_token, staff_door, campaign))
    for door in doors:
        app.include_router(door)

    if back_office is not None:  # after the routes that have paths of their own below it
        app.mount(PATH, create_api(back_office.desk, Answers(back_office.office.database), back_office.door))

    @app.get("/")
    async def choose(request: Request) -> Response:
        return pages.render(request, "choose.html")

    @app.get(HEALTH)
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"].rstrip("/")
        if error.status_code == 404 and path in PATHS and request.method == "GET":
            return RedirectResponse(path, status_code=307)
        return pages.message(request, "missing", status=error.status_code)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, _error: RequestValidationError) -> Response:
        return pages.message(request, "form", status=422)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        # The route as it is written, where there is one: a path that was asked for may hold a provider's secret.
        path = getattr(request.scope.get("route"), "path", request.scope["path"])
        log.error("page_failed", path=path, error=type(error).__name__)
        # This answer is made outside of the guard: it carries the headers itself.
        response = pages.message(request, "broken", status=500)
        response.headers.update(HEADERS | site.headers | {"Cache-Control": "no-store"})
        return response

    return app
