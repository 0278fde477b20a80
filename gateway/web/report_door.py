"""The door for delivery reports of SMS: the provider shows its secret and hands them over (docs/sms.md)."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from datetime import timedelta

import structlog
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from gateway.central.portal.limits import SlidingLimit
from gateway.errors import ContractError, GatewayError
from gateway.web.security import client_address
from protocols.session import Clock

TakeReports = Callable[[bytes, str, str], int]
"""Keeps the reports of one call: body, content type, query; returns how many, raises ContractError for none."""
SECRET_TRIES = 10
"""Wrong secrets of one address in 15 minutes."""
log = structlog.get_logger("gateway.web")


def report_door(take: TakeReports, secret: str, clock: Clock) -> APIRouter:
    """Make the routes under /sms/reports: the secret as `Authorization: Bearer …`, or as the path's last part."""
    routes = APIRouter()
    tries = SlidingLimit(SECRET_TRIES, timedelta(minutes=15))

    async def taken(request: Request, given: str) -> Response:
        address, now = client_address(request), clock.now()
        if tries.left(address, now) is not None:
            return JSONResponse({"error": "too many wrong secrets"}, status_code=429)
        if not hmac.compare_digest(given.encode(), secret.encode()):
            tries.hit(address, now)
            return JSONResponse({"error": "the secret is wrong"}, status_code=401)
        body, kind = await request.body(), request.headers.get("content-type", "")
        try:
            count = await asyncio.to_thread(take, body, kind, request.url.query)
        except ContractError as error:
            log.warning("sms_report_refused", error=str(error))
            return JSONResponse({"error": str(error)}, status_code=400)
        except GatewayError as error:  # the provider asks again later
            log.error("sms_report_not_kept", error=str(error))
            return JSONResponse({"error": "try again later"}, status_code=503)
        return JSONResponse({"reports": count})

    @routes.api_route("/sms/reports", methods=["GET", "POST"])
    async def by_header(request: Request) -> Response:
        return await taken(request, request.headers.get("authorization", "").removeprefix("Bearer "))

    @routes.api_route("/sms/reports/{given}", methods=["GET", "POST"])
    async def by_path(request: Request, given: str) -> Response:
        return await taken(request, given)

    return routes
