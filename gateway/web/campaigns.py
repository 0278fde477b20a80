"""The staff's page about campaigns: who was told by which way, who is left; and slips ticked off one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from gateway.central.campaign.coverage import Standing, standings
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.ticks import Tick, Ticked, Ticks, read_tick
from gateway.central.office.actors import Right
from gateway.web.pages import Pages
from mapping.row_verdicts import Verdict

MAX_ROUTES = 200
"""Routes on the page; `campaign status --json` has every one."""
COLUMNS = (
    "accounts",
    "told_sms",
    "told_slip",
    "told_meter",
    "sms_waiting",
    "sms_sent",
    "slip_to_make",
    "slip_out",
    "unreachable",
    "left",
)


Staff = Callable[[Request, Right], Awaitable[str | None]]
"""Gives the name of whoever of the staff asks; None for nobody who has the right."""


def campaign_routes(pages: Pages, staff: Staff, store: CampaignStore) -> APIRouter:
    """Make the routes under /operator/campaigns: for those who see the directory, and ticks for who sees contacts."""
    routes = APIRouter()

    async def page(
        request: Request, *, status: int = 200, said: str = "", code: str = "", slip: str = ""
    ) -> Response:
        found: list[Standing] = await asyncio.to_thread(standings, store)
        return pages.render(
            request,
            "campaigns.html",
            status=status,
            wide=True,
            campaigns=found,
            columns=COLUMNS,
            most=MAX_ROUTES,
            verdicts=tuple(Ticked),
            said=said,
            code=code,
            slip=slip,
        )

    @routes.get("/operator/campaigns")
    async def show(request: Request) -> Response:
        if await staff(request, Right.SEE) is None:
            return pages.message(request, "closed", status=403)
        return await page(request)

    @routes.post("/operator/campaigns")
    async def tick(
        request: Request,
        slip: Annotated[str, Form()] = "",
        verdict: Annotated[str, Form()] = "",
        note: Annotated[str, Form()] = "",
        form: Annotated[str, Form()] = "",
    ) -> Response:
        by = await staff(request, Right.CONSUMERS)
        if by is None:
            return pages.message(request, "closed", status=403)
        if not pages.form_is_ours(request, form):
            return pages.message(request, "form", status=403)
        said, code = await asyncio.to_thread(_take, slip[:40], verdict, note, by, pages.clock.now())
        status = 200 if said in (Verdict.APPLIED, Verdict.UNCHANGED) else 422
        return await page(request, status=status, said=said.value, code=code, slip=slip[:40])

    def _take(slip: str, verdict: str, note: str, by: str, now: datetime) -> tuple[Verdict, str]:
        read = read_tick(slip, verdict, "", note, now=now)
        if not isinstance(read, Tick):
            return Verdict.REJECTED, read[0]
        found, code, _ = Ticks(store).put(read, by=by, source="page", now=now)
        return found, code

    return routes
