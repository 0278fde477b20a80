"""Who asks for a number on the pages: a device, an address, and what the device proved before."""

from __future__ import annotations

from collections.abc import Container

from starlette.requests import Request

from gateway.central.portal.lookup import Asked
from gateway.central.portal.otp import Asker
from gateway.web.device import Device, new_device
from gateway.web.pages import Pages
from gateway.web.security import client_address
from mapping.characters import MAX_INPUT
from mapping.typed import TypedNumber


class _Proven(Container[str]):
    """The accounts whose mobile a device proved before."""

    def __init__(self, pages: Pages, device: Device) -> None:
        self._pages = pages
        self._device = device

    def __contains__(self, account_id: object) -> bool:
        return self._device.has_proven(self._pages.signer, f"account:{account_id}")


def asked_by(pages: Pages, request: Request, typed: TypedNumber, kind: str) -> Asked:
    """Return the wish of whoever sent this request."""
    device = pages.device(request) or new_device()
    return Asked(
        typed=typed,
        kind=kind,
        asker=Asker(address=client_address(request), device=device.id, known_for=_Proven(pages, device)),
        known=device.has_proven(pages.signer, f"number:{typed.key}"),
    )


def unreadable(text: str) -> str:
    """Return what to show again of a text that cannot be a number."""
    return text.strip()[:MAX_INPUT] or "–"
