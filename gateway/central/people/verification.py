"""The one rule on what a mobile may be told: whole numbers and codes only where control of it was proved of late."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

VERIFIED_FOR: Final = timedelta(days=365)
"""After it a mobile may be a stranger's: operators give numbers out again (users.md §6 row 70)."""
CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""What the clock of whoever verified a mobile may differ from ours."""
ENDING: Final = 4
"""Characters of a number that may be shown to anybody."""


def verified(at: datetime | None, now: datetime) -> bool:
    """Say whether a mobile counts as verified; one that will be verified in the future is not."""
    return at is not None and timedelta(0) <= now - at + CLOCKS_DIFFER and now - at <= VERIFIED_FOR


def may_have_whole_number(verified_at: datetime | None, now: datetime) -> bool:
    """Say whether a mobile may be sent an account's whole new number: it was verified within 12 months.

    Every way to a consumer asks here: one-time codes, the campaign, the answer to a lost number.
    """
    return verified(verified_at, now)


def masked_number(number: str) -> str:
    """Return a number as anybody may see it: its last four characters, and no more than half of it.

    >>> masked_number("KE0012345"), masked_number("123")
    ('XXXXX2345', 'XX3')
    """
    shown = min(ENDING, len(number) // 2)
    return "X" * (len(number) - shown) + number[len(number) - shown :]


def masked_mobile(mobile: str) -> str:
    """Return a mobile as logs and tables may show it.

    >>> masked_mobile("9876543210")
    'XXXXXX3210'
    """
    return masked_number(mobile)
