"""Whose readings they are: resolved by the directory when asked, never stored as the key."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from gateway.central.records import AttributedCapture, StoredCapture
from gateway.central.store import LASTING_REASONS
from mapping.directory import Attributions

if TYPE_CHECKING:
    from gateway.central.ledger import Ledger


class DirectoryView(Protocol):
    """What the ledger needs of one immutable state of the directory."""

    @property
    def version(self) -> int:
        """The directory version of this state."""

    def attributions(self, meter: str, start: datetime | None, end: datetime) -> Attributions:
        """Whose a capture of this meter is; `start` is None for snapshots."""

    def account_id(self, account: str) -> str:
        """Find the account by id, 10-digit or legacy number; MappingError when unknown or ambiguous."""

    def meters_of(self, account_id: str) -> list[str]:
        """Every meter that the account ever held."""


class DirectorySource(Protocol):
    """Gives states of the directory."""

    def view(self, known_at: datetime | None = None) -> DirectoryView:
        """The state now, or as it was known at an instant."""


def attributed(capture: StoredCapture, directory: DirectoryView) -> list[AttributedCapture]:
    """Give the accounts that a capture stands under by this state of the directory.

    A capture whose time or meter is not trusted stands under none, whatever the directory says.
    """
    if capture.reason in LASTING_REASONS:
        return []
    found = directory.attributions(capture.meter, capture.start, capture.at)
    return [
        AttributedCapture(
            capture=capture,
            account_id=one.account_id,
            account_number=one.account_number,
            legacy_number=one.legacy_number,
            usage_point=one.usage_point,
            role=one.role.value,
            directory_version=found.directory_version,
        )
        for one in found.accounts
    ]


def readings(
    ledger: Ledger,
    account: str,
    start: datetime,
    end: datetime,
    known_at: datetime | None,
    directory: DirectorySource,
    *,
    profile: str | None = None,
) -> list[AttributedCapture]:
    """Captures of an account by instant (see `Ledger.readings`)."""
    view = directory.view(known_at)
    account_id = view.account_id(account)
    found = [
        mine
        for meter in view.meters_of(account_id)
        for capture in ledger.captures(meter, profile, start, end, known_at=known_at)
        for mine in attributed(capture, view)
        if mine.account_id == account_id
    ]
    return sorted(found, key=lambda r: (r.capture.at, r.capture.profile, r.capture.capture_id))
