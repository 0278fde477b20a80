"""Whose readings they are: resolved by the directory when asked, never stored as the key."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import LASTING_REASONS, AttributedCapture, StoredCapture
from mapping.account import AccountNumber, LegacyNumber
from mapping.errors import NumberRefused
from mapping.snapshot import DirectorySnapshot
from mapping.timeline import MeterTimeline


class DirectorySource(Protocol):
    """Where states of the directory come from: mapping.store.DirectoryStore."""

    def snapshot(self, known_at: datetime | None = None) -> DirectorySnapshot:
        """Return the state now, or as it was known at an instant."""


def find_account(directory: DirectorySnapshot, account: str) -> str:
    """Return an account's id by id, 10-digit or legacy number; NumberRefused when unknown or ambiguous."""
    if directory.namings(account) or directory.usage_points_of(account):
        return account
    owners: set[str] = set()
    for text in _spellings(account):
        owners |= set(directory.candidates(text).values())
    if len(owners) > 1:
        raise NumberRefused(
            "AMBIGUOUS", f"{account!r} is the new number of one account and the legacy one of another",
            given=account, suggestion="give the account id",
        )  # fmt: skip
    if not owners:
        raise NumberRefused("UNKNOWN_ACCOUNT", f"no account is named {account!r}", given=account)
    return owners.pop()


def _spellings(account: str) -> set[str]:
    """Return a number as stored for each kind that it can be (other digits and wrappers are repaired)."""
    found = set()
    for kind in (AccountNumber, LegacyNumber):
        try:
            found.add(kind.parse(account).number.text)
        except NumberRefused:
            continue
    return found


def attributed(capture: StoredCapture, timeline: MeterTimeline) -> list[AttributedCapture]:
    """Return the accounts that a capture stands under by the timeline of its meter.

    A capture whose time or meter is not trusted stands under none, whatever the directory says.
    """
    if capture.reason in LASTING_REASONS:
        return []
    found = timeline.attributions(capture.start, capture.at)
    return [
        AttributedCapture(
            capture=capture,
            account_id=one.account_id,
            account_number=one.account_number,
            legacy_number=one.legacy_number,
            usage_point=one.usage_point,
            role=one.role.value,
            since=one.since,
            until=one.until,
            directory_version=found.directory_version,
        )
        for one in found.accounts
    ]


def readings(
    ledger: Ledger,
    account: str,
    start: datetime,
    end: datetime,
    directory: DirectorySource,
    *,
    known_at: datetime | None = None,
    profile: str | None = None,
) -> list[AttributedCapture]:
    """Return the captures of an account (account id, 10 digits or legacy number), by instant.

    The directory as it is now, or as it was known at `known_at`, decides; so do the revisions ingested by
    then. Intervals: start < at <= end; snapshots and events: start <= at <= end. A number is looked up as it
    stands today: who asks knows today's name of the account. Raises NumberRefused where the number is unknown
    (`UNKNOWN_ACCOUNT`) or means two accounts (`AMBIGUOUS`), LedgerError where the database fails.
    """
    now = directory.snapshot()
    account_id = find_account(now, account)
    view = now if known_at is None else directory.snapshot(known_at)
    found = [
        mine
        for meter in sorted({meter for meter, _ in view.meters_of_account(account_id)})
        for timeline in [MeterTimeline(view, meter)]
        for capture in ledger.captures.between(meter, profile, start, end, known_at=known_at)
        for mine in attributed(capture, timeline)
        if mine.account_id == account_id
    ]
    return sorted(found, key=lambda r: (r.capture.at, r.capture.profile, r.capture.capture_id))
