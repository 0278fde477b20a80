"""The operator's overview as a page and as JSON, behind a token where one is set."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from gateway.central.campaign.store import CampaignStore
from gateway.central.office.actors import Actor, Right
from gateway.central.portal.limits import SlidingLimit
from gateway.central.portal.view_models import Issue, MeterChoice, MeterRow, Overview
from gateway.central.portal.views import Views
from gateway.contract.messages import rfc3339
from gateway.web.campaigns import campaign_routes
from gateway.web.i18n import Words
from gateway.web.pages import Pages
from gateway.web.security import client_address
from gateway.web.staff_door import StaffDoor

REFRESH_SECONDS = 15
TOKEN_LIFETIME = timedelta(hours=12)
TOKEN_TRIES = 10
_COOKIE = "operator"


def operator_routes(
    pages: Pages,
    views: Views,
    token: str | None,
    door: StaffDoor | None = None,
    campaigns: CampaignStore | None = None,
) -> APIRouter:
    """Make the routes under /operator.

    Where `door` has staff accounts, for those with the right alone. Else with the token; without one on this machine
    only, and never to a proxy.
    """
    routes = APIRouter()
    tries = SlidingLimit(TOKEN_TRIES, timedelta(minutes=15))

    def is_staff(request: Request) -> bool:
        if token is None:
            return pages.site.is_this_machine(request)
        held = pages.signer.read("operator", pages.cookie(request, _COOKIE), pages.clock.now())
        if held is not None:
            return hmac.compare_digest(held["token"], pages.signer.tag("token", token))
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        return bool(bearer) and hmac.compare_digest(bearer.encode(), token.encode())

    def login(request: Request, given: str) -> Response:
        left = tries.hit(client_address(request), pages.clock.now())
        if left is not None:
            return pages.wait(request, left)
        if token is None or not hmac.compare_digest(given.encode(), token.encode()):
            return pages.message(request, "closed", status=403)
        response = RedirectResponse("/operator", status_code=303)
        until = pages.clock.now() + TOKEN_LIFETIME
        signed = pages.signer.sign("operator", {"token": pages.signer.tag("token", token)}, until)
        pages.set_cookie(request, response, _COOKIE, signed, lifetime=TOKEN_LIFETIME)
        return response

    async def looks(request: Request) -> Actor | None:
        """Return who of the staff looks, and note it in the audit trail; None for nobody who may."""
        who = None if door is None else await door.who(request)
        if door is None or who is None or not who.may(Right.FLEET):
            return None
        asked = request.query_params
        await door.note_view(
            who, "overview.seen", f"page:{asked.get('page', '1')[:6]}", asked.get("find", "")[:100]
        )
        return who

    async def staff(request: Request, right: Right) -> str | None:
        """Return the name of whoever of the staff asks, None for nobody who may."""
        if door is not None and await door.is_named():
            who = await door.who(request)
            return who.name if who is not None and who.may(right) else None
        return "staff page" if is_staff(request) else None

    @routes.get("/operator")
    async def overview(request: Request) -> Response:
        given = request.query_params.get("token")
        held: dict[str, Any] = {}
        if door is not None and await door.is_named():
            who = await looks(request)
            if who is None:
                known = await door.who(request)
                to_login = RedirectResponse("/staff/login", status_code=303)
                return to_login if known is None else pages.message(request, "not_yours", status=403)
            held = {"staff": who.name, "staff_form": door.form_token(request)}
        elif token is not None and given is not None:
            return login(request, given)
        elif not is_staff(request):
            return pages.message(request, "closed", status=403)
        seen = await asyncio.to_thread(views.overview, meter_choice(request))
        still = request.query_params.get("refresh") == "off"
        refresh = None if still else REFRESH_SECONDS
        context = operator_context(seen, pages.words(request))
        return pages.render(request, "operator.html", wide=True, refresh=refresh, **held, **context)

    @routes.get("/operator/api/overview.json")
    async def overview_json(request: Request) -> Response:
        named = door is not None and await door.is_named()
        if not (await looks(request) if named else is_staff(request)):
            return JSONResponse({"error": "closed"}, status_code=403)
        choice = meter_choice(request)
        if "issues" not in request.query_params:  # programs are told every one
            choice = replace(choice, issues=None)
        seen = await asyncio.to_thread(views.overview, choice)
        return JSONResponse(overview_document(seen, pages.words(request)))

    if campaigns is not None:
        routes.include_router(campaign_routes(pages, staff, campaigns))
    return routes


def meter_choice(request: Request) -> MeterChoice:
    """Return which meters are asked for; whatever cannot be read asks for the first page."""
    asked = request.query_params
    return MeterChoice(
        page=_page(asked.get("page", "1")),
        unwell=asked.get("unwell") == "1",
        find=asked.get("find", "")[:100],
        issues=_page(asked.get("issues", "1")),
    )


def _page(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def operator_context(seen: Overview, t: Words) -> dict[str, Any]:
    """Return everything that operator.html shows, in one language."""

    def link(page: int, issues: int, place: str) -> str:
        asked = {"page": str(page), "issues": str(issues), "refresh": "off"}
        asked |= {"unwell": "1"} if seen.choice.unwell else {}
        asked |= {"find": seen.choice.find} if seen.choice.find else {}
        return f"/operator?{urlencode(asked)}#{place}"

    issue_page = seen.choice.issues or 1

    return {
        "seen": seen,
        "issue_page": issue_page,
        "when": lambda at: t("op.unknown") if at is None else t.when(at, seen.now),
        "ago": lambda at: t("op.unknown") if at is None else t.ago(seen.now - at),
        "is_old": lambda at: at is not None and seen.now - at > seen.stale_after,
        "page_link": lambda page: link(page, issue_page, "meters"),
        "issue_link": lambda page: link(seen.choice.page, page, "issues"),
        "advice": lambda issue: advice(issue, t),
        "account_words": lambda row: account_words(row, t),
    }


def advice(issue: Issue, t: Words) -> str:
    """Say what the reader can do: for an alarm of a gateway by its code, where that is known."""
    known = t.has(f"alarm.{issue.code}")
    return t(f"alarm.{issue.code}" if known else f"issue.{issue.kind.value}.do")


def account_words(row: MeterRow, t: Words) -> str:
    """Say why a meter has no account number: its role, or that it is not mapped yet."""
    if row.reason == "not_a_consumer":
        return t("op.not_consumer", role=t(f"role.{row.role or 'consumer'}"))
    if row.legacy_number is not None:
        return t("op.legacy_only", number=row.legacy_number)
    return t("op.no_account")


def overview_document(seen: Overview, t: Words) -> dict[str, Any]:
    """Return the overview as JSON: numbers are strings, times RFC 3339, issues with their words in one language."""
    document: dict[str, Any] = _plain(asdict(seen))
    for issue, row in zip(seen.issues, document["issues"], strict=True):
        row |= {"where": issue.where, "named": issue.named}
        row["what"] = t(f"issue.{issue.kind.value}.what")
        row["what_to_do"] = advice(issue, t)
        row["age_seconds"] = None if issue.since is None else int((seen.now - issue.since).total_seconds())
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    return rfc3339(value) if isinstance(value, datetime) else value
